// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// RichProviders gives the members of a set of packages that a rich dependency rests
// on, sorted: of "(a and b)" the providers of both, of "(a or b)" those of whatever is
// there, of "(a if b)" those of a where b is there, and none otherwise. providers gives
// the members that meet a plain dependency. Where the set does not meet the dependency
// there are none. A malformed text is an error that wraps [ErrRich].
func RichProviders(text string, providers func(rpm.Dep) []int) ([]int, error) {
	f, err := parseRich(text)
	if err != nil {
		return nil, err
	}
	set, _ := f.providers(providers)
	slices.Sort(set)
	return slices.Compact(set), nil
}

func (f *formula) providers(plain func(rpm.Dep) []int) (set []int, holds bool) {
	switch f.op {
	case opLeaf:
		set = slices.Clone(plain(f.leaf))
		return set, len(set) > 0
	case opIf, opUnless:
		_, condition := f.args[1].providers(plain)
		switch {
		case condition == (f.op == opIf):
			return f.args[0].providers(plain)
		case len(f.args) == 3:
			return f.args[2].providers(plain)
		}
		return nil, true
	}
	for i, a := range f.args {
		sub, ok := a.providers(plain)
		switch {
		case f.op == opAnd && !ok:
			return nil, false
		case f.op == opAnd || f.op == opOr || i == 0:
			set = append(set, sub...)
		default:
			set = slices.DeleteFunc(set, func(n int) bool { return slices.Contains(sub, n) == (f.op == opWithout) })
		}
	}
	return set, f.op == opAnd || len(set) > 0
}
