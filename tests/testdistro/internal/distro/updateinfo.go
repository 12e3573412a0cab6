// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// advisory collects the updated packages of one source package.
type advisory struct {
	source   string
	packages []published
	changes  []debChange
	cves     []string
}

var cvePattern = regexp.MustCompile(`CVE-\d{4}-\d{4,7}`)

// advisories groups what changed between the states by source package.
func advisories(pkgs, before []published) []advisory {
	old := map[string]published{}
	for _, p := range before {
		old[p.Name] = p
	}
	bySource := map[string]*advisory{}
	var order []string
	for _, p := range pkgs {
		was, had := old[p.Name]
		if had && was.EVR == p.EVR {
			continue
		}
		name := sourceName(p.Source)
		a := bySource[name]
		if a == nil {
			a = &advisory{source: name}
			bySource[name] = a
			order = append(order, name)
		}
		a.packages = append(a.packages, p)
		if len(a.changes) == 0 && had {
			a.changes = newChanges(p.meta.Changes, was.meta.Changes)
		}
	}
	slices.Sort(order)
	out := make([]advisory, 0, len(order))
	for _, n := range order {
		a := bySource[n]
		for _, c := range a.changes {
			for _, l := range c.Lines {
				a.cves = append(a.cves, cvePattern.FindAllString(l, -1)...)
			}
		}
		slices.Sort(a.cves)
		a.cves = slices.Compact(a.cves)
		out = append(out, *a)
	}
	return out
}

// newChanges returns the entries newer than the newest one of old.
func newChanges(now, old []debChange) []debChange {
	if len(old) == 0 {
		return now[:min(len(now), 1)]
	}
	var out []debChange
	for _, c := range now {
		if debian.CompareVersions(c.Version, old[0].Version) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// sourceName cuts -VERSION-RELEASE.src.rpm off.
func sourceName(file string) string {
	s := strings.TrimSuffix(file, ".src.rpm")
	for range 2 {
		if i := strings.LastIndexByte(s, '-'); i > 0 {
			s = s[:i]
		}
	}
	return s
}

// severity follows the changelog's urgency, and the number of holes: Debian
// calls nearly every security upload "high".
func (a advisory) severity() string {
	if len(a.cves) == 0 {
		return "None"
	}
	if a.source == "linux" || strings.HasPrefix(a.source, "linux-signed") || len(a.cves) >= 10 {
		return "Critical"
	}
	for _, c := range a.changes {
		switch c.Urgency {
		case "high", "critical", "emergency":
			return "Important"
		}
	}
	if len(a.cves) > 1 {
		return "Moderate"
	}
	return "Low"
}

func (a advisory) kind() string {
	switch {
	case len(a.cves) > 0:
		return "security"
	case len(a.changes) > 0:
		return "bugfix"
	}
	return "enhancement"
}

func (a advisory) issued() time.Time {
	if len(a.changes) > 0 {
		return a.changes[0].When.UTC()
	}
	return time.Unix(ownEpoch, 0).UTC()
}

// updateinfo writes updateinfo.xml with one advisory per updated source.
func updateinfo(state int, pkgs, before []published) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header + "<updates>\n")
	for i, a := range advisories(pkgs, before) {
		id := fmt.Sprintf("TDSA-%d-%04d", state, i+1)
		fmt.Fprintf(&b, " <update from=\"security@example.test\" status=\"final\" type=%q version=\"1\">\n", a.kind())
		fmt.Fprintf(&b, "  <id>%s</id>\n  <title>%s update</title>\n", id, xmlText(a.source))
		fmt.Fprintf(&b, "  <release>TestDistro %d</release>\n  <issued date=\"%s\"/>\n", state, a.issued().Format(time.DateTime))
		if a.kind() == "security" {
			fmt.Fprintf(&b, "  <severity>%s</severity>\n", a.severity())
		}
		fmt.Fprintf(&b, "  <summary>%s</summary>\n  <description>%s</description>\n  <references>\n",
			xmlText("An update for "+a.source+" is available."), xmlText(a.text()))
		for _, c := range a.cves {
			fmt.Fprintf(&b, "   <reference href=\"https://example.test/%s\" id=%q title=%q type=\"cve\"/>\n", c, c, c)
		}
		fmt.Fprintf(&b, "  </references>\n  <pkglist>\n   <collection short=\"td%d\">\n    <name>TestDistro %d</name>\n", state, state)
		for _, p := range a.packages {
			writeAdvisoryPackage(&b, p)
		}
		b.WriteString("   </collection>\n  </pkglist>\n </update>\n")
	}
	b.WriteString("</updates>\n")
	return b.Bytes()
}

func (a advisory) text() string {
	var lines []string
	for _, c := range a.changes {
		lines = append(lines, rpmspec.FromDebian(c.Version).String()+":")
		for _, l := range shorten(c.Lines) {
			lines = append(lines, "- "+l)
		}
	}
	if len(lines) == 0 {
		return "New in this release."
	}
	return strings.Join(lines, "\n")
}

func writeAdvisoryPackage(b *bytes.Buffer, p published) {
	epoch, rest := "0", p.EVR
	if e, r, ok := strings.Cut(p.EVR, ":"); ok {
		epoch, rest = e, r
	}
	version, release, _ := strings.Cut(rest, "-")
	fmt.Fprintf(b, "    <package arch=%q epoch=%q name=%q release=%q src=%q version=%q>\n     <filename>%s</filename>\n",
		p.Arch, epoch, p.Name, release, p.Source, version, xmlText(path.Base(p.File)))
	if strings.HasPrefix(p.Name, "linux-image") {
		b.WriteString("     <reboot_suggested>True</reboot_suggested>\n")
	}
	b.WriteString("    </package>\n")
}
