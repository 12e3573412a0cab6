// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// PlannedAdvisory is a security advisory that packages of the plan belong to.
type PlannedAdvisory struct {
	ID       string   `json:"id"`
	Severity string   `json:"severity,omitempty"`
	Packages []string `json:"packages"` // NEVRAs
	CVEs     []CVE    `json:"cves,omitempty"`
}

// CVE is a reference of an advisory that names vulnerabilities in its title.
type CVE struct {
	URL   string `json:"url"`
	Title string `json:"title"`
}

// advisories lists those of type security whose packages are in the plan, by id.
// They are no part of the input hash.
func (u *universe) advisories(ctx context.Context, m *treefile.Manifest, packages []PlannedPackage) ([]PlannedAdvisory, error) {
	if m.AdvisoriesMetadata == treefile.MetadataDisabled {
		return nil, nil
	}
	planned := map[string]bool{}
	for _, p := range packages {
		planned[strings.Replace(p.NEVRA(), "-0:", "-", 1)] = true
	}
	found := map[string]PlannedAdvisory{}
	for _, md := range u.metas {
		list, err := md.Updateinfo(ctx)
		if errors.Is(err, rpmmd.ErrNoList) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if a.Type == "security" {
				addAdvisory(found, a, planned)
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b PlannedAdvisory) int { return cmp.Compare(a.ID, b.ID) }), nil
}

func addAdvisory(found map[string]PlannedAdvisory, a rpmmd.Advisory, planned map[string]bool) {
	p := found[a.ID]
	for _, n := range a.Packages {
		if nevra := n.Name + "-" + n.EVR.String() + "." + n.Arch; planned[nevra] && !slices.Contains(p.Packages, nevra) {
			p.Packages = append(p.Packages, nevra)
		}
	}
	if len(p.Packages) == 0 {
		return
	}
	slices.Sort(p.Packages)
	if p.ID == "" {
		p.ID, p.Severity, p.CVEs = a.ID, a.Severity, cves(a.References)
	}
	found[a.ID] = p
}

// cves keeps of the references to bugs the first, by URL, for every vulnerability.
func cves(refs []rpmmd.Reference) []CVE {
	name := regexp.MustCompile(`\bCVE-[0-9]+-[0-9]+\b`)
	refs = slices.SortedStableFunc(slices.Values(refs), func(a, b rpmmd.Reference) int { return cmp.Compare(a.URL, b.URL) })
	seen := map[string]bool{}
	var out []CVE
	for _, r := range refs {
		if r.Type != "bugzilla" || r.URL == "" {
			continue
		}
		isNew := false
		for _, id := range name.FindAllString(r.Title, -1) {
			isNew = isNew || !seen[id]
			seen[id] = true
		}
		if isNew {
			out = append(out, CVE{URL: r.URL, Title: r.Title})
		}
	}
	return out
}

// advisoryList is a(suuasa{sv}): id, kind (1 is security), severity, packages, and
// the references as cve_references. Source: rpm-ostree's rpmostree.advisories.
func advisoryList(list []PlannedAdvisory) gvariant.Value {
	severities := []string{"none", "low", "moderate", "important", "critical"}
	values := make([]gvariant.Value, len(list))
	for i, a := range list {
		refs := make([]gvariant.Value, len(a.CVEs))
		for j, c := range a.CVEs {
			refs[j] = gvariant.Tuple(gvariant.String(c.URL), gvariant.String(c.Title))
		}
		var more gvariant.Dict
		more.Set("cve_references", gvariant.Array("(ss)", refs...))
		severity := max(0, slices.Index(severities, strings.ToLower(a.Severity)))
		values[i] = gvariant.Tuple(gvariant.String(a.ID), gvariant.Uint32(1), gvariant.Uint32(uint32(severity)),
			gvariant.Strings(a.Packages), more.Value())
	}
	return gvariant.Array("(suuasa{sv})", values...)
}
