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
}

// Resolve loads the metadata of the treefile's repositories and chooses the
// packages. An unsolvable request is a *solve.Unsolvable; a treefile that needs
// what is not implemented wraps ErrTreefile.
func Resolve(ctx context.Context, m *treefile.Manifest, src Sources) (*Plan, error) {
	src.fill()
	if uses := m.Unsupported(); len(uses) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrTreefile, uses[0])
	}
	if m.Ref == "" {
		return nil, fmt.Errorf("%w: key `ref` is missing in %s", ErrTreefile, m.Sources[0])
	}
	repos, err := chooseRepos(m, src.Repos)
	if err != nil {
		return nil, err
	}
	u, err := loadUniverse(ctx, repos, src)
	if err != nil {
		return nil, err
	}
	problem, err := u.problem(ctx, m)
	if err != nil {
		return nil, err
	}
	sol, err := solve.Solve(ctx, problem)
	if err = errors.Join(err, u.lookupErr); err != nil {
		return nil, fmt.Errorf("resolve packages: %w", err)
	}
	return u.plan(m, sol)
}

func chooseRepos(m *treefile.Manifest, defined []rpmmd.Repo) ([]rpmmd.Repo, error) {
	if len(m.Repos) == 0 {
		return nil, fmt.Errorf("%w: key `repos` names no repository in %s", ErrTreefile, m.Sources[0])
	}
	var out []rpmmd.Repo
	for _, id := range m.Repos {
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

	lookupErr error
}

type entry struct {
	meta *rpmmd.Metadata
	pkg  *rpmmd.Package
}

func loadUniverse(ctx context.Context, repos []rpmmd.Repo, src Sources) (*universe, error) {
	u := &universe{index: map[*rpmmd.Package]int{}}
	for _, r := range repos {
		md, err := rpmmd.Load(ctx, r, src.Cache, rpmmd.Options{Log: src.Log, Progress: src.Progress})
		if err != nil && r.SkipIfUnavailable && ctx.Err() == nil && !errors.Is(err, rpmmd.ErrSignature) && !errors.Is(err, rpmmd.ErrSyntax) {
			src.Log.Warn("repository is not available and left out", "repository", r.ID, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		u.metas = append(u.metas, md)
		for i := range md.Packages {
			if excluded(r, &md.Packages[i]) {
				continue
			}
			u.index[&md.Packages[i]] = len(u.pkgs)
			u.pkgs = append(u.pkgs, entry{md, &md.Packages[i]})
		}
	}
	return u, nil
}

func excluded(r rpmmd.Repo, p *rpmmd.Package) bool {
	if slices.Contains(r.ExcludePkgs, p.NEVRA.Name) {
		return true
	}
	return len(r.IncludePkgs) > 0 && !slices.Contains(r.IncludePkgs, p.NEVRA.Name)
}

func (u *universe) problem(ctx context.Context, m *treefile.Manifest) (solve.Problem, error) {
	p := solve.Problem{
		Packages: make([]solve.Package, len(u.pkgs)),
		Install:  slices.Clone(m.Packages),
		Exclude:  m.ExcludePackages,
		Arch:     m.Basearch,
		NoWeak:   !m.Recommends,
		FromRepo: map[string]string{},
		Lookup:   func(path string) []int { return u.lookup(ctx, path) },
	}
	for i, e := range u.pkgs {
		k := e.pkg
		p.Packages[i] = solve.Package{
			NEVRA: k.NEVRA, Repo: k.RepoID, Priority: e.meta.Repo.Priority,
			Requires: k.Requires, Provides: k.Provides, Conflicts: k.Conflicts, Obsoletes: k.Obsoletes,
			Recommends: k.Recommends, Suggests: k.Suggests, Supplements: k.Supplements, Enhances: k.Enhances,
			Files: k.Files,
		}
	}
	for _, rp := range m.RepoPackages {
		for _, spec := range rp.Packages {
			p.Install = append(p.Install, spec)
			p.FromRepo[spec] = rp.Repo
		}
	}
	groups, err := u.groupPackages(ctx, m.Groups)
	if err != nil {
		return p, err
	}
	p.Install = append(p.Install, groups...)
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
				return nil, fmt.Errorf("%w: no repository defines environment %q", ErrTreefile, env)
			}
			members = e.Groups
		}
		for _, gid := range members {
			g, ok := groups[gid]
			if !ok {
				return nil, fmt.Errorf("%w: no repository defines group %q", ErrTreefile, gid)
			}
			for _, name := range slices.Concat(g.Mandatory, g.Defaults) {
				wanted[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(wanted)), nil
}

// lookup answers from the file lists, which are read on the first question:
// they are many times larger than everything else.
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
	p := &Plan{Ref: m.Ref, Arch: m.Basearch, manifest: m}
	for _, md := range u.metas {
		p.Repos = append(p.Repos, PlannedRepo{ID: md.Repo.ID, Revision: md.Revision, Checksum: md.Checksum})
	}
	for _, i := range sol.Order {
		e := u.pkgs[i]
		item, err := e.meta.Item(e.pkg)
		if err != nil {
			return nil, err
		}
		n := e.pkg.NEVRA
		p.Packages = append(p.Packages, PlannedPackage{Name: n.Name, EVR: n.EVR.String(), Arch: n.Arch,
			Repo: e.pkg.RepoID, Checksum: e.pkg.Checksum.String(), Size: e.pkg.Size, URLs: item.URLs})
	}
	var err error
	p.InputHash, err = inputHash(m, p.Packages)
	return p, err
}

func (s *Sources) fill() {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
}
