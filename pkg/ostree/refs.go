// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	headsDir   = "refs/heads"
	remotesDir = "refs/remotes"
	mirrorsDir = "refs/mirrors"
	maxRefFile = 4096 // bytes; a ref file has 65
	maxRefDeep = 32   // path components of a ref
)

// SplitRefspec splits REMOTE:REF; remote is "" for a plain REF. Both parts are checked.
func SplitRefspec(spec string) (remote, ref string, err error) {
	remote, ref, found := strings.Cut(spec, ":")
	if !found {
		remote, ref = "", spec
	}
	if found && !validComponent(remote) || CheckRef(ref) != nil {
		return "", "", worded(ErrInvalid, "Invalid refspec %s", clip(spec))
	}
	return remote, ref, nil
}

// CheckRef verifies a ref's name: components of letters, digits and -._ that
// begin with a letter, a digit or _, separated by slashes.
func CheckRef(ref string) error {
	parts := strings.Split(ref, "/")
	for _, p := range parts {
		if !validComponent(p) {
			return worded(ErrInvalid, "Invalid ref name %s", clip(ref))
		}
	}
	if len(parts) > maxRefDeep || len(ref) > maxRefFile {
		return fmt.Errorf("%w: ref %q is too long", ErrInvalid, clip(ref))
	}
	return nil
}

func validComponent(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		word := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !word && (i == 0 || c != '-' && c != '.') {
			return false
		}
	}
	return true
}

// refPath gives a ref's file below the repository.
func refPath(spec string) (string, error) {
	remote, ref, err := SplitRefspec(spec)
	if err != nil {
		return "", err
	}
	if remote == "" {
		return headsDir + "/" + ref, nil
	}
	return remotesDir + "/" + remote + "/" + ref, nil
}

// ReadRef reads one ref (REF or REMOTE:REF), following aliases; ErrNotFound if
// it is absent.
func (r *Repo) ReadRef(spec string) (Checksum, error) {
	p, err := refPath(spec)
	if err != nil {
		return Checksum{}, err
	}
	c, err := readRefFile(r.dir, p)
	if err != nil {
		return c, fmt.Errorf("read ref %s: %w", clip(spec), err)
	}
	return c, nil
}

// readRefFile follows symbolic links, as aliases are links to other refs.
func readRefFile(d *fsx.Dir, p string) (Checksum, error) {
	if st, err := d.Lstat(p); err == nil && st.IsDir() || isAbsent(err) {
		return Checksum{}, ErrNotFound
	}
	data, err := d.ReadFileInRoot(p, maxRefFile)
	if isAbsent(err) {
		return Checksum{}, ErrNotFound // an alias of nothing
	}
	if err != nil {
		return Checksum{}, err
	}
	c, err := ParseChecksum(strings.TrimSpace(string(data)))
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return c, nil
}

// isAbsent holds also where a component of the path is a file.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Refs lists refs by refspec: local ones as REF, the others as REMOTE:REF. A
// prefix limits the list to the ref of that name and those below it;
// "REMOTE:" to the refs of a remote.
func (r *Repo) Refs(prefix string) (map[string]Checksum, error) {
	all := map[string]Checksum{}
	remote, ref, hasRemote := strings.Cut(prefix, ":")
	if !hasRemote {
		ref = prefix
		if err := r.readRefs(headsDir, "", all); err != nil {
			return nil, err
		}
	}
	remotes, err := r.refRemotes()
	if err != nil {
		return nil, err
	}
	for _, name := range remotes {
		if hasRemote && name != remote || !hasRemote && prefix != "" {
			continue
		}
		if err := r.readRefs(remotesDir+"/"+name, name+":", all); err != nil {
			return nil, err
		}
	}
	if ref != "" {
		maps.DeleteFunc(all, func(spec string, _ Checksum) bool {
			name := spec[strings.IndexByte(spec, ':')+1:]
			return name != ref && !strings.HasPrefix(name, strings.TrimSuffix(ref, "/")+"/")
		})
	}
	return all, nil
}

func (r *Repo) refRemotes() ([]string, error) { return r.subdirs(remotesDir) }

// subdirs names the directories in one below the repository, in byte order; an
// absent one has none.
func (r *Repo) subdirs(dir string) ([]string, error) {
	entries, err := r.dir.ReadDir(dir)
	if isAbsent(err) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validComponent(e.Name) {
			names = append(names, e.Name)
		}
	}
	return names, err
}

// readRefs collects the refs below dir under prefix+path.
func (r *Repo) readRefs(dir, prefix string, into map[string]Checksum) error {
	return r.walkRefs(dir, 0, func(p string) error {
		c, err := readRefFile(r.dir, p)
		if errors.Is(err, ErrNotFound) {
			return nil // deleted while listing, or an alias of nothing
		}
		if err != nil {
			return fmt.Errorf("read ref %s: %w", p, err)
		}
		into[prefix+strings.TrimPrefix(p, dir+"/")] = c
		return nil
	})
}

// walkRefs calls fn for the path of every ref below dir, in byte order.
func (r *Repo) walkRefs(dir string, deep int, fn func(path string) error) error {
	if deep > maxRefDeep {
		return fmt.Errorf("list refs: %w: %s is nested too deeply", ErrInvalid, clip(dir))
	}
	entries, err := r.dir.ReadDir(dir)
	if err != nil && !isAbsent(err) {
		return fmt.Errorf("list refs: %w", err)
	}
	for _, e := range entries {
		if !validComponent(e.Name) {
			continue // temporary files of writers, here and in libostree
		}
		p := dir + "/" + e.Name
		if e.IsDir() {
			err = r.walkRefs(p, deep+1, fn)
		} else {
			err = fn(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rootRefs lists the commits that any ref names, mirrored collections included,
// by the path of the ref's file.
func (r *Repo) rootRefs() (map[string]Checksum, error) {
	all := map[string]Checksum{}
	for _, dir := range []string{headsDir, remotesDir, mirrorsDir} {
		if err := r.readRefs(dir, dir+"/", all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
