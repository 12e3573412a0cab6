// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// baseRepo is what explanations call the tree.
const baseRepo = "the tree"

// ExtensionsPlan is what the extensions of a tree need beside the tree.
type ExtensionsPlan struct {
	// Extensions are those of the architecture, resolved against the tree.
	*Extensions
	Arch     string             `json:"arch"`
	Packages []ExtensionPackage `json:"rpms"` // sorted by file

	repos []PlannedRepo
}

// ExtensionPackage is a package to ship.
type ExtensionPackage struct {
	PlannedPackage
	File string        `json:"file"`
	Kind ExtensionKind `json:"kind"`
}

// ResolveExtensions chooses the packages of extensions to a tree that has the packages
// of base. The packages of the tree stay at their builds, so what needs another one is
// a *solve.Unsolvable. What the extensions supplement of their own accord is not added.
func ResolveExtensions(ctx context.Context, m *treefile.Manifest, x *Extensions, base []*rpm.Package, src Sources) (*ExtensionsPlan, error) {
	src.fill()
	base = slices.DeleteFunc(slices.Clone(base), func(p *rpm.Package) bool { return p.Name() == "gpg-pubkey" })
	resolved, err := x.resolve(m.Basearch, baseVersions(base))
	if err != nil {
		return nil, err
	}
	var enabled []string
	for _, r := range src.Repos {
		if r.Enabled {
			enabled = append(enabled, r.ID)
		}
	}
	wider := resolved.manifest(m, enabled)
	repos, err := chooseRepos(wider, nil, src.Repos)
	if err != nil {
		return nil, err
	}
	choice, err := moduleChoice(wider)
	if err != nil {
		return nil, err
	}
	u, err := loadUniverse(ctx, repos, choice, src)
	if err != nil {
		return nil, err
	}
	p := &ExtensionsPlan{Extensions: resolved, Arch: m.Basearch, repos: u.plannedRepos()}
	chosen := map[int]ExtensionKind{}
	if err := u.solveDevelopment(ctx, p, chosen); err != nil {
		return nil, err
	}
	if err := u.solveOS(ctx, p, wider, base, chosen); err != nil {
		return nil, err
	}
	for _, i := range slices.Sorted(maps.Keys(chosen)) {
		list, err := u.planned([]int{i})
		if err != nil {
			return nil, err
		}
		n := u.pkgs[i].pkg.NEVRA
		n.Epoch, n.HasEpoch = 0, false
		p.Packages = append(p.Packages, ExtensionPackage{list[0], n.String() + ".rpm", chosen[i]})
	}
	return p, p.sort()
}

// sort orders the packages by file name; two that would share one are an error.
func (p *ExtensionsPlan) sort() error {
	slices.SortFunc(p.Packages, func(a, b ExtensionPackage) int { return cmp.Compare(a.File, b.File) })
	for i, k := range p.Packages[min(1, len(p.Packages)):] {
		if before := p.Packages[i]; before.File == k.File {
			return fmt.Errorf("%w: %s of repository %s and %s of %s share the name %s", ErrExtensions,
				before.NEVRA(), before.Repo, k.NEVRA(), k.Repo, k.File)
		}
	}
	return nil
}

// baseVersions maps names to version and release; of several builds the newest counts.
func baseVersions(base []*rpm.Package) map[string]string {
	best := map[string]rpm.EVR{}
	for _, p := range base {
		n := p.NEVRA()
		if old, ok := best[n.Name]; !ok || rpm.Compare(old, n.EVR) < 0 {
			best[n.Name] = n.EVR
		}
	}
	out := map[string]string{}
	for name, evr := range best {
		out[name] = evr.String()
	}
	return out
}

// solveDevelopment takes the best build of each package, one extension after the other:
// nobody installs them together.
func (u *universe) solveDevelopment(ctx context.Context, p *ExtensionsPlan, chosen map[int]ExtensionKind) error {
	problem := u.base(ctx)
	problem.Arch, problem.NoWeak, problem.Lookup = p.Arch, true, nil
	for i := range problem.Packages {
		k := &problem.Packages[i]
		*k = solve.Package{NEVRA: k.NEVRA, Repo: k.Repo, Priority: k.Priority, Cost: k.Cost, Vendor: k.Vendor, Provides: k.Provides}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Extensions.Extensions)) {
		e := p.Extensions.Extensions[name]
		if e.Kind != DevelopmentExtension {
			continue
		}
		problem.Install = e.Packages
		sol, err := solve.Solve(ctx, problem)
		if err != nil {
			return fmt.Errorf("resolve extension %q: %w", name, err)
		}
		for _, i := range sol.Packages {
			chosen[i] = DevelopmentExtension
		}
	}
	return nil
}

// solveOS solves for all other extensions at once, with the tree's packages in place.
func (u *universe) solveOS(ctx context.Context, p *ExtensionsPlan, m *treefile.Manifest, base []*rpm.Package, chosen map[int]ExtensionKind) error {
	var specs []string
	for _, name := range slices.Sorted(maps.Keys(p.Extensions.Extensions)) {
		if e := p.Extensions.Extensions[name]; e.Kind == OSExtension {
			specs = append(specs, e.Packages...)
		}
	}
	profiles, err := u.profilePackages(m)
	if err != nil {
		return err
	}
	specs = append(specs, profiles...)
	if len(specs) == 0 {
		return nil
	}
	problem, origin := u.withBase(ctx, base)
	problem.Arch, problem.NoWeak = m.Basearch, !m.Recommends
	problem.Install = append(problem.Install, specs...)
	sol, err := solve.Solve(ctx, problem)
	if err = errors.Join(err, u.lookupErr); err != nil {
		return fmt.Errorf("resolve extensions: %w", err)
	}
	for _, i := range sol.Packages {
		if at := origin[i]; at >= 0 {
			chosen[at] = OSExtension
		}
	}
	return nil
}

// withBase is a problem with the tree's packages in the set. origin gives the place in
// u.pkgs of each package of the problem, -1 for those of the tree.
func (u *universe) withBase(ctx context.Context, base []*rpm.Package) (p solve.Problem, origin []int) {
	held := map[string][]rpm.NEVRA{}
	for _, b := range base {
		n := b.NEVRA()
		held[n.Name] = append(held[n.Name], n)
		// What the tree lacks for its own packages is no matter here.
		p.Packages = append(p.Packages, solve.Package{NEVRA: n, Repo: baseRepo, Vendor: b.Vendor(), Provides: b.Provides(),
			Conflicts: b.Conflicts(), Obsoletes: b.Obsoletes(), Files: paths(b)})
		p.Install = append(p.Install, n.String())
		origin = append(origin, -1)
	}
	places := map[int]int{}
	for i, e := range u.pkgs {
		if !besides(held[e.pkg.NEVRA.Name], e.pkg.NEVRA) {
			continue
		}
		places[i] = len(p.Packages)
		k := e.solvable()
		k.Supplements = nil
		p.Packages, origin = append(p.Packages, k), append(origin, i)
	}
	p.Lookup = func(path string) (out []int) {
		for _, i := range u.lookup(ctx, path) {
			if at, ok := places[i]; ok {
				out = append(out, at)
			}
		}
		return out
	}
	return p, origin
}

// besides tells whether a build can stand beside those of its name in the tree: only
// the same version of another architecture can.
func besides(held []rpm.NEVRA, n rpm.NEVRA) bool {
	for _, h := range held {
		if h.Arch == n.Arch || rpm.Compare(h.EVR, n.EVR) != 0 {
			return false
		}
	}
	return true
}

func paths(p *rpm.Package) []string {
	files := p.Files()
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = f.Path
	}
	return out
}
