// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// consumeLater has what is in a source directory deleted when the transaction has
// committed: until then a failure leaves the source whole.
func (t *Txn) consumeLater(src *fsx.Dir) error {
	d, err := src.OpenDir(".")
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.consume = append(t.consume, d)
	return nil
}

// adopt makes the open file itself the object, under a second name until the source
// is deleted. Its recorded metadata is what the file has, or what a bare-user-only
// repository makes of it.
func (t *Txn) adopt(ctx context.Context, f *os.File, st fsx.Stat, h FileHeader) (Checksum, error) {
	c, err := t.r.hashContent(h, st.Size, &ctxReader{ctx, f})
	if err != nil {
		return c, err
	}
	t.count.contentTotal.Add(1)
	n := ObjectName{c, TypeFile}
	if found, err := t.Has(n); found || err != nil {
		return c, err
	}
	if t.r.mode == ModeBareUserOnly {
		if err := sys.Fchmod(int(f.Fd()), h.Mode&0o7777); err != nil {
			return c, fmt.Errorf("set mode %o: %w", h.Mode&0o7777, err)
		}
	}
	if err := sys.Futimens(int(f.Fd()), time.Unix(0, 0)); err != nil {
		return c, err
	}
	if t.r.opts.perObjectFsync && t.r.opts.fsync {
		if err := f.Sync(); err != nil {
			return c, err
		}
	}
	err = t.placeName(n, func(d *fsx.Dir, name string) error { return sys.LinkFd(int(f.Fd()), d.Fd(), name) })
	if err != nil {
		return c, err
	}
	t.mu.Lock()
	t.adopted = append(t.adopted, n)
	t.mu.Unlock()
	t.count.contentWritten.Add(1)
	t.count.content.Add(st.Size)
	return c, nil
}

// finishSources ends what consumeLater and adopt began. After a failure the adopted
// files leave the staging directory: the source still has them, and may change them.
func (t *Txn) finishSources(failure error) error {
	var errs []error
	for _, d := range t.consume {
		if failure == nil {
			errs = append(errs, failpoint.Hit("ostree.txn.consume"), emptyDir(d))
		}
		errs = append(errs, d.Close())
	}
	for _, n := range t.adopted {
		if failure != nil {
			errs = append(errs, t.removeStaged(n))
		}
	}
	return errors.Join(errs...)
}

func emptyDir(d *fsx.Dir) error {
	entries, err := d.ReadDir(".")
	if err != nil {
		return fmt.Errorf("consume %s: %w", d.Path(), err)
	}
	for _, e := range entries {
		if err := d.RemoveAll(e.Name); err != nil {
			return fmt.Errorf("consume %s: %w", d.Path(), err)
		}
	}
	return nil
}
