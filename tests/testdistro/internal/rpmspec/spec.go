// SPDX-License-Identifier: Apache-2.0

package rpmspec

import (
	"fmt"
	"strings"
	"time"
)

// Tag is one preamble line.
type Tag struct{ Name, Value string }

// Scriptlet is a section such as %post or %transfiletriggerin. Args stands
// behind the section's name ("-p <lua>", "-P 100 -- /usr/lib").
type Scriptlet struct{ Kind, Args, Body string }

// Kind of a file entry.
type Kind uint8

// The kinds of files an RPM of ours may hold.
const (
	Regular Kind = iota
	Directory
	Symlink
	Ghost
)

// File is one line of %files. Path is absolute.
type File struct {
	Path        string
	Kind        Kind
	Mode        uint32 // permission bits; ignored for links
	User, Group string
	Config      bool // %config(noreplace)
	Doc         bool
	License     bool
	Caps        string // as setcap prints them, without the path
}

// Change is one changelog entry.
type Change struct {
	When    time.Time
	Author  string
	Version string
	Lines   []string
}

// Spec describes one binary package made from a ready build root.
type Spec struct {
	Name        string
	Source      string // source package; "" means Name
	EVR         EVR
	Arch        string
	Summary     string
	Description string
	License     string
	Group       string
	URL         string
	Tags        []Tag
	Scriptlets  []Scriptlet
	Files       []File
	Changes     []Change
}

// Text writes the spec file. The binary package is a subpackage of its source
// package where the names differ, so that SOURCERPM is as in the archive.
func (s Spec) Text() string {
	var b strings.Builder
	sub, flag := s.Source != "" && s.Source != s.Name, ""
	line := func(tag, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", tag, escape(value))
		}
	}
	head := func() {
		line("Summary", s.Summary)
		line("Group", s.Group)
		line("URL", s.URL)
		line("BuildArch", noarch(s.Arch))
	}
	line("Name", s.source())
	line("Epoch", s.EVR.Epoch)
	line("Version", s.EVR.Version)
	line("Release", s.EVR.Release)
	line("License", s.License)
	line("Vendor", "TestDistro")
	line("Packager", "TestDistro")
	if sub {
		flag = " -n " + s.Name
		b.WriteString("Summary: source of " + escape(s.Name) + "\n%description\n%{summary}\n\n%package" + flag + "\n")
	}
	head()
	for _, t := range s.Tags {
		line(t.Name, t.Value)
	}
	fmt.Fprintf(&b, "\n%%description%s\n%s\n", flag, escape(s.Description))
	for _, sc := range s.Scriptlets {
		fmt.Fprintf(&b, "\n%s%s", sc.Kind, flag)
		if sc.Args != "" {
			b.WriteString(" " + sc.Args)
		}
		b.WriteString("\n" + escape(strings.TrimRight(sc.Body, "\n")) + "\n")
	}
	fmt.Fprintf(&b, "\n%%files%s\n", flag)
	for _, f := range s.Files {
		b.WriteString(f.line() + "\n")
	}
	b.WriteString(changelog(s.Changes))
	return b.String()
}

func (s Spec) source() string {
	if s.Source != "" {
		return s.Source
	}
	return s.Name
}

func noarch(arch string) string {
	if arch == "noarch" {
		return arch
	}
	return ""
}

func (f File) line() string {
	var b strings.Builder
	if f.Kind == Ghost {
		b.WriteString("%ghost ")
	}
	if f.Kind == Directory {
		b.WriteString("%dir ")
	}
	switch {
	case f.License:
		b.WriteString("%license ")
	case f.Doc:
		b.WriteString("%doc ")
	case f.Config:
		b.WriteString("%config(noreplace) ")
	}
	if f.Kind == Symlink {
		fmt.Fprintf(&b, "%%attr(-,%s,%s) ", f.User, f.Group)
	} else {
		fmt.Fprintf(&b, "%%attr(%04o,%s,%s) ", f.Mode, f.User, f.Group)
	}
	if f.Caps != "" {
		b.WriteString("%caps(" + f.Caps + ") ")
	}
	b.WriteString(`"` + escapePath(f.Path) + `"`)
	return b.String()
}

// escape keeps rpm from expanding macros in text that is not ours.
func escape(s string) string { return strings.ReplaceAll(s, "%", "%%") }

var globEscaper = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`)

// escapePath keeps rpm from globbing. It takes a path without a pattern as it
// is, backslashes included: coreutils ships a file named "[", systemd one named
// "system-systemd\x2dcryptsetup.slice".
func escapePath(p string) string {
	if strings.ContainsAny(p, "*?{}") || (strings.Contains(p, "[") && strings.Contains(p, "]")) {
		p = globEscaper.Replace(p)
	}
	return escape(p)
}

// changelog writes the entries, newest first; rpmbuild refuses another order,
// so an entry newer than the one above it takes that one's date.
func changelog(list []Change) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n%changelog\n")
	last := list[0].When.UTC()
	for _, c := range list {
		when := c.When.UTC()
		if when.After(last) {
			when = last
		}
		last = when
		fmt.Fprintf(&b, "* %s %s - %s\n", when.Format("Mon Jan 02 2006"), escape(oneLine(c.Author)), escape(c.Version))
		for _, l := range c.Lines {
			fmt.Fprintf(&b, "- %s\n", escape(oneLine(l)))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
