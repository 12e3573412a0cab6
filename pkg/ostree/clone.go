// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// CloneObject takes a file object over from another repository by sharing its
// blocks, whatever owner and mode its file there has. done is false where that
// cannot be: another filesystem or one without such files, a symbolic link, an
// archive; the caller copies then. verify compares the checksum of what was taken
// over (ErrCorrupt); without it the caller vouches for the source. ErrNotFound if
// src lacks the object.
func (t *Txn) CloneObject(ctx context.Context, src *Repo, c Checksum, verify bool) (done bool, err error) {
	if err := t.check(ctx); err != nil {
		return false, err
	}
	if !t.r.mode.bareContent() || src.mode == ModeArchive || !t.canReflink() {
		return false, nil
	}
	n := ObjectName{c, TypeFile}
	if found, err := t.Has(n); found || err != nil {
		t.count.contentTotal.Add(1)
		return found, err
	}
	h, size, rc, err := src.OpenFile(c)
	if err != nil {
		return false, err
	}
	defer rc.Close()
	f, err := t.newFile()
	if err != nil {
		return false, err
	}
	defer f.close()
	if !t.cloneInto(f, rc, size) {
		return false, nil
	}
	if done, err = true, t.placeClone(ctx, f, n, h, size, verify); err != nil {
		err = fmt.Errorf("clone object %s: %w", n, err)
	}
	return done, err
}

// placeClone takes what the clone holds: the file it was made of may be another's.
func (t *Txn) placeClone(ctx context.Context, f *objFile, n ObjectName, h FileHeader, size int64, verify bool) error {
	if err := h.check(); err != nil {
		return err
	}
	if err := t.r.checkStorable(h); err != nil {
		return err
	}
	p := t.payloadOf(h, size)
	if verify || p != nil {
		sum, err := t.r.hashContent(h, size, p.follow(&ctxReader{ctx, wholeFile(f)}))
		if err == nil && verify && sum != n.Checksum {
			err = &checksumError{sum}
		}
		if err != nil {
			return err
		}
	}
	if err := t.finishFile(f, h); err != nil {
		return err
	}
	if err := t.place(f, n); err != nil {
		return err
	}
	t.count.contentTotal.Add(1)
	t.count.contentWritten.Add(1)
	t.count.content.Add(size)
	return p.link(n)
}

// wholeFile reads a file from its start.
func wholeFile(f *objFile) io.Reader { return io.NewSectionReader(f, 0, 1<<62) }

// cloneInto makes an empty object file share the blocks of the file that content
// reads. false: it has to be copied.
func (t *Txn) cloneInto(f *objFile, content io.Reader, size int64) bool {
	if c, ok := content.(*ctxReader); ok {
		content = c.r
	}
	src, ok := content.(*os.File)
	if !ok || size == 0 || !t.r.mode.bareContent() || !t.canReflink() {
		return false
	}
	if at, err := src.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return false
	}
	if err := sys.CloneFile(int(f.Fd()), int(src.Fd())); err != nil {
		return false
	}
	if st, err := fsx.FStat(f.File); err == nil && st.Size == size {
		return true
	}
	// It changed since it was measured; copying tells what is wrong.
	_ = f.Truncate(0)
	return false
}

// fillHashed is fill that also hashes the content. A file in the same filesystem
// is not copied where blocks can be shared; then what is hashed is the clone.
func (t *Txn) fillHashed(f *objFile, h FileHeader, size int64, content io.Reader, hs hash.Hash, p *payload) error {
	sum := p.with(hs)
	if !t.cloneInto(f, content, size) {
		return t.fill(f, h, size, io.TeeReader(content, sum))
	}
	in := wholeFile(f)
	if c, ok := content.(*ctxReader); ok {
		in = &ctxReader{c.ctx, in}
	}
	buf := t.r.pools.buffer()
	defer t.r.pools.buffers.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, in, (*buf)[:bufSize]); err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	return t.finishFile(f, h)
}

// finishFile gives a file in a bare mode its metadata.
func (t *Txn) finishFile(f *objFile, h FileHeader) error {
	if t.r.mode == ModeBareUser {
		return finishBareUser(f, h)
	}
	if err := finishBare(f.File, h, t.r.mode == ModeBare && !t.r.opts.disableXattrs, t.r.mode.ownedFiles()); err != nil {
		return err
	}
	return sys.Futimens(int(f.Fd()), time.Unix(0, 0))
}
