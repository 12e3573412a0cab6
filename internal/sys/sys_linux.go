// SPDX-License-Identifier: Apache-2.0

// Package sys holds the raw system calls of the project; no other package
// imports golang.org/x/sys/unix.
package sys

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How far a lookup may reach.
const (
	// Beneath refuses every path that leaves the starting directory.
	Beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// InRoot resolves absolute links and ".." as if the starting directory were /.
	InRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// NoSymlinks additionally refuses every symbolic link on the way.
	NoSymlinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	// NoMounts, added to one of these, refuses to enter a mount (EXDEV).
	NoMounts = unix.RESOLVE_NO_XDEV
)

// openat2Retries bounds the retries that the kernel asks for (EAGAIN) when a
// rename races with a scoped lookup.
const openat2Retries = 64

// Openat2 opens name relative to dirfd with the given resolve flags.
func Openat2(dirfd int, name string, flags int, mode uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		how.Mode = uint64(mode)
	}
	for i := 0; ; i++ {
		fd, err := unix.Openat2(dirfd, name, &how)
		if errors.Is(err, unix.EINTR) || (errors.Is(err, unix.EAGAIN) && i < openat2Retries) {
			continue
		}
		return fd, err
	}
}

// Open flags that callers outside this package need.
const (
	O_PATH      = unix.O_PATH
	O_DIRECTORY = unix.O_DIRECTORY
	O_NOFOLLOW  = unix.O_NOFOLLOW
)

// Stat is struct stat as the kernel fills it.
type Stat = unix.Stat_t

// Fstatat is fstatat(2) without following a final link.
func Fstatat(dirfd int, name string) (Stat, error) {
	var st Stat
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err := ignoreEINTR(func() error { return unix.Fstatat(dirfd, name, &st, flags) })
	return st, err
}

// Fstat is fstat(2).
func Fstat(fd int) (Stat, error) {
	var st Stat
	err := ignoreEINTR(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

// Mkdirat, Unlinkat and their neighbours act on one path component inside dirfd.
func Mkdirat(dirfd int, name string, mode uint32) error { return unix.Mkdirat(dirfd, name, mode) }

// Mknodat makes a special file.
func Mknodat(dirfd int, name string, mode uint32, dev uint64) error {
	return unix.Mknodat(dirfd, name, mode, int(dev))
}

// Unlinkat removes a file, or with dir an empty directory.
func Unlinkat(dirfd int, name string, dir bool) error {
	flags := 0
	if dir {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(dirfd, name, flags)
}

// Renameat renames, replacing what is there.
func Renameat(olddir int, old string, newdir int, name string) error {
	return unix.Renameat(olddir, old, newdir, name)
}

// RenameNoReplace renames and returns EEXIST where the new name is taken.
func RenameNoReplace(olddir int, old string, newdir int, name string) error {
	return unix.Renameat2(olddir, old, newdir, name, unix.RENAME_NOREPLACE)
}

// RenameExchange swaps two names; both must exist.
func RenameExchange(olddir int, old string, newdir int, name string) error {
	return unix.Renameat2(olddir, old, newdir, name, unix.RENAME_EXCHANGE)
}

// Linkat makes a hard link without following a link.
func Linkat(olddir int, old string, newdir int, name string) error {
	return unix.Linkat(olddir, old, newdir, name, 0)
}

// LinkFd gives the open (possibly unnamed) file fd a name.
func LinkFd(fd, dirfd int, name string) error {
	err := unix.Linkat(fd, "", dirfd, name, unix.AT_EMPTY_PATH)
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPERM) {
		return err
	}
	// For those without CAP_DAC_READ_SEARCH.
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), dirfd, name, unix.AT_SYMLINK_FOLLOW)
}

// Symlinkat makes a symbolic link.
func Symlinkat(target string, dirfd int, name string) error {
	return unix.Symlinkat(target, dirfd, name)
}

// Readlinkat reads a symbolic link of any length up to PATH_MAX.
func Readlinkat(dirfd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Fchmodat sets permission bits of a name; a symbolic link is refused, not
// followed. It goes through an O_PATH descriptor because fchmodat(2) itself
// learned AT_SYMLINK_NOFOLLOW only in Linux 6.6.
func Fchmodat(dirfd int, name string, mode uint32) error {
	fd, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

// Fchmod sets permission bits of an open file, including setuid and sticky.
func Fchmod(fd int, mode uint32) error { return unix.Fchmod(fd, mode) }

// Fchown changes the owner of an open file.
func Fchown(fd, uid, gid int) error { return unix.Fchown(fd, uid, gid) }

// Lchownat changes the owner of a name without following a link.
func Lchownat(dirfd int, name string, uid, gid int) error {
	return unix.Fchownat(dirfd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// Utimensat sets access and modification time without following a link.
func Utimensat(dirfd int, name string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dirfd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// Futimens sets access and modification time of an open file.
func Futimens(fd int, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	err = unix.UtimesNanoAt(fd, "", []unix.Timespec{ts, ts}, unix.AT_EMPTY_PATH)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	// Before Linux 5.8.
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), []unix.Timespec{ts, ts}, 0)
}

// DropCached takes what is on disk of an open file out of the page cache.
func DropCached(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) }

// TmpFile opens an unnamed file in dirfd; LinkFd names it. dir is the path of
// dirfd for error messages.
func TmpFile(dirfd int, dir string, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(dirfd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir+"/(unnamed)"), nil
}

// Syncfs flushes the filesystem that holds fd.
func Syncfs(fd int) error { return unix.Syncfs(fd) }

// StartWriteback asks the kernel to begin writing what is dirty of a file, and does not
// wait for it: nothing is durable before a sync, which then takes less time.
func StartWriteback(fd int) error {
	return ignoreEINTR(func() error { return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE) })
}

// TryLock locks a whole file without waiting; busy is true where another holder
// exists. It is a lock of the open file description, as libostree takes them, or a
// BSD lock where the filesystem has no other; the two kinds do not see each other.
func TryLock(fd int, shared bool) (busy bool, err error) {
	typ, how := int16(unix.F_WRLCK), unix.LOCK_EX|unix.LOCK_NB
	if shared {
		typ, how = unix.F_RDLCK, unix.LOCK_SH|unix.LOCK_NB
	}
	err = ofdLock(fd, typ)
	if errors.Is(err, unix.EINVAL) {
		err = ignoreEINTR(func() error { return unix.Flock(fd, how) })
	}
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EACCES) {
		return true, nil
	}
	return false, err
}

// Unlock releases what TryLock took.
func Unlock(fd int) error {
	err := ofdLock(fd, unix.F_UNLCK)
	if errors.Is(err, unix.EINVAL) {
		err = unix.Flock(fd, unix.LOCK_UN)
	}
	return err
}

func ofdLock(fd int, typ int16) error {
	l := unix.Flock_t{Type: typ}
	return ignoreEINTR(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l) })
}

// Statfs returns free (to us) and total bytes of the filesystem of fd.
func Statfs(fd int) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := ignoreEINTR(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return 0, 0, err
	}
	avail := st.Bavail
	if os.Geteuid() == 0 {
		avail = st.Bfree
	}
	return avail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// StatfsFiles returns free and total inodes of the filesystem of fd; total is 0 where it
// makes them as needed.
func StatfsFiles(fd int) (free, total uint64, err error) {
	var st unix.Statfs_t
	err = ignoreEINTR(func() error { return unix.Fstatfs(fd, &st) })
	return st.Ffree, st.Files, err
}

// IsFAT reports whether fd is on a FAT filesystem.
func IsFAT(fd int) (bool, error) {
	var st unix.Statfs_t
	err := ignoreEINTR(func() error { return unix.Fstatfs(fd, &st) })
	return err == nil && st.Type == unix.MSDOS_SUPER_MAGIC, err
}

// BlockSize returns the block size in bytes of the filesystem of fd.
func BlockSize(fd int) (int64, error) {
	var st unix.Statfs_t
	err := ignoreEINTR(func() error { return unix.Fstatfs(fd, &st) })
	return int64(st.Bsize), err //nolint:unconvert // not an int64 on every architecture
}

// Listxattr lists the attribute names of path without following a link.
func Listxattr(path string) ([]string, error) {
	return names(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
}

// Flistxattr lists the attribute names of an open file.
func Flistxattr(fd int) ([]string, error) {
	return names(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
}

// Lgetxattr reads one attribute of path without following a link.
func Lgetxattr(path, name string) ([]byte, error) {
	return value(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

// Fgetxattr reads one attribute of an open file.
func Fgetxattr(fd int, name string) ([]byte, error) {
	return value(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// Lsetxattr sets one attribute of path without following a link.
func Lsetxattr(path, name string, v []byte) error { return unix.Lsetxattr(path, name, v, 0) }

// Fsetxattr sets one attribute of an open file.
func Fsetxattr(fd int, name string, v []byte) error { return unix.Fsetxattr(fd, name, v, 0) }

// Lremovexattr removes one attribute of path without following a link.
func Lremovexattr(path, name string) error { return unix.Lremovexattr(path, name) }

func names(list func([]byte) (int, error)) ([]string, error) {
	buf, err := value(list)
	if err != nil || len(buf) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(buf), "\x00"), "\x00"), nil
}

// value grows its buffer while another process grows the attribute (ERANGE).
func value(get func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := get(buf)
		if errors.Is(err, unix.ERANGE) && len(buf) < 1<<17 {
			buf = make([]byte, 2*len(buf))
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// IsNotSupported reports that the filesystem or kernel lacks the operation.
func IsNotSupported(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) ||
		errors.Is(err, unix.ENOTTY)
}

// fsImmutable is FS_IMMUTABLE_FL of linux/fs.h.
const fsImmutable = 0x10

// SetImmutable sets or clears the immutable flag (chattr +i) of an open file.
// A filesystem without the flag returns an error for which IsNotSupported holds.
func SetImmutable(fd int, on bool) error {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	want := flags &^ fsImmutable
	if on {
		want = flags | fsImmutable
	}
	if want == flags {
		return nil
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(want))
}

// The freeze ioctls of linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// Freeze flushes the journal of the filesystem of fd and stops writes until Thaw.
func Freeze(fd int) error { return unix.IoctlSetInt(fd, fiFreeze, 0) }

// Thaw ends Freeze.
func Thaw(fd int) error { return unix.IoctlSetInt(fd, fiThaw, 0) }

func ignoreEINTR(f func() error) error {
	for {
		err := f()
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Tmpfs is what FSType returns for a filesystem in memory.
const Tmpfs = unix.TMPFS_MAGIC

// FSType returns the magic number of the filesystem of fd, from linux/magic.h.
func FSType(fd int) (int64, error) {
	var st unix.Statfs_t
	err := ignoreEINTR(func() error { return unix.Fstatfs(fd, &st) })
	return int64(st.Type), err //nolint:unconvert // not an int64 on every architecture
}

// Stacked reports that the block device dev is made of others: by the device
// mapper (LVM, encryption) or as a RAID.
func Stacked(dev uint64) bool {
	base := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(dev), unix.Minor(dev))
	for _, kind := range []string{"dm", "md", "../md"} {
		if _, err := os.Stat(base + kind); err == nil {
			return true
		}
	}
	return false
}
