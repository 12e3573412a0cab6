// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"slices"
	"testing"
)

// An explanation names no rule that the contradiction does not need.
func TestMinimalCore(t *testing.T) {
	t.Parallel()
	s := &search{sat: newSAT(6)}
	var all []int32
	for _, lits := range [][]int32{{3}, {1}, {-3, 4}, {-1, 2, 5}, {-2}, {-4, 3}, {-5}} {
		all = append(all, int32(len(s.rules)))
		s.rules = append(s.rules, rule{lits: lits})
	}
	if got := s.minimal(all); !slices.Equal(got, []int32{1, 3, 4, 6}) {
		t.Errorf("got %v", got)
	}
}

func TestSatisfiable(t *testing.T) {
	t.Parallel()
	// Three pigeons, two holes: not by propagation alone.
	var holes [][]int32
	at := func(pigeon, hole int32) int32 { return pigeon*2 + hole + 1 }
	for p := range int32(3) {
		holes = append(holes, []int32{at(p, 0), at(p, 1)})
		for q := range p {
			holes = append(holes, []int32{-at(p, 0), -at(q, 0)}, []int32{-at(p, 1), -at(q, 1)})
		}
	}
	if satisfiable(7, holes) {
		t.Error("three pigeons fit into two holes")
	}
	if !satisfiable(7, holes[1:]) {
		t.Error("two pigeons do not fit")
	}
	if satisfiable(2, [][]int32{{1}, {-1}}) || !satisfiable(2, nil) {
		t.Error("trivial cases are wrong")
	}
}
