// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hostctl/hostctl/internal/fsx"
)

// maxParents bounds a chain of parent repositories.
const maxParents = 16

// fileID tells files of one machine apart.
type fileID struct{ dev, ino uint64 }

// Parent gives the repository in which absent objects are looked up: that of
// Options or core.parent; nil if there is none.
func (r *Repo) Parent() *Repo { return r.parent }

// HasLocal reports whether the repository itself, not a parent, stores an object.
func (r *Repo) HasLocal(n ObjectName) (bool, error) {
	return r.objects.Exists(n.loosePath(r.mode))
}

func (r *Repo) hasInParents(n ObjectName) (bool, error) {
	if r.parent == nil {
		return false, nil
	}
	return r.parent.Has(n)
}

// openParent attaches the parent that the options or the config name. A chain
// that comes back to one of its repositories is refused.
func (r *Repo) openParent(o Options) error {
	if o.Parent != nil {
		r.parent = o.Parent
		return r.checkChain()
	}
	where, err := r.cfg.StringOr("core", "parent", "")
	if err != nil || where == "" {
		return err
	}
	self, err := r.dir.Lstat(".")
	if err != nil {
		return err
	}
	below := append(slices.Clone(o.below), fileID{self.Dev, self.Ino})
	if err := r.openParentAt(where, Options{Logger: o.Logger, DisableFsync: o.DisableFsync, below: below}); err != nil {
		return fmt.Errorf("parent repository %q: %w", clip(where), err)
	}
	return nil
}

func (r *Repo) openParentAt(where string, o Options) error {
	if len(o.below) > maxParents {
		return fmt.Errorf("%w: chain of more than %d parents", ErrInvalid, maxParents)
	}
	d, err := fsx.OpenDir(where)
	if err != nil {
		return err
	}
	st, err := d.Lstat(".")
	if err == nil && slices.Contains(o.below, fileID{st.Dev, st.Ino}) {
		err = fmt.Errorf("%w: it is its own parent", ErrInvalid)
	}
	var parent *Repo
	if err == nil {
		// Not Open: what an interrupted writer left in a parent is not ours to drop.
		parent, err = open(d, o)
	}
	if err != nil {
		return errors.Join(err, d.Close())
	}
	r.parent, r.ownParent = parent, true
	return nil
}

// checkChain refuses a given parent that reaches this repository again.
func (r *Repo) checkChain() error {
	self, err := r.dir.Lstat(".")
	if err != nil {
		return err
	}
	for p, n := r.parent, 0; p != nil; p, n = p.parent, n+1 {
		st, err := p.dir.Lstat(".")
		if err != nil {
			return err
		}
		if n > maxParents || st.Dev == self.Dev && st.Ino == self.Ino {
			return fmt.Errorf("parent repository %s: %w: it is its own parent", p.dir.Path(), ErrInvalid)
		}
	}
	return nil
}

// closeParent closes a parent that was opened for this repository.
func (r *Repo) closeParent() error {
	if !r.ownParent {
		return nil
	}
	return errors.Join(r.parent.Close(), r.parent.dir.Close())
}
