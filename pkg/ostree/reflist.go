// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// RefListOptions say which refs ListRefs gives and how it names them.
type RefListOptions struct {
	// Prefix is a ref or a directory of refs: "", "os", "os/x86_64/main",
	// "REMOTE:", "REMOTE:." or "REMOTE:os".
	Prefix string
	// CutPrefix names the refs below a directory without it; a Prefix that is
	// itself a ref is named in full all the same.
	CutPrefix bool
	// Aliases gives only the local refs that are aliases of others.
	Aliases bool
	// NoRemotes leaves out refs/remotes.
	NoRemotes bool
}

// RefEntry is one listed ref.
type RefEntry struct {
	Name   string // REF or REMOTE:REF
	Commit Checksum
	Alias  string // the ref that an alias names, with Aliases only
	// Err tells why the ref could not be read; Commit is then zero.
	Err error
}

// ListRefs lists refs in byte order of their names, local ones first, then those
// of the remotes. A prefix that matches nothing gives an empty list. A damaged ref is
// listed with its error, so that it can be seen and deleted.
func (r *Repo) ListRefs(o RefListOptions) ([]RefEntry, error) {
	list, err := r.listRefs(o)
	if err != nil {
		return nil, fmt.Errorf("Listing refs: %w", err) //nolint:staticcheck // ST1005: the words scripts know
	}
	return list, nil
}

func (r *Repo) listRefs(o RefListOptions) ([]RefEntry, error) {
	if o.Prefix != "" {
		return r.listBelow(o)
	}
	l := refLister{r: r, aliases: o.Aliases}
	if err := l.dir(headsDir, ""); err != nil || o.NoRemotes {
		return l.found, err
	}
	remotes, err := r.refRemotes()
	if err != nil {
		return nil, err
	}
	for _, name := range remotes {
		if err := l.dir(remotesDir+"/"+name, name+":"); err != nil {
			return nil, err
		}
	}
	return l.found, nil
}

func (r *Repo) listBelow(o RefListOptions) ([]RefEntry, error) {
	remote, ref, err := splitListPrefix(o.Prefix)
	if err != nil {
		return nil, err
	}
	base, name := headsDir, ref
	if remote != "" {
		if o.NoRemotes {
			return nil, nil
		}
		base, name = remotesDir+"/"+remote, remote+":"+ref
	}
	l := refLister{r: r, aliases: o.Aliases}
	if ref == "" {
		return l.found, l.dir(base, name)
	}
	st, err := r.dir.Lstat(base + "/" + ref)
	switch {
	case isAbsent(err):
		return nil, nil
	case err != nil:
		return nil, err
	case !st.IsDir():
		err = l.ref(base+"/"+ref, name)
	case !o.CutPrefix:
		err = l.dir(base+"/"+ref, name+"/")
	case remote != "":
		err = l.dir(base+"/"+ref, remote+":")
	default:
		err = l.dir(base+"/"+ref, "")
	}
	return l.found, err
}

// splitListPrefix also takes REMOTE: and REMOTE:. for all refs of a remote.
func splitListPrefix(prefix string) (remote, ref string, err error) {
	name, rest, found := strings.Cut(prefix, ":")
	if found && (rest == "" || rest == ".") && validComponent(name) {
		return name, "", nil
	}
	return SplitRefspec(strings.TrimSuffix(prefix, "/"))
}

type refLister struct {
	r       *Repo
	aliases bool
	found   []RefEntry
}

// dir lists what is below a directory, each name behind a prefix.
func (l *refLister) dir(dir, prefix string) error {
	return l.r.walkRefs(dir, 0, func(p string) error {
		return l.ref(p, prefix+strings.TrimPrefix(p, dir+"/"))
	})
}

func (l *refLister) ref(p, name string) error {
	e := RefEntry{Name: name}
	if l.aliases {
		target, err := l.r.dir.Readlink(p)
		if errors.Is(err, syscall.EINVAL) || isAbsent(err) {
			return nil // no alias
		}
		if err != nil {
			return err
		}
		e.Alias = target
		for strings.HasPrefix(e.Alias, "../") {
			e.Alias = e.Alias[3:]
		}
	}
	e.Commit, e.Err = readRefFile(l.r.dir, p)
	if errors.Is(e.Err, ErrNotFound) && !l.aliases {
		return nil // deleted while listing, or an alias of nothing
	}
	l.found = append(l.found, e)
	return nil
}
