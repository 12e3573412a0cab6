// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// provider is one thing that a package offers.
type provider struct {
	pkg int
	dep rpm.Dep
}

// resolver finds the packages of a tree that meet a requirement.
type resolver struct {
	names map[string][]provider
	files map[string][]int // by path; of paths that are required only
}

// requirements gives for each package the others that meet its requirements. What
// the package itself or nothing in the tree offers is left out.
func requirements(pkgs []*rpm.Package) [][]int {
	all := make([][]rpm.Dep, len(pkgs))
	r := resolver{names: map[string][]provider{}, files: map[string][]int{}}
	for i, p := range pkgs {
		all[i] = p.Requires()
		for _, d := range all[i] {
			r.wantFiles(d)
		}
		for _, d := range p.Provides() {
			r.names[d.Name] = append(r.names[d.Name], provider{i, d})
		}
	}
	for i, p := range pkgs {
		for _, f := range p.Files() {
			if list, ok := r.files[f.Path]; ok && !slices.Contains(list, i) {
				r.files[f.Path] = append(list, i)
			}
		}
	}
	out := make([][]int, len(pkgs))
	for i := range pkgs {
		out[i] = r.resolve(i, all[i])
	}
	return out
}

// wantFiles notes the paths that a requirement names, so that only those few are
// kept of all files.
func (r resolver) wantFiles(d rpm.Dep) {
	words := []string{d.Name}
	if d.Rich {
		words = strings.FieldsFunc(d.Name, func(c rune) bool { return c == ' ' || c == '(' || c == ')' })
	}
	for _, w := range words {
		if strings.HasPrefix(w, "/") {
			r.files[w] = nil
		}
	}
}

func (r resolver) resolve(self int, deps []rpm.Dep) []int {
	found := map[int]bool{}
	for _, d := range deps {
		if d.IsRpmlib() {
			continue
		}
		list := r.providers(d)
		if d.Rich {
			// One that cannot be read names nothing that is known to be needed.
			list, _ = solve.RichProviders(d.Name, r.providers)
		}
		if slices.Contains(list, self) {
			continue
		}
		for _, n := range list {
			found[n] = true
		}
	}
	out := make([]int, 0, len(found))
	for n := range found {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// providers lists the packages that meet a plain requirement.
func (r resolver) providers(d rpm.Dep) []int {
	var out []int
	for _, p := range r.names[d.Name] {
		if d.Matches(p.dep) && !slices.Contains(out, p.pkg) {
			out = append(out, p.pkg)
		}
	}
	for _, n := range r.files[d.Name] {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
