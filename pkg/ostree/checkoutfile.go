// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// errCopy asks for a copy where a link is not possible.
var errCopy = errors.New("cannot link")

func (c *checkout) file(d *fsx.Dir, name, p string, sum Checksum) error {
	err := errCopy
	if c.link {
		err = c.linkFile(d, name, sum)
	}
	if errors.Is(err, errCopy) {
		err = c.copyFile(d, name, sum)
	}
	if errors.Is(err, fs.ErrExist) {
		err = c.conflict(d, name, sum)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// linkFile links an object under a name; errCopy where a copy is needed.
func (c *checkout) linkFile(d *fsx.Dir, name string, sum Checksum) error {
	objects, object, err := c.object(sum)
	var st fsx.Stat
	if err == nil {
		st, err = objects.Lstat(object)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("object %s: %w", ObjectName{sum, TypeFile}, ErrNotFound)
	}
	if err != nil {
		return err
	}
	if st.Size == 0 {
		return errCopy
	}
	if c.r.mode == ModeBareUser {
		isLink, err := c.storedLink(sum)
		if err != nil {
			return err
		}
		if isLink {
			return errCopy
		}
	}
	err = c.put(d, name, func(as string) error { return objects.Link(object, d, as) })
	if errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EPERM) {
		if c.o.RequireHardlinks {
			return err
		}
		return errCopy
	}
	if err == nil && c.o.DevIno != nil {
		c.o.DevIno.add(st, sum)
	}
	return err
}

// storedLink tells whether a bare-user object stands for a symbolic link.
func (c *checkout) storedLink(sum Checksum) (bool, error) {
	h, _, rc, err := c.r.OpenFile(sum)
	if err != nil {
		return false, err
	}
	return h.IsSymlink(), rc.Close()
}

// put gives a new file its name, or in UnionOverwrite replaces what is there.
func (c *checkout) put(d *fsx.Dir, name string, link func(as string) error) error {
	err := link(name)
	if c.o.Union != UnionOverwrite || !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp := ".tmp-" + rand.Text()
	if err := link(tmp); err != nil {
		return err
	}
	err = d.Rename(tmp, d, name)
	// rename(2) does nothing where both names are links of one file.
	rerr := d.Remove(tmp)
	if errors.Is(rerr, fs.ErrNotExist) {
		rerr = nil
	}
	if errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTEMPTY) {
		return fs.ErrExist
	}
	return errors.Join(err, rerr)
}

func (c *checkout) copyFile(d *fsx.Dir, name string, sum Checksum) error {
	h, size, rc, err := c.r.OpenFile(sum)
	if err != nil {
		return err
	}
	defer rc.Close()
	if c.o.UserMode {
		h.Xattrs = nil
		h.Mode &^= syscall.S_ISUID | syscall.S_ISGID
	}
	if h.IsSymlink() {
		return c.put(d, name, func(as string) error {
			if err := d.Symlink(h.Target, as); err != nil {
				return err
			}
			return finishLink(d, as, h, !c.o.UserMode, !c.o.UserMode, c.o.ForceCopy)
		})
	}
	if c.o.Union == UnionAddFiles || c.o.Union == UnionIdentical {
		// Nothing would be gained by unpacking first.
		if found, err := d.Exists(name); found || err != nil {
			return errors.Join(err, fs.ErrExist)
		}
	}
	return c.copyRegular(d, name, h, size, rc)
}

func (c *checkout) copyRegular(d *fsx.Dir, name string, h FileHeader, size int64, content io.Reader) (err error) {
	f, tmp, err := scratchFile(d)
	if err != nil {
		return err
	}
	defer f.Close()
	if tmp != "" {
		// What stays behind would be a file of the tree.
		defer func() { err = errors.Join(err, d.Remove(tmp)) }()
	}
	n, err := io.Copy(f, content)
	if err == nil && n != size {
		err = fmt.Errorf("%w: content of %d bytes instead of %d", ErrCorrupt, n, size)
	}
	if err != nil {
		return err
	}
	if err := finishBare(f, h, !c.o.UserMode, !c.o.UserMode); err != nil {
		return err
	}
	if !c.o.ForceCopy {
		if err := sys.Futimens(int(f.Fd()), 0, 0); err != nil {
			return err
		}
	}
	return c.put(d, name, func(as string) error {
		if tmp != "" {
			return d.Link(tmp, d, as)
		}
		return sys.LinkFd(int(f.Fd()), d.Fd(), as)
	})
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

// conflict decides about a file whose name is taken.
func (c *checkout) conflict(d *fsx.Dir, name string, sum Checksum) error {
	switch c.o.Union {
	case UnionAddFiles:
		return nil
	case UnionIdentical:
		same, err := c.identical(d, name, sum)
		if err != nil || same {
			return err
		}
		return fmt.Errorf("different file %w", ErrExists)
	}
	return ErrExists
}

// identical compares what is there with an object: everything that a checkout
// with these options would set.
func (c *checkout) identical(d *fsx.Dir, name string, sum Checksum) (bool, error) {
	st, err := d.Lstat(name)
	if err != nil {
		return false, err
	}
	h, size, rc, err := c.r.OpenFile(sum)
	if err != nil {
		return false, err
	}
	defer rc.Close()
	if st.Mode&syscall.S_IFMT != h.Mode&syscall.S_IFMT || h.IsRegular() && st.Size != size {
		return false, nil
	}
	got := h
	if !c.o.UserMode {
		got.UID, got.GID, got.Mode = st.UID, st.GID, st.Mode
		if got.Xattrs, err = fileXattrs(d.Xattrs(name)); err != nil {
			return false, err
		}
	}
	if h.IsSymlink() {
		if got.Target, err = d.Readlink(name); err != nil {
			return false, err
		}
		have, err := c.r.hashContent(got, 0, strings.NewReader(""))
		return have == sum, err
	}
	f, err := d.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	have, err := c.r.hashContent(got, size, f)
	if errors.Is(err, ErrCorrupt) {
		return false, nil // grew or shrank meanwhile
	}
	return have == sum, err
}
