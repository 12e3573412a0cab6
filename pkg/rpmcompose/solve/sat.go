// SPDX-License-Identifier: Apache-2.0

package solve

import "slices"

// ruleKind says where a rule comes from, for explanations.
type ruleKind uint8

const (
	ruleJob ruleKind = iota
	ruleRequires
	ruleConflicts
	ruleObsoletes
	ruleSameName
	ruleKeep   // an installed package stays or is replaced
	ruleDup    // an installed package must go
	ruleBest   // the best update
	ruleChoice // installed packages are preferred
	ruleLearned
)

// rule is a clause: one of lits must hold. The first two are watched.
type rule struct {
	lits  []int32
	kind  ruleKind
	owner int32   // the package whose dependency this is; 0 for jobs
	why   string  // the dependency or the request, as text
	from  []int32 // learned: the rules it follows from
	weak  bool    // may be given up
}

const noReason = -1

// sat is the CDCL core. It does not decide: search does.
type sat struct {
	rules   []rule
	watches [][]int32
	value   []int8 // 1 in, -1 out, 0 undecided
	level   []int32
	reason  []int32
	trail   []int32 // literals in order of assignment
	limits  []int   // length of trail where each decision level starts
	head    int
	seen    []bool
	// expand adds the rules of a package that has just come in; it returns a
	// violated rule or noReason. Rules of packages never tried are never made.
	expand   func(v int32) int32
	expanded []bool
	undone   int // shortest length of trail since search last looked
}

func newSAT(vars int) sat {
	return sat{
		watches: make([][]int32, 2*vars), value: make([]int8, vars), level: make([]int32, vars),
		reason: make([]int32, vars), seen: make([]bool, vars), expanded: make([]bool, vars),
	}
}

func slot(l int32) int32 {
	if l > 0 {
		return 2 * l
	}
	return -2*l + 1
}

func abs(l int32) int32 { return max(l, -l) }

// holds is 1 where l is true, -1 where false, 0 where undecided.
func (s *sat) holds(l int32) int8 {
	if l > 0 {
		return s.value[l]
	}
	return -s.value[-l]
}

func (s *sat) depth() int32 { return int32(len(s.limits)) }

func (s *sat) assign(l, why int32) {
	v := abs(l)
	s.value[v] = 1
	if l < 0 {
		s.value[v] = -1
	}
	s.level[v], s.reason[v] = s.depth(), why
	s.trail = append(s.trail, l)
}

// add stores a rule and acts on it under the current assignment. A rule whose
// literals are false already is returned as violated.
//
// Rules come while the search is under way, but only rules of the package that
// was assigned last on the current level, so the literals to watch are those
// that are undone first: nothing implied is missed when going back.
func (s *sat) add(r rule) (id, violated int32) {
	id = int32(len(s.rules))
	rank := func(l int32) int32 {
		if s.holds(l) >= 0 {
			return -1
		}
		return -s.level[abs(l)]
	}
	// Undecided and true literals first, then the false ones, latest first.
	for i := 0; i < min(2, len(r.lits)); i++ {
		best := i
		for j := i + 1; j < len(r.lits); j++ {
			if less(s, r.lits[j], r.lits[best], rank) {
				best = j
			}
		}
		r.lits[i], r.lits[best] = r.lits[best], r.lits[i]
	}
	s.rules = append(s.rules, r)
	if len(r.lits) == 0 {
		return id, id
	}
	// A rule of one literal is watched, too: violated together with another rule
	// it may be forgotten when going back.
	for _, l := range r.lits[:min(2, len(r.lits))] {
		s.watch(l, id)
	}
	switch first := s.holds(r.lits[0]); {
	case first < 0:
		return id, id
	case first == 0 && (len(r.lits) == 1 || s.holds(r.lits[1]) < 0):
		s.assign(r.lits[0], id)
	}
	return id, noReason
}

// less orders literals for watching.
func less(s *sat, a, b int32, rank func(int32) int32) bool {
	fa, fb := s.holds(a) < 0, s.holds(b) < 0
	if fa != fb {
		return fb
	}
	return fa && rank(a) < rank(b)
}

func (s *sat) watch(l, id int32) { s.watches[slot(l)] = append(s.watches[slot(l)], id) }

// propagate draws all conclusions; it returns a violated rule or noReason.
func (s *sat) propagate() int32 {
	for s.head < len(s.trail) {
		l := s.trail[s.head]
		s.head++
		if l > 0 && !s.expanded[l] && s.expand != nil {
			if bad := s.expand(l); bad != noReason {
				return bad
			}
		}
		if bad := s.visit(-l); bad != noReason {
			return bad
		}
	}
	return noReason
}

// visit looks at the rules watching l, which has become false.
func (s *sat) visit(l int32) int32 {
	list := s.watches[slot(l)]
	kept := list[:0]
	for i, id := range list {
		lits := s.rules[id].lits
		if len(lits) == 1 {
			s.watches[slot(l)] = append(kept, list[i:]...)
			return id
		}
		if lits[0] == l {
			lits[0], lits[1] = lits[1], lits[0]
		}
		if s.holds(lits[0]) > 0 || !s.rewatch(lits, id) {
			kept = append(kept, id)
			if s.holds(lits[0]) > 0 {
				continue
			}
			if s.holds(lits[0]) < 0 {
				kept = append(kept, list[i+1:]...)
				s.watches[slot(l)] = kept
				return id
			}
			s.assign(lits[0], id)
		}
	}
	s.watches[slot(l)] = kept
	return noReason
}

// rewatch moves the second watch to a literal that is not false.
func (s *sat) rewatch(lits []int32, id int32) bool {
	for k := 2; k < len(lits); k++ {
		if s.holds(lits[k]) >= 0 {
			lits[1], lits[k] = lits[k], lits[1]
			s.watch(lits[1], id)
			return true
		}
	}
	return false
}

// revert undoes everything above level.
func (s *sat) revert(level int32) {
	if s.depth() <= level {
		return
	}
	n := s.limits[level]
	for _, l := range s.trail[n:] {
		s.value[abs(l)] = 0
	}
	s.trail, s.limits = s.trail[:n], s.limits[:level]
	s.head = n
	s.undone = min(s.undone, n)
}

// learn turns a violated rule into a new one that would have prevented it,
// goes back as far as that rule reaches and applies it. It must not be called
// on level 0.
func (s *sat) learn(bad int32) {
	var lits, from []int32
	var marked []int32
	open, at := 0, len(s.trail)-1
	top := s.depth()
	pivot := int32(0)
	for id := bad; ; {
		from = append(from, id)
		for _, l := range s.rules[id].lits {
			v := abs(l)
			if l == pivot || s.seen[v] || s.level[v] == 0 {
				continue
			}
			s.seen[v] = true
			marked = append(marked, v)
			if s.level[v] >= top {
				open++
			} else {
				lits = append(lits, l)
			}
		}
		for !s.seen[abs(s.trail[at])] {
			at--
		}
		pivot = s.trail[at]
		at--
		if open--; open == 0 {
			break
		}
		id = s.reason[abs(pivot)]
	}
	for _, v := range marked {
		s.seen[v] = false
	}
	back := int32(0)
	for _, l := range lits {
		back = max(back, s.level[abs(l)])
	}
	s.revert(back)
	s.add(rule{lits: append([]int32{-pivot}, lits...), kind: ruleLearned, from: from})
}

// core returns the rules, none of them learned, that a violated rule on level 0
// follows from.
func (s *sat) core(bad int32) []int32 {
	seen := make(map[int32]bool)
	todo := []int32{bad}
	var out []int32
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if id == noReason || seen[id] {
			continue
		}
		seen[id] = true
		r := &s.rules[id]
		if r.kind == ruleLearned {
			todo = append(todo, r.from...)
		} else {
			out = append(out, id)
		}
		for _, l := range r.lits {
			if v := abs(l); s.value[v] != 0 && s.level[v] == 0 {
				todo = append(todo, s.reason[v])
			}
		}
	}
	slices.Sort(out)
	return out
}

// satisfiable decides a small set of clauses by itself, without preferences.
func satisfiable(vars int, clauses [][]int32) bool {
	s := newSAT(vars)
	for _, c := range clauses {
		if _, b := s.add(rule{lits: slices.Clone(c)}); b != noReason {
			return false
		}
	}
	for next := int32(1); ; {
		if bad := s.propagate(); bad != noReason {
			if s.depth() == 0 {
				return false
			}
			s.learn(bad)
			next = 1
			continue
		}
		for int(next) < vars && s.value[next] != 0 {
			next++
		}
		if int(next) == vars {
			return true
		}
		s.limits = append(s.limits, len(s.trail))
		s.assign(-next, noReason)
	}
}
