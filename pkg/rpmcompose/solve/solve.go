// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"context"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Package is one build that a repository offers.
type Package struct {
	NEVRA rpm.NEVRA
	Repo  string
	// Priority of the repository; the smaller number is preferred, as in .repo
	// files, where 99 is the default.
	Priority int
	// Cost decides between repositories of one priority that offer the same
	// build; the smaller number is preferred.
	Cost   int
	Vendor string

	Requires, Provides, Conflicts, Obsoletes    []rpm.Dep
	Recommends, Suggests, Supplements, Enhances []rpm.Dep
	// Files are the paths known without file lists (those of primary.xml).
	Files []string
}

// Problem is what to solve. Everywhere a package is named by its index in
// Packages.
type Problem struct {
	Packages []Package

	// Install lists what the set must contain: a name, NAME.ARCH, NAME-VERSION,
	// NAME-[EPOCH:]VERSION-RELEASE[.ARCH], a shell pattern over those, a path, a
	// provided capability, "NAME >= VERSION", or a rich dependency in
	// parentheses. A pattern stands for all the names it matches.
	Install []string
	// FromRepo restricts where packages come from: what matches the key (forms
	// as above, but no capability) is eligible only in the repository named.
	FromRepo map[string]string
	// Exclude makes packages ineligible (forms as above, but no capability).
	Exclude []string
	// Arch is the machine's architecture; its packages and noarch are eligible.
	Arch string
	// NoWeak does not install what is only recommended or supplementing. Weak
	// dependencies still decide between equally good candidates.
	NoWeak bool
	// Locks maps a name to the only eligible [EPOCH:]VERSION-RELEASE[.ARCH].
	Locks map[string]string
	// StrictLocks makes every package ineligible that Locks does not name.
	StrictLocks bool
	// Arches are all eligible architectures, the preferred first; empty means
	// Arch and noarch. "*" stands for every architecture.
	Arches []string
	// System, if set, is the machine that the packages are for.
	System *System
	// InstallOnly are names of which several versions may be in the set.
	InstallOnly []string
	// Lookup returns the packages that contain a path, from the repositories'
	// file lists. It is asked only for paths that are needed and that no
	// package provides or has in Files. Nil: there are no file lists.
	Lookup func(path string) []int
	// Expect, if set, is told once, before the first question to Lookup, which
	// paths may be asked for, in byte order: all that a dependency or a request
	// names and that no package has in Files.
	Expect func(paths []string)
}

// Solution is a set of packages that is closed and free of conflicts.
type Solution struct {
	// Packages is the set in order of name, newest version first.
	Packages []int
	// Order is the same set in the order of installation, see Order.
	Order []int
	// Requested is the part of the set that Install names directly.
	Requested []int
}

// Solve returns a set for the problem. The error is an *Unsolvable where there
// is none; other errors are malformed input or a cancelled context.
//
// The answer depends on the contents of the problem only, not on the order of
// Packages or Install. Where several packages satisfy a need, they are ranked
// by: repository priority, newest version, not obsoleted by another candidate,
// recommended by what is in the set already, suggested by it, newest version of
// a capability that candidates share, the name that was asked for, name.
func Solve(ctx context.Context, p Problem) (Solution, error) {
	pool, err := newPool(&p)
	if err != nil {
		return Solution{}, err
	}
	var s *search
	var requested map[int32]bool
	for dropped := map[string]bool{}; ; {
		s = newSearch(ctx, pool)
		s.dropped = dropped
		if requested, err = s.addJobs(); err != nil {
			return Solution{}, err
		}
		if s.sys != nil {
			s.addSystem()
		}
		if err = s.run(); err == nil {
			break
		}
		key, weak := "", false
		if s.bad != noReason && s.errs == nil && ctx.Err() == nil {
			key, weak = s.weakest(s.bad)
		}
		if !weak {
			return Solution{}, err
		}
		dropped[key] = true
	}
	var sol Solution
	for v := int32(1); int(v) < len(s.value); v++ {
		if s.value[v] <= 0 {
			continue
		}
		sol.Packages = append(sol.Packages, pool.index[v])
		if requested[v] {
			sol.Requested = append(sol.Requested, pool.index[v])
		}
	}
	sol.Order = Order(p.Packages, sol.Packages, p.Lookup)
	return sol, nil
}
