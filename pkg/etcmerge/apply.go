// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Compare is Policy.Compare with the zero Policy.
func Compare(ctx context.Context, base, current, next *fsx.Dir) ([]Change, error) {
	return Policy{}.Compare(ctx, base, current, next)
}

// Apply carries out a plan: it reads from the live /etc and writes into target,
// the new deployment's /etc, which is a copy of the new defaults. Nothing
// outside of target is written, and nothing is synced. A file that vanished
// since the plan was made is skipped and returned.
func Apply(ctx context.Context, current, target *fsx.Dir, changes []Change) (vanished []string, err error) {
	cp := copier{current: current, target: target}
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return vanished, err
		}
		err := cp.apply(c)
		if errors.Is(err, errVanished) {
			vanished = append(vanished, c.Path)
			continue
		}
		if err != nil {
			return vanished, fmt.Errorf("merge /etc: %s %s: %w", c.Op, c.Path, err)
		}
	}
	return vanished, nil
}

var errVanished = errors.New("source vanished")

// copier copies names from one tree to another.
type copier struct {
	current, target *fsx.Dir
	freshTimes      bool // do not carry modification times over
}

func (c copier) apply(ch Change) error {
	if ch.Saved == "" {
		return c.transfer(ch)
	}
	if err := c.target.Rename(ch.Path, c.target, ch.Saved); err != nil {
		return err
	}
	err := c.transfer(ch)
	if errors.Is(err, errVanished) {
		if back := c.target.Rename(ch.Saved, c.target, ch.Path); back != nil {
			return back
		}
	}
	return err
}

func (c copier) transfer(ch Change) error {
	dest := cmp.Or(ch.Dest, ch.Path)
	switch ch.Op {
	case OpRemove:
		return c.target.RemoveAll(dest)
	case OpMkdir:
		return c.makeDir(ch.Path, dest)
	case OpCopy:
		return c.copyName(ch.Path, dest)
	}
	return nil
}

func (c copier) makeDir(name, dest string) error {
	src, err := c.current.OpenDir(name)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if st, err := c.target.Lstat(dest); err == nil && !st.IsDir() {
		if err := c.target.Remove(dest); err != nil {
			return err
		}
	}
	if err := c.target.Mkdir(dest, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return missingParent(err)
	}
	dst, err := c.target.OpenDir(dest)
	if err != nil {
		return err
	}
	defer dst.Close()
	return copyAttributes(src.File(), dst.File())
}

func (c copier) copyName(name, dest string) error {
	st, err := c.current.Lstat(name)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	if err := c.target.RemoveAll(dest); err != nil {
		return missingParent(err)
	}
	switch {
	case st.IsSymlink():
		err = c.copyLink(name, dest, st)
	case st.IsRegular():
		err = c.copyFile(name, dest)
	default:
		err = errVanished // it was a file when the plan was made
	}
	if err != nil || c.freshTimes {
		return err
	}
	return c.target.Lutimes(dest, st.Mtime)
}

// missingParent turns the absence of a parent, whose own source vanished, into
// the vanishing of its child.
func missingParent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return errVanished
	}
	return err
}

func (c copier) copyLink(name, dest string, st fsx.Stat) error {
	current, target := c.current, c.target
	to, err := current.Readlink(name)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	if err := target.Symlink(to, dest); err != nil {
		return missingParent(err)
	}
	if err := target.Lchown(dest, int(st.UID), int(st.GID)); err != nil {
		return err
	}
	attrs, err := current.Xattrs(name)
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if err := target.SetXattr(dest, a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

func (c copier) copyFile(name, dest string) error {
	src, err := c.current.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := c.target.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return missingParent(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	if err := copyAttributes(src, dst); err != nil {
		return err
	}
	return dst.Close()
}

// copyAttributes makes owner, extended attributes and permission bits of dst
// those of src. The order matters: chown clears set-id bits, and an ACL rewrites
// the group bits.
func copyAttributes(src, dst *os.File) error {
	st, err := fsx.FStat(src)
	if err != nil {
		return err
	}
	if err := dst.Chown(int(st.UID), int(st.GID)); err != nil {
		return err
	}
	if err := replaceXattrs(src, dst); err != nil {
		return err
	}
	return syscall.Fchmod(int(dst.Fd()), st.Mode&0o7777)
}

func replaceXattrs(src, dst *os.File) error {
	want, err := fsx.FXattrs(src)
	if err != nil {
		return err
	}
	have, err := fsx.FXattrs(dst)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, a := range want {
		keep[a.Name] = true
		if err := fsx.FSetXattr(dst, a.Name, a.Value); err != nil {
			return err
		}
	}
	for _, a := range have {
		// A label that the kernel gave cannot be taken away, only replaced.
		if keep[a.Name] || a.Name == "security.selinux" {
			continue
		}
		if err := removeXattr(dst, a.Name); err != nil {
			return err
		}
	}
	return nil
}

func removeXattr(f *os.File, name string) error {
	d := fsx.NewDir(f, f.Name())
	if st, err := fsx.FStat(f); err != nil || !st.IsDir() {
		return err // files are new and have no attributes of their own to remove
	}
	return d.RemoveXattr(".", name)
}

// Lines formats changes for people, one a line: "M path", "A path", "D path",
// with the conflict in brackets.
func Lines(changes []Change) []string {
	letters := map[Kind]string{Modified: "M", Added: "A", Removed: "D", Parent: "P", Ignored: "I"}
	out := make([]string, 0, len(changes))
	for _, c := range changes {
		line := letters[c.Kind] + "    " + path.Clean(c.Path)
		if c.Conflict != NoConflict {
			line += " [" + string(c.Conflict) + "]"
		}
		switch {
		case c.Saved != "":
			line += ", new default in " + c.Saved
		case c.Dest != "":
			line += ", local one in " + c.Dest
		case c.Replaced:
			line += ", new default taken"
		}
		out = append(out, line)
	}
	return out
}

// CopyTree copies what is below src into the directory dst, and src's own
// attributes to it: real copies with owner, mode and extended attributes, dated
// now. Sockets, FIFOs and devices are left out.
func CopyTree(ctx context.Context, src, dst *fsx.Dir) error {
	if err := copyAttributes(src.File(), dst.File()); err != nil {
		return fmt.Errorf("copy %s: %w", src.Path(), err)
	}
	s, err := Scan(ctx, src)
	if err != nil {
		return err
	}
	c := copier{current: src, target: dst, freshTimes: true}
	for _, change := range Plan(nil, s, nil) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.apply(change); err != nil {
			return fmt.Errorf("copy %s: %w", path.Join(src.Path(), change.Path), err)
		}
	}
	return nil
}
