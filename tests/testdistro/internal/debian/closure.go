// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"fmt"
	"slices"
	"strings"
)

// Selection asks for a closed set of packages.
type Selection struct {
	Names  []string        // wanted by name
	Drop   map[string]bool // never taken; relations on them count as satisfied
	Ignore func(p *Package, a Atom) bool
}

// Closure returns the packages of s.Names and everything they need through
// Depends and Pre-Depends, sorted by name. Of several alternatives one that is
// already selected wins, then the first that exists.
func (x *Index) Closure(s Selection) ([]*Package, error) {
	w := &walk{index: x, sel: s, have: map[string]*Package{}, provided: map[string][]provider{}}
	for _, name := range s.Names {
		p := x.Get(name)
		if p == nil {
			return nil, fmt.Errorf("select %s: not in the archive", name)
		}
		w.add(p)
	}
	for len(w.queue) > 0 {
		p := w.queue[0]
		w.queue = w.queue[1:]
		if err := w.visit(p); err != nil {
			return nil, err
		}
	}
	out := make([]*Package, 0, len(w.have))
	for _, p := range w.have {
		out = append(out, p)
	}
	sortPackages(out)
	return out, nil
}

type walk struct {
	index    *Index
	sel      Selection
	have     map[string]*Package
	provided map[string][]provider
	queue    []*Package
}

func (w *walk) add(p *Package) {
	if w.have[p.Name] != nil {
		return
	}
	w.have[p.Name] = p
	w.queue = append(w.queue, p)
	groups, err := ParseRelations(p.Provides)
	if err != nil {
		return // NewIndex has refused such an index already
	}
	for _, g := range groups {
		w.provided[g[0].Name] = append(w.provided[g[0].Name], provider{p, g[0].Version})
	}
}

func (w *walk) visit(p *Package) error {
	groups, err := ParseRelations(p.PreDepends + "," + p.Depends)
	if err != nil {
		return fmt.Errorf("read dependencies of %s: %w", p.Name, err)
	}
	for _, g := range groups {
		if err := w.satisfy(p, g); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) satisfy(p *Package, g Group) error {
	ignored := false
	for _, a := range g {
		if w.sel.Drop[a.Name] || (w.sel.Ignore != nil && w.sel.Ignore(p, a)) {
			ignored = true
			continue
		}
		if q := w.have[a.Name]; q != nil && a.Accepts(q.Version) {
			return nil
		}
		if anyProvides(w.provided[a.Name], a) {
			return nil
		}
	}
	if ignored {
		return nil
	}
	for _, a := range g {
		if q := w.index.Get(a.Name); q != nil && a.Accepts(q.Version) {
			w.add(q)
			return nil
		}
		for _, pr := range w.index.providers[a.Name] {
			if pr.satisfies(a) && !w.sel.Drop[pr.pkg.Name] {
				w.add(pr.pkg)
				return nil
			}
		}
	}
	return fmt.Errorf("close %s %s: nothing provides %s", p.Name, p.Version, g)
}

// satisfies follows dpkg: an unversioned Provides meets no versioned relation.
func (pr provider) satisfies(a Atom) bool {
	return a.Op == "" || (pr.version != "" && a.Accepts(pr.version))
}

func anyProvides(list []provider, a Atom) bool {
	return slices.ContainsFunc(list, func(pr provider) bool { return pr.satisfies(a) })
}

func sortPackages(list []*Package) {
	slices.SortFunc(list, func(a, b *Package) int { return strings.Compare(a.Name, b.Name) })
}

// String prints the relation as the archive writes it.
func (a Atom) String() string {
	if a.Op == "" {
		return a.Name
	}
	return fmt.Sprintf("%s (%s %s)", a.Name, a.Op, a.Version)
}

// String joins the alternatives.
func (g Group) String() string {
	parts := make([]string, len(g))
	for i, a := range g {
		parts[i] = a.String()
	}
	return strings.Join(parts, " | ")
}
