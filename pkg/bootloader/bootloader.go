// SPDX-License-Identifier: Apache-2.0

// Package bootloader keeps the boot menu in step with the deployments.
//
// All menu state of one generation lives in /boot/loader.V, V being 0 or 1: the
// BLS entries, and whatever a boot loader needs that cannot read them. The
// symbolic link /boot/loader names the generation that counts. A new menu is
// written completely into the other generation; then one rename of the link, in
// Switch.Flip, changes the next boot. Nothing else does. FAT has no links: there
// one byte of a file names the generation, see FileSwitch.
package bootloader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// Kind names a backend as in the repository's config, [sysroot] bootloader.
type Kind string

// The kinds that Select knows.
const (
	Auto  Kind = "auto" // the first backend whose Probe says yes, else None
	None  Kind = "none" // BLS entries only: whoever boots reads them itself
	GRUB2 Kind = "grub2"

	Syslinux Kind = "syslinux"
	UBoot    Kind = "uboot"
	// Zipl is for s390x. Auto takes it there.
	Zipl Kind = "zipl"
	// SystemdBoot always has the layout of FAT, see FileSwitch.
	SystemdBoot Kind = "systemd-boot"
)

// StartsUKI tells whether the boot loader starts unified kernel images with a command
// line from the menu: systemd-boot, and whoever reads the entries by itself.
func (k Kind) StartsUKI() bool { return k == SystemdBoot || k == None }

// Conditions that callers test for.
var (
	ErrUnknownKind = errors.New("unknown boot loader")
	// ErrForeignConfig reports a boot loader whose configuration would never look
	// at what is written here, so a switch would silently change nothing.
	ErrForeignConfig = errors.New("boot loader configuration does not read /boot/loader")
	// ErrNotSwitchable reports a /boot/loader that is not the link to loader.0 or loader.1.
	ErrNotSwitchable = errors.New("/boot/loader is not a link to loader.0 or loader.1")
	// ErrNoLinks reports a boot loader that can be switched by a symbolic link only,
	// with /boot on FAT.
	ErrNoLinks = errors.New("this boot loader needs a /boot with symbolic links, which FAT has not")
)

// Entry is one menu entry with its file name below entries/.
type Entry struct {
	Name string // e.g. ostree-2.conf
	bls.Entry
}

// Menu is one generation to be prepared.
type Menu struct {
	Version int     // V of loader.V, 0 or 1
	Entries []Entry // boot order, the default first
	// UEnv are U-Boot variables that the default deployment brings, in its
	// usr/lib/ostree-boot/uEnv.txt; nil for none.
	UEnv []byte
	// Tries is how often the first entry may be tried before the second boots; 0: not counted.
	Tries int
}

// isOSTree tells entries of deployments from those of others.
func (e Entry) isOSTree() bool { return strings.HasPrefix(e.Name, "ostree-") && e.Linux != "" }

func (e Entry) title() string {
	if e.Title == "" {
		return "(Untitled)"
	}
	return e.Title
}

// Backend serves one kind of boot loader. Handles are of the directory that is
// mounted as /boot.
type Backend interface {
	// Probe reports whether this boot loader is in use. It changes nothing.
	Probe(ctx context.Context, boot *fsx.Dir) (bool, error)
	// Prepare writes what the boot loader needs into loader.V, whose entries are
	// already there. It must not change the next boot, may run again after a
	// crash, and does not sync.
	Prepare(ctx context.Context, boot *fsx.Dir, m Menu) error
	// Finish runs after the switch. It must be idempotent; its failure leaves a
	// system that boots the new menu.
	Finish(ctx context.Context, boot *fsx.Dir, m Menu) error
}

// Switch selects the generation that boots next.
type Switch interface {
	// Active returns V of the generation in use, or -1 where none is yet.
	Active(boot *fsx.Dir) (int, error)
	// Arm does everything for the switch that does not change the next boot. The
	// caller syncs /boot between Arm and Flip.
	Arm(boot *fsx.Dir, version int) error
	// Flip makes loader.V count, in one atomic step.
	Flip(boot *fsx.Dir, version int) error
}

type candidate struct {
	kind    Kind
	backend Backend
}

// Options configure backends.
type Options struct {
	// Grub2Generator is a program that writes GRUB's menu instead of this package.
	// It is run as PROGRAM -o FILE; the entries are in the folder entries beside FILE,
	// and _OSTREE_GRUB2_BOOTVERSION is V of loader.V. "" means none.
	Grub2Generator string
	// Zipl is the command that makes a switch known to s390x's firmware; nil where /boot is
	// not the running system's.
	Zipl []string
	// ESP is the EFI system partition where that is not /boot: systemd-boot reads
	// loader.conf there. nil means that it is /boot.
	ESP *fsx.Dir
	// EFIVars is /sys/firmware/efi/efivars, whose variables override loader.conf. nil
	// means that they are not looked at.
	EFIVars *fsx.Dir
	// FAT treats /boot as FAT whatever it is on, for a directory that becomes a
	// FAT image, and for tests.
	FAT bool
}

// fat tells whether /boot takes the layout of FAT, see FileSwitch.
func (o Options) fat(kind Kind, boot *fsx.Dir) (bool, error) {
	if o.FAT || kind == SystemdBoot {
		return true, nil
	}
	return boot.IsFAT()
}

// Select returns the backend called kind; "" means Auto.
func Select(ctx context.Context, kind Kind, boot *fsx.Dir, o Options) (Kind, Backend, error) {
	fat, err := o.fat(kind, boot)
	if err != nil {
		return "", nil, err
	}
	// libostree's order.
	all := []candidate{{Syslinux, syslinux{}}, {GRUB2, grub2{generator: o.Grub2Generator, fat: fat}}, {UBoot, uboot{}}, {Zipl, zipl{command: o.Zipl}},
		{SystemdBoot, systemdBoot{efivars: o.EFIVars, sw: FileSwitch{esp: o.ESP}, fat: fat}}, {None, none{}}}
	if kind == "" || kind == Auto {
		for _, c := range all {
			ok, err := c.backend.Probe(ctx, boot)
			if err != nil {
				return "", nil, fmt.Errorf("probe boot loader %s: %w", c.kind, err)
			}
			if ok {
				return c.kind, c.backend, nil
			}
		}
	}
	for _, c := range all {
		if c.kind == kind {
			return c.kind, c.backend, nil
		}
	}
	return "", nil, fmt.Errorf("%w %q", ErrUnknownKind, kind)
}

// SelectSwitch returns the switch that goes with the backend of Select.
// ErrNoLinks where there is none.
func SelectSwitch(ctx context.Context, kind Kind, boot *fsx.Dir, o Options) (Switch, error) {
	fat, err := o.fat(kind, boot)
	if err != nil {
		return nil, err
	}
	if !fat {
		return LinkSwitch{}, nil
	}
	kind, _, err = Select(ctx, kind, boot, o)
	if err != nil {
		return nil, err
	}
	switch kind {
	case GRUB2:
		return FileSwitch{grub: true}, nil
	case None, SystemdBoot:
		return FileSwitch{esp: o.ESP}, nil
	}
	return nil, fmt.Errorf("select boot switch for %s: %w", kind, ErrNoLinks)
}

// none is for boot loaders that read BLS entries, and for images whose loader
// is configured from outside. As the last candidate it takes everything.
type none struct{}

func (none) Probe(context.Context, *fsx.Dir) (bool, error) { return true, nil }
func (none) Prepare(context.Context, *fsx.Dir, Menu) error { return nil }
func (none) Finish(context.Context, *fsx.Dir, Menu) error  { return nil }

// isAbsent also covers a path through something that is no folder.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
