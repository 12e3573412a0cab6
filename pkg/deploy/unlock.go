// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/sys"
)

// UnlockMode is a way to make the /usr of the running system writable.
type UnlockMode string

// The modes.
const (
	UnlockDevelopment UnlockMode = "development" // until the next boot
	UnlockTransient   UnlockMode = "transient"   // so, and read-only except in mounts of one's own
	UnlockHotfix      UnlockMode = "hotfix"      // for good; a clean clone is kept for a rollback
)

// ErrUnlocked reports a deployment that is unlocked already.
var ErrUnlocked = errors.New("deployment is already unlocked")

// Where a hotfix keeps its overlay, in the deployment's directory; the program in
// the initramfs looks there.
const (
	hotfixUpper = ".usr-ovl-upper"
	hotfixWork  = ".usr-ovl-work"
)

// runStates is where /run says how deployments are unlocked until the next boot.
const runStates = "ostree/deployment-state"

func runState(d Deployment, mode UnlockMode) string {
	return path.Join(runStates, d.Name(), "unlocked-"+string(mode))
}

// unlocked tells how d was unlocked: the origin knows a hotfix, /run the rest.
func (s *Sysroot) unlocked(d Deployment) (UnlockMode, error) {
	if m := UnlockMode(d.Origin.Unlocked()); m != "" {
		return m, nil
	}
	if s.o.Run == nil {
		return "", nil
	}
	for _, m := range []UnlockMode{UnlockDevelopment, UnlockTransient} {
		if ok, err := s.o.Run.Exists(runState(d, m)); err != nil || ok {
			return m, err
		}
	}
	return "", nil
}

// Unlock mounts an overlay on the running system's /usr, so that it can be
// written to. ErrNotBooted without a running deployment, ErrUnlocked where it was
// done before. For a hotfix a clone of the deployment is put behind it first.
func (l *Locked) Unlock(ctx context.Context, mode UnlockMode) error {
	if err := l.unlock(ctx, mode); err != nil {
		return fmt.Errorf("unlock deployment: %w", err)
	}
	return nil
}

func (l *Locked) unlock(ctx context.Context, mode UnlockMode) error {
	st, err := l.s.Load(ctx)
	if err != nil {
		return err
	}
	d, ok := st.Booted()
	if !ok || l.s.o.Root == nil || l.s.o.Run == nil {
		return ErrNotBooted
	}
	if d.Unlocked != "" {
		return fmt.Errorf("%w: %s", ErrUnlocked, d.Unlocked)
	}
	switch mode {
	case UnlockHotfix:
		return l.hotfix(ctx, st, d)
	case UnlockDevelopment, UnlockTransient:
		return l.unlockUntilBoot(d, mode)
	}
	return fmt.Errorf("no such way: %q", mode)
}

// hotfix makes the overlay last. The origin is written after the mount: before,
// a crash leaves two empty directories that the next boot would mount, which
// changes nothing.
func (l *Locked) hotfix(ctx context.Context, st State, d Deployment) error {
	clone, _, err := l.Deploy(ctx, Request{Stateroot: d.Stateroot, Commit: d.Checksum, Origin: d.Origin.Successor(),
		Merge: &d, Kargs: d.Kargs, Overlays: d.overlays, NoImageKargs: true})
	if err != nil {
		return err
	}
	order := Retention{NotAsDefault: true}.Order(st, clone, &d)
	if _, err := l.Write(ctx, order); err != nil {
		return err
	}
	if err := l.s.setImmutable(d, false); err != nil {
		return err
	}
	if err := l.s.overlayUsr(d, d.Dir(), hotfixUpper, hotfixWork, 0); err != nil {
		return err
	}
	d.Origin = d.Origin.with(originGroup, "unlocked", string(UnlockHotfix))
	return errors.Join(l.s.writeOrigin(d), l.s.bumpMtime())
}

// unlockUntilBoot keeps the overlay in /var/tmp, and the note of it in /run.
func (l *Locked) unlockUntilBoot(d Deployment, mode UnlockMode) error {
	s := l.s
	parent := path.Join(stateDir(d.Stateroot), "var/tmp")
	tmp, err := s.dir.OpenDir(parent)
	if err != nil {
		return err
	}
	defer tmp.Close()
	name, err := tmp.Mkdtemp("ostree-unlock-ovl.")
	if err != nil {
		return err
	}
	var flags sys.MountFlags
	if mode == UnlockTransient {
		flags = sys.MountReadOnly
	}
	if err := s.overlayUsr(d, path.Join(parent, name), "upper", "work", flags); err != nil {
		return errors.Join(err, tmp.RemoveAll(name))
	}
	note := runState(d, mode)
	if err := s.o.Run.MkdirAll(path.Dir(note), 0o755); err != nil {
		return err
	}
	if err := s.o.Run.WriteFileAtomic(note, []byte("/var/tmp/"+name), 0o644); err != nil {
		return err
	}
	return s.bumpMtime()
}

// unlockPoint is a directory below /run for a mount that lasts for a moment.
const unlockPoint = "ostree/unlock-mount"

// overlayUsr mounts an overlay with the deployment's usr below and the directories
// upper and work of store, a path in the sysroot, on the running system's /usr.
func (s *Sysroot) overlayUsr(d Deployment, store, upper, work string, flags sys.MountFlags) (err error) {
	usr, err := s.dir.Lstat(path.Join(d.Dir(), "usr"))
	if err != nil {
		return err
	}
	for _, name := range []string{upper, work} {
		dir := path.Join(store, name)
		if err := s.dir.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := s.dir.Chmod(dir, usr.Mode&0o7777); err != nil {
			return err
		}
	}
	if err := s.o.Run.MkdirAll(unlockPoint, 0o755); err != nil {
		return err
	}
	// The kernel takes no directories of a mount that is read-only, as /sysroot may be,
	// or that has no place in this mount namespace, as what the handles go through.
	point := filepath.Join(s.o.Run.Path(), unlockPoint)
	if err := sys.Mount(filepath.Join(s.dir.Path(), store), point, "", sys.MountBind, ""); err != nil {
		return fmt.Errorf("mount on %s: %w", point, err)
	}
	defer func() { err = errors.Join(err, sys.Unmount(point, true), s.o.Run.Remove(unlockPoint)) }()
	if err := sys.Mount("", point, "", sys.MountBind|sys.MountRemount, ""); err != nil {
		return fmt.Errorf("make %s writable: %w", point, err)
	}
	target := filepath.Join(s.o.Root.Path(), "usr")
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", filepath.Join(s.dir.Path(), d.Dir(), "usr"), filepath.Join(point, upper), filepath.Join(point, work))
	if err := sys.Mount("overlay", target, "overlay", flags, data); err != nil {
		return fmt.Errorf("mount overlay on %s: %w", target, err)
	}
	return nil
}
