// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// linkConflict decides about a link whose name is taken; linked if it replaced
// what was there.
func (c *checkout) linkConflict(d *fsx.Dir, p place, from *fsx.Dir, name string, o *original) (linked bool, err error) {
	switch c.o.Union {
	case UnionNone:
		return false, c.linkError(o, p, fs.ErrExist)
	case UnionAddFiles:
		return false, nil
	}
	same, err := c.sameInode(d, p, from, name)
	if err == nil && !same {
		same, err = c.identical(d, p, o)
	}
	if same || err != nil {
		return false, err
	}
	if c.o.Union == UnionIdentical {
		return false, c.linkError(o, p, fs.ErrExist)
	}
	return true, c.replaceByLink(d, p, from, name, o)
}

func (c *checkout) sameInode(d *fsx.Dir, p place, from *fsx.Dir, name string) (bool, error) {
	a, err := from.Lstat(name)
	if err != nil {
		return false, err
	}
	b, err := d.Lstat(p.name)
	return a.Dev == b.Dev && a.Ino == b.Ino, err
}

// replaceByLink links the object into the repository's tmp, from where a rename
// moves it; what a crash leaves there is cleaned up with the rest of tmp.
func (c *checkout) replaceByLink(d *fsx.Dir, p place, from *fsx.Dir, name string, o *original) error {
	tmp := "checkout-union-" + rand.Text()
	at, err := o.src.tmpDir()
	if err == nil {
		err = from.Link(name, at, tmp)
	}
	if err != nil {
		// A repository that cannot be written can be linked from all the same.
		at, tmp = d, ".tmp-"+tmp
		if err := from.Link(name, at, tmp); err != nil {
			return err
		}
	}
	if err := c.clear(d, p); err != nil {
		return errors.Join(err, at.Remove(tmp))
	}
	return c.replace(at, tmp, d, p, "renameat(%s, %s): Is a directory", tmp, p.name)
}

// copyConflict decides about a copy whose name is taken; call is the system call
// that met it.
func (c *checkout) copyConflict(d *fsx.Dir, p place, o *original, call string) error {
	switch c.o.Union {
	case UnionAddFiles:
		return nil
	case UnionIdentical:
		same, err := c.identical(d, p, o)
		if err != nil || same {
			return err
		}
	}
	return worded(ErrExists, "Copy checkout of %s to %s: %s: File exists", o.sum, p.name, call)
}

// identical compares what is there with an object: everything that a checkout
// with these options would set, but for labels and times.
func (c *checkout) identical(d *fsx.Dir, p place, o *original) (bool, error) {
	st, err := d.Lstat(p.name)
	if err != nil {
		return false, err
	}
	if st.Mode&syscall.S_IFMT != o.header.Mode&syscall.S_IFMT || o.header.IsRegular() && st.Size != o.size {
		return false, nil
	}
	h, _, rc, err := c.r.OpenFile(o.sum)
	if err != nil {
		return false, err
	}
	if err := rc.Close(); err != nil {
		return false, err
	}
	got := h
	if !c.o.UserMode {
		got.UID, got.GID, got.Mode = st.UID, st.GID, st.Mode
		if got.Xattrs, err = fileXattrs(d.Xattrs(p.name)); err != nil {
			return false, err
		}
	} else if got.IsRegular() && (got.Mode^st.Mode)&0o375 != 0 {
		return false, nil // of the other bits linked and copied files differ
	}
	return c.identicalContent(d, p, o, got)
}

// identicalContent hashes what is there with the metadata got.
func (c *checkout) identicalContent(d *fsx.Dir, p place, o *original, got FileHeader) (bool, error) {
	if got.IsSymlink() {
		var err error
		if got.Target, err = d.Readlink(p.name); err != nil {
			return false, err
		}
		have, err := c.r.hashContent(got, 0, strings.NewReader(""))
		return have == o.sum, err
	}
	f, err := d.OpenFile(p.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	have, err := c.r.hashContent(got, o.size, f)
	if errors.Is(err, ErrCorrupt) {
		return false, nil // grew or shrank meanwhile
	}
	return have == o.sum, err
}

// device makes the character device 0:0 that hides a name from an overlay.
func (c *checkout) device(d *fsx.Dir, name string, o *original) error {
	if err := o.open(); err != nil {
		return err
	}
	err := c.makeDevice(d, name, o.header)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	switch c.o.Union {
	case UnionAddFiles:
		return nil
	case UnionOverwrite:
		if err := d.Remove(name); err != nil {
			return err
		}
		return c.makeDevice(d, name, o.header)
	case UnionIdentical:
		return c.sameDeviceNode(d, name, o.header)
	}
	return worded(ErrExists, "Creating whiteout char device: File exists")
}

func (c *checkout) makeDevice(d *fsx.Dir, name string, h FileHeader) error {
	if err := d.Mknod(name, syscall.S_IFCHR|h.Mode&0o7777, 0); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		return worded(err, "Creating whiteout char device: %s", errnoText(err))
	}
	if c.o.UserMode {
		return nil
	}
	for _, x := range h.Xattrs {
		if err := d.SetXattr(name, x.Name, x.Value); err != nil {
			return err
		}
	}
	if err := d.Lchown(name, int(h.UID), int(h.GID)); err != nil {
		return err
	}
	return d.Chmod(name, h.Mode)
}

// sameDeviceNode accepts what makeDevice would make.
func (c *checkout) sameDeviceNode(d *fsx.Dir, name string, h FileHeader) error {
	st, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFCHR || st.Rdev != 0 {
		return worded(ErrExists, "existing destination file %s is no whiteout", name)
	}
	xattrs, err := fileXattrs(d.Xattrs(name))
	switch {
	case err != nil:
		return err
	case c.o.UserMode:
		return nil
	case !c.r.opts.disableXattrs && !equalXattrs(xattrs, h.Xattrs):
		return worded(ErrExists, "existing destination file %s xattrs don't match", name)
	case st.GID != h.GID:
		return worded(ErrExists, "existing destination file %s does not match gid %d", name, h.GID)
	case st.UID != h.UID:
		return worded(ErrExists, "existing destination file %s does not match uid %d", name, h.UID)
	case st.Mode&0o7777 != h.Mode&0o7777:
		return worded(ErrExists, "existing destination file %s does not match mode %o", name, h.Mode)
	}
	return nil
}
