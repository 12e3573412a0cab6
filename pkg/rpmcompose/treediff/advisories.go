// SPDX-License-Identifier: Apache-2.0

package treediff

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
)

// ErrAdvisories reports a list of advisories in a commit that cannot be read.
var ErrAdvisories = errors.New("invalid list of advisories in the commit")

// advisoriesKey is the commit metadata, in the commit or beside it, that lists the
// security advisories of a tree, a(suuasa{sv}): id, kind, severity, packages, and
// references as cve_references, a(ss). Source: rpm-ostree.
const advisoriesKey = "rpmostree.advisories"

// Advisories are the advisories that a step from one tree to the other concerns,
// sorted by id.
type Advisories struct {
	Added []Advisory `json:"added"` // what the new tree has the remedy for and the old one has not
	Lost  []Advisory `json:"lost"`  // the reverse, by downgrades
}

// Advisory is a message of the distributor about packages.
type Advisory struct {
	ID       string `json:"id"`
	Type     string `json:"type"` // security, bugfix, enhancement, newpackage
	Severity string `json:"severity,omitempty"`
	Title    string `json:"title,omitempty"`
	// Packages are the NEVRAs that have the remedy and stand in the tree, or, from
	// updateinfo, that the tree has reached.
	Packages   []string    `json:"packages"`
	References []Reference `json:"references,omitempty"`
}

// Reference points to a bug or a vulnerability.
type Reference struct {
	URL   string `json:"url"`
	Title string `json:"title,omitempty"`
}

func compareAdvisories(from, to *side, d pkglist.Diff, known []rpmmd.Advisory) (Advisories, error) {
	if known != nil {
		return Advisories{Added: reached(known, d.Upgraded, d.Added), Lost: reached(known, reversed(d.Downgraded), nil)}, nil
	}
	var lists [2][]Advisory
	for i, s := range []*side{from, to} {
		var err error
		if lists[i], err = s.advisories(); err != nil {
			return Advisories{}, fmt.Errorf("commit %s: %w", s.sum, err)
		}
	}
	out := Advisories{Added: []Advisory{}, Lost: []Advisory{}}
	for _, a := range lists[1] {
		if !hasID(lists[0], a.ID) {
			out.Added = append(out.Added, a)
		}
	}
	// A list names what is fixed by just the packages of its tree: an advisory that is
	// missing after an upgrade is superseded, after a downgrade it is lost.
	gone := map[string]bool{}
	for _, p := range d.Downgraded {
		gone[nevra(p.Old)] = true
	}
	for _, a := range lists[0] {
		if !hasID(lists[1], a.ID) && slices.ContainsFunc(a.Packages, func(n string) bool { return gone[n] }) {
			out.Lost = append(out.Lost, a)
		}
	}
	return out, nil
}

func hasID(list []Advisory, id string) bool {
	return slices.ContainsFunc(list, func(a Advisory) bool { return a.ID == id })
}

func reversed(list []pkglist.Pair) []pkglist.Pair {
	out := make([]pkglist.Pair, len(list))
	for i, p := range list {
		out[i] = pkglist.Pair{Old: p.New, New: p.Old}
	}
	return out
}

// reached lists the advisories whose package lies above the old version and not
// above the new one, or is an added package not above its version.
func reached(known []rpmmd.Advisory, pairs []pkglist.Pair, added []pkglist.Package) []Advisory {
	steps := map[string][]pkglist.Pair{}
	for _, p := range pairs {
		k := p.New.Name + "." + p.New.Arch
		steps[k] = append(steps[k], p)
	}
	for _, p := range added {
		k := p.Name + "." + p.Arch
		steps[k] = append(steps[k], pkglist.Pair{New: p})
	}
	byID := map[string]*Advisory{}
	for _, k := range known {
		for _, n := range k.Packages {
			for _, p := range steps[n.Name+"."+n.Arch] {
				if p.Old.Name != "" && rpm.Compare(p.Old.EVR, n.EVR) >= 0 || rpm.Compare(n.EVR, p.New.EVR) > 0 {
					continue
				}
				a := byID[k.ID]
				if a == nil {
					a = describeAdvisory(k)
					byID[k.ID] = a
				}
				if s := n.String(); !slices.Contains(a.Packages, s) {
					a.Packages = append(a.Packages, s)
				}
			}
		}
	}
	out := []Advisory{}
	for _, a := range byID {
		slices.Sort(a.Packages)
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Advisory) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func describeAdvisory(k rpmmd.Advisory) *Advisory {
	a := &Advisory{ID: k.ID, Type: k.Type, Severity: strings.ToLower(k.Severity), Title: k.Title}
	for _, r := range k.References {
		a.References = append(a.References, Reference{URL: r.URL, Title: cmp.Or(r.Title, r.ID)})
	}
	return a
}

// advisories reads what the commit tells, in it or beside it.
func (s *side) advisories() ([]Advisory, error) {
	v, ok := s.commit.Metadata.Get(advisoriesKey)
	if !ok {
		detached, err := s.repo.CommitMeta(s.sum)
		if err != nil {
			return nil, err
		}
		if v, ok = detached.Get(advisoriesKey); !ok {
			return nil, nil
		}
	}
	return parseAdvisories(v)
}

func parseAdvisories(v gvariant.Value) ([]Advisory, error) {
	if v.Type() != "a(suuasa{sv})" {
		return nil, fmt.Errorf("%w: type %s", ErrAdvisories, v.Type())
	}
	var out []Advisory
	for _, row := range v.Children() {
		f := row.Children()
		if len(f) != 5 {
			return nil, fmt.Errorf("%w: %d fields", ErrAdvisories, len(f))
		}
		id, ok1 := f[0].Str()
		kind, ok2 := f[1].Uint32()
		severity, ok3 := f[2].Uint32()
		packages, ok4 := f[3].Strings()
		more, ok5 := f[4].Dict()
		if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
			return nil, fmt.Errorf("%w: damaged entry %q", ErrAdvisories, id)
		}
		a := Advisory{ID: id, Packages: packages,
			Type:     word([]string{"unknown", "security", "bugfix", "enhancement", "newpackage"}, kind),
			Severity: word([]string{"", "low", "moderate", "important", "critical"}, severity)}
		refs, _ := more.Get("cve_references")
		a.References = references(refs)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Advisory) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func word(words []string, n uint32) string {
	if uint64(n) < uint64(len(words)) {
		return words[n]
	}
	return "unknown"
}

// references reads a(ss), address and title; others are none.
func references(v gvariant.Value) []Reference {
	if v.Type() != "a(ss)" {
		return nil
	}
	var out []Reference
	for _, row := range v.Children() {
		f := row.Children()
		if len(f) != 2 {
			continue
		}
		url, _ := f[0].Str()
		title, _ := f[1].Str()
		out = append(out, Reference{URL: url, Title: title})
	}
	return out
}
