// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// objectDirs keeps the directories objects/XX open while a transaction runs: each
// object is looked for and named in one of them, and a walk of the path costs more
// than the look.
type objectDirs struct {
	mu   sync.RWMutex
	dirs [256]*fsx.Dir
	// absent are the directories that were not there when an object was looked for. One
	// that another process makes later has nothing that this one needs to know of, but
	// commits: whoever stores the same object meets it when the object gets its name.
	absent [256]atomic.Bool
}

// at gives the directory of an object and the object's name in it; a nil directory
// where there is none.
func (o *objectDirs) at(r *Repo, n ObjectName) (d *fsx.Dir, name string, err error) {
	path := n.loosePath(r.mode)
	xx, name := path[:2], path[3:]
	slot := &o.dirs[n.Checksum[0]]
	o.mu.RLock()
	d = *slot
	o.mu.RUnlock()
	if d != nil {
		return d, name, nil
	}
	d, err = r.objects.OpenDir(xx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, name, nil
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return r.objects, path, nil // slower, but it works
	case err != nil:
		return nil, name, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if *slot != nil {
		return *slot, name, d.Close() // another goroutine was faster
	}
	*slot = d
	return d, name, nil
}

// missing tells that the repository had no directory for an object when it was looked
// for last.
func (o *objectDirs) missing(r *Repo, n ObjectName) bool {
	if o.absent[n.Checksum[0]].Load() {
		return true
	}
	d, _, err := o.at(r, n)
	return d == nil && err == nil
}

// has is Repo.HasLocal.
func (o *objectDirs) has(r *Repo, n ObjectName) (bool, error) {
	absent := &o.absent[n.Checksum[0]]
	if n.Type != TypeCommit && absent.Load() {
		return false, nil
	}
	d, name, err := o.at(r, n)
	if d == nil || err != nil {
		absent.Store(err == nil)
		return false, err
	}
	return d.Exists(name)
}

func (o *objectDirs) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for i, d := range o.dirs {
		if d != nil {
			errs = append(errs, d.Close())
			o.dirs[i] = nil
		}
	}
	return errors.Join(errs...)
}
