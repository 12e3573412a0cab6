// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
)

const selinuxXattr = "security.selinux"

// CommitOptions say how WriteDir records files. Filter, canonical permissions and
// Label apply in this order.
type CommitOptions struct {
	// Filter sees every path ("/" for the top, else "/usr/bin"), one after another
	// in byte order, parents first. It may change owner, permissions and
	// attributes, not the type; h.Mode has the file type of st_mode, S_IFDIR for
	// directories. skip leaves the path, and all below it, out.
	Filter func(path string, h *FileHeader) (skip bool, err error)
	// Label gives the security.selinux value for a path, without terminating NUL;
	// "" for none, which drops the one that the file has.
	Label func(path string, mode uint32) (string, error)
	// DevIno spares hashing the files that a checkout linked from this repository.
	DevIno *DevInoCache
	// SkipXattrs records no extended attributes but those of Filter and Label.
	SkipXattrs bool
	// CanonicalPermissions records owner 0:0, permissions masked with 0755 and, Label
	// aside, no attributes. A bare-user-only repository does so always.
	CanonicalPermissions bool
	// Workers hash and compress; 0 means one per CPU, at least 2.
	Workers int
}

type devIno struct{ dev, ino uint64 }

// DevInoCache maps the inodes of linked files to their objects. The zero value
// is ready; it is safe for concurrent use. It holds for one repository and one
// boot.
type DevInoCache struct {
	mu sync.RWMutex
	m  map[devIno]Checksum
}

// Len gives the number of inodes recorded.
func (c *DevInoCache) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.m)
}

func (c *DevInoCache) add(st fsx.Stat, sum Checksum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[devIno]Checksum{}
	}
	c.m[devIno{st.Dev, st.Ino}] = sum
}

func (c *DevInoCache) get(st fsx.Stat) (Checksum, bool) {
	if c == nil {
		return Checksum{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	sum, ok := c.m[devIno{st.Dev, st.Ino}]
	return sum, ok
}

// WriteDir merges the directory src, its own metadata included, into m and stores
// the content of its files with several workers. A file that m has is replaced;
// a file where m has a directory, or the reverse, is an error wrapping
// ErrExists. Devices, sockets and pipes are an error wrapping ErrUnsupported
// unless Filter skips them. Nothing may change src meanwhile.
func (t *Txn) WriteDir(ctx context.Context, src *fsx.Dir, m *MTree, o CommitOptions) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	if t.r.mode == ModeBareUserOnly {
		o.CanonicalPermissions = true
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &dirWriter{t: t, o: o, ctx: ctx, fail: cancel, jobs: make(chan fileJob, 256)}
	p := t.r.opts.progress
	p.Emit(progress.Event{Task: "Writing objects", Kind: progress.Begin})
	w.start()
	err := w.writeRoot(src, m)
	if err != nil {
		cancel(err)
	}
	close(w.jobs)
	w.wg.Wait()
	p.Emit(progress.Event{Task: "Writing objects", Kind: progress.End, Done: w.done.Load(), Bytes: w.bytes.Load()})
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("write directory %s: %w", src.Path(), cause)
	}
	for _, r := range w.results {
		if err := r.tree.SetFile(r.name, *r.sum); err != nil {
			return fmt.Errorf("write directory %s: %w", src.Path(), err)
		}
	}
	return nil
}

type dirWriter struct {
	t           *Txn
	o           CommitOptions
	ctx         context.Context
	fail        context.CancelCauseFunc
	jobs        chan fileJob
	wg          sync.WaitGroup
	results     []fileResult
	done, bytes atomic.Int64
}

// sharedDir closes a source directory when the last of its files is written.
type sharedDir struct {
	*fsx.Dir
	users atomic.Int32
}

func (d *sharedDir) release() {
	if d.users.Add(-1) == 0 {
		_ = d.Close()
	}
}

type fileJob struct {
	dir        *sharedDir
	name, path string
	st         fsx.Stat
	header     FileHeader
	sum        *Checksum
}

type fileResult struct {
	tree *MTree
	name string
	sum  *Checksum
}

func (w *dirWriter) start() {
	n := w.o.Workers
	if n <= 0 {
		n = max(2, runtime.GOMAXPROCS(0))
	}
	for range n {
		w.wg.Go(func() {
			for j := range w.jobs {
				w.runJob(j)
			}
		})
	}
}

func (w *dirWriter) runJob(j fileJob) {
	defer j.dir.release()
	if w.ctx.Err() != nil {
		return
	}
	sum, err := w.writeFile(j)
	if err != nil {
		w.fail(fmt.Errorf("%s: %w", j.path, err))
		return
	}
	*j.sum = sum
	w.bytes.Add(j.st.Size)
	if n := w.done.Add(1); n%256 == 0 {
		w.t.r.opts.progress.Emit(progress.Event{Task: "Writing objects", Kind: progress.Update, Done: n, Bytes: w.bytes.Load()})
	}
}

func (w *dirWriter) writeRoot(src *fsx.Dir, m *MTree) error {
	st, err := src.Lstat(".")
	if err != nil {
		return err
	}
	h, _, skip, err := w.header(src, ".", "/", st)
	if err != nil || skip {
		return err
	}
	if err := m.SetMeta(dirMetaOf(h)); err != nil {
		return err
	}
	root, err := src.OpenDir(".")
	if err != nil {
		return err
	}
	return w.walk(root, "/", m, 0)
}

func dirMetaOf(h FileHeader) DirMeta {
	return DirMeta{UID: h.UID, GID: h.GID, Mode: h.Mode, Xattrs: h.Xattrs}
}

// walk takes over d.
func (w *dirWriter) walk(d *fsx.Dir, p string, m *MTree, depth int) error {
	dir := &sharedDir{Dir: d}
	dir.users.Store(1)
	defer dir.release()
	if depth > maxTreeDepth {
		return fmt.Errorf("%s: %w: nested too deeply", p, ErrInvalid)
	}
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		if err := w.entry(dir, e.Name, path.Join(p, e.Name), m, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *dirWriter) entry(dir *sharedDir, name, p string, m *MTree, depth int) error {
	st, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	h, linked, skip, err := w.header(dir.Dir, name, p, st)
	if err != nil || skip {
		return err
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("%q: %w", p, err)
	}
	if st.IsDir() {
		return w.subdir(dir, name, p, m, h, depth)
	}
	sum := new(Checksum)
	w.results = append(w.results, fileResult{m, name, sum})
	if !linked.IsZero() {
		w.t.count.contentTotal.Add(1)
		w.done.Add(1)
		*sum = linked
		return nil
	}
	dir.users.Add(1)
	select {
	case w.jobs <- fileJob{dir: dir, name: name, path: p, st: st, header: h, sum: sum}:
		return nil
	case <-w.ctx.Done():
		dir.release()
		return context.Cause(w.ctx)
	}
}

func (w *dirWriter) subdir(dir *sharedDir, name, p string, m *MTree, h FileHeader, depth int) error {
	sub, err := m.Dir(name, true)
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
	return w.walk(d, p, sub, depth+1)
}

// header gives what is to be recorded. linked is the object that the file is a
// link of, if nothing about it changes: then its content need not be read.
func (w *dirWriter) header(d *fsx.Dir, name, p string, st fsx.Stat) (h FileHeader, linked Checksum, skip bool, err error) {
	h = FileHeader{UID: st.UID, GID: st.GID, Mode: st.Mode}
	linked, hit := w.o.DevIno.get(st)
	switch {
	case hit && w.t.r.mode == ModeBareUser:
		// The inode is the object, and that carries the real metadata.
		h, hit, err = w.storedHeader(linked)
	case !w.o.SkipXattrs && !w.o.CanonicalPermissions && !w.t.r.opts.disableXattrs:
		h.Xattrs, err = fileXattrs(d.Xattrs(name))
		// libostree does not see attributes without a value; an object that has one
		// would fail its fsck in a bare repository.
		h.Xattrs = slices.DeleteFunc(h.Xattrs, func(x Xattr) bool { return len(x.Value) == 0 })
	}
	if err == nil && h.IsSymlink() && !hit {
		h.Target, err = d.Readlink(name)
	}
	if err != nil {
		return h, Checksum{}, false, fmt.Errorf("%s: %w", p, err)
	}
	before := h
	before.Xattrs = slices.Clone(h.Xattrs)
	if skip, err = w.apply(p, &h); err != nil || skip {
		return h, Checksum{}, skip, err
	}
	if hit && !st.IsDir() && h.UID == before.UID && h.GID == before.GID && h.Mode == before.Mode && equalXattrs(h.Xattrs, before.Xattrs) {
		if found, err := w.t.Has(ObjectName{linked, TypeFile}); found || err != nil {
			return h, linked, false, err
		}
	}
	if h.IsSymlink() && h.Target == "" {
		h.Target, err = d.Readlink(name)
	}
	return h, Checksum{}, false, err
}

func (w *dirWriter) storedHeader(c Checksum) (FileHeader, bool, error) {
	h, _, rc, err := w.t.OpenFile(c)
	if err != nil {
		return h, false, err
	}
	return h, true, rc.Close()
}

// apply runs filter, canonical permissions and label over a header.
func (w *dirWriter) apply(p string, h *FileHeader) (skip bool, err error) {
	typ := h.Mode & syscall.S_IFMT
	if w.o.Filter != nil {
		if skip, err = w.o.Filter(p, h); err != nil {
			return false, fmt.Errorf("filter %s: %w", p, err)
		}
		if skip {
			return true, nil
		}
	}
	if h.Mode&syscall.S_IFMT != typ {
		return false, fmt.Errorf("filter %s: %w: changes the file type", p, ErrInvalid)
	}
	if typ != syscall.S_IFDIR && typ != syscall.S_IFREG && typ != syscall.S_IFLNK {
		return false, fmt.Errorf("%s: file type %o: %w", p, typ, ErrUnsupported)
	}
	if w.o.CanonicalPermissions {
		h.UID, h.GID, h.Xattrs = 0, 0, nil
		if typ != syscall.S_IFLNK {
			h.Mode = typ | h.Mode&0o755
		}
	}
	if w.o.Label == nil {
		return false, nil
	}
	label, err := w.o.Label(p, h.Mode)
	if err != nil {
		return false, fmt.Errorf("label %s: %w", p, err)
	}
	h.Xattrs = slices.DeleteFunc(slices.Clone(h.Xattrs), func(x Xattr) bool { return x.Name == selinuxXattr })
	if label != "" {
		h.Xattrs = append(h.Xattrs, Xattr{selinuxXattr, append([]byte(label), 0)})
	}
	h.Xattrs, err = sortedXattrs(h.Xattrs)
	return false, err
}

func (w *dirWriter) writeFile(j fileJob) (Checksum, error) {
	if j.header.IsSymlink() {
		return w.t.WriteContent(w.ctx, j.header, 0, nil)
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
	if st.Size <= smallContent {
		return w.t.WriteContent(w.ctx, j.header, st.Size, f)
	}
	return w.writeBig(j, f, st.Size)
}

// writeBig hashes first: most big files of an update are stored already, and
// hashing is far cheaper than compressing or writing.
func (w *dirWriter) writeBig(j fileJob, f *os.File, size int64) (Checksum, error) {
	c, err := w.t.r.hashContent(j.header, size, &ctxReader{w.ctx, f})
	if err != nil {
		return c, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return c, err
	}
	return c, w.t.WriteContentExpected(w.ctx, c, j.header, size, &ctxReader{w.ctx, f})
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
