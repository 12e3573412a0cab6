// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/hostctl/hostctl/internal/fsx"
)

// WriteDir merges the directory src, its own metadata included, into m and stores
// the content of its files with several workers. A file that m has is replaced;
// a file where m has a directory, or the reverse, is an error wrapping
// ErrExists. Devices, sockets and pipes are an error wrapping ErrUnsupported
// unless they are skipped. Nothing may change src meanwhile.
func (t *Txn) WriteDir(ctx context.Context, src *fsx.Dir, m *MTree, o CommitOptions) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	w := &dirWriter{t: t, o: o.forTxn(t), pool: t.newPool(ctx, o.Workers)}
	err := w.pool.finish(w.writeRoot(src, m))
	if err == nil && o.Consume {
		err = t.consumeLater(src)
	}
	if err != nil {
		return fmt.Errorf("write directory %s: %w", src.Path(), err)
	}
	return nil
}

type dirWriter struct {
	t    *Txn
	o    CommitOptions
	pool *writePool
	dev  uint64 // of the files that may become objects; 0: none
	big  bigFiles

	// Directories are stored one at a time, so that the counts do not depend on who
	// was first either.
	storing sync.Mutex
}

// fileJob is a file to be stored. adopt: its metadata is that of the object.
type fileJob struct {
	dir        *sourceDir
	name, path string
	st         fsx.Stat
	header     FileHeader
	adopt      bool
}

// found is what is to be recorded of a name. linked is the object that the file is a
// link of, if nothing about it changes: then its content need not be read.
type found struct {
	header FileHeader
	linked Checksum
	skip   bool
	same   bool // the header is what the file has on disk
}

func (w *dirWriter) writeRoot(src *fsx.Dir, m *MTree) error {
	st, err := src.Lstat(".")
	if err != nil {
		return err
	}
	repo, err := w.t.stage.dir.Lstat(".")
	if err != nil {
		return err
	}
	if w.o.Consume && (w.t.r.mode == ModeBare || w.t.r.mode == ModeBareUserOnly) {
		w.dev = repo.Dev
	}
	f, err := w.look(src, ".", "/", st)
	if err != nil || f.skip {
		return err
	}
	if err := m.SetMeta(dirMetaOf(f.header)); err != nil {
		return err
	}
	root, err := src.OpenDir(".")
	if err != nil {
		return err
	}
	return w.walk(&sourceDir{Dir: root, path: "/", tree: m})
}

func dirMetaOf(h FileHeader) DirMeta {
	return DirMeta{UID: h.UID, GID: h.GID, Mode: h.Mode, Xattrs: h.Xattrs}
}

// walk takes over d. After an error nothing more is recorded.
func (w *dirWriter) walk(d *sourceDir) error {
	d.users.Store(1)
	defer w.release(d)
	err := w.list(d)
	if err != nil {
		w.pool.fail(err)
	}
	return err
}

func (w *dirWriter) list(d *sourceDir) error {
	if d.depth > maxTreeDepth {
		return fmt.Errorf("%s: %w: nested too deeply", d.path, ErrInvalid)
	}
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	d.files = make([]TreeFile, 0, len(entries))
	for _, e := range entries {
		if w.pool.ctx.Err() != nil {
			return context.Cause(w.pool.ctx)
		}
		if err := w.entry(d, e.Name, path.Join(d.path, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *dirWriter) entry(dir *sourceDir, name, p string) error {
	st, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	if sum, hit := w.canonical(st); hit {
		return w.known(dir, name, sum, st)
	}
	f, err := w.look(dir.Dir, name, p, st)
	if err != nil || f.skip {
		return err
	}
	if err := checkFileName(name); err != nil {
		return err
	}
	if st.IsDir() {
		return w.subdir(dir, name, p, f.header)
	}
	if !f.linked.IsZero() {
		return w.known(dir, name, f.linked, st)
	}
	dir.users.Add(1)
	j := fileJob{dir: dir, name: name, path: p, st: st, header: f.header, adopt: f.same && w.dev == st.Dev && st.IsRegular()}
	drop := func() { w.release(dir) }
	return w.pool.send(poolJob{size: st.Size, sum: dir.slot(name), drop: drop, run: func(ctx context.Context) (Checksum, error) {
		sum, err := w.writeFile(ctx, j)
		if err != nil {
			return sum, fmt.Errorf("%s: %w", p, err)
		}
		return sum, nil
	}})
}

// checkFileName is CheckName for a name on disk.
func checkFileName(name string) error {
	if !utf8.ValidString(name) {
		return worded(ErrInvalid, "Invalid UTF-8 in filename %s", strings.ToValidUTF8(name, "�"))
	}
	return CheckName(name)
}

// canonical finds the object of a link that may be taken as unmodified.
func (w *dirWriter) canonical(st fsx.Stat) (Checksum, bool) {
	if !w.o.DevInoCanonical || st.IsDir() {
		return Checksum{}, false
	}
	return w.o.DevIno.Lookup(st)
}

// known records a file that is stored already; st is that of the link of its content.
func (w *dirWriter) known(dir *sourceDir, name string, sum Checksum, st fsx.Stat) error {
	w.t.count.linked.Add(1)
	*dir.slot(name) = sum
	w.pool.count(0)
	return w.t.recordStored(ObjectName{sum, TypeFile}, FileHeader{}, st.Size)
}

func (w *dirWriter) subdir(dir *sourceDir, name, p string, h FileHeader) error {
	sub, err := dir.tree.Dir(name, true)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if err := sub.SetMeta(dirMetaOf(h)); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	d, err := dir.OpenDir(name)
	if err != nil {
		return err
	}
	dir.users.Add(1)
	return w.walk(&sourceDir{Dir: d, path: p, tree: sub, depth: dir.depth + 1, parent: dir})
}

func (w *dirWriter) look(d *fsx.Dir, name, p string, st fsx.Stat) (f found, err error) {
	h := FileHeader{UID: st.UID, GID: st.GID, Mode: st.Mode}
	linked, hit := w.o.DevIno.Lookup(st)
	whole := false // the attributes are those on disk, all of them
	switch {
	case hit && w.t.r.mode == ModeBareUser:
		// The inode is the object, and that carries the real metadata.
		h, hit, err = w.storedHeader(linked)
	case !w.o.SkipXattrs && !w.o.CanonicalPermissions && !w.t.r.opts.disableXattrs:
		h.Xattrs, err = fileXattrs(d.Xattrs(name))
		n := len(h.Xattrs)
		// libostree does not see attributes without a value; an object that has one
		// would fail its fsck in a bare repository.
		h.Xattrs = slices.DeleteFunc(h.Xattrs, func(x Xattr) bool { return len(x.Value) == 0 })
		whole = n == len(h.Xattrs)
	}
	if err == nil && h.IsSymlink() && h.Target == "" {
		h.Target, err = d.Readlink(name)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", p, err)
	}
	f.header = h
	if f.skip, err = w.o.apply(p, &f.header, true); err != nil || f.skip {
		return f, err
	}
	same := f.header.equal(h)
	f.same = same && whole && w.t.r.mode == ModeBare || w.t.r.mode == ModeBareUserOnly
	if !hit || st.IsDir() || !same {
		return f, nil
	}
	stored, err := w.t.Has(ObjectName{linked, TypeFile})
	if stored {
		f.linked = linked
	}
	return f, err
}

func (w *dirWriter) storedHeader(c Checksum) (FileHeader, bool, error) {
	h, _, rc, err := w.t.OpenFile(c)
	if err != nil {
		return h, false, err
	}
	return h, true, rc.Close()
}

func (w *dirWriter) writeFile(ctx context.Context, j fileJob) (Checksum, error) {
	if j.header.IsSymlink() {
		return w.t.WriteContent(ctx, j.header, 0, nil)
	}
	f, err := j.dir.OpenFile(j.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Checksum{}, err
	}
	defer f.Close()
	st, err := fsx.FStat(f)
	if err != nil {
		return Checksum{}, err
	}
	if st.Dev != j.st.Dev || st.Ino != j.st.Ino || !st.IsRegular() {
		return Checksum{}, errors.New("file changed while it was read")
	}
	if j.adopt {
		return w.t.adopt(ctx, f, st, j.header)
	}
	if st.Size <= smallContent {
		return w.t.WriteContent(ctx, j.header, st.Size, f)
	}
	return w.writeBig(ctx, j, f, st.Size)
}

// ctxReader stops a long copy when the context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
