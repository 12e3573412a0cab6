// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
)

// WriteFile creates or truncates name without any sync: for scratch files whose
// loss or truncation in a crash does not matter.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// WriteFileAtomic replaces name durably: after a crash it holds the old bytes
// or the new ones.
func (d *Dir) WriteFileAtomic(name string, data []byte, perm fs.FileMode) error {
	f, err := d.CreateAtomic(name, perm)
	if err != nil {
		return err
	}
	defer f.Cancel()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// AtomicFile is a file that appears under its name only at Commit.
type AtomicFile struct {
	*os.File
	dir       *Dir
	tmp, name string
	done      bool
}

// CreateAtomic starts a replacement of name. The caller defers Cancel.
func (d *Dir) CreateAtomic(name string, perm fs.FileMode) (*AtomicFile, error) {
	c, err := clean(name)
	if err != nil {
		return nil, d.wrap("create", name, err)
	}
	for {
		tmp := tempName(c)
		f, err := d.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// The mode asked for, not the one that the umask leaves.
		if err := sys.Fchmod(int(f.Fd()), modeBits(perm)); err != nil {
			return nil, errors.Join(d.wrap("chmod", tmp, err), f.Close(), d.Remove(tmp))
		}
		return &AtomicFile{File: f, dir: d, tmp: tmp, name: c}, nil
	}
}

// Commit makes the content durable and visible.
func (a *AtomicFile) Commit() error {
	if err := a.Sync(); err != nil {
		return err
	}
	if err := a.File.Close(); err != nil {
		return err
	}
	if err := a.dir.Rename(a.tmp, a.dir, a.name); err != nil {
		return err
	}
	a.done = true
	return a.dir.FsyncName(path.Dir(a.name))
}

// Cancel drops the file unless it was committed; it is safe to call always.
func (a *AtomicFile) Cancel() {
	if a.done {
		return
	}
	a.done = true
	_ = a.File.Close()
	_ = a.dir.Remove(a.tmp)
}

func tempName(name string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	dir, base := path.Split(name)
	return dir + ".tmp-" + base + "-" + hex.EncodeToString(b[:])
}

// Mkdtemp makes a new directory with a random suffix and returns its name.
func (d *Dir) Mkdtemp(prefix string) (string, error) {
	for {
		var b [6]byte
		_, _ = rand.Read(b[:])
		name := prefix + hex.EncodeToString(b[:])
		err := d.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return name, err
	}
}

// Mkdir makes one directory; the mode is subject to the umask.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	return d.parent("mkdir", name, func(fd int, base string) error { return sys.Mkdirat(fd, base, modeBits(perm)) })
}

// Mknod makes a special file; mode has its type (S_IFCHR, …) and permissions, which
// are subject to the umask, dev the device number.
func (d *Dir) Mknod(name string, mode uint32, dev uint64) error {
	return d.parent("mknod", name, func(fd int, base string) error { return sys.Mknodat(fd, base, mode, dev) })
}

// MkdirAll makes name and what is missing above it.
func (d *Dir) MkdirAll(name string, perm fs.FileMode) error {
	c, err := clean(name)
	if err != nil {
		return d.wrap("mkdir", name, err)
	}
	if c == "." {
		return nil
	}
	if st, err := d.Lstat(c); err == nil && st.IsDir() {
		return nil
	}
	done := ""
	for part := range strings.SplitSeq(c, "/") {
		done = path.Join(done, part)
		err := d.Mkdir(done, perm)
		if err == nil || errors.Is(err, fs.ErrExist) {
			continue
		}
		return err
	}
	st, err := d.Lstat(c)
	if err == nil && !st.IsDir() {
		return d.wrap("mkdir", name, syscall.ENOTDIR)
	}
	return err
}

// Symlink makes a symbolic link at name.
func (d *Dir) Symlink(target, name string) error {
	return d.parent("symlink", name, func(fd int, base string) error { return sys.Symlinkat(target, fd, base) })
}

// SymlinkAtomic replaces name by a link to target, durably.
func (d *Dir) SymlinkAtomic(target, name string) error {
	c, err := clean(name)
	if err != nil {
		return d.wrap("symlink", name, err)
	}
	tmp := tempName(c)
	if err := d.Symlink(target, tmp); err != nil {
		return err
	}
	if err := d.Rename(tmp, d, c); err != nil {
		return errors.Join(err, d.Remove(tmp))
	}
	return d.FsyncName(path.Dir(c))
}

type renameFunc func(olddir int, old string, newdir int, name string) error

func (d *Dir) two(op, old string, nd *Dir, name string, fn renameFunc) error {
	return d.parent(op, old, func(ofd int, obase string) error {
		return nd.parent(op, name, func(nfd int, nbase string) error { return fn(ofd, obase, nfd, nbase) })
	})
}

// Link makes a hard link; a symbolic link is linked itself, not followed.
func (d *Dir) Link(old string, nd *Dir, name string) error {
	return d.two("link", old, nd, name, sys.Linkat)
}

// Rename moves old to name in nd, replacing what is there.
func (d *Dir) Rename(old string, nd *Dir, name string) error {
	return d.two("rename", old, nd, name, sys.Renameat)
}

// RenameNoReplace moves old to name in nd; fs.ErrExist where it is taken.
func (d *Dir) RenameNoReplace(old string, nd *Dir, name string) error {
	return d.two("rename", old, nd, name, sys.RenameNoReplace)
}

// Exchange swaps old and name in nd in one step; both must exist.
func (d *Dir) Exchange(old string, nd *Dir, name string) error {
	return d.two("exchange", old, nd, name, sys.RenameExchange)
}

// Remove deletes a file or an empty directory.
func (d *Dir) Remove(name string) error {
	return d.parent("remove", name, func(fd int, base string) error {
		err := sys.Unlinkat(fd, base, false)
		if errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.EPERM) {
			if derr := sys.Unlinkat(fd, base, true); !errors.Is(derr, syscall.ENOTDIR) {
				return derr
			}
		}
		return err
	})
}

// RemoveAll deletes name and everything below it. It never follows a link and
// never crosses a mount, a bind mount of the same filesystem included
// (ErrCrossesMount, nothing of what is mounted is touched); immutable flags are
// cleared. A missing name is no error.
func (d *Dir) RemoveAll(name string) error {
	st, err := d.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return d.Remove(name)
	}
	self, err := d.Lstat(".")
	if err != nil {
		return err
	}
	return d.removeDir(name, self.Dev)
}

func (d *Dir) removeDir(name string, dev uint64) error {
	sub, err := d.openDir(name, sys.O_DIRECTORY|sys.O_NOFOLLOW, sys.Beneath|sys.NoMounts)
	if errors.Is(err, syscall.EXDEV) {
		return d.wrap("remove", name, ErrCrossesMount)
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	st, err := sub.Lstat(".")
	if err != nil {
		return err
	}
	if st.Dev != dev {
		return d.wrap("remove", name, ErrCrossesMount)
	}
	entries, err := sub.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := sub.removeEntry(e, dev)
		if errors.Is(err, syscall.EPERM) {
			_ = sys.SetImmutable(sub.Fd(), false)
			sub.clearImmutable(e)
			err = sub.removeEntry(e, dev)
		}
		if errors.Is(err, syscall.EBUSY) {
			err = d.wrap("remove", path.Join(name, e.Name), ErrCrossesMount)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err = d.parent("remove", name, func(fd int, base string) error { return sys.Unlinkat(fd, base, true) })
	if errors.Is(err, syscall.EPERM) {
		// An immutable empty directory cannot be removed either.
		_ = sys.SetImmutable(sub.Fd(), false)
		err = d.parent("remove", name, func(fd int, base string) error { return sys.Unlinkat(fd, base, true) })
	}
	return err
}

// clearImmutable makes a file deletable, the only kind but directories that can have the flag.
func (d *Dir) clearImmutable(e Entry) {
	if e.Type != syscall.S_IFREG {
		return
	}
	if f, err := d.OpenFile(e.Name, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
		_ = sys.SetImmutable(int(f.Fd()), false)
		_ = f.Close()
	}
}

func (d *Dir) removeEntry(e Entry, dev uint64) error {
	if e.IsDir() {
		return d.removeDir(e.Name, dev)
	}
	return d.parent("remove", e.Name, func(fd int, base string) error { return sys.Unlinkat(fd, base, false) })
}

// Chmod sets the permission bits (0o7777) of a name that is not a link.
func (d *Dir) Chmod(name string, mode uint32) error {
	return d.parent("chmod", name, func(fd int, base string) error { return sys.Fchmodat(fd, base, mode&0o7777) })
}

// Lchown sets the owner without following a link.
func (d *Dir) Lchown(name string, uid, gid int) error {
	return d.parent("chown", name, func(fd int, base string) error { return sys.Lchownat(fd, base, uid, gid) })
}

// Lutimes sets access and modification time without following a link.
func (d *Dir) Lutimes(name string, t time.Time) error {
	return d.parent("utimes", name, func(fd int, base string) error {
		return sys.Utimensat(fd, base, t)
	})
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Xattrs lists the extended attributes of name (a link's own), sorted by name.
// A filesystem without attributes has none.
func (d *Dir) Xattrs(name string) ([]Xattr, error) {
	var out []Xattr
	err := d.parent("getxattr", name, func(fd int, base string) (err error) {
		p := procPath(fd, base)
		out, err = collect(func() ([]string, error) { return sys.Listxattr(p) },
			func(n string) ([]byte, error) { return sys.Lgetxattr(p, n) })
		return err
	})
	return out, err
}

// Xattr reads one extended attribute of name, a link's own.
func (d *Dir) Xattr(name, attr string) ([]byte, error) {
	var value []byte
	err := d.parent("getxattr", name, func(fd int, base string) (err error) {
		value, err = sys.Lgetxattr(procPath(fd, base), attr)
		return err
	})
	return value, err
}

// FXattrs lists the extended attributes of an open file, sorted by name.
func FXattrs(f *os.File) ([]Xattr, error) {
	fd := int(f.Fd())
	out, err := collect(func() ([]string, error) { return sys.Flistxattr(fd) },
		func(n string) ([]byte, error) { return sys.Fgetxattr(fd, n) })
	runtime.KeepAlive(f)
	if err != nil {
		return nil, &fs.PathError{Op: "getxattr", Path: f.Name(), Err: err}
	}
	return out, nil
}

func collect(list func() ([]string, error), get func(string) ([]byte, error)) ([]Xattr, error) {
	names, err := list()
	if sys.IsNotSupported(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Xattr
	for _, n := range names {
		v, err := get(n)
		if errors.Is(err, syscall.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Xattr{Name: n, Value: v})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// SetXattr sets one attribute of name without following a link.
func (d *Dir) SetXattr(name, attr string, value []byte) error {
	return d.parent("setxattr", name, func(fd int, base string) error {
		return sys.Lsetxattr(procPath(fd, base), attr, value)
	})
}

// RemoveXattr removes one attribute of name without following a link.
func (d *Dir) RemoveXattr(name, attr string) error {
	return d.parent("removexattr", name, func(fd int, base string) error {
		return sys.Lremovexattr(procPath(fd, base), attr)
	})
}

// FSetXattr sets one attribute of an open file.
func FSetXattr(f *os.File, attr string, value []byte) error {
	err := sys.Fsetxattr(int(f.Fd()), attr, value)
	runtime.KeepAlive(f)
	if err != nil {
		return &fs.PathError{Op: "setxattr", Path: f.Name(), Err: err}
	}
	return nil
}

// Fsync makes d's own entries durable.
func (d *Dir) Fsync() error { return d.FsyncName(".") }

// FsyncName flushes a file or directory below d.
func (d *Dir) FsyncName(name string) error {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Syncfs flushes the whole filesystem that holds d.
func (d *Dir) Syncfs() error {
	err := sys.Syncfs(d.Fd())
	runtime.KeepAlive(d)
	return d.wrap("syncfs", ".", err)
}

// procPath names base inside the open directory fd for calls that take a path only.
func procPath(fd int, base string) string { return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base }
