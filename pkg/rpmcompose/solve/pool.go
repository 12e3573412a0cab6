// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// pool indexes the eligible packages. Package variables count from 1 in a
// canonical order (name, newest first, own architecture before noarch, better
// repository first), which is what makes the answer independent of the order
// of the input.
type pool struct {
	p     *Problem
	index []int         // variable -> index in Problem.Packages; [0] unused
	varOf map[int]int32 // the inverse, eligible packages only

	names    map[string][]int32 // package name -> variables
	seed     maphash.Seed
	heads    []int32            // hash of a capability's name -> first of its provides
	provides []provide          // chained by next
	files    map[string][]int32 // wanted path -> who has it
	asked    map[string][]int32 // path -> answer of Lookup
	cache    map[rpm.Dep][]int32
	rich     map[string]*formula
	multi    map[string]bool // install-only names
	suppl    []int32         // variables with Supplements

	installed map[int]bool // by index in Problem.Packages
}

type provide struct {
	v, next int32
	dep     *rpm.Dep
}

func newPool(p *Problem) (*pool, error) {
	if p.Arch == "" {
		return nil, fmt.Errorf("solve: no architecture given")
	}
	pl := &pool{
		p: p, varOf: make(map[int]int32, len(p.Packages)), asked: map[string][]int32{},
		cache: map[rpm.Dep][]int32{}, rich: map[string]*formula{}, multi: map[string]bool{},
	}
	if p.System != nil {
		pl.installed = map[int]bool{}
		for _, i := range p.System.Installed {
			pl.installed[i] = true
		}
	}
	for _, n := range p.InstallOnly {
		pl.multi[n] = true
	}
	f, err := newFilter(p)
	if err != nil {
		return nil, err
	}
	pl.index = append(make([]int, 0, len(p.Packages)+1), -1)
	for i := range p.Packages {
		if f.reason(i) == "" || pl.installed[i] {
			pl.index = append(pl.index, i)
		}
	}
	slices.SortFunc(pl.index[1:], pl.compare)
	pl.names = make(map[string][]int32, len(pl.index))
	for v := int32(1); int(v) < len(pl.index); v++ {
		pl.varOf[pl.index[v]] = v
		pkg := pl.pkg(v)
		pl.names[pkg.NEVRA.Name] = append(pl.names[pkg.NEVRA.Name], v)
		if len(pkg.Supplements) > 0 {
			pl.suppl = append(pl.suppl, v)
		}
	}
	pl.indexProvides()
	return pl, pl.indexFiles()
}

func (pl *pool) pkg(v int32) *Package { return &pl.p.Packages[pl.index[v]] }

// size is one more than the number of variables.
func (pl *pool) size() int { return len(pl.index) }

func (pl *pool) compare(i, j int) int {
	a, b := &pl.p.Packages[i], &pl.p.Packages[j]
	if c := cmp.Or(strings.Compare(a.NEVRA.Name, b.NEVRA.Name), rpm.Compare(b.NEVRA.EVR, a.NEVRA.EVR)); c != 0 {
		return c
	}
	if pl.installed != nil && pl.installed[i] != pl.installed[j] {
		return 1 - 2*flag(pl.installed[i])
	}
	if a.NEVRA.Arch != b.NEVRA.Arch {
		if ra, rb := slices.Index(pl.p.Arches, a.NEVRA.Arch), slices.Index(pl.p.Arches, b.NEVRA.Arch); ra >= 0 && rb >= 0 {
			return cmp.Compare(ra, rb)
		}
		if (a.NEVRA.Arch == "noarch") != (b.NEVRA.Arch == "noarch") {
			if b.NEVRA.Arch == "noarch" {
				return -1
			}
			return 1
		}
		return strings.Compare(a.NEVRA.Arch, b.NEVRA.Arch)
	}
	// "1.0" and "1.00" are equal versions; the spelling decides.
	if c := cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Cost, b.Cost), strings.Compare(a.Repo, b.Repo), strings.Compare(a.NEVRA.String(), b.NEVRA.String())); c != 0 {
		return c
	}
	// The same build twice in one repository: compare what it says.
	return strings.Compare(fingerprint(a), fingerprint(b))
}

func fingerprint(p *Package) string {
	var b strings.Builder
	for _, list := range [][]rpm.Dep{p.Requires, p.Provides, p.Conflicts, p.Obsoletes, p.Recommends, p.Suggests, p.Supplements, p.Enhances} {
		lines := make([]string, 0, len(list))
		for _, d := range list {
			lines = append(lines, d.String())
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, "\n"))
		b.WriteByte(0)
	}
	files := slices.Sorted(slices.Values(p.Files))
	b.WriteString(strings.Join(files, "\n"))
	return b.String()
}

// indexProvides makes a hash table over the names of all provides: chains
// through one array, which for a million of them takes a quarter of the room of
// a map of lists. Chains keep the canonical order.
func (pl *pool) indexProvides() {
	total := 0
	for v := int32(1); int(v) < pl.size(); v++ {
		total += len(pl.pkg(v).Provides) + 1
	}
	buckets := 1 << bits.Len(uint(total))
	pl.seed = maphash.MakeSeed()
	pl.heads = make([]int32, buckets)
	pl.provides = make([]provide, 0, total+1)
	pl.provides = append(pl.provides, provide{}) // 0 ends a chain
	for v := int32(pl.size() - 1); v > 0; v-- {
		pkg := pl.pkg(v)
		self := false
		for i := len(pkg.Provides) - 1; i >= 0; i-- {
			d := &pkg.Provides[i]
			self = self || d.Name == pkg.NEVRA.Name && d.Sense() == rpm.DepEqual
			pl.addProvide(v, d)
		}
		if !self {
			pl.addProvide(v, &rpm.Dep{Name: pkg.NEVRA.Name, Flags: rpm.DepEqual, EVR: pkg.NEVRA.EVR})
		}
	}
}

func (pl *pool) addProvide(v int32, d *rpm.Dep) {
	head := pl.bucket(d.Name)
	pl.provides = append(pl.provides, provide{v, *head, d})
	*head = int32(len(pl.provides) - 1)
}

func (pl *pool) bucket(name string) *int32 {
	return &pl.heads[maphash.String(pl.seed, name)&uint64(len(pl.heads)-1)]
}

// indexFiles finds who has the paths that some dependency names.
func (pl *pool) indexFiles() error {
	pl.files = map[string][]int32{}
	for _, s := range pl.p.Install {
		if strings.HasPrefix(s, "/") {
			pl.files[s] = nil
		}
	}
	for v := int32(1); int(v) < pl.size(); v++ {
		pkg := pl.pkg(v)
		for _, list := range [][]rpm.Dep{pkg.Requires, pkg.Recommends, pkg.Supplements, pkg.Suggests, pkg.Enhances, pkg.Conflicts} {
			for i := range list {
				if err := pl.wantPaths(&list[i]); err != nil {
					return fmt.Errorf("read dependencies of %s: %w", pkg.NEVRA, err)
				}
			}
		}
	}
	for v := int32(1); int(v) < pl.size(); v++ {
		for _, f := range pl.pkg(v).Files {
			if have, ok := pl.files[f]; ok && (len(have) == 0 || have[len(have)-1] != v) {
				pl.files[f] = append(have, v)
			}
		}
	}
	return nil
}

func (pl *pool) wantPaths(d *rpm.Dep) error {
	if isRich(*d) {
		f, err := pl.formula(d.Name)
		if err != nil {
			return err
		}
		f.leaves(func(leaf rpm.Dep) {
			if strings.HasPrefix(leaf.Name, "/") {
				pl.files[leaf.Name] = nil
			}
		})
		return nil
	}
	if strings.HasPrefix(d.Name, "/") {
		pl.files[d.Name] = nil
	}
	return nil
}

func isRich(d rpm.Dep) bool { return d.Rich || strings.HasPrefix(d.Name, "(") }

// providers returns the variables that satisfy a plain dependency, ascending.
// With ask, file lists are consulted for a path nobody is known to have.
func (pl *pool) providers(d rpm.Dep, ask bool) []int32 {
	d.Flags &= rpm.DepSenseMask
	if got, ok := pl.cache[d]; ok {
		return got
	}
	var out []int32
	for at := *pl.bucket(d.Name); at != 0; at = pl.provides[at].next {
		pr := &pl.provides[at]
		if pr.dep.Name == d.Name && d.Matches(*pr.dep) && (len(out) == 0 || out[len(out)-1] != pr.v) {
			out = append(out, pr.v)
		}
	}
	if strings.HasPrefix(d.Name, "/") {
		out = append(out, pl.files[d.Name]...)
		if len(out) == 0 {
			if !ask {
				return pl.asked[d.Name]
			}
			out = pl.lookup(d.Name)
		}
		slices.Sort(out)
		out = slices.Compact(out)
	}
	pl.cache[d] = out
	return out
}

func (pl *pool) lookup(path string) []int32 {
	if got, ok := pl.asked[path]; ok || pl.p.Lookup == nil {
		return got
	}
	if pl.p.Expect != nil && len(pl.asked) == 0 {
		pl.p.Expect(pl.unknownPaths())
	}
	var out []int32
	for _, i := range pl.p.Lookup(path) {
		if v, ok := pl.varOf[i]; ok {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	pl.asked[path] = out
	return out
}

func (pl *pool) unknownPaths() []string {
	var out []string
	for path, owners := range pl.files {
		if len(owners) == 0 {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}

// obsoleted returns the variables whose own name and version match: obsoletes
// do not look at provides.
func (pl *pool) obsoleted(d rpm.Dep) []int32 {
	var out []int32
	for _, v := range pl.names[d.Name] {
		n := pl.pkg(v).NEVRA
		if d.Matches(rpm.Dep{Name: n.Name, Flags: rpm.DepEqual, EVR: n.EVR}) {
			out = append(out, v)
		}
	}
	return out
}

func (pl *pool) formula(text string) (*formula, error) {
	if f, ok := pl.rich[text]; ok {
		return f, nil
	}
	f, err := parseRich(text)
	if err != nil {
		return nil, err
	}
	pl.rich[text] = f
	return f, nil
}
