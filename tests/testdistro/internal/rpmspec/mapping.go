// SPDX-License-Identifier: Apache-2.0

// Package rpmspec maps Debian versions and relations to RPM's and writes spec
// files. The two comparison algorithms agree on every version the archive
// carries; where the relations differ, the mapping says how.
package rpmspec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
)

// EVR is an RPM version. An empty Release appears in relations only.
type EVR struct {
	Epoch   string // empty for none
	Version string
	Release string
}

// String prints [epoch:]version[-release].
func (e EVR) String() string {
	s := e.Version
	if e.Release != "" {
		s += "-" + e.Release
	}
	if e.Epoch != "" {
		s = e.Epoch + ":" + s
	}
	return s
}

// FromDebian maps the version of a package. A native one gets release 0, which
// no Debian revision of the same upstream version precedes. RPM allows no
// hyphen inside a part.
func FromDebian(v string) EVR {
	e := relationEVR(v)
	if e.Release == "" {
		e.Release = "0"
	}
	return e
}

func relationEVR(v string) EVR {
	d := debian.ParseVersion(v)
	e := EVR{Version: hyphenless(d.Upstream), Release: hyphenless(d.Revision)}
	if e.Release == "." {
		// To dpkg a lone dot comes after every revision that begins with a
		// digit; RPM sees no segment in it and puts it first.
		e.Release = afterEveryRevision
	}
	if d.HasEpoch {
		e.Epoch = strconv.Itoa(d.Epoch)
	}
	return e
}

const afterEveryRevision = "99999999"

func hyphenless(s string) string {
	return strings.NewReplacer("-", "_", ":", "_").Replace(s)
}

// Relation maps one atom. RPM leaves the release out of a comparison where one
// side has none, dpkg does not: 2.36-9 is ">> 2.36" and not "<= 2.36". So those
// two compare with release 0.
func Relation(a debian.Atom) string {
	if a.Op == "" {
		return a.Name
	}
	e := relationEVR(a.Version)
	op := a.Op
	switch a.Op {
	case "<<":
		op = "<"
	case ">>":
		op = ">"
	}
	if e.Release == "" && (a.Op == ">>" || a.Op == "<=") {
		e.Release = "0"
	}
	return a.Name + " " + op + " " + e.String()
}

// Relations maps a field. Alternatives become a rich dependency; those for
// which drop is true are left out, and with the last of them the whole group.
func Relations(field string, drop func(debian.Atom) bool) ([]string, error) {
	groups, err := debian.ParseRelations(field)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, g := range groups {
		var alts []string
		for _, a := range g {
			if !drop(a) {
				alts = append(alts, Relation(a))
			}
		}
		switch len(alts) {
		case 0:
		case 1:
			out = append(out, alts[0])
		default:
			out = append(out, "("+strings.Join(alts, " or ")+")")
		}
	}
	return out, nil
}

// Provides maps the field of that name. An unversioned Provides of RPM meets
// every versioned relation, dpkg's meets none: give each the package's version.
func Provides(field string, own EVR) ([]string, error) {
	groups, err := debian.ParseRelations(field)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, g := range groups {
		if len(g) != 1 {
			return nil, fmt.Errorf("map provides %q: alternatives make no sense there", g)
		}
		a := g[0]
		if a.Op == "" {
			out = append(out, a.Name+" = "+own.String())
			continue
		}
		out = append(out, a.Name+" = "+relationEVR(a.Version).String())
	}
	return out, nil
}

// Name returns the name a relation string begins with, "" for a rich one.
func Name(relation string) string {
	if strings.HasPrefix(relation, "(") {
		return ""
	}
	name, _, _ := strings.Cut(relation, " ")
	return name
}
