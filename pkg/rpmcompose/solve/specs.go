// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// filter decides which packages are eligible.
type filter struct {
	p      *Problem
	names  map[string][]int // all packages, eligible or not
	banned map[int]string   // why not
	locks  map[string]rpm.EVR
}

func newFilter(p *Problem) (*filter, error) {
	f := &filter{p: p, names: make(map[string][]int, len(p.Packages)), banned: map[int]string{}, locks: map[string]rpm.EVR{}}
	for i := range p.Packages {
		n := p.Packages[i].NEVRA.Name
		f.names[n] = append(f.names[n], i)
	}
	for _, spec := range p.Exclude {
		for _, i := range f.match(spec) {
			f.banned[i] = "it is excluded"
		}
	}
	for _, spec := range sortedKeys(p.FromRepo) {
		repo := p.FromRepo[spec]
		for _, i := range f.match(spec) {
			if p.Packages[i].Repo != repo {
				f.banned[i] = "it may only come from repository " + repo
			}
		}
	}
	return f, nil
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// reason says why package i is not eligible; empty if it is.
func (f *filter) reason(i int) string {
	pkg := &f.p.Packages[i]
	if a := pkg.NEVRA.Arch; !f.p.eligible(a) {
		return "it is for architecture " + a
	}
	if why := f.banned[i]; why != "" {
		return why
	}
	lock, ok := f.p.Locks[pkg.NEVRA.Name]
	if !ok {
		if f.p.StrictLocks {
			return "it is not in the lock file"
		}
		return ""
	}
	if matchesLock(pkg.NEVRA, lock) {
		return ""
	}
	return "the lock file wants " + pkg.NEVRA.Name + "-" + lock
}

func matchesLock(n rpm.NEVRA, lock string) bool {
	for _, s := range []string{lock, strings.TrimSuffix(lock, "."+n.Arch)} {
		if evr, err := rpm.ParseEVR(s); err == nil && rpm.Compare(evr, n.EVR) == 0 {
			return true
		}
	}
	return false
}

// eligible reports whether packages of an architecture can be used.
func (p *Problem) eligible(arch string) bool {
	if len(p.Arches) == 0 {
		return arch == p.Arch || arch == "noarch"
	}
	return arch == "noarch" || slices.Contains(p.Arches, arch) || p.Arches[0] == "*" && arch != "src" && arch != "nosrc"
}

func isGlob(spec string) bool { return strings.ContainsAny(spec, "*?[") }

// match returns the packages that a specification means: by name, and only if
// no name matches, by name with architecture or version.
func (f *filter) match(spec string) []int {
	if isGlob(spec) {
		return f.matchGlob(spec)
	}
	if got := f.names[spec]; len(got) > 0 {
		return got
	}
	var out []int
	for cut, c := range spec {
		if c != '-' && c != '.' {
			continue
		}
		for _, i := range f.names[spec[:cut]] {
			if slices.Contains(forms(f.p.Packages[i].NEVRA), spec) {
				out = append(out, i)
			}
		}
	}
	return out
}

func (f *filter) matchGlob(spec string) []int {
	var out []int
	for name, list := range f.names {
		if ok, _ := path.Match(spec, name); ok {
			out = append(out, list...)
		}
	}
	if len(out) == 0 {
		for i := range f.p.Packages {
			for _, form := range forms(f.p.Packages[i].NEVRA) {
				if ok, _ := path.Match(spec, form); ok {
					out = append(out, i)
					break
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// forms are the ways to write a package beside its bare name.
func forms(n rpm.NEVRA) []string {
	v, vr := n.Version, n.Version+"-"+n.Release
	evr := fmt.Sprintf("%d:%s", n.Epoch, vr)
	out := []string{n.Name + "." + n.Arch}
	for _, s := range []string{v, vr, evr} {
		out = append(out, n.Name+"-"+s, n.Name+"-"+s+"."+n.Arch)
	}
	return append(out, fmt.Sprintf("%d:%s-%s.%s", n.Epoch, n.Name, vr, n.Arch))
}

// addJobs turns Install into rules. It returns the packages that requests name.
func (s *search) addJobs() (map[int32]bool, error) {
	f, err := newFilter(s.pool.p)
	if err != nil {
		return nil, err
	}
	// Packages asked for by name come before capabilities, for which there may
	// be a choice: they shall not lose their newest version to it.
	specs := slices.Clone(s.pool.p.Install)
	slices.SortFunc(specs, func(a, b string) int {
		return cmp.Or(flag(len(f.match(a)) == 0)-flag(len(f.match(b)) == 0), strings.Compare(a, b))
	})
	requested := map[int32]bool{}
	var missing []string
	for _, spec := range slices.Compact(specs) {
		lists, err := s.resolve(f, spec)
		if err != nil {
			return nil, err
		}
		if lists == nil {
			missing = append(missing, s.nothingMatches(f, spec))
		}
		for _, list := range lists {
			s.addJob(spec, list, requested)
		}
	}
	if len(missing) > 0 {
		return nil, &Unsolvable{Reasons: missing}
	}
	s.learnedFrom = len(s.rules)
	return requested, nil
}

func (s *search) addJob(spec string, list []int32, requested map[int32]bool) {
	id, bad := s.add(rule{lits: slices.Clone(list), kind: ruleJob, why: spec})
	if bad != noReason && s.bad == noReason {
		s.bad = bad
	}
	s.jobs = append(s.jobs, id)
	for _, v := range list {
		if v > 0 {
			requested[v] = true
		}
	}
}

// resolve returns the rules of one request: of each list, one literal must
// hold. Nil: nothing eligible matches.
func (s *search) resolve(f *filter, spec string) ([][]int32, error) {
	switch {
	case strings.HasPrefix(spec, "("):
		formula, err := parseRich(spec)
		if err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		c, err := s.pool.clauses(formula, true)
		if err != nil {
			return nil, fmt.Errorf("request %q: %w", spec, err)
		}
		if c == nil {
			c = [][]int32{}
		}
		return c, nil
	case strings.HasPrefix(spec, "/"):
		return one(s.pool.providers(rpm.Dep{Name: spec}, true)), nil
	case strings.ContainsAny(spec, "<>= \t"):
		formula, err := parseRich("(" + spec + ")")
		if err != nil || formula.op != opLeaf {
			return nil, fmt.Errorf("request %q: not NAME, or NAME and a version: %w", spec, ErrRich)
		}
		return one(s.pool.providers(formula.leaf, true)), nil
	}
	got := f.match(spec)
	if len(got) == 0 {
		return one(s.pool.providers(rpm.Dep{Name: spec}, true)), nil
	}
	byName := map[string][]int32{}
	for _, i := range got {
		if v, ok := s.pool.varOf[i]; ok {
			name := f.p.Packages[i].NEVRA.Name
			byName[name] = append(byName[name], v)
		}
	}
	var lists [][]int32
	for _, list := range byName {
		slices.Sort(list)
		lists = append(lists, s.pool.notLesser(list))
	}
	slices.SortFunc(lists, slices.Compare)
	return lists, nil
}

func one(list []int32) [][]int32 {
	if len(list) == 0 {
		return nil
	}
	return [][]int32{list}
}

// nothingMatches explains a request that no eligible package meets.
func (s *search) nothingMatches(f *filter, spec string) string {
	got := f.match(spec)
	if len(got) == 0 {
		return fmt.Sprintf("%s was requested, but no package has that name or provides it%s", spec, s.nearMiss(spec))
	}
	var why []string
	for _, i := range got {
		why = append(why, fmt.Sprintf("%s (%s)", f.p.Packages[i].NEVRA, f.reason(i)))
	}
	slices.Sort(why)
	return fmt.Sprintf("%s was requested, but cannot be used: %s", spec, listing(slices.Compact(why)))
}
