// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Order sorts a set of packages (indexes into packages) for installation:
// every package after all it requires. Where requirements form a circle, those
// that scripts need beforehand (Requires(pre), Requires(post), interpreters)
// are kept and plain ones given up; a circle of only those is cut where the
// fewest are broken. The packages setup and filesystem, with what they
// require, come first: they bring the users and directories that others count
// on without saying so. Names decide the rest, so the order depends on nothing
// but the set. For lookup see Problem.Lookup; it may be nil.
func Order(packages []Package, set []int, lookup func(path string) []int) []int {
	o := newOrderer(packages, set, lookup)
	var out []int
	for _, group := range o.groups(o.first()) {
		out = append(out, o.cut(group)...)
	}
	for i, n := range out {
		out[i] = o.set[n]
	}
	return out
}

// orderer is the graph of a set; nodes are positions in set, which is sorted by
// name and version.
type orderer struct {
	packages []Package
	set      []int
	needs    [][]int // all requirements
	strong   [][]int // those that scripts have
}

const strongFlags = rpm.DepPreReq | rpm.DepScriptPre | rpm.DepScriptPost | rpm.DepInterp | rpm.DepPreTrans | rpm.DepPostTrans

func newOrderer(packages []Package, set []int, lookup func(path string) []int) *orderer {
	o := &orderer{packages: packages, set: slices.Clone(set)}
	slices.SortFunc(o.set, func(a, b int) int {
		if c := rpm.CompareNEVRA(packages[a].NEVRA, packages[b].NEVRA); c != 0 {
			return c
		}
		return strings.Compare(packages[a].Repo, packages[b].Repo)
	})
	index := o.index(lookup)
	o.needs, o.strong = make([][]int, len(o.set)), make([][]int, len(o.set))
	for n := range o.set {
		for _, d := range o.pkg(n).Requires {
			o.link(n, d, index)
		}
		o.needs[n], o.strong[n] = uniqueInts(o.needs[n]), uniqueInts(o.strong[n])
	}
	return o
}

func (o *orderer) pkg(n int) *Package { return &o.packages[o.set[n]] }

type offer struct {
	node int
	dep  rpm.Dep
}

// index maps capabilities and paths to the nodes that offer them.
func (o *orderer) index(lookup func(path string) []int) map[string][]offer {
	index := make(map[string][]offer)
	wanted := map[string]bool{}
	for n := range o.set {
		for _, d := range o.pkg(n).Requires {
			if !isRich(d) {
				wanted[d.Name] = true
				continue
			}
			if f, err := parseRich(d.Name); err == nil {
				f.leaves(func(l rpm.Dep) { wanted[l.Name] = true })
			}
		}
	}
	add := func(n int, d rpm.Dep) {
		if wanted[d.Name] {
			index[d.Name] = append(index[d.Name], offer{n, d})
		}
	}
	for n := range o.set {
		p := o.pkg(n)
		add(n, rpm.Dep{Name: p.NEVRA.Name, Flags: rpm.DepEqual, EVR: p.NEVRA.EVR})
		for _, d := range p.Provides {
			add(n, d)
		}
		for _, f := range p.Files {
			add(n, rpm.Dep{Name: f})
		}
	}
	if lookup == nil {
		return index
	}
	for path := range wanted {
		if !strings.HasPrefix(path, "/") || len(index[path]) > 0 {
			continue
		}
		for _, i := range lookup(path) {
			if n := slices.Index(o.set, i); n >= 0 {
				add(n, rpm.Dep{Name: path})
			}
		}
	}
	return index
}

// link adds the edges for one requirement. What the package itself offers needs
// nobody else.
func (o *orderer) link(n int, d rpm.Dep, index map[string][]offer) {
	if d.IsRpmlib() {
		return
	}
	leaves := []rpm.Dep{d}
	if isRich(d) {
		f, err := parseRich(d.Name)
		if err != nil {
			return
		}
		leaves = nil
		f.leaves(func(l rpm.Dep) { leaves = append(leaves, l) })
	}
	for _, l := range leaves {
		var who []int
		for _, of := range index[l.Name] {
			if l.Matches(of.dep) {
				who = append(who, of.node)
			}
		}
		if slices.Contains(who, n) {
			continue
		}
		o.needs[n] = append(o.needs[n], who...)
		if d.Flags&strongFlags != 0 {
			o.strong[n] = append(o.strong[n], who...)
		}
	}
}

func uniqueInts(list []int) []int {
	slices.Sort(list)
	return slices.Compact(list)
}

// first are the nodes to walk from first.
func (o *orderer) first() []int {
	var out []int
	for _, name := range []string{"setup", "filesystem"} {
		for n := range o.set {
			if o.pkg(n).NEVRA.Name == name {
				out = append(out, n)
			}
		}
	}
	return out
}

// groups returns the strongly connected components, each after those it needs
// (Tarjan's algorithm, without recursion).
func (o *orderer) groups(first []int) [][]int {
	t := tarjan{low: make([]int, len(o.set)), num: make([]int, len(o.set)), on: make([]bool, len(o.set))}
	for _, n := range first {
		t.walk(n, o.needs)
	}
	for n := range o.set {
		t.walk(n, o.needs)
	}
	return t.out
}

type tarjan struct {
	low, num []int
	on       []bool
	next     int
	stack    []int
	out      [][]int
}

type frame struct{ node, edge int }

func (t *tarjan) walk(root int, edges [][]int) {
	if t.num[root] != 0 {
		return
	}
	frames := []frame{t.enter(root)}
	for len(frames) > 0 {
		f := &frames[len(frames)-1]
		n := f.node
		if f.edge < len(edges[n]) {
			m := edges[n][f.edge]
			f.edge++
			switch {
			case t.num[m] == 0:
				frames = append(frames, t.enter(m))
			case t.on[m]:
				t.low[n] = min(t.low[n], t.num[m])
			}
			continue
		}
		frames = frames[:len(frames)-1]
		if len(frames) > 0 {
			up := frames[len(frames)-1].node
			t.low[up] = min(t.low[up], t.low[n])
		}
		if t.low[n] == t.num[n] {
			t.leave(n)
		}
	}
}

func (t *tarjan) enter(n int) frame {
	t.next++
	t.num[n], t.low[n], t.on[n] = t.next, t.next, true
	t.stack = append(t.stack, n)
	return frame{node: n}
}

func (t *tarjan) leave(root int) {
	var group []int
	for {
		n := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		t.on[n] = false
		group = append(group, n)
		if n == root {
			break
		}
	}
	slices.Sort(group)
	t.out = append(t.out, group)
}

// cut orders a circle: it takes, again and again, the package with the fewest
// unmet script requirements, then the fewest other ones.
func (o *orderer) cut(group []int) []int {
	out := make([]int, 0, len(group))
	left := map[int]bool{}
	for _, n := range group {
		left[n] = true
	}
	for len(left) > 0 {
		best, cost := -1, [2]int{}
		for _, n := range group {
			if !left[n] {
				continue
			}
			c := [2]int{unmet(o.strong[n], n, left), unmet(o.needs[n], n, left)}
			if best < 0 || c[0] < cost[0] || c[0] == cost[0] && c[1] < cost[1] {
				best, cost = n, c
			}
		}
		out = append(out, best)
		delete(left, best)
	}
	return out
}

func unmet(edges []int, self int, left map[int]bool) int {
	n := 0
	for _, e := range edges {
		if e != self && left[e] {
			n++
		}
	}
	return n
}
