// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// DepsolveRequest is a question to the solver without a treefile.
type DepsolveRequest struct {
	Repos []rpmmd.Repo
	// Specs are the forms of solve.Problem.Install, @GROUP, @^ENVIRONMENT and
	// @MODULE:STREAM[/PROFILE].
	Specs   []string
	Exclude []string
	// Arch is the machine's architecture, such as x86_64.
	Arch    string
	NoWeak  bool
	Modules rpmmd.ModuleChoice
}

// Depsolved is the answer.
type Depsolved struct {
	Repos []PlannedRepo `json:"repos"`
	// Modules maps each module in use to its stream.
	Modules map[string]string `json:"modules,omitempty"`
	// Packages are in the order of installation.
	Packages []PlannedPackage `json:"packages"`
}

// ErrSpec is wrapped where a request cannot be understood or names a group or
// module that is not there.
var ErrSpec = errors.New("request cannot be met")

// Depsolve finds the packages that a request needs. Where there is no answer
// the error is a *solve.Unsolvable.
func Depsolve(ctx context.Context, req DepsolveRequest, src Sources) (*Depsolved, error) {
	src.fill()
	if len(req.Repos) == 0 || len(req.Specs) == 0 {
		return nil, fmt.Errorf("%w: it names no repository or no package", ErrSpec)
	}
	var packages, groups []string
	var modules []moduleSpec
	for _, s := range req.Specs {
		id, ok := strings.CutPrefix(s, "@")
		switch {
		case !ok:
			packages = append(packages, s)
		case strings.Contains(id, ":"):
			m := parseModuleSpec(id)
			modules = append(modules, m)
			req.Modules.Enable = append(slices.Clone(req.Modules.Enable), m.name+":"+m.stream)
		default:
			groups = append(groups, id)
		}
	}
	u, err := loadUniverse(ctx, req.Repos, req.Modules, src)
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		list, err := u.profile(m)
		if err != nil {
			return nil, err
		}
		packages = append(packages, list...)
	}
	members, err := u.groupPackages(ctx, groups)
	if err != nil {
		return nil, err
	}
	p := u.base(ctx)
	p.Install, p.Exclude, p.NoWeak = append(packages, members...), req.Exclude, req.NoWeak
	p.Arch, p.Arches = req.Arch, solve.CompatibleArches(req.Arch)
	sol, err := solve.Solve(ctx, p)
	if err = errors.Join(err, u.lookupErr); err != nil {
		return nil, fmt.Errorf("resolve packages: %w", err)
	}
	out := &Depsolved{Repos: u.plannedRepos(), Modules: u.streams}
	out.Packages, err = u.planned(sol.Order)
	return out, err
}

type moduleSpec struct{ name, stream, profile string }

// parseModuleSpec reads NAME:STREAM[:VERSION[:CONTEXT[:ARCH]]][/PROFILE].
func parseModuleSpec(s string) moduleSpec {
	var m moduleSpec
	s, m.profile, _ = strings.Cut(s, "/")
	m.name, s, _ = strings.Cut(s, ":")
	m.stream, _, _ = strings.Cut(s, ":")
	return m
}

// profile gives the packages of a module's profile, by default those that the
// defaults name, or the one called "default".
func (u *universe) profile(m moduleSpec) ([]string, error) {
	names := []string{m.profile}
	if m.profile == "" {
		names = rpmmd.MergeDefaults(u.moduleLists)[m.name].Profiles[m.stream]
		if len(names) == 0 {
			names = []string{"default"}
		}
	}
	var out []string
	for _, want := range names {
		list, ok := u.findProfile(m, want)
		if !ok {
			return nil, fmt.Errorf("%w: module %s:%s has no profile %q", ErrSpec, m.name, m.stream, want)
		}
		out = append(out, list...)
	}
	return out, nil
}

// findProfile takes the profile of the newest build that has it.
func (u *universe) findProfile(m moduleSpec, profile string) (list []string, ok bool) {
	var best uint64
	for _, mods := range u.moduleLists {
		for i := range mods.Streams {
			s := &mods.Streams[i]
			p, has := s.Profiles[profile]
			if s.Name == m.name && s.Stream == m.stream && has && (!ok || s.Version > best) {
				list, ok, best = p, true, s.Version
			}
		}
	}
	return list, ok
}
