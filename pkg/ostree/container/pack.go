// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// DefaultLayers is the number of layers of an image: half of what the strictest
// stores take, so that there is room for layers of others.
const DefaultLayers = 64

// bin is one layer of files: indexes into units.
type bin []int

// pack spreads units over at most n layers. What is pinned and the largest units have
// a layer each. The others share layers, chosen by a hash of their names: a unit
// stays where it is while others come, go and grow. previous has the packages of the
// layers of an earlier image; units that it knows stay together as they were.
func pack(units []unit, n int, previous [][]string) []bin {
	if n <= 0 {
		return nil
	}
	if bins, ok := repack(units, n, previous); ok {
		return bins
	}
	var bins []bin
	var rest bin
	for i, u := range units {
		if u.pinned && n-len(bins) > 1 {
			bins = append(bins, bin{i})
		} else {
			rest = append(rest, i)
		}
	}
	slices.SortFunc(rest, func(a, b int) int {
		return cmp.Or(cmp.Compare(units[b].size, units[a].size), cmp.Compare(units[a].Name, units[b].Name))
	})
	if free := n - len(bins); len(rest) > free {
		// The number of shared layers depends on n alone, for the hash's sake.
		alone := free * 6 / 10
		bins = append(bins, share(units, rest[alone:], free-alone)...)
		rest = rest[:alone]
	}
	for _, i := range rest {
		bins = append(bins, bin{i})
	}
	return arrange(units, bins)
}

// share spreads units over n layers, apart by how often they change.
func share(units []unit, list bin, n int) []bin {
	var seldom, often bin
	for _, i := range list {
		if units[i].Often {
			often = append(often, i)
		} else {
			seldom = append(seldom, i)
		}
	}
	if n < 2 || len(seldom) == 0 || len(often) == 0 {
		return spread(units, list, n, "")
	}
	return append(spread(units, seldom, n-n/2, "seldom"), spread(units, often, n/2, "often")...)
}

// spread chooses for each unit the layer with the highest hash of both names.
func spread(units []unit, list bin, n int, class string) []bin {
	bins := make([]bin, n)
	for _, i := range list {
		var best uint64
		at := 0
		for k := range bins {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s %d", units[i].Name, class, k))
			if score := binary.BigEndian.Uint64(sum[:]); score > best {
				best, at = score, k
			}
		}
		bins[at] = append(bins[at], i)
	}
	return bins
}

// repack follows an earlier image. A unit is where most of its packages were; what is
// new has a layer of its own while there is one, then the smallest shared one.
func repack(units []unit, n int, previous [][]string) ([]bin, bool) {
	if len(previous) == 0 || len(previous) > n {
		return nil, false
	}
	where := map[string]int{}
	for k, packages := range previous {
		for _, name := range packages {
			where[name] = k
		}
	}
	bins := make([]bin, len(previous))
	var fresh bin
	for i, u := range units {
		votes := map[int]int{}
		best := -1
		for _, name := range u.Packages {
			if k, ok := where[name]; ok {
				votes[k]++
				if best < 0 || votes[k] > votes[best] || votes[k] == votes[best] && k < best {
					best = k
				}
			}
		}
		if best < 0 {
			fresh = append(fresh, i)
			continue
		}
		bins[best] = append(bins[best], i)
	}
	bins = slices.DeleteFunc(bins, func(b bin) bool { return len(b) == 0 })
	if len(bins) == 0 {
		return nil, false // an image of another system
	}
	slices.SortFunc(fresh, func(a, b int) int {
		return cmp.Or(cmp.Compare(units[b].size, units[a].size), cmp.Compare(units[a].Name, units[b].Name))
	})
	for _, i := range fresh {
		if len(bins) < n {
			bins = append(bins, bin{i})
			continue
		}
		k := smallest(units, bins)
		bins[k] = append(bins[k], i)
	}
	return arrange(units, bins), true
}

// smallest prefers layers that are shared already: one of a large package alone
// stays as it is.
func smallest(units []unit, bins []bin) int {
	size := func(b bin) (n int64) {
		for _, i := range b {
			n += units[i].size
		}
		return n
	}
	best, shared := 0, false
	for k, b := range bins {
		s := len(b) > 1
		if k == 0 || s && !shared || s == shared && size(b) < size(bins[best]) {
			best, shared = k, s
		}
	}
	return best
}

// arrange drops empty layers and gives the others an order that depends on their
// names alone.
func arrange(units []unit, bins []bin) []bin {
	bins = slices.DeleteFunc(bins, func(b bin) bool { return len(b) == 0 })
	for _, b := range bins {
		slices.SortFunc(b, func(i, j int) int { return cmp.Compare(units[i].Name, units[j].Name) })
	}
	slices.SortFunc(bins, func(a, b bin) int { return cmp.Compare(units[a[0]].Name, units[b[0]].Name) })
	return bins
}

// packages lists what a layer holds, for its annotation.
func (b bin) packages(units []unit) string {
	var out []string
	for _, i := range b {
		out = append(out, units[i].Packages...)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}

// title describes a layer in the history.
func (b bin) title(units []unit) string {
	if len(b) > 5 {
		return fmt.Sprintf("%d components", len(b))
	}
	names := make([]string, len(b))
	for k, i := range b {
		names[k] = units[i].Name
	}
	return strings.Join(names, " and ")
}

// previousPackages reads the layers' annotations; those of the commit itself have none.
func previousPackages(m *Manifest) [][]string {
	var out [][]string
	for _, l := range m.Layers {
		if list := l.Annotations[labelComponents]; list != "" {
			out = append(out, strings.Split(list, ","))
		}
	}
	return out
}
