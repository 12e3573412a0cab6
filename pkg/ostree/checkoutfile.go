// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// errCopy asks for a copy where a link is not possible.
var errCopy = errors.New("cannot link")

// file lays out one file.
func (c *checkout) file(ctx context.Context, d *fsx.Dir, p place, sum Checksum) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	o, err := c.find(sum)
	if err != nil {
		return err
	}
	if done, werr := c.whiteout(d, p, o); done || werr != nil {
		err = werr
	} else {
		err = c.layOut(d, p, o)
	}
	return errors.Join(err, o.close())
}

// layOut links where it can and copies otherwise.
func (c *checkout) layOut(d *fsx.Dir, p place, o *original) error {
	unreadable := c.o.UserMode && o.header.IsRegular() && o.header.Mode&syscall.S_IRUSR == 0
	empty := o.header.IsRegular() && o.size == 0
	if !unreadable && !empty && !c.o.ForceCopy {
		err := c.link(d, p, o)
		if !errors.Is(err, errCopy) {
			return err
		}
	}
	return c.copyFile(d, p, o)
}

// link links a file from the first repository of the chain that allows it, or
// errCopy.
func (c *checkout) link(d *fsx.Dir, p place, o *original) error {
	for _, s := range c.sources {
		userRepo := s.r.mode == ModeBareUser || s.r.mode == ModeBareUserOnly
		special := userRepo && o.header.IsSymlink()
		if c.o.RequireHardlinks && !s.link && !special {
			return c.cannotLink(userRepo)
		}
		if s.link && !special {
			err := c.linkObject(d, p, s, o)
			if !errors.Is(err, errCopy) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if s.keep && s == o.src && o.header.IsRegular() {
			if done, err := c.linkCached(d, p, o); done || err != nil {
				return err
			}
		}
	}
	return errCopy
}

func (c *checkout) linkCached(d *fsx.Dir, p place, o *original) (done bool, err error) {
	if done, err = c.cached(d, p, o, false); done || err != nil {
		return done, err
	}
	if done, err = c.cached(d, p, o, true); done || err != nil {
		return done, err
	}
	return false, o.reopen() // unpacking used the content up
}

func (c *checkout) cannotLink(userRepo bool) error {
	if userRepo {
		return worded(ErrUnsupported, "User repository mode requires user checkout mode to hardlink")
	}
	return worded(ErrUnsupported, "Bare repository mode cannot hardlink in user checkout mode")
}

// linkObject links the object of a repository, which need not have it.
func (c *checkout) linkObject(d *fsx.Dir, p place, s *source, o *original) error {
	dir, name, err := s.object(o.sum)
	if err != nil {
		return err
	}
	return c.linkFrom(d, p, dir, name, o, true)
}

// linkFrom makes the link or deals with what has its name. remember notes the inode.
func (c *checkout) linkFrom(d *fsx.Dir, p place, from *fsx.Dir, name string, o *original, remember bool) error {
	err := from.Link(name, d, p.name)
	switch {
	case errors.Is(err, fs.ErrExist):
		linked, err := c.linkConflict(d, p, from, name, o)
		if err != nil || !linked {
			return err
		}
	case errors.Is(err, syscall.EMLINK), errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EPERM):
		if c.o.RequireHardlinks {
			return c.linkError(o, p, err)
		}
		return errCopy
	case errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil:
		return c.linkError(o, p, err)
	}
	if !remember || c.o.DevIno == nil {
		return nil
	}
	st := o.st
	if from != o.dir {
		if st, err = from.Lstat(name); err != nil {
			return err
		}
	}
	c.o.DevIno.add(st, o.sum)
	return nil
}

func (c *checkout) linkError(o *original, p place, err error) error {
	text, cond := errnoText(err), err
	if errors.Is(err, fs.ErrExist) {
		text, cond = "File exists", ErrExists
	}
	return worded(cond, "Hardlinking %s to %s: %s", ObjectName{o.sum, TypeFile}.loosePath(ModeBare), p.name, text)
}

// copyFile makes a file or link of its own.
func (c *checkout) copyFile(d *fsx.Dir, p place, o *original) error {
	if err := o.open(); err != nil {
		return err
	}
	h := o.header
	if c.o.UserMode {
		h.Xattrs = nil
		h.Mode &^= syscall.S_ISUID | syscall.S_ISGID
		if h.IsRegular() {
			h.Mode |= syscall.S_IRUSR
		}
	} else {
		var err error
		if h.Xattrs, err = c.relabel(p.path, h.Mode, h.Xattrs); err != nil {
			return err
		}
	}
	if h.IsSymlink() {
		return c.copySymlink(d, p, o, h)
	}
	if c.o.Union == UnionAddFiles || c.o.Union == UnionIdentical {
		// Nothing would be gained by unpacking first.
		if found, err := d.Exists(p.name); found || err != nil {
			return errors.Join(err, c.copyConflict(d, p, o, "linkat"))
		}
	}
	return c.copyRegular(d, p, o, h)
}

func (c *checkout) copySymlink(d *fsx.Dir, p place, o *original, h FileHeader) error {
	err := d.Symlink(h.Target, p.name)
	if errors.Is(err, fs.ErrExist) && c.o.Union != UnionOverwrite {
		return c.copyConflict(d, p, o, "symlinkat")
	}
	as := p.name
	if errors.Is(err, fs.ErrExist) {
		if err := c.clear(d, p); err != nil {
			return err
		}
		as = ".tmp-" + rand.Text()
		err = d.Symlink(h.Target, as)
	}
	if err == nil {
		err = finishLink(d, as, h, !c.o.UserMode, !c.o.UserMode, true)
	}
	if err != nil || as == p.name {
		return err
	}
	return c.replace(d, as, d, p, "Copy checkout of %s to %s: unlinkat(%s): Is a directory", o.sum, p.name, p.name)
}

// clear makes room where a container's layer replaces a directory by a file.
func (c *checkout) clear(d *fsx.Dir, p place) error {
	if !c.o.Whiteouts {
		return nil
	}
	return d.RemoveAll(p.name)
}

func (c *checkout) copyRegular(d *fsx.Dir, p place, o *original, h FileHeader) (err error) {
	f, tmp, err := scratchFile(d)
	if err != nil {
		return err
	}
	defer f.Close()
	if tmp != "" {
		// What stays behind would be a file of the tree.
		defer func() { err = errors.Join(err, d.Remove(tmp)) }()
	}
	if err := copyContent(f, o); err != nil {
		return err
	}
	if err := c.finishCopy(f, h); err != nil {
		return err
	}
	err = nameFile(f, d, tmp, d, p.name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if c.o.Union != UnionOverwrite {
		return c.copyConflict(d, p, o, "linkat")
	}
	if err := c.clear(d, p); err != nil {
		return err
	}
	as := ".tmp-" + rand.Text()
	if err := nameFile(f, d, tmp, d, as); err != nil {
		return err
	}
	return c.replace(d, as, d, p, "Copy checkout of %s to %s: renameat(./%s, %s): Is a directory", o.sum, p.name, as, p.name)
}

// finishCopy sets owner, attributes and mode in the order that works for an owner
// who is not root, too: attributes cannot be set once the file is read-only, and a
// change of the owner clears setuid bits and file capabilities.
func (c *checkout) finishCopy(f *os.File, h FileHeader) error {
	fd := int(f.Fd())
	if !c.o.UserMode {
		if err := sys.Fchown(fd, int(h.UID), int(h.GID)); err != nil {
			return fmt.Errorf("set owner %d:%d: %w", h.UID, h.GID, err)
		}
		for _, x := range h.Xattrs {
			if err := fsx.FSetXattr(f, x.Name, x.Value); err != nil {
				return fmt.Errorf("set attribute %s: %w", x.Name, err)
			}
		}
	}
	if err := sys.Fchmod(fd, h.Mode&0o7777); err != nil {
		return fmt.Errorf("set mode %o: %w", h.Mode, err)
	}
	return nil
}

// replace renames a new file over what is there, and drops it where that fails. The
// words are for a directory that is in the way.
func (c *checkout) replace(from *fsx.Dir, tmp string, d *fsx.Dir, p place, words string, args ...any) error {
	err := from.Rename(tmp, d, p.name)
	// rename(2) does nothing where both names are links of one file.
	if rerr := from.Remove(tmp); err == nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	if errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTEMPTY) {
		return worded(ErrExists, words, args...)
	}
	return err
}

// whiteout serves the files that stand for a deletion; done if it was one.
func (c *checkout) whiteout(d *fsx.Dir, p place, o *original) (done bool, err error) {
	if o.header.IsSymlink() {
		return false, nil
	}
	if name, ok := strings.CutPrefix(p.name, whiteoutPrefix); ok && c.o.Whiteouts {
		if name == "" {
			return true, worded(ErrInvalid, "Invalid empty whiteout ''")
		}
		if err := CheckName(name); err != nil {
			return true, fmt.Errorf("whiteout %s: %w", clip(p.path), err)
		}
		return true, d.RemoveAll(name)
	}
	if name, ok := strings.CutPrefix(p.name, overlayPrefix); ok && c.o.PassthroughWhiteouts {
		if name == "" {
			return true, worded(ErrInvalid, "Invalid empty overlayfs whiteout ''")
		}
		if err := CheckName(name); err != nil {
			return true, fmt.Errorf("overlay whiteout %s: %w", clip(p.path), err)
		}
		return true, c.device(d, name, o)
	}
	return false, nil
}
