// SPDX-License-Identifier: Apache-2.0

package treediff

import (
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Packages are the packages that differ, each list sorted by name.
type Packages struct {
	Upgraded   []PackageChange `json:"upgraded"`
	Downgraded []PackageChange `json:"downgraded"`
	Added      []PackageChange `json:"added"`
	Removed    []PackageChange `json:"removed"`
}

// Count gives the number of changes.
func (p Packages) Count() int {
	return len(p.Upgraded) + len(p.Downgraded) + len(p.Added) + len(p.Removed)
}

// PackageChange is one package that differs.
type PackageChange struct {
	Name string   `json:"name"`
	Old  *Package `json:"old,omitempty"` // nil for an added one
	New  *Package `json:"new,omitempty"` // nil for a removed one
	// Changelog has the entries that only the newer package has, newest first: what an
	// upgrade brings and a downgrade takes away.
	Changelog []ChangelogEntry `json:"changelog,omitempty"`
}

// Package is a package of one of the trees.
type Package struct {
	NEVRA   string `json:"nevra"`
	Version string `json:"version"` // [EPOCH:]VERSION-RELEASE
	Arch    string `json:"arch"`
	Source  string `json:"source,omitempty"` // file name of the source package
	Size    uint64 `json:"size,omitempty"`   // installed, in bytes
}

// ChangelogEntry is one entry of a package's changelog.
type ChangelogEntry struct {
	Time   time.Time `json:"time"`
	Author string    `json:"author"` // with the version, as packagers write it
	Text   string    `json:"text"`
}

func comparePackages(from, to *side, d pkglist.Diff) *Packages {
	out := &Packages{Upgraded: []PackageChange{}, Downgraded: []PackageChange{}, Added: []PackageChange{}, Removed: []PackageChange{}}
	for _, p := range d.Upgraded {
		out.Upgraded = append(out.Upgraded, PackageChange{Name: p.New.Name, Old: from.describePackage(p.Old), New: to.describePackage(p.New),
			Changelog: newEntries(from.find(p.Old), to.find(p.New))})
	}
	for _, p := range d.Downgraded {
		out.Downgraded = append(out.Downgraded, PackageChange{Name: p.New.Name, Old: from.describePackage(p.Old), New: to.describePackage(p.New),
			Changelog: newEntries(to.find(p.New), from.find(p.Old))})
	}
	for _, p := range d.Added {
		out.Added = append(out.Added, PackageChange{Name: p.Name, New: to.describePackage(p)})
	}
	for _, p := range d.Removed {
		out.Removed = append(out.Removed, PackageChange{Name: p.Name, Old: from.describePackage(p)})
	}
	return out
}

func nevra(p pkglist.Package) string {
	return rpm.NEVRA{Name: p.Name, EVR: p.EVR, Arch: p.Arch}.String()
}

// find gives the header of a package, nil without a database.
func (s *side) find(p pkglist.Package) *rpm.Package { return s.packages[nevra(p)] }

func (s *side) describePackage(p pkglist.Package) *Package {
	out := &Package{NEVRA: nevra(p), Version: p.Version(), Arch: p.Arch}
	if h := s.find(p); h != nil {
		out.Source, out.Size = h.SourceRPM(), h.Size()
	}
	return out
}

// newEntries lists what the changelog of newer has and that of older has not.
func newEntries(older, newer *rpm.Package) []ChangelogEntry {
	if older == nil || newer == nil {
		return nil
	}
	have := map[rpm.ChangeLog]int{}
	for _, e := range older.ChangeLog() {
		have[e]++
	}
	var out []ChangelogEntry
	for _, e := range newer.ChangeLog() {
		if have[e] > 0 {
			have[e]--
			continue
		}
		// JSON has no years beyond these.
		if y := e.Time.Year(); y < 0 || y > 9999 {
			e.Time = time.Unix(0, 0).UTC()
		}
		out = append(out, ChangelogEntry(e))
	}
	return out
}
