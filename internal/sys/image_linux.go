// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HasFilesystem tells whether the kernel has a type of filesystem, loading its module
// where it can. A caller that may not ask gets the error of that. Linux 5.2.
func HasFilesystem(name string) (bool, error) {
	fd, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unix.Close(fd)
}

// MountImage mounts an open file that holds a read-only filesystem: as it is from
// Linux 6.12 on, through a loop device that goes with the mount before.
func MountImage(f *os.File, target, fstype, data string) error {
	defer runtime.KeepAlive(f)
	err := Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), target, fstype, MountReadOnly|MountSilent, data)
	if !errors.Is(err, unix.ENOTBLK) {
		return err
	}
	dev, err := loop(int(f.Fd()))
	if err != nil {
		return fmt.Errorf("set up loop device: %w", err)
	}
	defer dev.Close()
	return Mount(dev.Name(), target, fstype, MountReadOnly|MountSilent, data)
}

// loop puts an open file behind a free loop device. Between finding and taking one
// somebody else may take it.
func loop(fd int) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 64 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		c := unix.LoopConfig{Fd: uint32(fd), Size: 4096}
		c.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &c)
		if err == nil {
			return dev, nil
		}
		_ = dev.Close() // nothing behind it
		if !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
	}
	return nil, unix.EBUSY
}

// fsVeritySHA256 is FS_VERITY_HASH_ALG_SHA256.
const fsVeritySHA256 = 1

// VerityDigest asks the kernel for the fs-verity digest of an open file, which it
// enforces: on is false where the file has none, and an error for which
// IsNotSupported holds tells that the filesystem or the kernel can't.
func VerityDigest(fd int) (digest [32]byte, on bool, err error) {
	var arg struct {
		unix.FsverityDigest
		digest [64]byte
	}
	arg.Size = uint16(len(arg.digest))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&arg)))
	switch {
	case errno == unix.ENODATA:
		return digest, false, nil
	case errno != 0:
		return digest, false, errno
	case arg.Algorithm != fsVeritySHA256 || int(arg.Size) != len(digest):
		return digest, false, fmt.Errorf("fs-verity algorithm %d with %d bytes: %w", arg.Algorithm, arg.Size, unix.EOPNOTSUPP)
	}
	return [32]byte(arg.digest[:32]), true, nil
}

// EnableVerity makes a file, open for reading only, immutable and has the kernel verify
// what is read of it: SHA-256, blocks of 4096 bytes. A file that is so already is fine.
func EnableVerity(fd int) error {
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: fsVeritySHA256, Block_size: 4096}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
	switch errno {
	case 0, unix.EEXIST:
		return nil
	case unix.EINVAL:
		return fmt.Errorf("blocks of 4096 bytes, where the filesystem may have smaller ones: %w", unix.EOPNOTSUPP)
	}
	return errno
}

// BlockDevice gives "major:minor" of the device that holds path; "" for filesystems
// that have none, or several.
func BlockDevice(path string) (string, error) {
	var st unix.Stat_t
	if err := ignoreEINTR(func() error { return unix.Stat(path, &st) }); err != nil {
		return "", err
	}
	dev := uint64(st.Dev) //nolint:unconvert // not an uint64 on every architecture
	if unix.Major(dev) == 0 {
		return "", nil
	}
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)), nil
}
