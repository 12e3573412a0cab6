// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// objFile is an object being written: under its name in the staging directory, unnamed
// where the filesystem can, or under a temporary name there.
type objFile struct {
	*os.File
	t       *Txn
	tmp     string      // "" for an unnamed file
	claim   *ObjectName // the object whose name it has and that nobody else may touch
	written int64
	metered bool // what is written counts against the free space that must remain
}

// newObject starts an object whose checksum is known before its bytes are written,
// under its name: to give a name later costs as much again. Nobody takes it for
// complete before place says so: this transaction asks its filter, and what another one
// finds of an interrupted one is verified. Who comes second writes a file of his own.
// mode is what the file gets in the end: one that it is made with need not be changed.
func (t *Txn) newObject(n ObjectName, mode uint32) (*objFile, error) {
	if t.resumed || !n.Type.verifiable() || !t.claim(n) {
		return t.newFile()
	}
	d, name := t.stageAt(n)
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fs.FileMode(mode).Perm())
	if err == nil {
		return &objFile{File: f, t: t, claim: &n}, nil
	}
	t.release(n)
	if errors.Is(err, fs.ErrExist) {
		return t.newFile()
	}
	return nil, fmt.Errorf("create object file: %w", t.full(err))
}

// lastMode is the mode that fill leaves a file with, where it can be made with that: who
// may not write to a file cannot give it the attribute of bare-user either.
func (t *Txn) lastMode(h FileHeader) uint32 {
	switch t.r.mode {
	case ModeArchive:
		return 0o644
	case ModeBareUser:
		return 0o600
	}
	return h.Mode
}

func (t *Txn) claim(n ObjectName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.claims[n]; taken {
		return false
	}
	t.claims[n] = make(chan struct{})
	return true
}

func (t *Txn) release(n ObjectName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.claims[n])
	delete(t.claims, n)
}

// awaitClaim waits for who writes an object under its name; false: nobody does.
func (t *Txn) awaitClaim(n ObjectName) bool {
	t.mu.Lock()
	done, taken := t.claims[n]
	t.mu.Unlock()
	if taken {
		<-done
	}
	return taken
}

func (t *Txn) newFile() (*objFile, error) {
	f, err := sys.TmpFile(t.stage.dir.Fd(), t.stage.dir.Path(), 0o600)
	if err == nil {
		return &objFile{File: f, t: t}, nil
	}
	if !sys.IsNotSupported(err) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENOENT) {
		return nil, fmt.Errorf("create object file: %w", t.full(err))
	}
	tmp := "tmp-" + rand.Text()
	f, err = t.stage.dir.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &objFile{File: f, t: t, tmp: tmp}, nil
}

func (f *objFile) Write(p []byte) (int, error) {
	if f.metered {
		if err := f.t.budget.take(int64(len(p))); err != nil {
			return 0, err
		}
	}
	n, err := f.File.Write(p)
	f.written += int64(n)
	return n, f.t.full(err)
}

// ReadFrom keeps io.Copy from going around Write.
func (f *objFile) ReadFrom(r io.Reader) (int64, error) {
	buf := f.t.r.pools.buffer()
	defer f.t.r.pools.buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, (*buf)[:bufSize])
}

func (f *objFile) chmod(mode uint32) error {
	return finishBare(f.File, FileHeader{Mode: mode}, false, false)
}

// close drops what was not placed.
func (f *objFile) close() {
	_ = f.File.Close()
	if f.tmp != "" {
		_ = f.t.stage.dir.Remove(f.tmp)
	}
	if f.claim != nil {
		f.t.abandon(*f.claim)
		f.t.release(*f.claim)
	}
}

// abandon removes what was begun under a claimed name. Where it cannot be removed the
// transaction fails: it would become visible with the directory that it is in.
func (t *Txn) abandon(n ObjectName) {
	if err := t.removeStaged(n); err != nil {
		t.early.fail(fmt.Errorf("remove incomplete object: %w", err))
	}
}

// place gives a complete file its name in the staging directory.
func (t *Txn) place(f *objFile, n ObjectName) error {
	if err := t.flush(f); err != nil {
		return err
	}
	if f.claim != nil {
		t.staged.add(n)
		f.claim = nil
		t.release(n)
		t.wrote(f.written)
		return failpoint.Hit("ostree.txn.write")
	}
	err := t.placeName(n, func(d *fsx.Dir, name string) error {
		if f.tmp == "" {
			return sys.LinkFd(int(f.Fd()), d.Fd(), name)
		}
		err := t.stage.dir.RenameNoReplace(f.tmp, d, name)
		if err == nil {
			f.tmp = ""
		}
		return err
	})
	if err != nil {
		return err
	}
	t.wrote(f.written)
	return failpoint.Hit("ostree.txn.write")
}

// earlyWriteback is the size from which files are begun to be written to disk at once, so that
// the sync at the end does not wait for all of it. Few files have most of the bytes.
const earlyWriteback = 64 << 10

// flush syncs a file where each is synced by itself.
func (t *Txn) flush(f *objFile) error {
	switch {
	case t.r.opts.perObjectFsync:
		return f.Sync()
	case t.r.opts.fsync && f.written >= earlyWriteback:
		// A filesystem that cannot do it has lost nothing.
		_ = sys.StartWriteback(int(f.Fd()))
	}
	return nil
}

// placeName registers an object as staged. Where two writers made the same
// object the first one stands; what an interrupted transaction left under the
// name is not trusted and goes. Names are given outside of the lock: that is where
// writers spend their time.
func (t *Txn) placeName(n ObjectName, link func(d *fsx.Dir, name string) error) error {
	for n.Type.verifiable() {
		if t.isStaged(n) {
			return nil
		}
		err := link(t.stageAt(n))
		if err == nil {
			t.staged.add(n)
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("name object %s: %w", n, err)
		}
		if !t.awaitClaim(n) {
			break
		}
	}
	return t.replaceName(n, link)
}

func (t *Txn) replaceName(n ObjectName, link func(d *fsx.Dir, name string) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, left := t.leftover[n]
	if n.Type.verifiable() && !left && t.inStaging(n) {
		t.staged.add(n) // by another writer, who may not have come to this line yet
		return nil
	}
	err := t.removeStaged(n)
	if err == nil {
		err = link(t.stageAt(n))
	}
	if err != nil {
		return fmt.Errorf("name object %s: %w", n, err)
	}
	t.staged.add(n)
	delete(t.leftover, n)
	return nil
}

// checkStorable refuses what the repository's mode cannot give back.
func (r *Repo) checkStorable(h FileHeader) error {
	if r.mode == ModeBareSplitXattrs && !r.writeSplit {
		return worded(ErrUnsupported, "Writing content object: Not allowed due to repo mode")
	}
	if r.mode != ModeBareUserOnly {
		return nil
	}
	if h.UID != 0 || h.GID != 0 || len(h.Xattrs) > 0 || h.IsRegular() && h.Mode&0o7777&^0o775 != 0 {
		return fmt.Errorf("%w: owner %d:%d, mode %o or attributes in a %s repository", ErrInvalid, h.UID, h.GID, h.Mode, r.mode)
	}
	return nil
}

// fill writes a content object in the form of the repository's mode.
func (t *Txn) fill(f *objFile, h FileHeader, size int64, content io.Reader) error {
	switch t.r.mode {
	case ModeArchive:
		if err := t.fillArchive(f, h, size, content); err != nil {
			return err
		}
		return f.chmod(0o644)
	case ModeBareUser:
		if h.IsSymlink() {
			if _, err := io.WriteString(f, h.Target+"\x00"); err != nil {
				return err
			}
		} else if err := copyExactly(f, content, size); err != nil {
			return err
		}
		return finishBareUser(f, h)
	}
	if err := copyExactly(f, content, size); err != nil {
		return err
	}
	return t.finishFile(f, h)
}

func copyExactly(f *objFile, content io.Reader, size int64) error {
	var n int64
	var err error
	if b, ok := content.(*bytes.Reader); ok && int64(b.Len()) == size {
		n, err = b.WriteTo(f) // with one write
	} else {
		n, err = f.ReadFrom(io.LimitReader(content, size))
	}
	if err != nil {
		return fmt.Errorf("copy content: %w", err)
	}
	if n != size {
		return corrupt("content", io.ErrUnexpectedEOF)
	}
	return expectEOF(content)
}

func (t *Txn) fillArchive(f *objFile, h FileHeader, size int64, content io.Reader) error {
	prefix, err := h.archivePrefix(size)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, bufSize)
	if _, err := w.Write(prefix); err != nil {
		return err
	}
	if h.IsRegular() {
		if err := t.deflate(w, size, content); err != nil {
			return err
		}
	}
	return w.Flush()
}

// storeSmall stores content in memory with one write.
func (t *Txn) storeSmall(n ObjectName, h FileHeader, data []byte) error {
	if err := t.budget.take(int64(len(data))); err != nil {
		return err
	}
	prefix, err := h.archivePrefix(int64(len(data)))
	if err != nil {
		return err
	}
	p := &t.r.pools
	buf := p.buffer()
	defer p.buffers.Put(buf)
	out := append((*buf)[:0], prefix...)
	if h.IsRegular() {
		z, err := p.deflater(nil, t.r.opts.zlibLevel)
		if err != nil {
			return err
		}
		defer p.deflaters.Put(z)
		out = z.Compress(out, data)
	}
	f, err := t.newObject(n, 0o644)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.Write(out); err != nil {
		return err
	}
	if err := f.chmod(0o644); err != nil {
		return err
	}
	return t.place(f, n)
}

func (t *Txn) deflate(w io.Writer, size int64, content io.Reader) error {
	p := &t.r.pools
	z, err := p.deflater(w, t.r.opts.zlibLevel)
	if err != nil {
		return err
	}
	defer p.deflaters.Put(z)
	buf := p.buffer()
	defer p.buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{z}, struct{ io.Reader }{io.LimitReader(content, size)}, (*buf)[:bufSize])
	if err != nil {
		return fmt.Errorf("compress content: %w", err)
	}
	if n != size {
		return corrupt("content", io.ErrUnexpectedEOF)
	}
	if err := expectEOF(content); err != nil {
		return err
	}
	return z.Close()
}

// finishBare sets owner, mode and attributes. The owner comes first:
// changing it clears setuid bits and file capabilities. To ask costs far less than to
// set what is so already, which on most filesystems is written to a journal.
func finishBare(f *os.File, h FileHeader, xattrs, owner bool) error {
	fd := int(f.Fd())
	st, err := sys.Fstat(fd)
	if err != nil {
		return fmt.Errorf("look at a new file: %w", err)
	}
	owner = owner && (st.Uid != h.UID || st.Gid != h.GID)
	if owner {
		if err := sys.Fchown(fd, int(h.UID), int(h.GID)); err != nil {
			return fmt.Errorf("set owner %d:%d: %w", h.UID, h.GID, err)
		}
	}
	if mode := h.Mode & 0o7777; owner || st.Mode&0o7777 != mode {
		if err := sys.Fchmod(fd, mode); err != nil {
			return fmt.Errorf("set mode %o: %w", mode, err)
		}
	}
	if xattrs {
		for _, x := range h.Xattrs {
			if err := fsx.FSetXattr(f, x.Name, x.Value); err != nil {
				return fmt.Errorf("set attribute %s: %w", x.Name, err)
			}
		}
	}
	return nil
}

// finishBareUser keeps a file that its owner can read, whatever its real mode.
func finishBareUser(f *objFile, h FileHeader) error {
	meta, err := marshalUserMeta(h)
	if err != nil {
		return err
	}
	if err := fsx.FSetXattr(f.File, userMetaXattr, meta); err != nil {
		return err
	}
	mode := uint32(0o644)
	if h.IsRegular() {
		mode = h.Mode&0o775 | 0o400
	}
	if err := f.chmod(mode); err != nil {
		return err
	}
	return sys.Futimens(int(f.Fd()), time.Unix(0, 0))
}

// placeLink makes a symbolic link, which cannot be unnamed, and places it: under its name,
// as newObject does with files, where that is free.
func (t *Txn) placeLink(n ObjectName, h FileHeader) error {
	if err := t.budget.take(int64(len(h.Target))); err != nil {
		return err
	}
	err := fs.ErrExist
	if !t.resumed && t.claim(n) {
		err = t.claimedLink(n, h)
		t.release(n)
	}
	if errors.Is(err, fs.ErrExist) {
		err = t.temporaryLink(n, h)
	}
	if err != nil {
		return err
	}
	t.wrote(int64(len(h.Target)))
	return failpoint.Hit("ostree.txn.write")
}

// claimedLink makes a link under a claimed name; fs.ErrExist where that is taken.
func (t *Txn) claimedLink(n ObjectName, h FileHeader) error {
	d, name := t.stageAt(n)
	if err := d.Symlink(h.Target, name); err != nil {
		return err
	}
	if err := t.finishLink(d, name, h); err != nil {
		t.abandon(n)
		return err
	}
	t.staged.add(n)
	return nil
}

func (t *Txn) temporaryLink(n ObjectName, h FileHeader) error {
	d, tmp := t.stage.dir, "tmp-"+rand.Text()
	if err := d.Symlink(h.Target, tmp); err != nil {
		return err
	}
	err := t.finishLink(d, tmp, h)
	if err == nil {
		err = t.placeName(n, func(nd *fsx.Dir, name string) error { return d.RenameNoReplace(tmp, nd, name) })
	}
	if rerr := t.r.removeIfThere(d, tmp); err == nil {
		err = rerr
	}
	return err
}

func (t *Txn) finishLink(d *fsx.Dir, name string, h FileHeader) error {
	return finishLink(d, name, h, t.r.mode == ModeBare && !t.r.opts.disableXattrs, t.r.mode.ownedFiles(), false)
}

func finishLink(d *fsx.Dir, name string, h FileHeader, xattrs, owner, keepTime bool) error {
	if owner {
		if err := d.Lchown(name, int(h.UID), int(h.GID)); err != nil {
			return err
		}
	}
	if xattrs {
		for _, x := range h.Xattrs {
			if err := d.SetXattr(name, x.Name, x.Value); err != nil {
				return fmt.Errorf("set attribute %s: %w", x.Name, err)
			}
		}
	}
	if keepTime {
		return nil
	}
	return d.Lutimes(name, time.Unix(0, 0))
}
