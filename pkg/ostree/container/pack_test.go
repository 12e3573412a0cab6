// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func unitsOf(t *rapid.T) []unit {
	n := rapid.IntRange(0, 60).Draw(t, "units")
	out := make([]unit, n)
	for i := range out {
		out[i] = unit{Component: Component{Name: fmt.Sprintf("u%02d", i), Packages: []string{fmt.Sprintf("p%02d", i), fmt.Sprintf("q%02d", i)},
			Often: rapid.Bool().Draw(t, "often")}, size: rapid.Int64Range(0, 1000).Draw(t, "size"), pinned: i < 2}
	}
	return out
}

func list(units []unit, bins []bin) (out [][]string) {
	for _, b := range bins {
		var names []string
		for _, i := range b {
			names = append(names, units[i].Packages...)
		}
		out = append(out, names)
	}
	return out
}

func TestPackEachOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		units := unitsOf(t)
		n := rapid.IntRange(1, 40).Draw(t, "layers")
		bins := pack(units, n, nil)
		check := func(bins []bin) {
			seen := map[int]int{}
			for _, b := range bins {
				if len(b) == 0 {
					t.Fatal("an empty layer")
				}
				for _, i := range b {
					seen[i]++
				}
			}
			if len(bins) > n || len(seen) != len(units) {
				t.Fatalf("%d of %d layers with %d of %d units", len(bins), n, len(seen), len(units))
			}
		}
		check(bins)
		// With an earlier image every unit stays with those it was with.
		again := pack(units, n, list(units, bins))
		check(again)
		if fmt.Sprint(again) != fmt.Sprint(bins) {
			t.Fatalf("%v becomes %v", bins, again)
		}
	})
}

func TestPackStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		units := unitsOf(t)
		n := rapid.IntRange(1, 40).Draw(t, "layers")
		before := pack(units, n, nil)
		fresh := append(slices.Clone(units), unit{Component: Component{Name: "new", Packages: []string{"new"}}, size: rapid.Int64Range(0, 2000).Draw(t, "new")})
		after := pack(fresh, n, list(units, before))
		if len(units) == 0 {
			return
		}
		changed := 0
		for _, b := range before {
			if !slices.ContainsFunc(after, func(a bin) bool { return slices.Equal(a, b) }) {
				changed++
			}
		}
		if changed > 1 {
			t.Fatalf("%d layers change: %v, %v", changed, before, after)
		}
	})
}

// TestPackByName: without an earlier image a small unit more or less moves no other
// small one.
func TestPackByName(t *testing.T) {
	t.Parallel()
	var units []unit
	for i := range 200 {
		units = append(units, unit{Component: Component{Name: fmt.Sprintf("u%03d", i), Often: i%5 == 0}, size: int64(10000 - i)})
	}
	for n := 3; n < 60; n++ {
		shared := func(units []unit) map[string]bool {
			out := map[string]bool{}
			for _, b := range pack(units, n, nil) {
				for _, i := range b {
					for _, k := range b {
						out[units[i].Name+" "+units[k].Name] = true
					}
				}
			}
			return out
		}
		all, fewer := shared(units), shared(units[:199])
		for pair := range fewer {
			if !all[pair] {
				t.Fatalf("%d layers: %s are apart", n, pair)
			}
		}
	}
}
