// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// LinkObject takes an object over from another repository by giving its file a
// second name in the transaction. done is false where that cannot be: another
// mode or filesystem, too many links, no permission; the caller copies then. The
// object is not verified. ErrNotFound if src lacks it.
func (t *Txn) LinkObject(src *Repo, n ObjectName) (done bool, err error) {
	if t.over.Load() {
		return false, errOver
	}
	if ok, err := t.linkable(src, n); !ok || err != nil {
		return false, err
	}
	t.countMet(n)
	if found, err := t.Has(n); found || err != nil {
		return found, err
	}
	err = t.placeName(n, func(d *fsx.Dir, name string) error { return src.objects.Link(n.loosePath(src.mode), d, name) })
	switch {
	case err == nil:
		t.countNew(n)
		return true, t.linkPayloadFile(n)
	case errors.Is(err, fs.ErrNotExist):
		return t.linkFromParent(src, n)
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EMLINK), errors.Is(err, syscall.EPERM):
		return false, nil
	}
	return false, fmt.Errorf("link object %s: %w", n, err)
}

func (t *Txn) linkFromParent(src *Repo, n ObjectName) (bool, error) {
	if src.parent != nil {
		return t.LinkObject(src.parent, n)
	}
	return false, fmt.Errorf("link object %s: %w", n, ErrNotFound)
}

// ImportContent stores a file object without computing its checksum: the caller
// vouches for it, as for a local repository of its own. size and content are as
// in WriteContent.
func (t *Txn) ImportContent(ctx context.Context, c Checksum, h FileHeader, size int64, content io.Reader) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	t.count.contentTotal.Add(1)
	n := ObjectName{c, TypeFile}
	if found, err := t.Has(n); found || err != nil {
		return err
	}
	if err := t.importContent(n, h, size, content); err != nil {
		return fmt.Errorf("import object %s: %w", n, err)
	}
	t.count.contentWritten.Add(1)
	t.count.content.Add(size)
	return nil
}

func (t *Txn) importContent(n ObjectName, h FileHeader, size int64, content io.Reader) error {
	if err := h.check(); err != nil {
		return err
	}
	if err := t.r.checkStorable(h); err != nil {
		return err
	}
	if h.IsSymlink() && (t.r.mode.ownedFiles() || t.r.mode == ModeBareUserOnly) {
		return t.placeLink(n, h)
	}
	return t.storeContent(n, h, size, content)
}

// ImportArchived stores a .filez stream as it comes in an archive, unread and
// unverified: the caller vouches for it.
func (t *Txn) ImportArchived(ctx context.Context, c Checksum, filez io.Reader) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	if t.r.mode != ModeArchive {
		return t.WriteArchived(ctx, c, filez)
	}
	t.count.contentTotal.Add(1)
	n := ObjectName{c, TypeFile}
	if found, err := t.Has(n); found || err != nil {
		return err
	}
	if err := t.importArchived(n, filez); err != nil {
		return fmt.Errorf("import object %s: %w", n, err)
	}
	t.count.contentWritten.Add(1)
	return nil
}

func (t *Txn) importArchived(n ObjectName, filez io.Reader) error {
	f, err := t.newFile()
	if err != nil {
		return err
	}
	defer f.close()
	f.metered = true
	if _, err := f.ReadFrom(filez); err != nil {
		return err
	}
	if err := f.chmod(0o644); err != nil {
		return err
	}
	return t.place(f, n)
}

// WriteTombstone records that a commit was deleted on purpose: a pull that misses
// the commit in the history takes over what the remote says about it.
func (r *Repo) WriteTombstone(c Checksum) error {
	if err := r.writeTombstone(c); err != nil {
		return fmt.Errorf("write tombstone of %s: %w", c, err)
	}
	return nil
}
