// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// The marks that overlayfs leaves in an upper layer
// (Documentation/filesystems/overlayfs.rst of the kernel).
const (
	overlayXattrs = "trusted.overlay."
	overlayOpaque = "trusted.overlay.opaque"
)

// mergeUpper moves an unmounted upper layer into the lower tree it was laid
// over: whiteouts delete, opaque directories replace, other directories merge,
// everything else is renamed over what is there. Files of lower are replaced,
// never written.
func mergeUpper(upper, lower *fsx.Dir) error {
	entries, err := upper.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := mergeEntry(upper, lower, e); err != nil {
			return err
		}
	}
	return nil
}

func mergeEntry(upper, lower *fsx.Dir, e fsx.Entry) error {
	if e.Type == syscall.S_IFCHR {
		st, err := upper.Lstat(e.Name)
		if err != nil {
			return err
		}
		if st.Rdev == 0 {
			return lower.RemoveAll(e.Name)
		}
	}
	if !e.IsDir() {
		return replaceWith(upper, lower, e.Name, false)
	}
	opaque, err := isOpaque(upper, e.Name)
	if err != nil {
		return err
	}
	old, err := lower.Lstat(e.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !old.IsDir() || opaque {
		return replaceWith(upper, lower, e.Name, true)
	}
	if err := copyDirAttrs(upper, e.Name, lower, e.Name); err != nil {
		return err
	}
	u, err := upper.OpenDir(e.Name)
	if err != nil {
		return err
	}
	defer u.Close()
	l, err := lower.OpenDir(e.Name)
	if err != nil {
		return err
	}
	defer l.Close()
	return mergeUpper(u, l)
}

// replaceWith puts the upper entry in the place of the lower one.
func replaceWith(upper, lower *fsx.Dir, name string, dir bool) error {
	if err := scrub(upper, name, dir); err != nil {
		return err
	}
	st, err := lower.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// rename(2) replaces a file by a file only.
	if err == nil && (dir || st.IsDir()) {
		if err := lower.RemoveAll(name); err != nil {
			return err
		}
	}
	return upper.Rename(name, lower, name)
}

// scrub removes overlayfs' own marks, and below a directory also whiteouts,
// which hide nothing once the directory stands alone.
func scrub(d *fsx.Dir, name string, dir bool) error {
	xattrs, err := d.Xattrs(name)
	if err != nil {
		return err
	}
	for _, x := range xattrs {
		if !strings.HasPrefix(x.Name, overlayXattrs) {
			continue
		}
		if err := d.RemoveXattr(name, x.Name); err != nil {
			return err
		}
	}
	if !dir {
		return nil
	}
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	entries, err := sub.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type == syscall.S_IFCHR {
			st, err := sub.Lstat(e.Name)
			if err != nil {
				return err
			}
			if st.Rdev == 0 {
				if err := sub.Remove(e.Name); err != nil {
					return err
				}
				continue
			}
		}
		if err := scrub(sub, e.Name, e.IsDir()); err != nil {
			return err
		}
	}
	return nil
}

func isOpaque(d *fsx.Dir, name string) (bool, error) {
	xattrs, err := d.Xattrs(name)
	if err != nil {
		return false, err
	}
	for _, x := range xattrs {
		if x.Name == overlayOpaque && string(x.Value) == "y" {
			return true, nil
		}
	}
	return false, nil
}

// copyDirAttrs gives the directory dst/dname the owner, mode and extended
// attributes of src/sname. Directories are never hard-linked, so this is safe
// in a tree that shares its files.
func copyDirAttrs(src *fsx.Dir, sname string, dst *fsx.Dir, dname string) error {
	st, err := src.Lstat(sname)
	if err != nil {
		return err
	}
	if dname != "." {
		if err := dst.Lchown(dname, int(st.UID), int(st.GID)); err != nil {
			return err
		}
		if err := dst.Chmod(dname, st.Mode); err != nil {
			return err
		}
	}
	want, err := dirXattrs(src, sname)
	if err != nil {
		return err
	}
	have, err := dirXattrs(dst, dname)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := want[name]; ok {
			continue
		}
		if err := dst.RemoveXattr(dname, name); err != nil {
			return err
		}
	}
	for name, value := range want {
		if old, ok := have[name]; ok && old == value {
			continue
		}
		if err := dst.SetXattr(dname, name, []byte(value)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func dirXattrs(d *fsx.Dir, name string) (map[string]string, error) {
	list, err := d.Xattrs(name)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, x := range list {
		if !strings.HasPrefix(x.Name, overlayXattrs) {
			out[x.Name] = string(x.Value)
		}
	}
	return out, nil
}
