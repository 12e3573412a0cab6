// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"errors"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func TestRichProviders(t *testing.T) {
	t.Parallel()
	have := map[string][]int{"a": {1}, "b": {2, 3}, "c": {3, 1}}
	plain := func(d rpm.Dep) []int { return have[d.Name] }
	for text, want := range map[string][]int{
		"(a and b)": {1, 2, 3}, "(a and x)": nil, "(a or x)": {1}, "(x or y)": nil, "(a or (x and b))": {1},
		"(a if b)": {1}, "(a if x)": nil, "(a if x else b)": {2, 3}, "((a if x) and b)": {2, 3},
		"(a unless b)": nil, "(a unless x)": {1}, "(a unless b else c)": {1, 3},
		"(b with c)": {3}, "(b without c)": {2}, "(b without a)": {2, 3}, "((a if (x unless b)) and c)": {1, 3},
	} {
		got, err := RichProviders(text, plain)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", text, got, err, want)
		}
	}
	if _, err := RichProviders("(a and", plain); !errors.Is(err, ErrRich) {
		t.Errorf("malformed: %v", err)
	}
}
