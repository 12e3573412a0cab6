// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"cmp"
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// settleInstalled decides about installed packages: updates first, then what
// stays. It reports whether it changed anything.
func (s *search) settleInstalled() bool {
	for _, pass := range []bool{true, false} {
		for _, v := range s.sys.list {
			if (s.sys.updates[v] != nil) != pass || s.sys.unneeded[v] {
				continue
			}
			if pass && s.takeUpdate(v) {
				return true
			}
			if s.value[v] == 0 && !s.orphan(v) {
				s.decide(v)
				return true
			}
			if id, ok := s.keep[v]; ok && s.value[v] < 0 {
				if list := s.open(id); len(list) > 0 {
					s.choose(list, s.pool.pkg(v).NEVRA.Name)
					return true
				}
			}
		}
	}
	return s.keepOrphans()
}

func (s *search) orphan(v int32) bool {
	u := s.sys.updates[v]
	return u != nil && u.dup && len(s.sys.candidates[v]) == 0 && !s.sys.held[v]
}

func (s *search) keepOrphans() bool {
	for _, v := range s.sys.list {
		if s.value[v] == 0 && s.orphan(v) && !s.sys.unneeded[v] && !s.sys.erased[v] {
			s.decide(v)
			return true
		}
	}
	return false
}

// takeUpdate decides for the best of what may take v's place.
func (s *search) takeUpdate(v int32) bool {
	if s.value[v] > 0 && !s.pool.multi[s.pool.pkg(v).NEVRA.Name] {
		return false
	}
	u := s.sys.updates[v]
	var open []int32
	for _, o := range s.sys.candidates[v] {
		if s.value[o] > 0 {
			return false
		}
		if s.value[o] == 0 {
			open = append(open, o)
		}
	}
	same := slices.ContainsFunc(open, func(o int32) bool { return s.same(v, o) })
	if s.value[v] == 0 && (!u.dup || same) {
		open = append(open, v)
	}
	if len(open) == 0 {
		return false
	}
	open = s.narrow(open, true)
	if multi := s.pool.multi[s.pool.pkg(v).NEVRA.Name]; multi {
		if rpm.Compare(s.pool.pkg(open[0]).NEVRA.EVR, s.pool.pkg(v).NEVRA.EVR) <= 0 || s.newerInstalled(v) && !u.dup {
			return false
		}
	}
	if len(open) > 1 {
		s.rank(open, s.pool.pkg(v).NEVRA.Name)
	}
	s.decide(open[0])
	return true
}

// newerInstalled: of several versions only the newest is updated.
func (s *search) newerInstalled(v int32) bool {
	return slices.ContainsFunc(s.pool.names[s.pool.pkg(v).NEVRA.Name], func(o int32) bool {
		return s.sys.installed[o] && o != v && rpm.Compare(s.pool.pkg(o).NEVRA.EVR, s.pool.pkg(v).NEVRA.EVR) > 0
	})
}

// findUnneeded marks what only the packages that go had needed.
func (s *search) findUnneeded() {
	if len(s.sys.cleaned) == 0 {
		return
	}
	reach := func(roots []int32, stop map[int32]bool) map[int32]bool {
		seen := map[int32]bool{}
		todo := slices.Clone(roots)
		for len(todo) > 0 {
			v := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, d := range slices.Concat(s.pool.pkg(v).Requires, s.pool.pkg(v).Recommends) {
				for _, o := range s.installedProviders(d) {
					if !seen[o] && o != v && !stop[o] {
						seen[o] = true
						todo = append(todo, o)
					}
				}
			}
		}
		return seen
	}
	gone := reach(sortedVars(s.sys.cleaned), s.sys.wanted)
	for v := range s.sys.cleaned {
		if s.sys.updates[v] == nil {
			delete(gone, v)
		}
	}
	// Only what was put in for the sake of others goes with them.
	var roots []int32
	for _, v := range s.sys.list {
		if !gone[v] && !s.sys.erased[v] && !s.sys.cleaned[v] {
			roots = append(roots, v)
		}
	}
	needed := reach(roots, nil)
	for v := range gone {
		if !needed[v] {
			s.sys.unneeded[v] = true
		}
	}
}

func sortedVars(m map[int32]bool) []int32 {
	var out []int32
	for v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// installedProviders are the installed packages that a dependency can mean.
func (s *search) installedProviders(d rpm.Dep) []int32 {
	var out []int32
	collect := func(d rpm.Dep) {
		for _, o := range s.pool.providers(d, true) {
			if s.sys.installed[o] {
				out = append(out, o)
			}
		}
	}
	if !isRich(d) {
		collect(d)
		return out
	}
	if f, err := s.pool.formula(d.Name); err == nil {
		f.leaves(collect)
	}
	return out
}

// preferInstalled keeps the candidates that are installed, or else those that
// update an installed package.
func (s *search) preferInstalled(list []int32) []int32 {
	if s.sys == nil || len(list) < 2 {
		return list
	}
	keep := func(good func(v int32) bool) []int32 {
		var out []int32
		for _, v := range list {
			if good(v) {
				out = append(out, v)
			}
		}
		return out
	}
	if out := keep(func(v int32) bool { return s.sys.installed[v] && s.sys.updates[v] == nil && !s.sys.unneeded[v] }); len(out) > 0 {
		return out
	}
	if out := keep(s.updatesInstalled); len(out) > 0 {
		return out
	}
	return list
}

// updatesInstalled: v is installed or has the name of an installed package.
func (s *search) updatesInstalled(v int32) bool {
	return s.sys.installed[v] || slices.ContainsFunc(s.pool.names[s.pool.pkg(v).NEVRA.Name], func(o int32) bool {
		return s.sys.installed[o] && s.pool.rivals(o, v) && slices.Contains(s.sys.candidates[o], v)
	})
}

// favoredOnly keeps what a job favors most, or drops what it disfavors most. Of
// several jobs the later counts more.
func (s *search) favoredOnly(list []int32) []int32 {
	if s.sys == nil || len(s.sys.favored) == 0 || len(list) < 2 {
		return list
	}
	best := slices.MaxFunc(list, func(a, b int32) int { return cmp.Compare(s.sys.favored[a], s.sys.favored[b]) })
	return slices.DeleteFunc(list, func(v int32) bool { return s.sys.favored[v] != s.sys.favored[best] })
}

// addChoice adds the weak rule that a requirement is met by what is installed,
// or by an update of it, rather than by something new.
func (s *search) addChoice(v int32, d rpm.Dep, who []int32) {
	if s.sys == nil || len(who) < 2 {
		return
	}
	var old []int32
	for _, o := range who {
		if s.updatesInstalled(o) {
			old = append(old, o)
		}
	}
	if len(old) == 0 || len(old) == len(who) {
		return
	}
	if s.sys.installed[v] && !s.updateHelps(v, d) {
		return
	}
	r := rule{lits: append([]int32{-v}, old...), kind: ruleChoice, owner: v, why: d.String(), weak: true}
	if !s.dropped[weakKey(&r)] {
		s.choices = append(s.choices, r)
	}
}

// updateHelps: some update of v does not have the requirement.
func (s *search) updateHelps(v int32, d rpm.Dep) bool {
	return slices.ContainsFunc(s.sys.candidates[v], func(o int32) bool {
		return !slices.ContainsFunc(s.pool.pkg(o).Requires, func(e rpm.Dep) bool { return e.String() == d.String() })
	})
}

// weakest returns the key of the last weak rule of a contradiction.
func (s *search) weakest(bad int32) (string, bool) {
	core := s.core(bad)
	for i := len(core) - 1; i >= 0; i-- {
		if r := &s.rules[core[i]]; r.weak {
			return weakKey(r), true
		}
	}
	return "", false
}
