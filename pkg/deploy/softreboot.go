// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
)

// ErrNoSoftReboot reports why a deployment can only be reached by a full restart.
var ErrNoSoftReboot = errors.New("a soft reboot is not possible")

// softRebootTarget is the unit that systemd has since version 254.
const softRebootTarget = "usr/lib/systemd/system/soft-reboot.target"

// CanSoftReboot tells, by an error wrapping ErrNoSoftReboot, what keeps the running system
// from going to d without its kernel: another kernel, initramfs or arguments, a running
// systemd that cannot, a d without an init, or that d runs already.
func (s *Sysroot) CanSoftReboot(st State, d Deployment) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrNoSoftReboot, fmt.Sprintf(format, args...))
	}
	booted, ok := st.Booted()
	if !ok || s.o.Root == nil || s.o.Run == nil {
		return no("the running system is none of the deployments")
	}
	if d.Same(booted) {
		return no("the deployment is running")
	}
	if d.BootChecksum != booted.BootChecksum || !slices.Equal(d.overlays, booted.overlays) {
		return no("the kernel or the initramfs differs")
	}
	if !slices.Equal(ownKargs(d.Kargs), ownKargs(booted.Kargs)) {
		return no("the kernel arguments differ: %q, running with %q", d.Kargs, booted.Kargs)
	}
	// Arguments may have been added to the booted deployment since.
	running := bls.ParseKargs(s.o.Cmdline)
	for _, a := range ownKargs(d.Kargs) {
		if !slices.Contains(running, a) {
			return no("the running kernel does not have the argument %s", a)
		}
	}
	if ok, err := s.o.Root.Exists(softRebootTarget); err != nil || !ok {
		return no("the running systemd has no soft-reboot.target, which it has since version 254")
	}
	if err := prepareroot.CheckInit(path.Join(s.dir.Path(), d.Dir())); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSoftReboot, err)
	}
	// systemd takes a link, too, where nobody would find what is mounted.
	if at, err := s.o.Run.Lstat(prepareroot.NextRoot); err == nil && !at.IsDir() {
		return no("/run/%s is no directory: remove it", prepareroot.NextRoot)
	}
	return nil
}

// PrepareSoftReboot mounts the root of the deployment at index (of State.Deployments) as
// /run/nextroot, for systemctl soft-reboot. Before, the deployment is made the default of
// the boot menu, and one that is staged is finalised, /etc included: a full restart goes
// to it as well. r says which deployments stay then. Nothing is changed where
// CanSoftReboot has an error.
func (l *Locked) PrepareSoftReboot(ctx context.Context, index int, r Retention) (Deployment, error) {
	d, err := l.at(ctx, index)
	if err != nil {
		return d, err
	}
	st, err := l.s.Load(ctx)
	if err != nil {
		return d, err
	}
	if err := l.s.CanSoftReboot(st, d); err != nil {
		return d, err
	}
	if d, err = l.makeDefault(ctx, st, d, r); err != nil {
		return d, err
	}
	if err := l.s.mountNext(d); err != nil {
		return d, errors.Join(fmt.Errorf("prepare soft reboot: %w", err), l.ResetSoftReboot(ctx))
	}
	return d, l.s.bumpMtime()
}

// makeDefault lets the next full restart boot d.
func (l *Locked) makeDefault(ctx context.Context, st State, d Deployment, r Retention) (Deployment, error) {
	if d.Staged {
		res, err := l.FinalizeStaged(ctx, r)
		return res.Deployment, err
	}
	if def, ok := st.Default(); ok && d.Same(def) {
		if _, staged := st.Staged(); !staged {
			return d, nil
		}
	}
	order, err := PlanDefault(st, d.Index)
	if err != nil {
		return d, err
	}
	_, err = l.Write(ctx, order)
	return d, err
}

// places are where the running system has its parts.
func (s *Sysroot) places() prepareroot.Places {
	return prepareroot.Places{Root: s.dir.Path(), Run: s.o.Run.Path()}
}

func (s *Sysroot) mountNext(d Deployment) error {
	if err := prepareroot.ResetNext(s.places()); err != nil {
		return err
	}
	var tag [4]byte
	_, _ = rand.Read(tag[:]) // never fails since Go 1.24
	next, err := prepareroot.ReadNext(prepareroot.Inputs{Cmdline: s.o.Cmdline, Places: s.places()},
		prepareroot.Deployment{OS: d.Stateroot, Checksum: d.Checksum.String(), Serial: d.Serial}, "."+hex.EncodeToString(tag[:]))
	if err != nil {
		return err
	}
	from, err := s.o.Root.Lstat(".")
	if err != nil {
		return err
	}
	next.FromDev, next.FromIno = from.Dev, from.Ino
	ops, err := prepareroot.PlanNext(next)
	if err != nil {
		return err
	}
	return prepareroot.Execute(ops, func(op prepareroot.Op) { s.log.Debug("soft reboot", "op", op.String()) })
}

// ResetSoftReboot takes back what PrepareSoftReboot mounted; the boot order stays.
func (l *Locked) ResetSoftReboot(context.Context) error {
	if l.s.o.Run == nil {
		return nil
	}
	return prepareroot.ResetNext(l.s.places())
}

// SoftRebootTarget gives the deployment that is mounted for the next soft reboot.
func (s *Sysroot) SoftRebootTarget(st State) (Deployment, bool) {
	if s.o.Run == nil || !s.isMount(prepareroot.NextRoot) {
		return Deployment{}, false
	}
	dev, ino, ok := s.markedRoot(prepareroot.NextMark)
	if !ok {
		return Deployment{}, false
	}
	for _, d := range st.Deployments {
		if own, err := s.dir.Lstat(d.Dir()); err == nil && own.Dev == dev && own.Ino == ino {
			return d, true
		}
	}
	return Deployment{}, false
}

// CompleteSoftReboot makes the boot mark of a soft reboot that is over that of the system,
// for other programs; this one reads either. done tells that there was one.
// It takes no lock, so that a boot does not wait for one.
func (s *Sysroot) CompleteSoftReboot(context.Context) (done bool, err error) {
	if !s.softRebooted() {
		return false, nil
	}
	// Overlays on /usr until the next boot went with the mounts of the system before.
	if err := s.o.Run.RemoveAll(runStates); err != nil {
		return false, err
	}
	err = s.o.Run.Rename(prepareroot.NextMark, s.o.Run, bootedMark)
	if errors.Is(err, fs.ErrNotExist) { // another has just done it
		return false, nil
	}
	return err == nil, err
}

// softRebooted tells that the system runs from what was /run/nextroot, and that nobody has
// replaced the boot mark yet. That nothing is mounted there any more does not say so:
// somebody may have unmounted it.
func (s *Sysroot) softRebooted() bool {
	if s.o.Run == nil || s.o.Root == nil {
		return false
	}
	ok, err := s.o.Run.Exists(prepareroot.NextMark)
	if err != nil || !ok {
		return false
	}
	dev, ino, ok := s.markedPair(prepareroot.NextMark, prepareroot.FromKey)
	if !ok { // libostree's
		return !s.isMount(prepareroot.NextRoot)
	}
	now, err := s.o.Root.Lstat(".")
	return err == nil && (now.Dev != dev || now.Ino != ino)
}

// dropNext takes back what was prepared for a soft reboot that cannot be: somebody has
// unmounted it, or its deployment is gone, and systemd would restart into what is left.
func (s *Sysroot) dropNext(st State) error {
	if s.o.Run == nil {
		return nil
	}
	if ok, err := s.o.Run.Exists(prepareroot.NextMark); err != nil || !ok || s.softRebooted() {
		return err
	}
	if _, ok := s.SoftRebootTarget(st); ok {
		return nil
	}
	return prepareroot.ResetNext(s.places())
}

// isMount tells whether something is mounted on a directory below /run.
func (s *Sysroot) isMount(name string) bool {
	fd, err := sys.Openat2(s.o.Run.Fd(), path.Clean(name), sys.O_PATH|sys.O_DIRECTORY, 0, sys.NoSymlinks|sys.NoMounts)
	if err != nil {
		return errors.Is(err, syscall.EXDEV)
	}
	_ = os.NewFile(uintptr(fd), name).Close() // only looked at
	return false
}

// bootedMark is what prepare-root leaves below /run.
const bootedMark = "ostree-booted"

// backingRoot identifies the deployment behind /, as the boot mark has it.
func (s *Sysroot) backingRoot() (dev, ino uint64, ok bool) {
	if s.o.Run == nil {
		return 0, 0, false
	}
	if s.softRebooted() {
		if dev, ino, ok := s.markedRoot(prepareroot.NextMark); ok {
			return dev, ino, true
		}
	}
	return s.markedRoot(bootedMark)
}
