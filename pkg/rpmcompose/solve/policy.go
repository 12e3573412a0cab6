// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// narrow keeps the candidates that are best by priority, version and obsoletes;
// with wish also prefers what is recommended. The order stays canonical.
func (s *search) narrow(list []int32, wish bool) []int32 {
	if len(list) < 2 {
		return list
	}
	list = s.favoredOnly(s.bestPriority(s.bestArch(list)))
	list = s.bestVersions(list)
	list = s.notObsoleted(list)
	if wish && len(list) > 1 {
		list = s.recommendedOnly(list)
	}
	return list
}

func (s *search) bestPriority(list []int32) []int32 {
	// What is installed belongs to no repository.
	installed := func(v int32) bool { return s.sys != nil && s.sys.installed[v] }
	best, any := 0, false
	for _, v := range list {
		if !installed(v) && (!any || s.pool.pkg(v).Priority < best) {
			best, any = s.pool.pkg(v).Priority, true
		}
	}
	return slices.DeleteFunc(list, func(v int32) bool { return !installed(v) && s.pool.pkg(v).Priority != best })
}

// bestArch keeps the preferred word size where the choice is open.
func (s *search) bestArch(list []int32) []int32 {
	if len(s.pool.p.Arches) == 0 || s.pool.p.Arches[0] == "*" || len(list) < 2 {
		return list
	}
	rank := func(v int32) int {
		arch := s.pool.pkg(v).NEVRA.Arch
		if arch == "noarch" {
			return 0
		}
		return slices.Index(s.pool.p.Arches, arch)
	}
	best := map[string]int{}
	lowest := -1
	for _, v := range list {
		n, r := s.pool.pkg(v).NEVRA.Name, rank(v)
		if b, ok := best[n]; !ok || r < b {
			best[n] = r
		}
		if lowest < 0 || r < lowest {
			lowest = r
		}
	}
	return slices.DeleteFunc(list, func(v int32) bool {
		return rank(v) != lowest && color(s.pool.pkg(v).NEVRA.Arch) != color(s.pool.p.Arches[lowest]) && s.pool.pkg(v).NEVRA.Arch != "noarch"
	})
}

// bestVersions keeps one package per name: variables of a name are numbered
// from the best on.
func (s *search) bestVersions(list []int32) []int32 {
	slices.Sort(list)
	return slices.CompactFunc(list, func(a, b int32) bool {
		return s.pool.pkg(a).NEVRA.Name == s.pool.pkg(b).NEVRA.Name
	})
}

// notObsoleted drops candidates that another candidate obsoletes, unless they
// obsolete each other around a circle.
func (s *search) notObsoleted(list []int32) []int32 {
	if len(list) < 2 {
		return list
	}
	by := make(map[int32][]int32)
	for _, v := range list {
		for _, d := range s.pool.pkg(v).Obsoletes {
			for _, o := range s.pool.obsoleted(d) {
				if o != v && slices.Contains(list, o) {
					by[o] = append(by[o], v)
				}
			}
		}
	}
	if len(by) == 0 {
		return list
	}
	// reach(o) are all that obsolete o, directly or through others.
	reach := func(o int32) map[int32]bool {
		seen := map[int32]bool{}
		todo := slices.Clone(by[o])
		for len(todo) > 0 {
			v := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if !seen[v] {
				seen[v] = true
				todo = append(todo, by[v]...)
			}
		}
		return seen
	}
	var kept []int32
	for _, o := range list {
		dropped := false
		for v := range reach(o) {
			dropped = dropped || !reach(v)[o]
		}
		if !dropped {
			kept = append(kept, o)
		}
	}
	return kept
}

// recommendedOnly keeps what the set so far recommends, if it does any of it.
func (s *search) recommendedOnly(list []int32) []int32 {
	var kept []int32
	for _, v := range list {
		if s.isRecommended(v) {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		return list
	}
	return kept
}

func (s *search) isRecommended(v int32) bool {
	s.updateWishes()
	return s.recommended[v] || s.wishedByRich(s.richRecommends, v) || s.anyHolds(s.pool.pkg(v).Supplements)
}

func (s *search) isSuggested(v int32) bool {
	s.updateWishes()
	return s.suggested[v] || s.wishedByRich(s.richSuggests, v) || s.anyHolds(s.pool.pkg(v).Enhances)
}

// rank orders equally good candidates for a dependency or request, the
// preferred one first.
func (s *search) rank(list []int32, why string) {
	slices.Sort(list)
	asked := depName(why)
	conditions := s.conditions(why)
	key := make(map[int32][5]int, len(list))
	older := s.olderCapability(list)
	for _, v := range list {
		key[v] = [5]int{
			flag(slices.Contains(conditions, v)),
			flag(!s.isSuggested(v)),
			older[v],
			flag(s.hasNewer(v)),
			flag(asked == "" || s.pool.pkg(v).NEVRA.Name != asked),
		}
	}
	slices.SortStableFunc(list, func(a, b int32) int {
		ka, kb := key[a], key[b]
		return slices.Compare(ka[:], kb[:])
	})
}

// conditions are the packages that a rich dependency merely asks about: for
// "(a if b else c)" c is put in rather than b, which would only change the
// question.
func (s *search) conditions(why string) []int32 {
	if !strings.HasPrefix(why, "(") {
		return nil
	}
	f, err := s.pool.formula(why)
	if err != nil {
		return nil
	}
	var out []int32
	var walk func(f *formula)
	walk = func(f *formula) {
		for i, a := range f.args {
			if f.op == opIf && i == 1 {
				a.leaves(func(d rpm.Dep) { out = append(out, s.pool.providers(d, false)...) })
				continue
			}
			walk(a)
		}
	}
	walk(f)
	return out
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hasNewer reports whether a better build of the name exists; that it is no
// candidate itself then says that v is on its way out.
func (s *search) hasNewer(v int32) bool {
	n := s.pool.pkg(v)
	for _, o := range s.pool.names[n.NEVRA.Name] {
		other := s.pool.pkg(o)
		if other.Priority <= n.Priority && other.NEVRA.Arch == n.NEVRA.Arch && rpm.Compare(other.NEVRA.EVR, n.NEVRA.EVR) > 0 {
			return true
		}
	}
	return false
}

// olderCapability counts, for each candidate, the versioned capabilities that
// another candidate provides in a newer version: of compat-foo1 and foo2, both
// of which provide foo, the one with the newer foo is meant.
func (s *search) olderCapability(list []int32) map[int32]int {
	type claim struct {
		v     int32
		evr   rpm.EVR
		equal bool
	}
	claims := map[string][]claim{}
	var names []string
	for _, v := range list {
		for _, d := range s.pool.pkg(v).Provides {
			if d.Sense() == 0 || looksLikeHash(d.EVR) {
				continue
			}
			if claims[d.Name] == nil {
				names = append(names, d.Name)
			}
			claims[d.Name] = append(claims[d.Name], claim{v, d.EVR, d.Sense()&rpm.DepEqual != 0})
		}
	}
	out := map[int32]int{}
	for _, n := range names {
		c := claims[n]
		// "up to 2" reaches further than "less than 2".
		older := func(a, b claim) int {
			return cmp.Or(rpm.Compare(b.evr, a.evr), flag(b.equal)-flag(a.equal))
		}
		slices.SortStableFunc(c, older)
		worse := 0
		for i := 1; i < len(c); i++ {
			if c[i].v != c[i-1].v && older(c[i-1], c[i]) < 0 {
				worse++
			}
			out[c[i].v] += worse
		}
	}
	return out
}

// looksLikeHash tells a build id from a version.
func looksLikeHash(e rpm.EVR) bool {
	return len(e.Version) >= 4 && e.Release == "" && strings.Trim(e.Version, "0123456789abcdef") == ""
}

func (s *search) anyIn(list []int32) bool {
	for _, v := range list {
		if s.value[v] > 0 {
			return true
		}
	}
	return false
}

// anyHolds evaluates dependencies against the set so far.
func (s *search) anyHolds(deps []rpm.Dep) bool {
	for _, d := range deps {
		if !isRich(d) {
			if s.anyIn(s.pool.providers(d, false)) {
				return true
			}
			continue
		}
		f, err := s.pool.formula(d.Name)
		if err != nil || f.op == opIf && len(f.args) == 2 && !s.pool.holds(f.args[1], s.anyIn) {
			// "a if b" without b is true, but no reason to wish for anything.
			continue
		}
		if s.pool.holds(f, s.anyIn) {
			return true
		}
	}
	return false
}

// updateWishes brings the marks of what is recommended and suggested up to the
// current set.
func (s *search) updateWishes() {
	if s.undone < s.wishAt {
		s.wishAt = 0
		clear(s.recommended)
		clear(s.suggested)
		s.richRecommends, s.richSuggests = nil, nil
	}
	s.undone = len(s.trail)
	for ; s.wishAt < len(s.trail); s.wishAt++ {
		v := s.trail[s.wishAt]
		if v < 0 {
			continue
		}
		pkg := s.pool.pkg(v)
		s.richRecommends = append(s.richRecommends, s.mark(pkg.Recommends, s.recommended)...)
		s.richSuggests = append(s.richSuggests, s.mark(pkg.Suggests, s.suggested)...)
	}
}

// mark marks the providers of plain dependencies and returns the rich ones.
func (s *search) mark(deps []rpm.Dep, marks []bool) (rich []rpm.Dep) {
	for _, d := range deps {
		if isRich(d) {
			rich = append(rich, d)
			continue
		}
		for _, v := range s.pool.providers(d, false) {
			marks[v] = true
		}
	}
	return rich
}

// wishedByRich reports whether v would help to satisfy a rich weak dependency
// whose condition holds.
func (s *search) wishedByRich(deps []rpm.Dep, v int32) bool {
	for _, d := range deps {
		for _, c := range s.clauses(d, true) {
			if slices.Contains(c, v) && s.conditionHolds(c) {
				return true
			}
		}
	}
	return false
}

// conditionHolds reports whether all negative literals of a clause are false.
func (s *search) conditionHolds(c []int32) bool {
	for _, l := range c {
		if l < 0 && s.value[-l] <= 0 {
			return false
		}
	}
	return true
}
