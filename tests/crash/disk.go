// SPDX-License-Identifier: Apache-2.0

// Package crash records the file operations of a program, with strace, and
// rebuilds the folder that it worked on as a crash after each of them could
// leave it: names as they were then, which filesystems with a journal keep in
// order, and of every file only what was synced.
package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// inode is a file, directory or link of a disk.
type inode struct {
	kind   fs.FileMode // ModeDir, ModeSymlink or 0
	mode   uint32      // permissions
	data   []byte      // as the running system sees it; the target of a link
	safe   []byte      // what is on the disk
	xattrs map[string][]byte
}

// disk is a folder: its names, and the files that they lead to.
type disk struct {
	names map[string]*inode // by path relative to the folder; "." is the folder
}

// readDisk takes a folder as it is, all of it safe.
func readDisk(root string) (*disk, error) {
	d := &disk{names: map[string]*inode{}}
	dir, err := fsx.OpenDir(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	linked := map[uint64]*inode{}
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		st, err := dir.Lstat(rel)
		if err != nil {
			return err
		}
		if n, ok := linked[st.Ino]; ok {
			d.names[rel] = n
			return nil
		}
		n := &inode{kind: e.Type(), mode: st.Mode & 0o7777, xattrs: map[string][]byte{}}
		switch e.Type() {
		case 0:
			n.data, err = os.ReadFile(p)
		case fs.ModeSymlink:
			var target string
			target, err = os.Readlink(p)
			n.data = []byte(target)
		}
		if err != nil {
			return err
		}
		attrs, err := dir.Xattrs(rel)
		if err != nil {
			return err
		}
		for _, a := range attrs {
			n.xattrs[a.Name] = a.Value
		}
		n.safe = n.data
		d.names[rel], linked[st.Ino] = n, n
		return nil
	})
	return d, err
}

// write lays the disk out as the new folder root. With lost set, files hold only
// what was synced, as after a power cut; else what was written, as after the end
// of the process.
func (d *disk) write(root string, lost bool) error {
	first := map[*inode]string{}
	dir := map[string]*inode{}
	for _, rel := range slices.Sorted(maps.Keys(d.names)) { // parents come before what is in them
		n, p := d.names[rel], filepath.Join(root, rel)
		if before, ok := first[n]; ok && n.kind != fs.ModeDir {
			if err := os.Link(before, p); err != nil {
				return err
			}
			continue
		}
		first[n] = p
		if err := n.write(p, lost); err != nil {
			return fmt.Errorf("write %s: %w", rel, err)
		}
		if n.kind == fs.ModeDir {
			dir[p] = n
		}
	}
	for p, n := range dir {
		if err := syscall.Chmod(p, n.mode); err != nil {
			return err
		}
	}
	return nil
}

func (n *inode) write(p string, lost bool) error {
	var err error
	switch n.kind {
	case fs.ModeDir:
		err = os.Mkdir(p, 0o700)
	case fs.ModeSymlink:
		return os.Symlink(string(n.data), p)
	default:
		data := n.data
		if lost {
			data = n.safe
		}
		err = os.WriteFile(p, data, 0o600)
	}
	for name, value := range n.xattrs {
		err = errors.Join(err, syscall.Setxattr(p, name, value, 0))
	}
	if err == nil && n.kind == 0 {
		err = syscall.Chmod(p, n.mode)
	}
	return err
}

// below lists what is in a directory, at any depth.
func (d *disk) below(rel string) []string {
	var out []string
	for name := range d.names {
		if strings.HasPrefix(name, rel+"/") {
			out = append(out, name)
		}
	}
	return out
}

func (d *disk) rename(from, to string, exchange bool) {
	old := map[string]*inode{}
	move := func(from, to string) {
		for _, name := range append(d.below(from), from) {
			if n, ok := d.names[name]; ok {
				old[to+strings.TrimPrefix(name, from)] = n
			}
		}
	}
	move(from, to)
	if exchange {
		move(to, from)
	}
	for _, name := range append(append(d.below(from), d.below(to)...), from, to) {
		delete(d.names, name)
	}
	maps.Copy(d.names, old)
}
