// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"fmt"
	"io"
	"strconv"
)

// Suite tells which part of the archive an index file describes.
type Suite struct {
	Codename string // "bookworm", "bookworm-updates", "bookworm-security"
	Security bool
	Config   string // apt configuration that offers it; empty: the machine's
}

// Package is one version of one binary package.
type Package struct {
	Name          string
	Version       string
	Arch          string
	Source        string
	SourceVersion string
	Section       string
	Homepage      string
	Description   string
	Essential     bool
	SHA256        string
	Size          int64
	Suite         Suite

	// Relation fields as written.
	Depends, PreDepends, Recommends, Suggests, Enhances string
	Conflicts, Breaks, Replaces, Provides               string
}

var indexFields = map[string]bool{
	"Package": true, "Version": true, "Architecture": true, "Source": true, "Section": true,
	"Homepage": true, "Description": true, "Essential": true, "SHA256": true, "Size": true,
	"Depends": true, "Pre-Depends": true, "Recommends": true, "Suggests": true, "Enhances": true,
	"Conflicts": true, "Breaks": true, "Replaces": true, "Provides": true,
}

// Index holds the newest version of each package among the suites added.
type Index struct {
	packages  map[string]*Package
	providers map[string][]provider
}

type provider struct {
	pkg     *Package
	version string // empty: unversioned
}

// ReadPackages reads one Packages file.
func ReadPackages(r io.Reader, suite Suite) ([]*Package, error) {
	var out []*Package
	err := ReadStanzas(r, indexFields, func(s Stanza) error {
		p, err := packageFrom(s, suite)
		if err != nil {
			return err
		}
		out = append(out, p)
		return nil
	})
	return out, err
}

func packageFrom(s Stanza, suite Suite) (*Package, error) {
	size, err := strconv.ParseInt(s["Size"], 10, 64)
	if err != nil || s["Package"] == "" || s["Version"] == "" || len(s["SHA256"]) != 64 {
		return nil, fmt.Errorf("read index stanza %q %q: incomplete", s["Package"], s["Version"])
	}
	p := &Package{
		Name: s["Package"], Version: s["Version"], Arch: s["Architecture"], Section: s["Section"],
		Homepage: s["Homepage"], Description: s["Description"], Essential: s["Essential"] == "yes",
		SHA256: s["SHA256"], Size: size, Suite: suite,
		Depends: s["Depends"], PreDepends: s["Pre-Depends"], Recommends: s["Recommends"],
		Suggests: s["Suggests"], Enhances: s["Enhances"], Conflicts: s["Conflicts"],
		Breaks: s["Breaks"], Replaces: s["Replaces"], Provides: s["Provides"],
	}
	p.Source, p.SourceVersion = p.Name, p.Version
	if src := s["Source"]; src != "" {
		var v string
		n, _ := fmt.Sscanf(src, "%s (%s", &p.Source, &v)
		if n == 2 && len(v) > 1 {
			p.SourceVersion = v[:len(v)-1]
		}
	}
	return p, nil
}

// NewIndex keeps the newest version of each package in lists.
func NewIndex(lists ...[]*Package) (*Index, error) {
	x := &Index{packages: map[string]*Package{}, providers: map[string][]provider{}}
	var order []string
	for _, list := range lists {
		for _, p := range list {
			old := x.packages[p.Name]
			if old == nil {
				order = append(order, p.Name)
			}
			if old == nil || CompareVersions(p.Version, old.Version) > 0 {
				x.packages[p.Name] = p
			}
		}
	}
	for _, name := range order {
		p := x.packages[name]
		if p.Provides == "" {
			continue
		}
		groups, err := ParseRelations(p.Provides)
		if err != nil {
			return nil, fmt.Errorf("read provides of %s: %w", name, err)
		}
		for _, g := range groups {
			x.providers[g[0].Name] = append(x.providers[g[0].Name], provider{p, g[0].Version})
		}
	}
	return x, nil
}

// Get returns the package of that name, nil when there is none.
func (x *Index) Get(name string) *Package { return x.packages[name] }

// Essential lists the packages that the archive calls essential, by name.
func (x *Index) Essential() []*Package {
	var out []*Package
	for _, p := range x.packages {
		if p.Essential {
			out = append(out, p)
		}
	}
	sortPackages(out)
	return out
}
