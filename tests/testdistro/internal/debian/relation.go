// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"fmt"
	"regexp"
	"strings"
)

// Atom is one package name with an optional version relation.
type Atom struct {
	Name    string
	Op      string // "", "<<", "<=", "=", ">=" or ">>"
	Version string
}

// Group is a list of alternatives, in the archive's order of preference.
type Group []Atom

var atomPattern = regexp.MustCompile(
	`^([A-Za-z0-9][A-Za-z0-9+.\-]*)(?::[a-z0-9\-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^)\s]+)\s*\))?$`)

// ParseRelations reads a field such as Depends. Architecture qualifiers
// (":any") are dropped: the distribution has one architecture.
func ParseRelations(field string) ([]Group, error) {
	var groups []Group
	for part := range strings.SplitSeq(field, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		var g Group
		for alt := range strings.SplitSeq(part, "|") {
			m := atomPattern.FindStringSubmatch(strings.TrimSpace(alt))
			if m == nil {
				return nil, fmt.Errorf("parse relation %q: unknown form", strings.TrimSpace(alt))
			}
			g = append(g, Atom{Name: m[1], Op: canonicalOp(m[2]), Version: m[3]})
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// canonicalOp maps the obsolete "<" and ">", which mean "or equal".
func canonicalOp(op string) string {
	switch op {
	case "<":
		return "<="
	case ">":
		return ">="
	}
	return op
}

// Accepts reports whether version v satisfies the relation.
func (a Atom) Accepts(v string) bool {
	if a.Op == "" {
		return true
	}
	c := CompareVersions(v, a.Version)
	switch a.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}
