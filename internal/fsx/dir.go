// SPDX-License-Identifier: Apache-2.0

// Package fsx gives rooted access to the file system. A Dir is an open
// directory; names are relative to it and no lookup leaves it, whatever
// symbolic links say. Only cmd and tests turn a path into a Dir.
package fsx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
)

// Conditions that callers test for.
var (
	ErrTooLarge     = errors.New("file is larger than allowed")
	ErrCrossesMount = errors.New("refusing to delete across a mount point")
	ErrBadName      = errors.New("name is empty, absolute or leaves its directory")
)

// Dir is an open directory: a descriptor, and the path it was opened by for
// messages only. Its methods are safe for concurrent use until Close.
type Dir struct {
	f    *os.File
	path string
}

// OpenDir opens a directory by path, following links, for cmd and tests.
func OpenDir(p string) (*Dir, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f: f, path: path.Clean(p)}, nil
}

// NewDir wraps an open directory handle; path is used in messages only.
func NewDir(f *os.File, path string) *Dir { return &Dir{f: f, path: path} }

// Close releases the handle.
func (d *Dir) Close() error { return d.f.Close() }

// Path returns the path that the directory was opened by, for messages.
func (d *Dir) Path() string { return d.path }

// Fd returns the descriptor; it stays valid until Close.
func (d *Dir) Fd() int { return int(d.f.Fd()) }

// File returns the directory handle.
func (d *Dir) File() *os.File { return d.f }

// clean checks a relative name. "." is the directory itself.
func clean(name string) (string, error) {
	if name == "" || name[0] == '/' || strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%q: %w", name, ErrBadName)
	}
	c := path.Clean(name)
	if c == ".." || strings.HasPrefix(c, "../") {
		return "", fmt.Errorf("%q: %w", name, ErrBadName)
	}
	return c, nil
}

func (d *Dir) wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path.Join(d.path, name), Err: err}
}

// openat opens a checked name; every lookup stays beneath d.
func (d *Dir) openat(op, name string, flags int, perm fs.FileMode, resolve uint64) (*os.File, error) {
	fd, err := sys.Openat2(d.Fd(), name, flags, modeBits(perm), resolve)
	runtime.KeepAlive(d)
	if err != nil {
		return nil, d.wrap(op, name, err)
	}
	return os.NewFile(uintptr(fd), path.Join(d.path, name)), nil
}

// modeBits turns an fs.FileMode's permission, setuid, setgid and sticky bits into st_mode bits.
func modeBits(perm fs.FileMode) uint32 {
	m := uint32(perm.Perm())
	if perm&fs.ModeSetuid != 0 {
		m |= syscall.S_ISUID
	}
	if perm&fs.ModeSetgid != 0 {
		m |= syscall.S_ISGID
	}
	if perm&fs.ModeSticky != 0 {
		m |= syscall.S_ISVTX
	}
	return m
}

// parent calls fn with the directory that holds name's last component.
func (d *Dir) parent(op, name string, fn func(dirfd int, base string) error) error {
	c, err := clean(name)
	if err != nil {
		return d.wrap(op, name, err)
	}
	dir, base := path.Split(c)
	if dir == "" {
		err := fn(d.Fd(), base)
		runtime.KeepAlive(d)
		return d.wrap(op, name, err)
	}
	fd, err := sys.Openat2(d.Fd(), dir, sys.O_PATH|sys.O_DIRECTORY, 0, sys.Beneath)
	runtime.KeepAlive(d)
	if err != nil {
		return d.wrap(op, name, err)
	}
	defer syscall.Close(fd)
	return d.wrap(op, name, fn(fd, base))
}

// OpenDir opens a subdirectory; a final symbolic link is refused.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	return d.openDir(name, sys.O_DIRECTORY|sys.O_NOFOLLOW, sys.Beneath)
}

// OpenDirInRoot opens a directory with d as the root of all lookups, so
// absolute links inside an OS tree resolve as they would after boot.
func (d *Dir) OpenDirInRoot(name string) (*Dir, error) {
	return d.openDir(path.Join(".", strings.TrimLeft(name, "/")), sys.O_DIRECTORY, sys.InRoot)
}

func (d *Dir) openDir(name string, flags int, resolve uint64) (*Dir, error) {
	c, err := clean(name)
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	f, err := d.openat("open", c, os.O_RDONLY|flags, 0, resolve)
	if err != nil {
		return nil, err
	}
	return &Dir{f: f, path: path.Join(d.path, c)}, nil
}

// OpenInRoot opens name as it would resolve with d mounted as /.
func (d *Dir) OpenInRoot(name string, flags int, perm fs.FileMode) (*os.File, error) {
	c, err := clean(strings.TrimLeft(name, "/"))
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	return d.openat("open", c, flags, perm, sys.InRoot)
}

// Open opens a file for reading; a final symbolic link is refused (ELOOP).
func (d *Dir) Open(name string) (*os.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile is os.OpenFile beneath d; a final symbolic link is refused.
func (d *Dir) OpenFile(name string, flags int, perm fs.FileMode) (*os.File, error) {
	c, err := clean(name)
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	return d.openat("open", c, flags|sys.O_NOFOLLOW, perm, sys.Beneath)
}

// Stat is what the project needs of struct stat.
type Stat struct {
	Mode            uint32 // st_mode: type and permission bits
	UID, GID        uint32
	Size            int64
	Dev, Ino, Nlink uint64
	Rdev            uint64
	Mtime           time.Time
}

// IsDir, IsRegular and IsSymlink test the file type.
func (s Stat) IsDir() bool { return s.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// IsRegular reports a regular file.
func (s Stat) IsRegular() bool { return s.Mode&syscall.S_IFMT == syscall.S_IFREG }

// IsSymlink reports a symbolic link.
func (s Stat) IsSymlink() bool { return s.Mode&syscall.S_IFMT == syscall.S_IFLNK }

// Lstat describes name without following a final link; "." is d itself.
func (d *Dir) Lstat(name string) (Stat, error) {
	if name == "." {
		return statFd(d.Fd(), d)
	}
	var st Stat
	err := d.parent("lstat", name, func(dirfd int, base string) error {
		raw, err := sys.Fstatat(dirfd, base)
		st = fromRaw(raw)
		return err
	})
	return st, err
}

// FStat describes an open file.
func FStat(f *os.File) (Stat, error) { return statFd(int(f.Fd()), f) }

func statFd(fd int, keep any) (Stat, error) {
	raw, err := sys.Fstat(fd)
	runtime.KeepAlive(keep)
	if err != nil {
		return Stat{}, os.NewSyscallError("fstat", err)
	}
	return fromRaw(raw), nil
}

func fromRaw(raw sys.Stat) Stat {
	return Stat{Mode: raw.Mode, UID: raw.Uid, GID: raw.Gid, Size: raw.Size, Dev: raw.Dev, Ino: raw.Ino,
		Nlink: uint64(raw.Nlink), //nolint:unconvert // 32 bits on arm64
		Rdev:  raw.Rdev, Mtime: time.Unix(raw.Mtim.Unix())}
}

// Exists reports whether name is there, as any type of file.
func (d *Dir) Exists(name string) (bool, error) {
	_, err := d.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// ReadFile reads a whole regular file of at most max bytes.
func (d *Dir) ReadFile(name string, max int64) ([]byte, error) {
	f, err := d.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, max)
}

// ReadFileInRoot is ReadFile with d as the root of all symbolic links.
func (d *Dir) ReadFileInRoot(name string, max int64) ([]byte, error) {
	f, err := d.OpenInRoot(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, max)
}

func readAll(f *os.File, max int64) ([]byte, error) {
	st, err := FStat(f)
	if err != nil {
		return nil, err
	}
	if !st.IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("not a regular file")}
	}
	if st.Size > max {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: ErrTooLarge}
	}
	var buf bytes.Buffer
	buf.Grow(int(st.Size) + bytes.MinRead)
	if _, err := io.Copy(&buf, io.LimitReader(f, max+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > max {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: ErrTooLarge}
	}
	return buf.Bytes(), nil
}

// Entry is one name in a directory with its type (S_IF* bits).
type Entry struct {
	Name string
	Type uint32
}

// IsDir reports a directory.
func (e Entry) IsDir() bool { return e.Type == syscall.S_IFDIR }

// ReadDir lists a directory ("." for d itself) in byte order of names.
func (d *Dir) ReadDir(name string) ([]Entry, error) {
	c, err := clean(name)
	if err != nil {
		return nil, d.wrap("readdir", name, err)
	}
	f, err := d.openat("readdir", c, os.O_RDONLY|sys.O_DIRECTORY|sys.O_NOFOLLOW, 0, sys.Beneath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(list))
	for i, e := range list {
		out[i] = Entry{Name: e.Name(), Type: typeBits(e.Type())}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func typeBits(m fs.FileMode) uint32 {
	switch {
	case m.IsRegular():
		return syscall.S_IFREG
	case m&fs.ModeDir != 0:
		return syscall.S_IFDIR
	case m&fs.ModeSymlink != 0:
		return syscall.S_IFLNK
	case m&fs.ModeNamedPipe != 0:
		return syscall.S_IFIFO
	case m&fs.ModeSocket != 0:
		return syscall.S_IFSOCK
	case m&fs.ModeCharDevice != 0:
		return syscall.S_IFCHR
	}
	return syscall.S_IFBLK
}

// Readlink returns the target of a symbolic link.
func (d *Dir) Readlink(name string) (string, error) {
	var target string
	err := d.parent("readlink", name, func(dirfd int, base string) (err error) {
		target, err = sys.Readlinkat(dirfd, base)
		return err
	})
	return target, err
}

// IsFAT reports whether d is on a FAT filesystem, which has no links and no
// atomic rename.
func (d *Dir) IsFAT() (bool, error) {
	fat, err := sys.IsFAT(d.Fd())
	runtime.KeepAlive(d)
	return fat, d.wrap("statfs", ".", err)
}

// BlockSize returns the block size in bytes of d's filesystem.
func (d *Dir) BlockSize() (int64, error) {
	n, err := sys.BlockSize(d.Fd())
	runtime.KeepAlive(d)
	return n, d.wrap("statfs", ".", err)
}

// FSType returns the magic number of d's filesystem, from linux/magic.h.
func (d *Dir) FSType() (int64, error) {
	n, err := sys.FSType(d.Fd())
	runtime.KeepAlive(d)
	return n, d.wrap("statfs", ".", err)
}

// FreeSpace returns the free and total bytes of d's filesystem.
func (d *Dir) FreeSpace() (free, total uint64, err error) {
	free, total, err = sys.Statfs(d.Fd())
	runtime.KeepAlive(d)
	return free, total, d.wrap("statfs", ".", err)
}

// FreeFiles returns how many more inodes d's filesystem can have, -1 where it makes them
// as needed.
func (d *Dir) FreeFiles() (int64, error) {
	free, total, err := sys.StatfsFiles(d.Fd())
	runtime.KeepAlive(d)
	if err != nil || total == 0 || free > math.MaxInt64 {
		return -1, d.wrap("statfs", ".", err)
	}
	return int64(free), nil
}

// ReadOnly tells whether writes to d are refused by its mount or its filesystem.
func (d *Dir) ReadOnly() (bool, error) {
	ro, err := sys.PathReadOnly(procPath(d.Fd(), "."))
	runtime.KeepAlive(d)
	return ro, d.wrap("statfs", ".", err)
}
