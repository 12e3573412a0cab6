// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// Boot is how the firmware starts an image: it decides the partitions, the boot
// loader and the filesystem of /boot.
type Boot string

// The ways to boot.
const (
	// BIOSGRUB has GRUB in a BIOS boot partition and /boot on ext4. It is what "" means.
	BIOSGRUB Boot = "bios-grub"
	// UEFIGRUB has GRUB on an EFI system partition, mounted at /boot/efi, and /boot on ext4.
	UEFIGRUB Boot = "uefi-grub"
	// UEFISystemdBoot has systemd-boot, kernels and entries on an EFI system
	// partition that is mounted at /boot.
	UEFISystemdBoot Boot = "uefi-systemd-boot"
)

// ErrUnknownBoot reports a Boot that is none of the constants.
var ErrUnknownBoot = errors.New("unknown way to boot")

// Boots lists the ways to boot, the default first.
func Boots() []Boot { return []Boot{BIOSGRUB, UEFIGRUB, UEFISystemdBoot} }

// ParseBoot checks a name; "" gives the default.
func ParseBoot(s string) (Boot, error) {
	if s == "" {
		return BIOSGRUB, nil
	}
	var names []string
	for _, b := range Boots() {
		if string(b) == s {
			return b, nil
		}
		names = append(names, string(b))
	}
	return "", fmt.Errorf("%w %q: one of %s", ErrUnknownBoot, s, strings.Join(names, ", "))
}

func (b Boot) uefi() bool { return b == UEFIGRUB || b == UEFISystemdBoot }

// grub tells that the menu is started through GRUB's stub in /boot.
func (b Boot) grub() bool { return b != UEFISystemdBoot }

// fatBoot tells that /boot is the EFI system partition itself.
func (b Boot) fatBoot() bool { return b == UEFISystemdBoot }

// BootTree opens the tree that the sysroot boots by default, whose boot loader
// an image gets. The caller closes it.
func BootTree(ctx context.Context, sysroot *fsx.Dir) (*fsx.Dir, error) {
	s, err := deploy.Open(sysroot, deploy.Options{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	st, err := s.Load(ctx)
	if err != nil {
		return nil, err
	}
	if len(st.Deployments) == 0 {
		return nil, fmt.Errorf("find the tree that %s boots: it has no deployment; install one first", sysroot.Path())
	}
	return sysroot.OpenDir(st.Deployments[0].Dir())
}
