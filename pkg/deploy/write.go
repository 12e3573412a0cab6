// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// WriteResult tells what Write did.
type WriteResult struct {
	BootVersion    int             `json:"bootVersion"`
	Subversion     int             `json:"subversion"`
	BootConfigSwap bool            `json:"bootConfigSwap"` // false: only links behind the same menu changed
	Bootloader     bootloader.Kind `json:"bootloader,omitempty"`
}

// Write makes order the boot order, the first being the default. It is the one
// commit point of every change: a crash before it leaves the old order in
// force, after it the new one, and either is complete.
//
// The booted deployment must be in order (ErrBooted). A staged deployment stays
// staged if it is the first of order, and is unstaged otherwise. The order
// becomes durable; what it no longer needs stays until Cleanup.
func (l *Locked) Write(ctx context.Context, order []Deployment) (WriteResult, error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return WriteResult{}, err
	}
	keepStaged := len(order) > 0 && order[0].Staged
	if keepStaged {
		order = order[1:]
	}
	res, err := l.write(ctx, st, order)
	if err != nil {
		return res, fmt.Errorf("write boot order: %w", err)
	}
	if _, staged := st.Staged(); staged && !keepStaged {
		if err := l.s.unstage(); err != nil {
			return res, fmt.Errorf("drop staged deployment: %w", err)
		}
	}
	return res, l.s.bumpMtime()
}

func (l *Locked) write(ctx context.Context, st State, order []Deployment) (WriteResult, error) {
	s := l.s
	if s.noSwitch != nil {
		return WriteResult{}, s.noSwitch
	}
	order = slices.Clone(order)
	if err := s.checkOrder(st, order); err != nil {
		return WriteResult{}, err
	}
	if err := s.settle(ctx); err != nil {
		return WriteResult{}, err
	}
	assignBootSerials(order)
	if err := failpoint.Hit("deploy.write-begin"); err != nil {
		return WriteResult{}, err
	}
	titles, err := s.titles(order)
	if err != nil {
		return WriteResult{}, err
	}
	tries, fresh, err := planTries(st, order)
	if err != nil {
		return WriteResult{}, err
	}
	if !fresh && sameMenu(st, order, titles) {
		g := generation{State: st, version: st.BootVersion, subversion: 1 - st.Subversion, order: order}
		return g.result(""), s.swapLinks(ctx, g)
	}
	if err := l.makeBootSpace(ctx, st, order); err != nil {
		return WriteResult{}, err
	}
	// Making space may have written an order of its own.
	if st, err = s.Load(ctx); err != nil {
		return WriteResult{}, err
	}
	g := generation{State: st, version: 1 - st.BootVersion, order: order, tries: tries}
	// The other subversion than the one left over, if one is; a link that names
	// neither is replaced all the same.
	left, _ := s.subversion(g.version)
	g.subversion = 1 - left
	kind, err := s.swapMenu(ctx, g, titles)
	return g.result(kind), err
}

// generation is one boot.V.S with its menu.
type generation struct {
	State               // what is in force now
	version, subversion int
	order               []Deployment
	tries               int // of the first of order, see bootloader.Menu
}

func (g generation) result(kind bootloader.Kind) WriteResult {
	return WriteResult{BootVersion: g.version, Subversion: g.subversion,
		BootConfigSwap: g.version != g.BootVersion, Bootloader: kind}
}

func (g generation) linkDir() string {
	return fmt.Sprintf("ostree/boot.%d.%d", g.version, g.subversion)
}

func (g generation) refPrefix() string { return fmt.Sprintf("ostree/%d/%d", g.version, g.subversion) }

func (s *Sysroot) checkOrder(st State, order []Deployment) error {
	for i, d := range order {
		if d.Staged {
			return fmt.Errorf("deployment %s is staged and not the first", d.Name())
		}
		if slices.ContainsFunc(order[:i], d.Same) {
			return fmt.Errorf("deployment %s is listed twice", d.Name())
		}
		if !isSHA256(d.BootChecksum) || !validStateroot(d.Stateroot) {
			return fmt.Errorf("deployment %s: %w", d.Name(), ErrNoKernel)
		}
		if err := checkKargs(d.Kargs); err != nil {
			return err
		}
		if ok, err := s.dir.Exists(d.Dir()); err != nil || !ok {
			return errors.Join(fmt.Errorf("%s: %w", d.Dir(), ErrNoDeployment), err)
		}
	}
	if b, ok := st.Booted(); ok && !slices.ContainsFunc(order, b.Same) {
		return fmt.Errorf("%s would be dropped: %w", b.Name(), ErrBooted)
	}
	return nil
}

// assignBootSerials numbers deployments that share a kernel, in boot order.
func assignBootSerials(order []Deployment) {
	next := map[string]int{}
	for i := range order {
		key := order[i].BootChecksum
		order[i].BootSerial = next[key]
		next[key]++
	}
}

// sameMenu reports that the boot menu for order would be the one in force, so
// that replacing the links behind it is enough.
func sameMenu(st State, order []Deployment, titles []string) bool {
	now := st.Written()
	if !st.hasLoader || len(st.Broken) > 0 || len(now) != len(order) || len(order) == 0 {
		return false
	}
	for i, d := range order {
		o := now[i]
		if d.BootChecksum != o.BootChecksum || d.BootSerial != o.BootSerial || d.Stateroot != o.Stateroot ||
			d.Version != o.Version || titles[i] != o.Title || d.Kargs.String() != o.Kargs.String() ||
			!slices.Equal(d.overlays, o.overlays) || !slices.Equal(d.extra, o.extra) {
			return false
		}
	}
	return true
}

// swapLinks replaces the link boot.V by one to boot.V.(1-S).
func (s *Sysroot) swapLinks(ctx context.Context, g generation) error {
	if err := s.writeRefs(ctx, g); err != nil {
		return err
	}
	if err := s.writeLinks(g); err != nil {
		return err
	}
	if s.o.TestFreeze {
		return s.testFreeze()
	}
	if err := s.syncRoot(); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.links-synced"); err != nil {
		return err
	}
	if err := s.dir.SymlinkAtomic(path.Base(g.linkDir()), fmt.Sprintf("ostree/boot.%d", g.version)); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.links-flipped"); err != nil {
		return err
	}
	return s.syncRoot()
}

// writeLinks fills boot.V.S, which is not in use: whatever is there is left
// over from a crash or an earlier generation.
func (s *Sysroot) writeLinks(g generation) error {
	if err := s.dir.RemoveAll(g.linkDir()); err != nil {
		return err
	}
	if err := s.dir.MkdirAll(g.linkDir(), 0o755); err != nil {
		return err
	}
	for _, d := range g.order {
		dir := path.Join(g.linkDir(), d.Stateroot, d.BootChecksum)
		if err := s.dir.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		target := path.Join("../../../deploy", d.Stateroot, "deploy", d.Name())
		if err := s.dir.Symlink(target, path.Join(dir, fmt.Sprint(d.BootSerial))); err != nil {
			return err
		}
	}
	return failpoint.Hit("deploy.links-written")
}

var errFailCommit = errors.New("OSTREE_REPO_TEST_ERROR_PRE_COMMIT specified")

// writeRefs keeps the commits of the new order alive. It runs before the switch:
// whoever prunes the repository after a crash right behind it must not delete
// what boots next.
func (s *Sysroot) writeRefs(ctx context.Context, g generation) error {
	old, err := s.repo.Refs(g.refPrefix())
	if err != nil {
		return err
	}
	_, err = s.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error {
		for i, d := range g.order {
			ref := fmt.Sprintf("%s/%d", g.refPrefix(), i)
			delete(old, ref)
			if ok, err := t.Has(ostree.ObjectName{Checksum: d.Checksum, Type: ostree.TypeCommit}); err != nil || !ok {
				if err != nil {
					return err
				}
				continue // an old deployment whose commit was deleted by force
			}
			if err := t.SetRef(ref, d.Checksum); err != nil {
				return err
			}
		}
		for ref := range old {
			if err := t.DeleteRef(ref); err != nil {
				return err
			}
		}
		if s.o.FailCommit {
			return errFailCommit
		}
		return nil
	})
	if err != nil {
		return err
	}
	return failpoint.Hit("deploy.refs-written")
}

// swapMenu writes generation V' completely beside the one in force and flips.
func (s *Sysroot) swapMenu(ctx context.Context, g generation, titles []string) (bootloader.Kind, error) {
	s.o.Progress.Emit(progress.Event{Task: "Writing boot entries", Kind: progress.Begin})
	defer s.o.Progress.Emit(progress.Event{Task: "Writing boot entries", Kind: progress.End})
	kind, backend, err := s.backend(ctx)
	if err != nil {
		return kind, err
	}
	if err := s.prepareBootDir(); err != nil {
		return kind, err
	}
	menu, err := s.installKernels(ctx, g, titles)
	if err != nil {
		return kind, err
	}
	menu.Tries = g.tries
	if err := bootloader.WriteMenu(s.boot, s.sw, menu); err != nil {
		return kind, err
	}
	if err := failpoint.Hit("deploy.menu-written"); err != nil {
		return kind, err
	}
	if err := backend.Prepare(ctx, s.boot, menu); err != nil {
		return kind, fmt.Errorf("prepare boot loader %s: %w", kind, err)
	}
	if err := failpoint.Hit("deploy.bootloader-prepared"); err != nil {
		return kind, err
	}
	if err := s.writeRefs(ctx, g); err != nil {
		return kind, err
	}
	if err := s.writeLinks(g); err != nil {
		return kind, err
	}
	// boot.V' is not in use: the menu in force goes through boot.V.
	if err := s.dir.SymlinkAtomic(path.Base(g.linkDir()), fmt.Sprintf("ostree/boot.%d", g.version)); err != nil {
		return kind, err
	}
	if err := s.sw.Arm(s.boot, g.version); err != nil {
		return kind, err
	}
	if err := failpoint.Hit("deploy.armed"); err != nil {
		return kind, err
	}
	if err := ctx.Err(); err != nil {
		return kind, err
	}
	return kind, s.flip(context.WithoutCancel(ctx), g.version, backend, menu)
}

// flip is the commit point: from its first sync on it cannot be cancelled.
func (s *Sysroot) flip(ctx context.Context, version int, backend bootloader.Backend, menu bootloader.Menu) error {
	if err := s.syncRoot(); err != nil {
		return err
	}
	if err := s.flushBoot(); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.before-flip"); err != nil {
		return err
	}
	if err := s.sw.Flip(s.boot, version); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.after-flip"); err != nil {
		return err
	}
	if err := s.flushBoot(); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.flip-synced"); err != nil {
		return err
	}
	return backend.Finish(ctx, s.boot, menu)
}

func (s *Sysroot) backend(ctx context.Context) (bootloader.Kind, bootloader.Backend, error) {
	kind, err := s.bootloaderKind()
	if err != nil {
		return "", nil, err
	}
	return bootloader.Select(ctx, kind, s.boot, s.bootloaderOptions())
}

func (s *Sysroot) prepareBootDir() error {
	if err := s.boot.MkdirAll("ostree", 0o755); err != nil {
		return err
	}
	if s.bootIsFAT() {
		return nil
	}
	// With this link a path that starts with /boot/ is right whether or not
	// /boot is a partition.
	err := s.boot.Symlink(".", "boot")
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// entryStateroot is what stands in the name of a deployment's entry file.
func (s *Sysroot) entryStateroot(d Deployment) string {
	if s.o.StaterootInNames {
		return d.Stateroot
	}
	return ""
}

// menuEntry builds the boot entry of the i-th deployment.
func (s *Sysroot) menuEntry(g generation, i int, title string, k kernel, prefix string) bootloader.Entry {
	d := g.order[i]
	dir := prefix + "/" + d.bootDir()
	kargs := d.Kargs.Append("ostree=" + d.bootLink(g.version))
	if !k.hasInitramfs() {
		// The kernel mounts the root filesystem itself and starts the program
		// that an initramfs would.
		kargs = kargs.Append("init=" + d.bootLink(g.version) + "/usr/lib/ostree/ostree-prepare-root")
	}
	e := bls.Entry{Title: title, Version: fmt.Sprint(len(g.order) - i), Options: kargs.String(),
		Linux: dir + "/" + k.vmlinuz.name, Extra: d.extra}
	if k.initramfs != nil {
		e.Initrd = []string{dir + "/" + k.initramfs.name}
		for _, o := range d.overlays {
			e.Initrd = append(e.Initrd, initrdLine(o, prefix))
		}
	}
	switch {
	case k.devicetree != nil:
		e.DeviceTree = dir + "/" + k.devicetree.name
	case len(k.dtb) > 0:
		e.FDTDir = dir + "/dtb"
	}
	return bootloader.Entry{Name: bootloader.NameEntry(s.sw, g.version, i, len(g.order), s.entryStateroot(d)), Entry: e}
}
