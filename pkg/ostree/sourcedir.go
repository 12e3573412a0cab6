// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"sync/atomic"

	"github.com/hostctl/hostctl/internal/fsx"
)

// sourceDir is a directory that WriteDir reads. It is complete when its users have
// released it: who lists it, each of its files that is to be stored, and each of its
// subdirectories.
type sourceDir struct {
	*fsx.Dir
	path   string
	tree   *MTree // what it is merged into
	depth  int
	parent *sourceDir // nil for the top
	files  []TreeFile // slots, in the order of the listing; never grown
	users  atomic.Int32
}

// slot gives the place for the checksum of a file.
func (d *sourceDir) slot(name string) *Checksum {
	d.files = append(d.files, TreeFile{Name: name})
	return &d.files[len(d.files)-1].Checksum
}

// release gives up a directory. Who is last records it and so, perhaps, completes
// those above.
func (w *dirWriter) release(d *sourceDir) {
	for d != nil && d.users.Add(-1) == 0 {
		_ = d.Close()
		if w.pool.ctx.Err() == nil {
			if err := w.record(d); err != nil {
				w.pool.fail(err)
			}
		}
		d = d.parent
	}
}

// record puts the files into the tree and, where nothing will change that, the
// directory into the transaction.
func (w *dirWriter) record(d *sourceDir) error {
	for _, f := range d.files {
		if err := d.tree.SetFile(f.Name, f.Checksum); err != nil {
			return err
		}
	}
	d.files = nil
	if !w.o.Last {
		return nil
	}
	w.storing.Lock()
	defer w.storing.Unlock()
	return w.t.foldTree(w.pool.ctx, d.tree, d.path)
}
