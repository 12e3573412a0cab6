// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

const (
	maxReasons   = 12  // sentences in one explanation
	maxListed    = 6   // packages in one sentence
	maxMinimized = 400 // rules up to which an explanation is made minimal
)

// Unsolvable says why no set of packages meets the requests: sentences from a
// request down to the root of the contradiction. None of them can be left out.
type Unsolvable struct {
	Reasons []string
}

func (u *Unsolvable) Error() string {
	return "no set of packages meets the requests: " + strings.Join(u.Reasons, "; ")
}

// explain builds the sentences for the rule violated without any decision.
func (s *search) explain(bad int32) error {
	core := s.minimal(s.core(bad))
	byOwner := map[int32][]int32{}
	for _, id := range core {
		r := &s.rules[id]
		byOwner[r.owner] = append(byOwner[r.owner], id)
		if r.kind == ruleConflicts || r.kind == ruleObsoletes || r.kind == ruleSameName {
			for _, l := range r.lits {
				if v := abs(l); v != r.owner {
					byOwner[v] = append(byOwner[v], id)
				}
			}
		}
	}
	var reasons []string
	told := map[int32]bool{}
	var tell func(owner int32)
	tell = func(owner int32) {
		for _, id := range byOwner[owner] {
			if told[id] {
				continue
			}
			told[id] = true
			reasons = append(reasons, s.sentence(id))
			lits := slices.Clone(s.rules[id].lits)
			slices.Sort(lits)
			for _, l := range lits {
				if l != -owner {
					tell(abs(l))
				}
			}
		}
	}
	tell(0)
	// What concerns installed packages begins with them.
	for _, id := range core {
		if k := s.rules[id].kind; !told[id] && k != ruleSameName {
			tell(s.rules[id].owner)
		}
	}
	if n := len(reasons); n > maxReasons {
		reasons = append(reasons[:maxReasons:maxReasons], fmt.Sprintf("and %d more", n-maxReasons))
	}
	return &Unsolvable{Reasons: reasons}
}

// minimal drops rules as long as the rest still contradicts itself.
func (s *search) minimal(core []int32) []int32 {
	if len(core) > maxMinimized {
		return core
	}
	compact := map[int32]int32{}
	clause := func(id int32) []int32 {
		var c []int32
		for _, l := range s.rules[id].lits {
			v, ok := compact[abs(l)]
			if !ok {
				v = int32(len(compact) + 1)
				compact[abs(l)] = v
			}
			if l < 0 {
				v = -v
			}
			c = append(c, v)
		}
		return c
	}
	all := make([][]int32, 0, len(core))
	for _, id := range core {
		all = append(all, clause(id))
	}
	for i := 0; i < len(core); {
		rest := slices.Concat(all[:i], all[i+1:])
		if satisfiable(len(compact)+1, rest) {
			i++
			continue
		}
		all, core = rest, slices.Concat(core[:i], core[i+1:])
	}
	return core
}

func (s *search) sentence(id int32) string {
	r := &s.rules[id]
	name := func(v int32) string { return s.pool.pkg(v).NEVRA.String() }
	var in, out []int32
	for _, l := range r.lits {
		switch {
		case l > 0:
			in = append(in, l)
		case -l != r.owner:
			out = append(out, -l)
		}
	}
	other := s.names(out)
	switch r.kind {
	case ruleKeep:
		head := fmt.Sprintf("package %s is installed", name(r.owner))
		switch in = slices.DeleteFunc(in, func(v int32) bool { return v == r.owner }); {
		case len(in) > 0 && slices.Contains(r.lits, r.owner):
			return head + ", and only " + s.names(in) + " may replace it"
		case len(in) > 0:
			return head + ", and has to be replaced by " + s.names(in)
		case slices.Contains(r.lits, r.owner):
			return head + ", and nothing may replace it"
		}
		return head + ", and what the repositories have may not replace it"
	case ruleDup:
		return fmt.Sprintf("package %s is installed, but in no repository", name(r.owner))
	case ruleBest:
		return fmt.Sprintf("the best update of %s is asked for, that is %s", name(r.owner), s.names(in))
	case ruleJob:
		if r.owner != 0 {
			if len(in) > 0 {
				return fmt.Sprintf("%s keeps package %s", r.why, name(r.owner))
			}
			return fmt.Sprintf("%s keeps package %s out", r.why, name(r.owner))
		}
		if len(in) == 1 && s.pool.pkg(in[0]).NEVRA.Name == r.why {
			return fmt.Sprintf("%s was requested, that is %s", r.why, name(in[0]))
		}
		return fmt.Sprintf("%s was requested, which can be %s", r.why, s.names(in))
	case ruleRequires:
		head := fmt.Sprintf("package %s requires %s", name(r.owner), r.why)
		if len(out) > 0 {
			head += fmt.Sprintf(" (while %s is in)", other)
		}
		if len(in) == 0 && len(out) > 0 {
			return head + ", which then cannot be"
		}
		if len(in) == 0 {
			return head + ", but nothing provides it" + s.nearMiss(r.why)
		}
		if len(in) == 1 {
			return head + ", which only " + name(in[0]) + " provides"
		}
		return head + ", but none of the providers can be installed: " + s.names(in)
	case ruleConflicts:
		return fmt.Sprintf("package %s conflicts with %s, that is %s", name(r.owner), r.why, other)
	case ruleObsoletes:
		return fmt.Sprintf("package %s obsoletes %s, that is %s", name(r.owner), r.why, other)
	}
	why := ""
	if a, b := s.pool.pkg(r.owner).NEVRA, s.pool.pkg(out[0]).NEVRA; color(a.Arch)&color(b.Arch) == 0 && rpm.Compare(a.EVR, b.EVR) != 0 {
		why = fmt.Sprintf(": builds for %s and %s must have the same version", a.Arch, b.Arch)
	}
	return fmt.Sprintf("packages %s and %s cannot be installed together%s", name(r.owner), other, why)
}

func (s *search) names(list []int32) string {
	out := make([]string, 0, len(list))
	for _, v := range slices.Sorted(slices.Values(list)) {
		out = append(out, s.pool.pkg(v).NEVRA.String())
	}
	return listing(out)
}

func listing(list []string) string {
	if n := len(list); n > maxListed {
		list = append(list[:maxListed:maxListed], fmt.Sprintf("and %d more", n-maxListed))
	}
	return strings.Join(list, ", ")
}

// nearMiss names packages that would do but are not eligible, or have another
// version.
func (s *search) nearMiss(why string) string {
	f, err := parseRich("(" + why + ")")
	if err != nil || f.op != opLeaf {
		return ""
	}
	flt, err := newFilter(s.pool.p)
	if err != nil {
		return ""
	}
	var barred, other []string
	for i := range s.pool.p.Packages {
		pkg := &s.pool.p.Packages[i]
		named, does := provides(pkg, f.leaf)
		reason := flt.reason(i)
		switch {
		case does && reason != "":
			barred = append(barred, fmt.Sprintf("%s (%s)", pkg.NEVRA, reason))
		case named && reason == "":
			other = append(other, pkg.NEVRA.String())
		}
	}
	slices.Sort(barred)
	slices.Sort(other)
	switch {
	case len(barred) > 0:
		return " except " + listing(slices.Compact(barred))
	case len(other) > 0:
		return " in that version; there is " + listing(slices.Compact(other))
	}
	return s.similar(f.leaf.Name)
}

// similar suggests names of which the missing one is a slip or a part.
func (s *search) similar(name string) string {
	var close, part []string
	for _, n := range slices.Sorted(maps.Keys(s.pool.names)) {
		switch {
		case strings.EqualFold(n, name) || oneOff(n, name):
			close = append(close, n)
		case len(name) > 2 && (strings.HasPrefix(n, name+"-") || strings.HasSuffix(n, "-"+name)):
			part = append(part, n)
		}
	}
	if close = append(close, part...); len(close) == 0 {
		return ""
	}
	return "; similar names are " + listing(close)
}

// oneOff reports whether one insertion, deletion, change or swap of
// neighbouring bytes makes a into b.
func oneOff(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 1:
		return len(a) > 2 && a[i:] == b[i+1:]
	case 0:
		return len(a) > 2 && i < len(a) && (a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:])
	}
	return false
}

// provides reports whether pkg offers the name of d, and in a version that fits.
func provides(pkg *Package, d rpm.Dep) (named, fits bool) {
	for _, p := range pkg.Provides {
		named = named || p.Name == d.Name
		fits = fits || d.Matches(p)
	}
	if pkg.NEVRA.Name == d.Name {
		named = true
		fits = fits || d.Matches(rpm.Dep{Name: d.Name, Flags: rpm.DepEqual, EVR: pkg.NEVRA.EVR})
	}
	if strings.HasPrefix(d.Name, "/") && slices.Contains(pkg.Files, d.Name) {
		return true, true
	}
	return named, fits
}
