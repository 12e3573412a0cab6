// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// Sources say where packages come from.
type Sources struct {
	// Repos are all repositories that are defined; the treefile names those to use.
	Repos []rpmmd.Repo
	// Cache keeps metadata and packages between composes.
	Cache    *fsx.Dir
	Progress progress.Func
	Log      *slog.Logger // nil discards
	// Offline takes everything from the cache.
	Offline bool
	// Lock holds packages at certain builds; nil holds none.
	Lock *Lock
}

// Resolve loads the metadata of the treefile's repositories and chooses the
// packages. An unsolvable request is a *solve.Unsolvable; a treefile that needs
// what is not implemented wraps ErrTreefile.
func Resolve(ctx context.Context, m *treefile.Manifest, src Sources) (*Plan, error) {
	src.fill()
	if m.Ref == "" {
		return nil, fmt.Errorf("%w: key `ref` is missing in %s", ErrTreefile, m.Sources[0])
	}
	repos, err := chooseRepos(m, src.Lock, src.Repos)
	if err != nil {
		return nil, err
	}
	choice, err := moduleChoice(m)
	if err != nil {
		return nil, err
	}
	u, err := loadUniverse(ctx, repos, choice, src)
	if err != nil {
		return nil, err
	}
	locks := newLockFilter(src.Lock, lockedOnly(m))
	u.keep(locks.eligible)
	problem, err := u.problem(ctx, m)
	if err != nil {
		return nil, err
	}
	sol, err := solve.Solve(ctx, problem)
	if err = errors.Join(locks.explain(err), u.lookupErr); err != nil {
		return nil, fmt.Errorf("resolve packages: %w", err)
	}
	p, err := u.plan(m, sol)
	if err != nil {
		return nil, err
	}
	p.Advisories, err = u.advisories(ctx, m, p.Packages)
	return p, err
}

func chooseRepos(m *treefile.Manifest, lock *Lock, defined []rpmmd.Repo) ([]rpmmd.Repo, error) {
	var out []rpmmd.Repo
	ids := m.Repos
	if len(ids) == 0 {
		// As in rpm-ostree: all that are enabled.
		for _, r := range defined {
			if r.Enabled {
				ids = append(ids, r.ID)
			}
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: key `repos` names no repository in %s, and no .repo file beside it has an enabled one", ErrTreefile, m.Sources[0])
	}
	if lock != nil {
		ids = slices.Concat(ids, lockedOnly(m))
	}
	for _, id := range ids {
		i := slices.IndexFunc(defined, func(r rpmmd.Repo) bool { return r.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("%w: repository %q is in no .repo file beside %s", ErrTreefile, id, m.Sources[0])
		}
		out = append(out, defined[i])
	}
	return out, nil
}

// universe is all metadata, with one index over the packages of all repositories.
type universe struct {
	metas []*rpmmd.Metadata
	pkgs  []entry
	index map[*rpmmd.Package]int // into pkgs

	moduleLists []*rpmmd.Modules
	streams     map[string]string // module -> stream in use
	modules     *rpmmd.ModuleFilter

	names     map[string]bool // of packages, made when groups are asked for
	lookupErr error
}

type entry struct {
	meta *rpmmd.Metadata
	pkg  *rpmmd.Package
}

// solvable is what the solver needs to know of a package.
func (e entry) solvable() solve.Package {
	k := e.pkg
	return solve.Package{
		NEVRA: k.NEVRA, Repo: k.RepoID, Priority: e.meta.Repo.Priority, Cost: e.meta.Repo.Cost, Vendor: k.Vendor,
		Requires: k.Requires, Provides: k.Provides, Conflicts: k.Conflicts, Obsoletes: k.Obsoletes,
		Recommends: k.Recommends, Suggests: k.Suggests, Supplements: k.Supplements, Enhances: k.Enhances,
		Files: k.Files,
	}
}

func loadUniverse(ctx context.Context, repos []rpmmd.Repo, choice rpmmd.ModuleChoice, src Sources) (*universe, error) {
	u := &universe{index: map[*rpmmd.Package]int{}}
	for _, r := range repos {
		md, err := rpmmd.Load(ctx, r, src.Cache, rpmmd.Options{Log: src.Log, Progress: src.Progress, Offline: src.Offline})
		if err != nil && r.SkipIfUnavailable && ctx.Err() == nil && !errors.Is(err, rpmmd.ErrSignature) && !errors.Is(err, rpmmd.ErrSyntax) {
			src.Log.Warn("repository is not available and left out", "repository", r.ID, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		u.metas = append(u.metas, md)
	}
	if err := u.chooseModules(ctx, choice); err != nil {
		return nil, err
	}
	for _, md := range u.metas {
		for i := range md.Packages {
			p := &md.Packages[i]
			if md.Repo.Excluded(p) != "" || u.modules.Reason(md.Repo, p) != "" {
				continue
			}
			u.index[p] = len(u.pkgs)
			u.pkgs = append(u.pkgs, entry{md, p})
		}
	}
	return u, nil
}

// chooseModules finds the module streams in use and makes the filter for their
// packages. A module list that cannot be read stops everything: without it the
// packages of all streams would pass for ordinary ones.
func (u *universe) chooseModules(ctx context.Context, choice rpmmd.ModuleChoice) error {
	for _, md := range u.metas {
		mods, err := md.Modules(ctx)
		if errors.Is(err, rpmmd.ErrNoList) {
			continue
		}
		if err != nil {
			return err
		}
		u.moduleLists = append(u.moduleLists, mods)
	}
	var err error
	if u.streams, err = rpmmd.ActiveModules(u.moduleLists, choice); err != nil {
		return fmt.Errorf("resolve modules: %w", err)
	}
	u.modules = rpmmd.NewModuleFilter(u.moduleLists, u.streams)
	return nil
}

// base is a problem without requests.
func (u *universe) base(ctx context.Context) solve.Problem {
	p := solve.Problem{
		Packages: make([]solve.Package, len(u.pkgs)),
		FromRepo: map[string]string{},
		Lookup:   func(path string) []int { return u.lookup(ctx, path) },
		Expect: func(paths []string) {
			for _, md := range u.metas {
				md.Expect(paths)
			}
		},
	}
	for i := range u.pkgs {
		p.Packages[i] = u.pkgs[i].solvable()
	}
	return p
}

func (u *universe) problem(ctx context.Context, m *treefile.Manifest) (solve.Problem, error) {
	p := u.base(ctx)
	p.Install, p.Exclude = slices.Clone(m.Packages), m.ExcludePackages
	p.Arch, p.Arches, p.NoWeak = m.Basearch, solve.CompatibleArches(m.Basearch), !m.Recommends
	for _, rp := range m.RepoPackages {
		for _, spec := range rp.Packages {
			p.Install = append(p.Install, spec)
			p.FromRepo[spec] = rp.Repo
		}
	}
	for _, rp := range m.OverrideReplace {
		for _, spec := range rp.Packages {
			p.FromRepo[spec] = rp.Repo
		}
	}
	groups, err := u.groupPackages(ctx, m.Groups)
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrTreefile, err)
	}
	profiles, err := u.profilePackages(m)
	if err != nil {
		return p, err
	}
	p.Install = slices.Concat(p.Install, groups, profiles)
	if len(p.Install) == 0 {
		return p, fmt.Errorf("%w: it asks for no package", ErrTreefile)
	}
	return p, nil
}

// groupPackages gives the mandatory and default packages of comps groups; an id
// with a leading "^" is an environment and stands for its groups.
func (u *universe) groupPackages(ctx context.Context, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	groups, envs := map[string]rpmmd.Group{}, map[string]rpmmd.Environment{}
	for _, md := range u.metas {
		comps, err := md.Comps(ctx)
		if errors.Is(err, rpmmd.ErrNoList) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, g := range comps.Groups {
			groups[g.ID] = g
		}
		for _, e := range comps.Environments {
			envs[e.ID] = e
		}
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		members := []string{id}
		if env, ok := strings.CutPrefix(id, "^"); ok {
			e, ok := envs[env]
			if !ok {
				return nil, fmt.Errorf("%w: no repository defines environment %q", ErrSpec, env)
			}
			members = e.Groups
		}
		for _, gid := range members {
			g, ok := groups[gid]
			if !ok {
				return nil, fmt.Errorf("%w: no repository defines group %q", ErrSpec, gid)
			}
			u.addMembers(g, wanted)
		}
	}
	return slices.Sorted(maps.Keys(wanted)), nil
}

// addMembers adds what a group installs. Groups list packages of all
// architectures and editions: those that no repository has are passed over.
func (u *universe) addMembers(g rpmmd.Group, wanted map[string]bool) {
	if u.names == nil {
		u.names = map[string]bool{}
		for _, e := range u.pkgs {
			u.names[e.pkg.NEVRA.Name] = true
		}
	}
	for _, name := range slices.Concat(g.Mandatory, g.Defaults) {
		if u.names[name] {
			wanted[name] = true
		}
	}
	for _, c := range g.Conditional {
		if u.names[c.Name] && c.Requires != "" {
			wanted["("+c.Name+" if "+c.Requires+")"] = true
		}
	}
}

// lookup answers from the file lists, which are read on the first question and
// for all questions at once: they are many times larger than everything else.
func (u *universe) lookup(ctx context.Context, path string) []int {
	var out []int
	for _, md := range u.metas {
		owners, err := md.Owners(ctx, path)
		if err != nil && !errors.Is(err, rpmmd.ErrNoList) {
			u.lookupErr = err
		}
		for _, i := range owners {
			if n, ok := u.index[&md.Packages[i]]; ok {
				out = append(out, n)
			}
		}
	}
	return out
}

func (u *universe) plan(m *treefile.Manifest, sol solve.Solution) (*Plan, error) {
	p := &Plan{Ref: m.Ref, Arch: m.Basearch, manifest: m, Repos: u.plannedRepos()}
	var err error
	if p.Packages, err = u.planned(sol.Order); err != nil {
		return nil, err
	}
	p.InputHash, err = inputHash(m, p.Packages)
	return p, err
}

func (u *universe) plannedRepos() (out []PlannedRepo) {
	for _, md := range u.metas {
		out = append(out, PlannedRepo{ID: md.Repo.ID, Revision: md.Revision, Checksum: md.Checksum})
	}
	return out
}

// planned says what is to be downloaded for packages of the universe.
func (u *universe) planned(list []int) (out []PlannedPackage, err error) {
	for _, i := range list {
		e := u.pkgs[i]
		item, err := e.meta.Item(e.pkg)
		if err != nil {
			return nil, err
		}
		n := e.pkg.NEVRA
		out = append(out, PlannedPackage{Name: n.Name, EVR: n.EVR.String(), Arch: n.Arch,
			Repo: e.pkg.RepoID, Checksum: e.pkg.Checksum.String(), Size: e.pkg.Size, URLs: item.URLs})
	}
	return out, nil
}

func (s *Sources) fill() {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
}
