// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
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

// Compare scans the three trees and plans their merge: base holds the old
// defaults, current the live /etc, next the new defaults.
func Compare(ctx context.Context, base, current, next *fsx.Dir) ([]Change, error) {
	dirs := []*fsx.Dir{base, current, next}
	trees := make([]Tree, len(dirs))
	for i, d := range dirs {
		s, err := Scan(ctx, d)
		if err != nil {
			return nil, err
		}
		trees[i] = Tree{Dir: d, Snapshot: s}
	}
	if err := Hash(ctx, trees...); err != nil {
		return nil, err
	}
	return Plan(trees[0].Snapshot, trees[1].Snapshot, trees[2].Snapshot), nil
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
	switch ch.Op {
	case OpRemove:
		return c.target.RemoveAll(ch.Path)
	case OpMkdir:
		return c.makeDir(ch.Path)
	case OpCopy:
		return c.copyName(ch.Path)
	}
	return nil
}

func (c copier) makeDir(name string) error {
	src, err := c.current.OpenDir(name)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if st, err := c.target.Lstat(name); err == nil && !st.IsDir() {
		if err := c.target.Remove(name); err != nil {
			return err
		}
	}
	if err := c.target.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return missingParent(err)
	}
	dst, err := c.target.OpenDir(name)
	if err != nil {
		return err
	}
	defer dst.Close()
	return copyAttributes(src.File(), dst.File())
}

func (c copier) copyName(name string) error {
	st, err := c.current.Lstat(name)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	if err := c.target.RemoveAll(name); err != nil {
		return missingParent(err)
	}
	switch {
	case st.IsSymlink():
		err = c.copyLink(name, st)
	case st.IsRegular():
		err = c.copyFile(name)
	default:
		err = errVanished // it was a file when the plan was made
	}
	if err != nil || c.freshTimes {
		return err
	}
	return c.target.Lutimes(name, st.Mtime)
}

// missingParent turns the absence of a parent, whose own source vanished, into
// the vanishing of its child.
func missingParent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return errVanished
	}
	return err
}

func (c copier) copyLink(name string, st fsx.Stat) error {
	current, target := c.current, c.target
	to, err := current.Readlink(name)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	if err := target.Symlink(to, name); err != nil {
		return missingParent(err)
	}
	if err := target.Lchown(name, int(st.UID), int(st.GID)); err != nil {
		return err
	}
	attrs, err := current.Xattrs(name)
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if err := target.SetXattr(name, a.Name, a.Value); err != nil {
			return err
		}
	}
	return nil
}

func (c copier) copyFile(name string) error {
	src, err := c.current.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if gone(err) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := c.target.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
