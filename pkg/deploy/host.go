// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// Host is the running system as a sysroot, with handles that can be written
// through. Close it after the Sysroot.
type Host struct {
	*Sysroot
	dirs []*fsx.Dir
}

// Paths are where the running system has its parts; the zero value means the
// usual places. Tests put a scratch system there.
type Paths struct {
	Sysroot string // "" means /sysroot
	Boot    string // "" means /boot
	Run     string // "" means /run
	Root    string // "" means /
	Cmdline string // "" means /proc/cmdline
	ESP     string // "" means /efi, where that is FAT; the system partition if it is not /boot
	EFIVars string // "" means /sys/firmware/efi/efivars
}

func (p *Paths) fill() {
	for _, f := range []struct {
		at  *string
		def string
	}{{&p.Sysroot, "/sysroot"}, {&p.Boot, "/boot"}, {&p.Run, "/run"}, {&p.Root, "/"}, {&p.Cmdline, "/proc/cmdline"},
		{&p.ESP, "/efi"}, {&p.EFIVars, "/sys/firmware/efi/efivars"}} {
		if *f.at == "" {
			*f.at = f.def
		}
	}
}

// OpenHost opens the running system's sysroot. o gives everything but Boot, Run,
// Root and Cmdline. For cmd only: it is the one function here that opens paths.
//
// A running system has /sysroot, and perhaps /boot, mounted read-only. With
// writable set the handles go through private copies of those mounts that are
// not, and that nobody but this process can reach: the rest of the system keeps
// its read-only view, nothing needs undoing when the process dies, and, unlike a
// mount namespace, which belongs to a thread, a handle works from every goroutine.
// It takes CAP_SYS_ADMIN and Linux 5.12. A filesystem that is itself read-only
// stays so.
func OpenHost(p Paths, writable bool, o Options) (*Host, error) {
	p.fill()
	h := &Host{}
	if err := h.open(p, writable, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open running system: %w", err), h.Close())
	}
	return h, nil
}

func (h *Host) open(p Paths, writable bool, o Options) error {
	sysroot, err := h.openDir(p.Sysroot, writable)
	if err != nil {
		return err
	}
	if o.Boot, err = h.openDir(p.Boot, writable); err != nil {
		return err
	}
	// Without a partition of its own, /boot may be the deployment's empty
	// directory; the real one is in the sysroot then.
	here, err := o.Boot.Exists("loader")
	if err != nil {
		return err
	}
	if there, err := sysroot.Exists("boot/loader"); err == nil && there && !here {
		o.Boot = nil
	}
	if o.Run, err = h.openDir(p.Run, false); err != nil {
		return err
	}
	if o.Root, err = h.openDir(p.Root, false); err != nil {
		return err
	}
	if err := h.openFirmware(p, writable, &o); err != nil {
		return err
	}
	if o.Zipl == nil && p.Boot == ziplBoot {
		o.Zipl = ziplCommand()
	}
	cmdline, err := os.ReadFile(p.Cmdline)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o.Cmdline = string(cmdline)
	h.Sysroot, err = Open(sysroot, o)
	return err
}

const ziplBoot = "/boot" // where zipl works

// ziplCommand runs zipl on the running system, where /boot may be read-only to everybody
// but our own handle.
func ziplCommand() []string {
	const program = "/usr/sbin/zipl"
	if ro, err := sys.PathReadOnly(ziplBoot); err != nil || !ro {
		return []string{program}
	}
	return []string{"unshare", "--mount", "sh", "-ec", "mount -o remount,bind,rw " + ziplBoot + "; exec " + program}
}

// openFirmware opens what only machines with EFI have.
func (h *Host) openFirmware(p Paths, writable bool, o *Options) error {
	vars, err := h.openDir(p.EFIVars, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o.EFIVars = vars
	esp, err := h.openDir(p.ESP, writable)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// A folder of this name without a partition is nothing that firmware reads.
	if fat, err := esp.IsFAT(); err != nil || !fat {
		return err
	}
	o.ESP = esp
	return nil
}

func (h *Host) openDir(path string, writable bool) (*fsx.Dir, error) {
	d, err := openDir(path, writable)
	if err == nil {
		h.dirs = append(h.dirs, d)
	}
	return d, err
}

func openDir(path string, writable bool) (*fsx.Dir, error) {
	if !writable {
		return fsx.OpenDir(path)
	}
	ro, err := sys.PathReadOnly(path)
	if err != nil || !ro {
		if err != nil {
			return nil, fmt.Errorf("stat filesystem of %s: %w", path, err)
		}
		return fsx.OpenDir(path)
	}
	f, err := sys.WritableTree(path)
	if err != nil {
		return nil, err
	}
	return fsx.NewDir(f, path), nil
}

// Close releases everything.
func (h *Host) Close() error {
	var errs []error
	if h.Sysroot != nil {
		errs = append(errs, h.Sysroot.Close())
	}
	for _, d := range h.dirs {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
