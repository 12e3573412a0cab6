// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"strings"
)

// Resolve turns a rev into a commit checksum. A rev is a ref, REMOTE:REF, a
// checksum, a unique prefix of the checksum of a stored commit, or any of them
// followed by one or more ^ for the parent. A plain ref is looked for in refs/heads,
// as REMOTE/REF, then in every remote, at last in the parent repository. ErrNotFound
// where nothing matches, ErrInvalid for an ambiguous prefix.
func (r *Repo) Resolve(rev string) (Checksum, error) { return r.resolve(rev, true) }

// ResolveLocal is Resolve that does not look for a plain ref among those of remotes.
func (r *Repo) ResolveLocal(rev string) (Checksum, error) { return r.resolve(rev, false) }

func (r *Repo) resolve(rev string, remotes bool) (Checksum, error) {
	base := strings.TrimRight(rev, "^")
	c, err := r.resolveBase(base, remotes || len(base) < len(rev))
	if err != nil {
		return c, err
	}
	for range len(rev) - len(base) {
		commit, err := r.LoadCommit(c)
		if err != nil {
			return c, fmt.Errorf("resolve %q: %w", clip(rev), err)
		}
		if commit.Parent.IsZero() {
			return c, worded(ErrNotFound, "Commit %s has no parent", c)
		}
		c = commit.Parent
	}
	return c, nil
}

func (r *Repo) resolveBase(rev string, remotes bool) (Checksum, error) {
	if c, err := ParseChecksum(rev); err == nil {
		return c, nil
	}
	// A ref goes before a prefix, though libostree has it the other way round: there
	// the meaning of a short ref changes with the commits that happen to be stored.
	p, err := refPath(rev)
	if err != nil {
		return Checksum{}, err
	}
	for _, find := range []func() (Checksum, error){
		func() (Checksum, error) { return readRefFile(r.dir, p) },
		func() (Checksum, error) { return r.resolvePrefix(rev) },
		func() (Checksum, error) {
			if !remotes || strings.Contains(rev, ":") {
				return Checksum{}, ErrNotFound
			}
			return r.refOfRemotes(rev)
		},
		func() (Checksum, error) {
			if r.parent == nil {
				return Checksum{}, ErrNotFound
			}
			return r.parent.resolveBase(rev, remotes)
		},
	} {
		if c, err := find(); !errors.Is(err, ErrNotFound) {
			return c, err
		}
	}
	if st, err := r.dir.Lstat(p); err == nil && st.IsDir() {
		return Checksum{}, worded(ErrNotFound, "Couldn't open ref '%s': Is a directory", clip(rev))
	}
	return Checksum{}, worded(ErrNotFound, "Refspec '%s' not found", clip(rev))
}

// refOfRemotes also takes REMOTE/REF.
func (r *Repo) refOfRemotes(ref string) (Checksum, error) {
	c, err := readRefFile(r.dir, remotesDir+"/"+ref)
	if !errors.Is(err, ErrNotFound) {
		return c, err
	}
	names, err := r.refRemotes()
	if err != nil {
		return c, err
	}
	for _, name := range names {
		c, err := readRefFile(r.dir, remotesDir+"/"+name+"/"+ref)
		if !errors.Is(err, ErrNotFound) {
			return c, err
		}
	}
	return c, ErrNotFound
}

func (r *Repo) resolvePrefix(prefix string) (Checksum, error) {
	if prefix == "" || !isLowerHex(prefix) {
		return Checksum{}, ErrNotFound
	}
	dirs := []string{prefix[:min(2, len(prefix))]}
	if len(prefix) == 1 {
		dirs = nil
		for _, c := range "0123456789abcdef" {
			dirs = append(dirs, prefix+string(c))
		}
	}
	var found []Checksum
	for _, dir := range dirs {
		entries, err := r.objects.ReadDir(dir)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return Checksum{}, err
		}
		for _, e := range entries {
			name, ok := strings.CutSuffix(dir+e.Name, ".commit")
			if !ok || !strings.HasPrefix(name, prefix) {
				continue
			}
			if c, err := ParseChecksum(name); err == nil {
				found = append(found, c)
			}
		}
	}
	switch len(found) {
	case 0:
		return Checksum{}, ErrNotFound
	case 1:
		return found[0], nil
	}
	return Checksum{}, worded(ErrInvalid, "Refspec %s not unique", prefix)
}
