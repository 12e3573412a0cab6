// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func checksumVerb() *verb {
	var ignoreXattrs bool
	return &verb{
		name: "checksum", args: "PATH", summary: "Checksum a file or directory", use: repoUnused,
		opts: []option{{long: "ignore-xattrs", dst: &ignoreXattrs, help: "Don't include xattrs in checksum"}},
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 1 {
				return failf("A filename must be given")
			}
			sum, err := checksumFile(c.args[0], ignoreXattrs)
			if errors.Is(err, fs.ErrNotExist) {
				return notFoundFile(c.args[0], ignoreXattrs)
			}
			if err != nil {
				return err
			}
			c.printf("%s\n", sum)
			return nil
		},
	}
}

// notFoundFile has libostree's words for an absent file, which differ with the
// option.
func notFoundFile(path string, byHandle bool) error {
	if byHandle {
		return failf("fstatat(%s): %w", path, syscall.ENOENT)
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return failf("Error when getting information for file “%s”: %w", path, syscall.ENOENT)
}

// checksumFile gives the checksum that a file has as an object, or that the
// metadata of a directory has.
func checksumFile(path string, ignoreXattrs bool) (ostree.Checksum, error) {
	path = filepath.Clean(path)
	d, err := fsx.OpenDir(filepath.Dir(path))
	if err != nil {
		return ostree.Checksum{}, err
	}
	defer d.Close()
	name := filepath.Base(path)
	if name == "/" || name == ".." {
		d, err := fsx.OpenDir(path)
		if err != nil {
			return ostree.Checksum{}, err
		}
		defer d.Close()
		return localChecksum(d, ".", ignoreXattrs, owner{-1, -1})
	}
	return localChecksum(d, name, ignoreXattrs, owner{-1, -1})
}

// owner overrides the ids of local files; -1 keeps those that the file has.
type owner struct{ uid, gid int }

// localChecksum is checksumFile for a name in an open directory.
func localChecksum(d *fsx.Dir, name string, ignoreXattrs bool, o owner) (ostree.Checksum, error) {
	st, err := d.Lstat(name)
	if err != nil {
		return ostree.Checksum{}, err
	}
	h := ostree.FileHeader{UID: st.UID, GID: st.GID, Mode: st.Mode}
	if o.uid >= 0 {
		h.UID = uint32(o.uid)
	}
	if o.gid >= 0 {
		h.GID = uint32(o.gid)
	}
	if !ignoreXattrs {
		xattrs, err := d.Xattrs(name)
		if err != nil {
			return ostree.Checksum{}, err
		}
		for _, x := range xattrs {
			if len(x.Value) > 0 { // libostree does not see the others
				h.Xattrs = append(h.Xattrs, ostree.Xattr{Name: x.Name, Value: x.Value})
			}
		}
	}
	switch {
	case st.IsDir():
		data, err := ostree.DirMeta{UID: h.UID, GID: h.GID, Mode: h.Mode, Xattrs: h.Xattrs}.Marshal()
		return sha256.Sum256(data), err
	case st.IsSymlink():
		if h.Target, err = d.Readlink(name); err != nil {
			return ostree.Checksum{}, err
		}
		return ostree.HashContent(h, 0, nil)
	case !st.IsRegular():
		return ostree.Checksum{}, fmt.Errorf("checksum %s: %w: neither file, link nor directory", name, ostree.ErrUnsupported)
	}
	f, err := d.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ostree.Checksum{}, err
	}
	defer f.Close()
	return ostree.HashContent(h, st.Size, f)
}
