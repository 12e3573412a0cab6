// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	loaderLink = "loader"
	loaderTmp  = "loader.tmp" // libostree's name, so either tool clears the other's leftover
)

// LinkSwitch flips the symbolic link /boot/loader. It needs a filesystem with
// symbolic links and atomic rename: ext4, xfs, btrfs, not FAT.
type LinkSwitch struct{}

var _ Switch = LinkSwitch{}

// Active implements Switch.
func (LinkSwitch) Active(boot *fsx.Dir) (int, error) {
	target, err := boot.Readlink(loaderLink)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if errors.Is(err, syscall.EINVAL) {
		return 0, ErrNotSwitchable
	}
	if err != nil {
		return 0, err
	}
	switch target {
	case "loader.0":
		return 0, nil
	case "loader.1":
		return 1, nil
	}
	return 0, fmt.Errorf("%w: it names %q", ErrNotSwitchable, target)
}

// Arm implements Switch: it makes the link under a temporary name.
func (LinkSwitch) Arm(boot *fsx.Dir, version int) error {
	if version != 0 && version != 1 {
		return fmt.Errorf("arm boot switch: version %d", version)
	}
	if err := boot.Remove(loaderTmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return boot.Symlink(LoaderDir(version), loaderTmp)
}

// Flip implements Switch: one rename.
func (LinkSwitch) Flip(boot *fsx.Dir, version int) error {
	target, err := boot.Readlink(loaderTmp)
	if err != nil {
		return err
	}
	if target != LoaderDir(version) {
		return fmt.Errorf("flip boot switch: armed for %s, not %s", target, LoaderDir(version))
	}
	return boot.Rename(loaderTmp, boot, loaderLink)
}
