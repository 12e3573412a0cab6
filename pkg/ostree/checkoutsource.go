// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// cacheDirName is where libostree keeps unpacked objects of an archive repository.
const cacheDirName = "uncompressed-objects-cache"

// source is a repository that a checkout takes files from. It keeps directories
// open: a look-up of each object's path would cost more than its link.
type source struct {
	r    *Repo
	link bool // mode of repository and checkout allow to link regular files
	keep bool // unpacked files are kept in the cache

	mu    sync.Mutex
	dirs  [256]*fsx.Dir // objects/XX
	tmp   *fsx.Dir      // tmp
	cache *fsx.Dir      // uncompressed-objects-cache
	noTmp error
}

func newSource(r *Repo, o CheckoutOptions) *source {
	s := &source{r: r}
	switch r.mode {
	case ModeBare:
		s.link = !o.UserMode
	case ModeBareUser, ModeBareUserOnly:
		s.link = o.UserMode
	case ModeArchive:
		enabled, err := r.cfg.BoolOr("core", "enable-uncompressed-cache", true)
		s.keep = enabled && err == nil && o.UncompressedCache && o.UserMode && !o.ForceCopy
	}
	return s
}

func (s *source) close() error {
	var errs []error
	for _, d := range append(s.dirs[:], s.tmp, s.cache) {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// object gives the directory of a content object and its name there. An absent
// directory is fs.ErrNotExist.
func (s *source) object(sum Checksum) (*fsx.Dir, string, error) {
	p := ObjectName{sum, TypeFile}.loosePath(s.r.mode)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dirs[sum[0]]
	if d == nil {
		var err error
		if d, err = s.r.objects.OpenDir(p[:2]); err != nil {
			return nil, "", err
		}
		s.dirs[sum[0]] = d
	}
	return d, p[3:], nil
}

// tmpDir gives the repository's tmp, where a file waits to replace another.
func (s *source) tmpDir() (*fsx.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tmp == nil && s.noTmp == nil {
		s.tmp, s.noTmp = s.r.dir.OpenDir("tmp")
	}
	return s.tmp, s.noTmp
}

// cacheDir gives the cache of unpacked objects, with create making it.
func (s *source) cacheDir(create bool) (*fsx.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache != nil {
		return s.cache, nil
	}
	if create {
		if err := s.r.dir.MkdirAll(cacheDirName, 0o775); err != nil {
			return nil, err
		}
	}
	var err error
	s.cache, err = s.r.dir.OpenDir(cacheDirName)
	return s.cache, err
}

// original is the object that a file of the tree is made of.
type original struct {
	src  *source
	sum  Checksum
	st   fsx.Stat // of the stored file, where the repository is not archive
	dir  *fsx.Dir
	name string

	header FileHeader // without attributes unless full
	size   int64
	rc     io.ReadCloser // the content, or nil
	full   bool
}

// find looks for an object in the repository and its parents and learns what
// decides how it is laid out.
func (c *checkout) find(sum Checksum) (*original, error) {
	for _, s := range c.sources {
		o, err := s.find(sum)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFound) {
			continue
		}
		return o, err
	}
	return nil, worded(ErrNotFound, "Couldn't find file object '%s'", sum)
}

func (s *source) find(sum Checksum) (*original, error) {
	o := &original{src: s, sum: sum}
	if !s.link {
		n := ObjectName{sum, TypeFile}
		var err error
		o.header, o.size, o.rc, err = s.r.openContent(s.r.objects, n.loosePath(s.r.mode), n)
		o.full = true
		return o, err
	}
	var err error
	if o.dir, o.name, err = s.object(sum); err != nil {
		return nil, err
	}
	if o.st, err = o.dir.Lstat(o.name); err != nil {
		return nil, err
	}
	o.header.Mode, o.size = o.st.Mode, o.st.Size
	if !o.st.IsRegular() && !o.st.IsSymlink() {
		return nil, fmt.Errorf("object %s: %w: mode %o", ObjectName{sum, TypeFile}, ErrCorrupt, o.st.Mode)
	}
	if s.r.mode == ModeBareUser {
		m, err := userMetaAt(o.dir, o.name)
		if err != nil {
			return nil, fmt.Errorf("object %s: %w", ObjectName{sum, TypeFile}, err)
		}
		o.header.Mode = m.Mode
	}
	return o, nil
}

func (o *original) close() error {
	if o.rc == nil {
		return nil
	}
	return o.rc.Close()
}

// open reads what find left out.
func (o *original) open() (err error) {
	if o.full {
		return nil
	}
	n := ObjectName{o.sum, TypeFile}
	o.header, o.size, o.rc, err = o.src.r.openContent(o.src.r.objects, n.loosePath(o.src.r.mode), n)
	o.full = err == nil
	return err
}

// reopen makes the content readable from its start.
func (o *original) reopen() error {
	if err := o.close(); err != nil {
		return err
	}
	o.rc, o.full = nil, false
	return o.open()
}

// userMetaAt reads user.ostreemeta of a file by name.
func userMetaAt(d *fsx.Dir, name string) (FileHeader, error) {
	raw, err := d.Xattr(name, userMetaXattr)
	if err != nil {
		return FileHeader{}, fmt.Errorf("%w: attribute %s: %w", ErrCorrupt, userMetaXattr, err)
	}
	return parseUserMeta(raw)
}

// cached links the unpacked file from the cache, with make unpacking it first. A
// cache that cannot be used is no error: done is false then.
func (c *checkout) cached(d *fsx.Dir, p place, o *original, unpack bool) (done bool, err error) {
	cache, err := o.src.cacheDir(unpack)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || isReadOnly(err) {
			err = nil
		}
		return false, err
	}
	name := ObjectName{o.sum, TypeFile}.loosePath(ModeBare)
	if unpack {
		if err := c.unpack(cache, name, o); err != nil {
			if isReadOnly(err) {
				return false, nil
			}
			return false, fmt.Errorf("unpack object %s: %w", o.sum, err)
		}
	}
	err = c.linkFrom(d, p, cache, name, o, false)
	if errors.Is(err, errCopy) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func isReadOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// unpack puts an object into the cache. It gets its name when it is complete and,
// as the repository's fsync setting has it, durable: a name is trusted later.
func (c *checkout) unpack(cache *fsx.Dir, name string, o *original) (err error) {
	tmp, err := o.src.tmpDir()
	if err != nil {
		return err
	}
	f, as, err := scratchFile(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	if as != "" {
		defer func() { err = errors.Join(err, tmp.Remove(as)) }()
	}
	if err := copyContent(f, o); err != nil {
		return err
	}
	if err := sys.Fchmod(int(f.Fd()), o.header.Mode&0o7777&^(syscall.S_ISUID|syscall.S_ISGID)); err != nil {
		return err
	}
	if o.src.r.opts.fsync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := cache.MkdirAll(name[:2], 0o775); err != nil {
		return err
	}
	sub, err := cache.OpenDir(name[:2])
	if err != nil {
		return err
	}
	defer sub.Close()
	if err = nameFile(f, tmp, as, sub, name[3:]); errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return err
}

// copyContent writes the content of an object and checks its length. Files of one
// filesystem share their blocks where it can.
func copyContent(f *os.File, o *original) error {
	n, err := io.Copy(f, o.rc)
	if err == nil && n != o.size {
		err = fmt.Errorf("%w: content of %d bytes instead of %d", ErrCorrupt, n, o.size)
	}
	return err
}

// scratchFile makes an unnamed file in d, or a named one where that is not possible.
func scratchFile(d *fsx.Dir) (f *os.File, name string, err error) {
	f, err = sys.TmpFile(d.Fd(), d.Path(), 0o600)
	if err == nil {
		return f, "", nil
	}
	if !sys.IsNotSupported(err) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENOENT) {
		return nil, "", err
	}
	name = ".tmp-" + rand.Text()
	f, err = d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return f, name, err
}

// nameFile links a scratch file of d under a name in another directory.
func nameFile(f *os.File, d *fsx.Dir, tmp string, to *fsx.Dir, name string) error {
	if tmp != "" {
		return d.Link(tmp, to, name)
	}
	return sys.LinkFd(int(f.Fd()), to.Fd(), name)
}
