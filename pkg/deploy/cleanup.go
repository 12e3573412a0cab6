// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Inventory is what lies in a sysroot, referenced or not.
type Inventory struct {
	Deployments []Found  // directories CHECKSUM.SERIAL in deploy/ and backing/, and origin files
	KernelDirs  []string // below /boot
	Overlays    []string // files of overlay initrds, below /boot
	LoaderDirs  []string // what lies in /boot of either generation, see bootloader.MenuPaths
	BootLinks   []string // boot.V and boot.V.S, below ostree/
	Refs        []string // ostree/V/S/INDEX and ostree/staged/INDEX
}

// Found is a name that belongs to one deployment.
type Found struct {
	Path      string // below the sysroot
	Stateroot string
	Name      string // CHECKSUM.SERIAL
	Root      bool   // it is the tree that the system runs from
}

// CleanupPlan lists what nothing needs.
type CleanupPlan struct {
	Paths     []string `json:"paths,omitempty"`     // below the sysroot
	BootPaths []string `json:"bootPaths,omitempty"` // below /boot
	Refs      []string `json:"refs,omitempty"`
}

// Empty reports that there is nothing to do.
func (p CleanupPlan) Empty() bool { return len(p.Paths)+len(p.BootPaths)+len(p.Refs) == 0 }

// PlanCleanup decides what can go: everything in inv that no deployment of st
// needs. While the boot menu has entries that cannot be read, deployments and
// kernels stay, since one of those entries may mean them.
func PlanCleanup(st State, inv Inventory) CleanupPlan {
	var p CleanupPlan
	// Before the kernels, so that no entry ever names one that is gone.
	for _, name := range inv.LoaderDirs {
		if bootloader.Generation(name) != st.BootVersion || !st.hasLoader {
			p.BootPaths = append(p.BootPaths, name)
		}
	}
	if len(st.Broken) == 0 {
		for _, f := range inv.Deployments {
			wanted := slices.ContainsFunc(st.Deployments, func(d Deployment) bool {
				return d.Stateroot == f.Stateroot && d.Name() == f.Name
			})
			if !wanted && !f.Root {
				p.Paths = append(p.Paths, f.Path)
			}
		}
		keep := durableBootDirs(st)
		for _, dir := range inv.KernelDirs {
			if !keep[dir] {
				p.BootPaths = append(p.BootPaths, dir)
			}
		}
		used := overlaysOf(st.Deployments)
		for _, name := range inv.Overlays {
			if !used[strings.TrimSuffix(path.Base(name), ".img")] {
				p.BootPaths = append(p.BootPaths, name)
			}
		}
	}
	link := fmt.Sprintf("boot.%d", st.BootVersion)
	for _, name := range inv.BootLinks {
		if name != link && name != fmt.Sprintf("%s.%d", link, st.Subversion) {
			p.Paths = append(p.Paths, path.Join("ostree", name))
		}
	}
	prefix := fmt.Sprintf("ostree/%d/%d/", st.BootVersion, st.Subversion)
	_, staged := st.Staged()
	for _, ref := range inv.Refs {
		if !strings.HasPrefix(ref, prefix) && (ref != stagedRef || !staged) {
			p.Refs = append(p.Refs, ref)
		}
	}
	return p
}

// Inventory lists what lies in the sysroot.
func (s *Sysroot) Inventory(ctx context.Context) (Inventory, error) {
	var inv Inventory
	roots, err := s.stateroots()
	if err != nil {
		return inv, err
	}
	for _, name := range roots {
		if err := ctx.Err(); err != nil {
			return inv, err
		}
		if err := s.findDeployments(&inv, name); err != nil {
			return inv, err
		}
	}
	kernels, err := s.kernelDirs()
	if err != nil {
		return inv, err
	}
	for dir := range kernels {
		inv.KernelDirs = append(inv.KernelDirs, dir)
	}
	slices.Sort(inv.KernelDirs)
	if inv.Overlays, err = s.findOverlays(); err != nil {
		return inv, err
	}
	if inv.LoaderDirs, err = bootloader.MenuPaths(s.boot, s.sw); err != nil {
		return inv, err
	}
	if err := s.findLinks(&inv); err != nil {
		return inv, err
	}
	refs, err := s.repo.Refs("ostree")
	for ref := range refs {
		if isDeployRef(ref) {
			inv.Refs = append(inv.Refs, ref)
		}
	}
	slices.Sort(inv.Refs)
	return inv, err
}

// isDeployRef matches ostree/V/S/INDEX and the ref of a staged deployment, and
// leaves other refs below ostree/ alone.
func isDeployRef(ref string) bool {
	for _, p := range []string{"ostree/0/0/", "ostree/0/1/", "ostree/1/0/", "ostree/1/1/"} {
		if rest, ok := strings.CutPrefix(ref, p); ok {
			_, err := parseSerial(rest)
			return err == nil
		}
	}
	return ref == stagedRef
}

func (s *Sysroot) findDeployments(inv *Inventory, stateroot string) error {
	var dev, ino uint64
	if s.o.Root != nil {
		var err error
		if dev, ino, err = s.rootID(); err != nil {
			return err
		}
	}
	for _, sub := range []string{"deploy", "backing"} {
		dir := path.Join(stateDir(stateroot), sub)
		list, err := s.dir.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			f := Found{Path: path.Join(dir, e.Name), Stateroot: stateroot, Name: strings.TrimSuffix(e.Name, ".origin")}
			_, _, err := parseName(f.Name)
			if torn := strings.HasPrefix(e.Name, ".tmp-") && strings.Contains(e.Name, ".origin-"); err != nil && !torn {
				continue // not ours to judge
			}
			st, err := s.dir.Lstat(f.Path)
			if err != nil {
				return err
			}
			f.Root = ino != 0 && st.Dev == dev && st.Ino == ino
			inv.Deployments = append(inv.Deployments, f)
		}
	}
	return nil
}

func (s *Sysroot) findLinks(inv *Inventory) error {
	list, err := s.dir.ReadDir("ostree")
	if err != nil {
		return err
	}
	for _, e := range list {
		switch e.Name {
		case "boot.0", "boot.1", "boot.0.0", "boot.0.1", "boot.1.0", "boot.1.1":
			inv.BootLinks = append(inv.BootLinks, e.Name)
		}
		// An atomic replacement that a crash cut short.
		if strings.HasPrefix(e.Name, ".tmp-boot.") || strings.HasPrefix(e.Name, ".tmp-hostctl-boots-") {
			inv.BootLinks = append(inv.BootLinks, e.Name)
		}
	}
	return nil
}

// CleanupResult tells what Cleanup removed.
type CleanupResult struct {
	Plan       CleanupPlan        `json:"plan"`
	Prune      ostree.PruneResult `json:"prune"`
	FreedBytes int64              `json:"freedBytes"` // of objects and kernels
	// Mounted are paths of the plan below the sysroot that stay, wholly or in part,
	// because something is mounted there.
	Mounted []string `json:"mounted,omitempty"`
}

// Cleanup removes what no deployment needs and prunes the repository of objects
// that no ref reaches. It is idempotent: after a crash it continues.
func (l *Locked) Cleanup(ctx context.Context) (CleanupResult, error) {
	var res CleanupResult
	before, err := l.s.kernelDirs()
	if err != nil {
		return res, err
	}
	if res.Plan, res.Mounted, err = l.dropLeftovers(ctx); err != nil {
		return res, fmt.Errorf("clean up sysroot: %w", err)
	}
	for _, dir := range res.Plan.BootPaths {
		res.FreedBytes += before[dir]
	}
	if err := failpoint.Hit("deploy.cleanup-prune"); err != nil {
		return res, err
	}
	// Objects of a checkout that is going are still linked there until now.
	if res.Prune, err = l.s.repo.Prune(ctx, ostree.PruneOptions{RefsOnly: true}); err != nil {
		return res, err
	}
	res.FreedBytes += res.Prune.FreedBytes
	return res, failpoint.Hit("deploy.cleanup-done")
}

// Discard removes what a failed operation left beside the deployments, such as
// the checkout of a Deploy without its Write. Objects stay, for the next try.
func (l *Locked) Discard(ctx context.Context) error {
	if _, _, err := l.dropLeftovers(ctx); err != nil {
		return fmt.Errorf("discard unfinished deployment: %w", err)
	}
	return nil
}

// dropLeftovers removes what no deployment needs, except for objects. mounted are the
// paths that a mount kept.
func (l *Locked) dropLeftovers(ctx context.Context) (p CleanupPlan, mounted []string, err error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return p, nil, err
	}
	if err := l.s.keepStaged(ctx, st); err != nil {
		return p, nil, err
	}
	inv, err := l.s.Inventory(ctx)
	if err != nil {
		return p, nil, fmt.Errorf("list sysroot: %w", err)
	}
	if err := l.s.dropNext(st); err != nil {
		return p, nil, err
	}
	p = PlanCleanup(st, inv)
	mounted, err = l.s.remove(ctx, p)
	return p, mounted, err
}

func (s *Sysroot) remove(ctx context.Context, p CleanupPlan) (mounted []string, err error) {
	if !p.Empty() {
		if err := s.settle(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range p.BootPaths {
		if err := s.boot.RemoveAll(name); err != nil {
			return nil, err
		}
		if err := failpoint.Hit("deploy.cleanup-boot"); err != nil {
			return nil, err
		}
	}
	for _, name := range p.Paths {
		if err := ctx.Err(); err != nil {
			return mounted, err
		}
		err := s.dir.RemoveAll(name)
		if errors.Is(err, fsx.ErrCrossesMount) {
			// Somebody works in an old tree, which must not keep the rest from going.
			s.log.Warn("something is mounted in a tree that is not needed any more", "path", name, "error", err)
			mounted, err = append(mounted, name), nil
		}
		if err != nil {
			return mounted, err
		}
		if err := failpoint.Hit("deploy.cleanup-path"); err != nil {
			return mounted, err
		}
	}
	return mounted, s.removeRefs(ctx, p)
}

func (s *Sysroot) removeRefs(ctx context.Context, p CleanupPlan) error {
	if len(p.Refs) == 0 {
		return nil
	}
	_, err := s.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error {
		for _, ref := range p.Refs {
			if err := t.DeleteRef(ref); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// keepStaged points the staged ref at the deployment that is staged: a Stage
// that ended between ref and record left it at a commit that nothing needs.
func (s *Sysroot) keepStaged(ctx context.Context, st State) error {
	d, ok := st.Staged()
	if !ok {
		return nil
	}
	c, err := s.repo.Resolve(stagedRef)
	if err == nil && c == d.Checksum {
		return nil
	}
	if err != nil && !errors.Is(err, ostree.ErrNotFound) {
		return err
	}
	return s.setStagedRef(ctx, d.Checksum)
}
