// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// MountFlags are the flags of mount(2) that this project uses.
type MountFlags uintptr

// The flags keep the kernel's values.
const (
	MountReadOnly  MountFlags = unix.MS_RDONLY
	MountNoSuid    MountFlags = unix.MS_NOSUID
	MountNoDev     MountFlags = unix.MS_NODEV
	MountNoExec    MountFlags = unix.MS_NOEXEC
	MountBind      MountFlags = unix.MS_BIND
	MountRecursive MountFlags = unix.MS_REC
	MountRemount   MountFlags = unix.MS_REMOUNT
	MountMove      MountFlags = unix.MS_MOVE
	MountPrivate   MountFlags = unix.MS_PRIVATE
	MountSilent    MountFlags = unix.MS_SILENT
)

// Mount is mount(2).
func Mount(source, target, fstype string, flags MountFlags, data string) error {
	return ignoreEINTR(func() error { return unix.Mount(source, target, fstype, uintptr(flags), data) })
}

// Unmount is umount2(2) without following a final link; detach takes the mount
// out of the tree at once and frees it when its last user is gone.
func Unmount(target string, detach bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if detach {
		flags |= unix.MNT_DETACH
	}
	return ignoreEINTR(func() error { return unix.Unmount(target, flags) })
}

// PathReadOnly tells whether writes below path are refused by its mount or by
// its filesystem.
func PathReadOnly(path string) (bool, error) {
	var st unix.Statfs_t
	if err := ignoreEINTR(func() error { return unix.Statfs(path, &st) }); err != nil {
		return false, err
	}
	return st.Flags&unix.ST_RDONLY != 0, nil
}

// WritableTree returns a directory handle on path through a private copy of its
// mount that is not read-only, although the visible mount may be. Names
// resolved against the handle reach the copy, from any thread; nobody else sees
// it, and it goes with the last open handle. Mounts below path are not copied.
// The filesystem itself must be writable. Needs CAP_SYS_ADMIN and Linux 5.12.
func WritableTree(path string) (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("copy mount of %s: %w", path, err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, fmt.Errorf("make copied mount of %s writable: %w", path, err)
	}
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open copied mount of %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// InPrivateMounts runs fn on a thread with a mount namespace of its own, in
// which every mount is private. The thread ends with fn and the namespace with
// it; work that fn hands to other goroutines runs outside of it.
func InPrivateMounts(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime then discards the changed thread.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("unshare mount namespace: %w", err)
			return
		}
		if err := Mount("", "/", "", MountRecursive|MountPrivate, ""); err != nil {
			done <- fmt.Errorf("make mounts private: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// Immutable tells whether an open file carries the immutable flag (chattr +i).
func Immutable(fd int) (bool, error) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	return flags&fsImmutable != 0, err
}
