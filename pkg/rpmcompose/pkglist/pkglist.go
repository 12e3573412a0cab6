// SPDX-License-Identifier: Apache-2.0

// Package pkglist reads the package list that a composed commit carries and
// tells how two such lists differ.
package pkglist

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// metadataKey is the commit metadata that lists the packages of a tree, a(sssss):
// name, epoch, version, release, architecture.
const metadataKey = "rpmostree.rpmdb.pkglist"

// ErrInvalid reports a package list that cannot be read.
var ErrInvalid = errors.New("invalid package list in the commit")

// Package is one package of a tree.
type Package struct {
	Name string  `json:"name"`
	EVR  rpm.EVR `json:"-"`
	Arch string  `json:"arch"`
}

// MarshalText gives NAME-[EPOCH:]VERSION-RELEASE.ARCH.
func (p Package) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String gives NAME-[EPOCH:]VERSION-RELEASE.ARCH.
func (p Package) String() string { return p.Name + "-" + p.Version() + "." + p.Arch }

// Version gives [EPOCH:]VERSION-RELEASE.
func (p Package) Version() string {
	s := p.EVR.Version + "-" + p.EVR.Release
	if p.EVR.Epoch != 0 {
		s = fmt.Sprintf("%d:%s", p.EVR.Epoch, s)
	}
	return s
}

// Pair is a package before and after.
type Pair struct {
	Old Package `json:"old"`
	New Package `json:"new"`
}

// Diff is how the packages of two trees differ, each list sorted by name.
type Diff struct {
	Upgraded   []Pair    `json:"upgraded,omitempty"`
	Downgraded []Pair    `json:"downgraded,omitempty"`
	Removed    []Package `json:"removed,omitempty"`
	Added      []Package `json:"added,omitempty"`
}

// Empty reports that the trees have the same packages.
func (d Diff) Empty() bool {
	return len(d.Upgraded)+len(d.Downgraded)+len(d.Removed)+len(d.Added) == 0
}

// Read gives the package list of a commit; ok is false where it has none.
func Read(c ostree.Commit) (list []Package, ok bool, err error) {
	v, ok := c.Metadata.Get(metadataKey)
	if !ok {
		return nil, false, nil
	}
	if v.Type() != "a(sssss)" {
		return nil, false, fmt.Errorf("%w: type %s", ErrInvalid, v.Type())
	}
	for _, row := range v.Children() {
		var f [5]string
		for i, field := range row.Children() {
			f[i], _ = field.Str()
		}
		p := Package{Name: f[0], Arch: f[4], EVR: rpm.EVR{Version: f[2], Release: f[3]}}
		if f[1] != "" && f[1] != "0" {
			epoch, err := strconv.ParseUint(f[1], 10, 32)
			if err != nil {
				return nil, false, fmt.Errorf("%w: epoch %q of %s", ErrInvalid, f[1], p.Name)
			}
			p.EVR.Epoch, p.EVR.HasEpoch = uint32(epoch), true
		}
		list = append(list, p)
	}
	return list, true, nil
}

// CompareCommits compares the lists of two commits of a repository; nil where a
// commit is absent or has no list.
func CompareCommits(repo *ostree.Repo, from, to ostree.Checksum) (*Diff, error) {
	var lists [2][]Package
	for i, sum := range []ostree.Checksum{from, to} {
		c, err := repo.LoadCommit(sum)
		if errors.Is(err, ostree.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		list, ok, err := Read(c)
		if err != nil {
			return nil, fmt.Errorf("commit %s: %w", sum, err)
		}
		if !ok {
			return nil, nil
		}
		lists[i] = list
	}
	d := Compare(lists[0], lists[1])
	return &d, nil
}

// Compare compares two package lists. A package is paired with the one of
// the same name and architecture; failing that, where a name occurs once on
// either side, with the one of another architecture. Names that may be
// installed in several versions at once, as kernels are, are paired only if one
// version is left over on either side, and count as removed and added otherwise.
func Compare(from, to []Package) Diff {
	var d Diff
	removed, added := without(from, to), without(to, from)
	byArch := func(p Package) string { return p.Name + "\x00" + p.Arch }
	removed, added = d.pair(removed, added, byArch)
	removed, added = d.pair(removed, added, func(p Package) string { return p.Name })
	d.Removed, d.Added = sorted(removed), sorted(added)
	byName := func(a, b Pair) int { return compare(a.Old, b.Old) }
	slices.SortFunc(d.Upgraded, byName)
	slices.SortFunc(d.Downgraded, byName)
	return d
}

// without returns the packages of a that b does not have.
func without(a, b []Package) []Package {
	have := map[string]int{}
	for _, p := range b {
		have[p.String()]++
	}
	var out []Package
	for _, p := range a {
		if have[p.String()] > 0 {
			have[p.String()]--
			continue
		}
		out = append(out, p)
	}
	return out
}

// pair moves packages whose key occurs once on either side into Upgraded or
// Downgraded and returns the rest.
func (d *Diff) pair(removed, added []Package, key func(Package) string) (r, a []Package) {
	before, after := group(removed, key), group(added, key)
	for _, old := range removed {
		k := key(old)
		if len(before[k]) != 1 || len(after[k]) != 1 {
			r = append(r, old)
			continue
		}
		p := Pair{Old: old, New: after[k][0]}
		switch c := rpm.Compare(p.Old.EVR, p.New.EVR); {
		case c < 0:
			d.Upgraded = append(d.Upgraded, p)
		case c > 0:
			d.Downgraded = append(d.Downgraded, p)
		default: // the same version for another architecture
			r = append(r, old)
			a = append(a, p.New)
		}
	}
	for _, p := range added {
		if k := key(p); len(before[k]) != 1 || len(after[k]) != 1 {
			a = append(a, p)
		}
	}
	return r, a
}

func group(list []Package, key func(Package) string) map[string][]Package {
	out := map[string][]Package{}
	for _, p := range list {
		out[key(p)] = append(out[key(p)], p)
	}
	return out
}

func sorted(list []Package) []Package {
	slices.SortFunc(list, compare)
	return list
}

func compare(a, b Package) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), rpm.Compare(a.EVR, b.EVR), cmp.Compare(a.Arch, b.Arch))
}
