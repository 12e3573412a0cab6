// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"context"
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// maxImprovements bounds how often a found answer is made smaller.
const maxImprovements = 1000

// search decides. It works in rounds: requests, then what those need, then weak
// dependencies, then improvement; a conclusion that goes back over several
// decisions starts the round anew.
type search struct {
	sat
	ctx   context.Context
	pool  *pool
	jobs  []int32           // rules of requests
	needs map[int32][]int32 // package -> its rules that can need a decision
	errs  error             // malformed input met on the way

	branches []branch

	recommended, suggested       []bool
	richRecommends, richSuggests []rpm.Dep
	wishAt                       int
	learnedFrom                  int // rules before this are not learned
	bad                          int32

	sys     *system         // nil: there is nothing installed
	dropped map[string]bool // weak rules that were given up
	keep    map[int32]int32 // installed package -> the rule that it stays or is replaced
	choices []rule          // to be added with the package under way
}

// branch remembers a choice between equally good candidates.
type branch struct {
	level int32 // before the decision
	list  []int32
	tried []bool
}

func newSearch(ctx context.Context, pl *pool) *search {
	s := &search{
		sat: newSAT(pl.size()), ctx: ctx, pool: pl, needs: map[int32][]int32{},
		recommended: make([]bool, pl.size()), suggested: make([]bool, pl.size()), bad: noReason,
		keep: map[int32]int32{},
	}
	s.expand = s.expandPackage
	if pl.p.System != nil {
		s.sys = newSystem(pl, pl.p.System)
	}
	return s
}

func (s *search) fail(err error) {
	if s.errs == nil {
		s.errs = err
	}
}

// run searches until there is an answer, an error or nothing left to try.
func (s *search) run() error {
	improved := 0
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if s.bad == noReason {
			s.bad = s.settle(s.propagate())
		}
		if s.errs != nil {
			return s.errs
		}
		if s.bad != noReason {
			return s.explain(s.bad)
		}
		if s.sys != nil {
			if s.machine() {
				continue
			}
			return s.errs
		}
		if s.requests() || s.dependencies() || (!s.pool.p.NoWeak && s.weak()) {
			continue
		}
		if improved++; improved < maxImprovements && s.improve() {
			continue
		}
		return s.errs
	}
}

// machine is one step of the search where packages are installed.
func (s *search) machine() bool {
	switch {
	case s.sys.FocusInstalled && s.settleInstalled():
	case s.requests():
	case s.sys.FocusNew && s.dependencies():
	case s.settleInstalled():
	case s.dependencies():
	case !s.pool.p.NoWeak && s.weak():
	default:
		return false
	}
	return true
}

// settle learns from violated rules until none is violated; it returns the rule
// that is violated without any decision, or noReason.
func (s *search) settle(bad int32) int32 {
	for bad != noReason {
		if s.depth() == 0 {
			return bad
		}
		s.learn(bad)
		s.dropBranches()
		bad = s.propagate()
	}
	return noReason
}

func (s *search) dropBranches() {
	for n := len(s.branches); n > 0 && s.branches[n-1].level >= s.depth(); n-- {
		s.branches = s.branches[:n-1]
	}
}

// decide puts v in and draws the conclusions. It reports whether the decision
// stands with everything decided before.
func (s *search) decide(v int32) bool {
	level := s.depth()
	s.limits = append(s.limits, len(s.trail))
	s.assign(v, noReason)
	s.bad = s.settle(s.propagate())
	return s.bad == noReason && s.depth() > level
}

// choose decides for the best of list, the candidates for a dependency or request, remembering the others.
func (s *search) choose(list []int32, why string) bool {
	list = s.narrow(s.preferInstalled(list), true)
	if len(list) > 1 {
		s.rank(list, why)
		b := branch{level: s.depth(), list: list, tried: make([]bool, len(list))}
		b.tried[0] = true
		s.branches = append(s.branches, b)
	}
	return s.decide(list[0])
}

// open returns the undecided packages that could satisfy a rule, or nil where
// it is satisfied or does not apply.
func (s *search) open(id int32) []int32 {
	var list []int32
	for _, l := range s.rules[id].lits {
		switch h := s.holds(l); {
		case h > 0:
			return nil
		case l < 0 && h == 0:
			return nil
		case h == 0:
			list = append(list, l)
		}
	}
	return list
}

// requests decides for the first request that is not met. It reports whether it
// changed anything.
func (s *search) requests() bool {
	for _, id := range s.jobs {
		if list := s.open(id); len(list) > 0 {
			s.choose(list, s.rules[id].why)
			return true
		}
	}
	return false
}

// dependencies decides what the packages of the set need. Needs for which only
// one candidate is left come first, since that may settle the others.
func (s *search) dependencies() bool {
	changed := false
	for again := true; again; {
		again = false
		postponed := int32(noReason)
		for i := 0; i < len(s.trail); i++ {
			v := s.trail[i]
			if v < 0 {
				continue
			}
			for _, id := range s.needs[v] {
				done, stop := s.need(id, &postponed)
				changed, again = changed || done, again || done
				if stop {
					return true
				}
			}
		}
		for id := s.learnedFrom; id < len(s.rules); id++ {
			if s.rules[id].kind != ruleLearned {
				continue
			}
			done, stop := s.need(int32(id), &postponed)
			changed, again = changed || done, again || done
			if stop {
				return true
			}
		}
		if !again && postponed != noReason {
			changed, again = true, true
			if !s.choose(s.open(postponed), s.rules[postponed].why) {
				return true
			}
		}
	}
	return changed
}

// need decides for a rule with a single good candidate; others are postponed.
func (s *search) need(id int32, postponed *int32) (done, stop bool) {
	list := s.open(id)
	if len(list) == 0 {
		return false, false
	}
	if list = s.narrow(s.preferInstalled(list), true); len(list) > 1 {
		if *postponed == noReason {
			*postponed = id
		}
		return false, false
	}
	return true, !s.decide(list[0])
}

// depName is the name in a dependency's text.
func depName(why string) string {
	for i := range len(why) {
		if why[i] == ' ' {
			return why[:i]
		}
	}
	return why
}

// weak puts in what the set recommends and what supplements it. It reports
// whether it changed anything.
func (s *search) weak() bool {
	rec := s.recommendations()
	var sup []int32
	for _, v := range s.pool.suppl {
		if s.value[v] == 0 && s.anyHolds(s.pool.pkg(v).Supplements) && !s.haveName(v) && s.mayBeWeak(v) && s.newlyHolds(v) && !s.twinSupplements(v) {
			sup = append(sup, v)
		}
	}
	all := append(slices.Clone(rec), sup...)
	if len(all) == 0 {
		return false
	}
	slices.Sort(all)
	all = slices.DeleteFunc(all, func(v int32) bool { return !s.mayBeWeak(v) })
	good := map[int32]bool{}
	for _, v := range s.narrow(slices.Compact(all), false) {
		good[v] = true
	}
	sup = slices.DeleteFunc(sup, func(v int32) bool { return !good[v] })
	s.rank(sup, "")
	known := len(s.trail)
	for _, v := range sup {
		if s.value[v] != 0 {
			continue
		}
		if !s.decide(v) {
			return true
		}
	}
	for i := 0; i < known; i++ {
		v := s.trail[i]
		if v < 0 || s.sys != nil && s.sys.installed[v] {
			continue
		}
		for _, d := range s.pool.pkg(v).Recommends {
			list := s.wanted(v, d)
			list = slices.DeleteFunc(list, func(v int32) bool { return !good[v] })
			if len(list) > 0 && !s.choose(list, d.Name) {
				return true
			}
		}
	}
	return true
}

// twinSupplements: all that v supplements, its twin for the preferred word size
// supplements as well.
func (s *search) twinSupplements(v int32) bool {
	return s.pool.twinDoes(v, func(twin int32) bool {
		return !slices.ContainsFunc(s.pool.pkg(v).Supplements, func(d rpm.Dep) bool {
			return !slices.Contains(s.pool.pkg(twin).Supplements, d) && s.anyHolds([]rpm.Dep{d})
		})
	})
}

// haveName reports whether another build of v's name is in already: several
// versions of an install-only package are only put in on request.
func (s *search) haveName(v int32) bool {
	return s.anyIn(s.pool.names[s.pool.pkg(v).NEVRA.Name])
}

// recommendations are all undecided packages that would satisfy a
// recommendation which nothing in the set satisfies.
func (s *search) recommendations() []int32 {
	var out []int32
	for _, v := range s.trail {
		if v < 0 {
			continue
		}
		if s.sys != nil && s.sys.installed[v] {
			continue
		}
		for _, d := range s.pool.pkg(v).Recommends {
			out = append(out, s.wanted(v, d)...)
		}
	}
	if s.sys != nil {
		out = slices.DeleteFunc(out, func(v int32) bool { return !s.mayBeWeak(v) })
	}
	return out
}

// mayBeWeak: a job can forbid to put v in for a weak dependency.
func (s *search) mayBeWeak(v int32) bool {
	return s.sys == nil || !s.sys.weakless[v] && s.sys.favored[v] >= 0
}

// newlyHolds: what v supplements was not there before; else v was left out on
// purpose.
func (s *search) newlyHolds(v int32) bool {
	if s.sys == nil || len(s.sys.list) == 0 {
		return true
	}
	before := func(list []int32) bool {
		return slices.ContainsFunc(list, func(o int32) bool { return s.sys.installed[o] })
	}
	for _, d := range s.pool.pkg(v).Supplements {
		if !isRich(d) {
			if before(s.pool.providers(d, false)) {
				return false
			}
			continue
		}
		if f, err := s.pool.formula(d.Name); err == nil && s.pool.holds(f, before) {
			return false
		}
	}
	return true
}

// wanted are the candidates for one recommendation of package v.
func (s *search) wanted(v int32, d rpm.Dep) []int32 {
	var out []int32
	collect := func(c []int32) {
		if !s.conditionHolds(c) || slices.Contains(c, v) {
			return
		}
		n := len(out)
		for _, l := range c {
			if l > 0 && s.value[l] > 0 {
				out = out[:n]
				return
			}
			if l > 0 && s.value[l] == 0 && !s.pool.twinDoes(l, func(twin int32) bool { return slices.Contains(c, twin) }) {
				out = append(out, l)
			}
		}
	}
	if !isRich(d) {
		collect(s.pool.providers(d, true))
		return out
	}
	all := s.clauses(d, true)
	if slices.ContainsFunc(all, func(c []int32) bool { return len(c) == 0 }) {
		// Part of it can never be met, so there is no point in the rest.
		return nil
	}
	for _, c := range all {
		collect(c)
	}
	return out
}

// improve goes back to the earliest choice of which another candidate got in
// later anyway, or is recommended while the chosen one is not, and takes that.
func (s *search) improve() bool {
	at, pick := -1, 0
	for i := len(s.branches) - 1; i >= 0; i-- {
		if k := s.better(&s.branches[i]); k >= 0 {
			at, pick = i, k
		}
	}
	if at < 0 {
		return false
	}
	b := s.branches[at]
	b.tried[pick] = true
	s.branches = s.branches[:at+1]
	s.revert(b.level)
	s.decide(b.list[pick])
	return true
}

func (s *search) better(b *branch) int {
	wished := -1
	for i, v := range b.list {
		if b.tried[i] {
			continue
		}
		if s.value[v] > 0 && s.level[v] > b.level {
			return i
		}
		if wished < 0 && s.isRecommended(v) {
			wished = i
		}
	}
	if wished < 0 {
		return -1
	}
	for i, v := range b.list {
		if b.tried[i] && s.value[v] > 0 && s.level[v] == b.level+1 && !s.isRecommended(v) {
			return wished
		}
	}
	return -1
}
