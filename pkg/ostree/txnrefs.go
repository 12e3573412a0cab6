// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
)

// checkRefs refuses, before anything becomes visible, what writeRefs could not
// finish: a ref to an absent commit, or a ref below another ref.
func (t *Txn) checkRefs() error {
	for _, p := range sortedKeys(t.refs) {
		c := t.refs[p]
		if c.IsZero() {
			continue
		}
		found, err := t.Has(ObjectName{c, TypeCommit})
		if err == nil && !found {
			err = fmt.Errorf("commit %s: %w", c, ErrNotFound)
		}
		if err == nil {
			err = t.checkRefConflict(p)
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", p, err)
		}
	}
	return nil
}

func (t *Txn) checkRefConflict(p string) error {
	for up := path.Dir(p); up != "refs"; up = path.Dir(up) {
		c, planned := t.refs[up]
		if planned && !c.IsZero() {
			return fmt.Errorf("%w: %s is a ref", ErrExists, up)
		}
		st, err := t.r.dir.Lstat(up)
		if err == nil && !st.IsDir() && !planned {
			return fmt.Errorf("%w: %s is a ref", ErrExists, up)
		}
		if err != nil && !isAbsent(err) {
			return err
		}
	}
	return t.r.walkRefs(p, 0, func(below string) error {
		if c, planned := t.refs[below]; planned && c.IsZero() {
			return nil
		}
		return worded(ErrExists, "Conflict: %s exists under %s when attempting write",
			strings.TrimPrefix(below, p+"/"), strings.TrimPrefix(p, headsDir+"/"))
	})
}

// writeRefs deletes first, so that names are free, then replaces each ref by a
// rename. A crash in between leaves some old and some new.
func (t *Txn) writeRefs() error {
	if len(t.refs) == 0 {
		return nil
	}
	for _, deleting := range []bool{true, false} {
		for _, p := range sortedKeys(t.refs) {
			c := t.refs[p]
			if c.IsZero() != deleting {
				continue
			}
			if err := failpoint.Hit("ostree.txn.ref"); err != nil {
				return err
			}
			if err := t.r.storeRef(p, c); err != nil {
				return fmt.Errorf("write %s: %w", p, err)
			}
		}
	}
	t.r.touch()
	return nil
}

// touch tells that refs changed: libostree's clients watch the repository's time.
func (r *Repo) touch() { _ = r.dir.Lutimes(".", time.Now()) }

func (r *Repo) storeRef(p string, c Checksum) error {
	if c.IsZero() {
		return r.deleteRef(p)
	}
	// Another process may remove an empty directory between MkdirAll and the write.
	var err error
	for range 3 {
		if err = r.replaceRef(p, c); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func (r *Repo) replaceRef(p string, c Checksum) error {
	dir := path.Dir(p)
	if err := r.dir.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if st, err := r.dir.Lstat(p); err == nil && st.IsDir() {
		// Only empty directories are left below it: checkRefs saw no ref there.
		if err := r.dir.RemoveAll(p); err != nil {
			return err
		}
	}
	if err := r.replaceFile(p, []byte(c.String()+"\n"), 0o644); err != nil {
		return err
	}
	if !r.opts.fsync {
		return nil
	}
	for up := path.Dir(dir); up != "."; up = path.Dir(up) {
		if err := r.dir.FsyncName(up); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) deleteRef(p string) error {
	if st, err := r.dir.Lstat(p); err == nil && st.IsDir() {
		return nil // refs below a name that is none itself
	}
	if err := r.removeIfThere(r.dir, p); err != nil {
		return err
	}
	dir := path.Dir(p)
	if r.opts.fsync {
		if err := r.dir.FsyncName(dir); err != nil && !isAbsent(err) {
			return err
		}
	}
	for ; strings.Count(dir, "/") > 1; dir = path.Dir(dir) {
		if r.dir.Remove(dir) != nil {
			break // not empty
		}
	}
	return nil
}

// replaceFile is WriteFileAtomic that honours a repository without fsync.
func (r *Repo) replaceFile(name string, data []byte, perm fs.FileMode) error {
	if r.opts.fsync {
		return r.dir.WriteFileAtomic(name, data, perm)
	}
	tmp := path.Join(path.Dir(name), ".tmp-"+rand.Text())
	if err := r.dir.WriteFile(tmp, data, perm); err != nil {
		return err
	}
	if err := r.dir.Rename(tmp, r.dir, name); err != nil {
		return errors.Join(err, r.dir.Remove(tmp))
	}
	return nil
}

func (r *Repo) removeIfThere(d *fsx.Dir, name string) error {
	err := d.Remove(name)
	if isAbsent(err) {
		return nil
	}
	return err
}

// objectDirMode is the mode of objects/XX.
const objectDirMode = 0o755

func (r *Repo) makeObjectDir(n ObjectName) error {
	err := r.objects.Mkdir(n.Checksum.String()[:2], objectDirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
