// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"fmt"
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// expandPackage adds the rules of package v, which has just come in, and
// returns the first violated one.
func (s *search) expandPackage(v int32) int32 {
	s.expanded[v] = true
	bad := int32(noReason)
	add := func(kind ruleKind, why string, lits ...int32) {
		_, b := s.add(rule{lits: lits, kind: kind, owner: v, why: why})
		// That v is impossible by itself is the best thing to learn.
		if b != noReason && (bad == noReason || len(lits) == 1) {
			bad = b
		}
	}
	pkg := s.pool.pkg(v)
	from := len(s.rules)
	s.choices = s.choices[:0]
	s.addSameName(v, add)
	for _, d := range pkg.Obsoletes {
		for _, o := range s.pool.obsoleted(d) {
			// A new version of a package does not obsolete those it lives beside.
			if o != v && (s.sys == nil || !s.pool.multi[pkg.NEVRA.Name] || s.pool.pkg(o).NEVRA.Name != pkg.NEVRA.Name) {
				add(ruleObsoletes, d.String(), -v, -o)
			}
		}
	}
	for _, d := range pkg.Conflicts {
		s.addConflict(v, d, add)
	}
	for _, d := range pkg.Requires {
		s.addRequirement(v, d, add)
	}
	for _, r := range s.choices {
		if _, b := s.add(r); b != noReason && bad == noReason {
			bad = b
		}
	}
	// A rich conflict, too, can ask for a package: "(a unless b)".
	for id := from; id < len(s.rules); id++ {
		if slices.ContainsFunc(s.rules[id].lits, func(l int32) bool { return l > 0 }) {
			s.needs[v] = append(s.needs[v], int32(id))
		}
	}
	return bad
}

type addRule func(kind ruleKind, why string, lits ...int32)

// addSameName keeps other builds of the same name out.
func (s *search) addSameName(v int32, add addRule) {
	n := s.pool.pkg(v).NEVRA
	for _, o := range s.pool.names[n.Name] {
		if o == v {
			continue
		}
		same := rpm.Compare(s.pool.pkg(o).NEVRA.EVR, n.EVR) == 0
		if s.pool.multi[n.Name] && !same {
			continue
		}
		// The two word sizes of one package share files: their versions are equal.
		if same && !s.pool.rivals(v, o) {
			continue
		}
		add(ruleSameName, "", -v, -o)
	}
}

func (s *search) addConflict(v int32, d rpm.Dep, add addRule) {
	if !isRich(d) {
		for _, o := range s.pool.providers(d, true) {
			// A package does not conflict with itself.
			if o != v {
				add(ruleConflicts, d.String(), -v, -o)
			}
		}
		return
	}
	for _, c := range s.clauses(d, false) {
		if slices.Contains(c, v) || len(c) == 1 && c[0] == -v {
			continue
		}
		add(ruleConflicts, d.Name, withOwner(c, v)...)
	}
}

func (s *search) addRequirement(v int32, d rpm.Dep, add addRule) {
	if d.IsRpmlib() {
		// A feature of the rpm program; the reader of packages checks those.
		return
	}
	if !isRich(d) {
		who := s.pool.providers(d, true)
		if !slices.Contains(who, v) {
			add(ruleRequires, d.String(), append([]int32{-v}, who...)...)
			s.addChoice(v, d, who)
		}
		return
	}
	for _, c := range s.clauses(d, true) {
		if !slices.Contains(c, v) {
			add(ruleRequires, d.Name, withOwner(c, v)...)
		}
	}
}

// withOwner is the clause for the case that v is in.
func withOwner(c []int32, v int32) []int32 {
	out := []int32{-v}
	for _, l := range c {
		if l != -v {
			out = append(out, l)
		}
	}
	return out
}

// clauses expands a rich dependency. Its syntax was checked when the pool was
// made; one too large to expand stops the search.
func (s *search) clauses(d rpm.Dep, want bool) [][]int32 {
	f, err := s.pool.formula(d.Name)
	if err != nil {
		s.fail(err)
		return nil
	}
	c, err := s.pool.clauses(f, want)
	if err != nil {
		s.fail(fmt.Errorf("expand %q: %w", d.Name, err))
	}
	return c
}
