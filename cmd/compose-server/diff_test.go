// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

// Every text in a tree may be meant to deceive: in all of them stands evil.
func hostileDiff(evil string) *treediff.Diff {
	commit := treediff.Commit{Version: evil, Refs: []string{evil}, Kernel: evil, Timestamp: time.Unix(0, 0).UTC()}
	other := commit
	other.Kernel = ""
	pkg := &treediff.Package{NEVRA: evil, Version: evil, Arch: evil, Source: evil}
	advisory := treediff.Advisory{ID: evil, Type: evil, Severity: evil, Title: evil, Packages: []string{evil}, References: []treediff.Reference{
		{URL: evil, Title: evil}, {URL: "javascript:alert(1)" + evil, Title: evil}, {URL: "https://h/" + evil, Title: evil}}}
	changes := []treediff.PackageChange{{Name: evil, Old: pkg, New: pkg, Changelog: []treediff.ChangelogEntry{{Author: evil, Text: evil + "\n- " + evil}}}}
	file := &treediff.File{Type: "link", Mode: "0777", Target: evil}
	return &treediff.Diff{From: commit, To: other,
		Packages:   &treediff.Packages{Upgraded: changes, Downgraded: changes, Added: []treediff.PackageChange{{Name: evil, New: pkg}}, Removed: []treediff.PackageChange{{Name: evil, Old: pkg}}},
		Advisories: treediff.Advisories{Added: []treediff.Advisory{advisory}, Lost: []treediff.Advisory{advisory}},
		Files: treediff.Files{List: []treediff.FileChange{{Path: evil, Change: "modified", What: []string{"target"}, Old: file, New: file},
			{Path: evil, Change: "added", New: file}}},
	}
}

func TestDiffOfHostileTrees(t *testing.T) {
	t.Parallel()
	const escape = "a\x1b[31m\r\x07\u202e\u2028\xff\x9b"
	for _, full := range []bool{true, false} {
		for name, out := range map[string]string{"text": diffText(newReport(hostileDiff(escape), full)), "Markdown": diffMarkdown(newReport(hostileDiff(escape), full))} {
			if i := strings.IndexFunc(out, func(r rune) bool {
				return r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e || r == 0x2028 || r == 0xfffd)
			}); i >= 0 {
				t.Errorf("%s: %q", name, out[max(0, i-20):])
			}
		}
	}
	md := diffMarkdown(newReport(hostileDiff("<script>x</script> | [a](javascript:y) `c` **b**"), true))
	// What stands in code, and what is escaped, is not markup.
	plain := regexp.MustCompile("(?s)`+[^`].*?`+").ReplaceAllString(strings.ReplaceAll(md, "\\`", ""), "CODE")
	plain = regexp.MustCompile(`\\.`).ReplaceAllString(plain, "")
	for _, bad := range []string{"<script", "](javascript:", "**b**"} {
		if strings.Contains(plain, bad) {
			t.Errorf("%q in\n%s", bad, md)
		}
	}
	if !strings.Contains(md, "](<https://h/%3Cscript%3E") {
		t.Errorf("no link:\n%s", md)
	}
	for line := range strings.SplitSeq(plain, "\n") {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 4 && strings.Count(line, "|") != 3 {
			t.Errorf("a name breaks the table: %q", line)
		}
	}
}

func TestDiffText(t *testing.T) {
	t.Parallel()
	file := func(size int64, mode string, uid uint32) *treediff.File {
		return &treediff.File{Type: "file", Size: size, Mode: mode, UID: uid}
	}
	for want, c := range map[string]treediff.FileChange{
		"content":                          {What: []string{"content"}, Old: file(5, "0644", 0), New: file(5, "0644", 0)},
		"5 B -> 2.0 kB, mode 0644 -> 0600": {What: []string{"content", "mode"}, Old: file(5, "0644", 0), New: file(2000, "0600", 0)},
		"owner 0:0 -> 7:0, label, xattrs":  {What: []string{"owner", "label", "xattrs"}, Old: file(5, "0644", 0), New: file(5, "0644", 7)},
		"5 B -> directory":                 {What: []string{"type"}, Old: file(5, "0644", 0), New: &treediff.File{Type: "dir"}},
		"-> x":                             {What: []string{"target"}, Old: &treediff.File{Type: "link", Target: "y"}, New: &treediff.File{Type: "link", Target: "x"}},
		"directory":                        {New: &treediff.File{Type: "dir"}},
		"-> t":                             {Old: &treediff.File{Type: "link", Target: "t"}},
	} {
		if got := fileNote(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	base := hostileDiff("x")
	base.Packages, base.Sizes.Fetch.Estimated, base.Same = nil, true, true
	base.From.Base = &base.To.Checksum
	out := diffText(newReport(base, false))
	for _, want := range []string{"Packages: not known", "to download at most 0 B in 0 objects", "The trees are the same.", "Base of the old commit: 0000", "Kernel: x -> none"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if got := changelogItems("- one\n  goes on with\n  --option\n\n-two\n* three"); strings.Join(got, "|") != "one goes on with --option|two|three" {
		t.Errorf("%q", got)
	}
}

// Both formats tell the same, in the same order and amount.
func TestDiffReport(t *testing.T) {
	t.Parallel()
	d := hostileDiff("x")
	advisory := func(id, kind, severity string) treediff.Advisory {
		return treediff.Advisory{ID: id, Type: kind, Severity: severity}
	}
	d.Advisories = treediff.Advisories{Added: []treediff.Advisory{advisory("A1", "bugfix", ""), advisory("A2", "security", "low"), advisory("A3", "security", "critical"), advisory("A4", "security", "low")}}
	entry := treediff.ChangelogEntry{Author: "p", Text: "- a\n- b\n- c\n- d\n- e\n- f\n- g\n- h\n- ninth"}
	d.Packages.Upgraded[0].Changelog = []treediff.ChangelogEntry{entry, entry, entry, entry, entry}
	d.Packages.Downgraded = nil
	d.Files.List = nil
	for i := range 30 {
		d.Files.List = append(d.Files.List, treediff.FileChange{Path: fmt.Sprintf("/usr/many/%02d", i), Change: []string{"added", "removed"}[i%2], Old: &treediff.File{}})
	}
	d.Files.List = append(d.Files.List, treediff.FileChange{Path: "/usr/owned", Package: "x", Change: "added", New: &treediff.File{}}, treediff.FileChange{Path: "/usr/single", Change: "added", New: &treediff.File{Size: 7}})
	short, full := newReport(d, false), newReport(d, true)
	for name, out := range map[string]string{"text": diffText(short), "Markdown": diffMarkdown(short)} {
		var at []int
		for _, want := range []string{"Packages: 0 -> 0; 1 upgraded, 1 removed, 1 added", "Advisories: 1 security critical, 2 security low, 1 bugfix",
			"A3", "A2", "A4", "A1", "Upgraded (1)", "- h", "… 1 more", "… 2 older releases", "/usr/many/", "15 added, 15 removed", "/usr/single", "7 B"} {
			i := strings.Index(out, want)
			if i < 0 {
				t.Errorf("%s: no %q in\n%s", name, want, out)
			}
			at = append(at, i)
		}
		if !slices.IsSorted(at) || strings.Contains(out, "ninth") || strings.Contains(out, "owned") {
			t.Errorf("%s: %v\n%s", name, at, out)
		}
	}
	for name, out := range map[string]string{"text": diffText(full), "Markdown": diffMarkdown(full)} {
		if strings.Contains(out, "…") || strings.Count(out, "/usr/many/") != 30 || strings.Count(out, "ninth") != 5 || !strings.Contains(out, "owned") {
			t.Errorf("%s, in full:\n%s", name, out)
		}
	}
}

func TestDiffUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"diff"}, {"diff", "a"}, {"diff", "--repo", "x", "a", "b", "c"}, {"diff", "--repo", "x", "--json", "--markdown", "a"},
		{"sbom", "--repo", "x"}, {"sbom", "--repo", "x", "--format", "xml", "a"}} {
		if code, _, _ := program(t, args...); code != 2 {
			t.Errorf("%v: exit status %d", args, code)
		}
	}
	if code, _, stderr := program(t, "diff", "--repo", t.TempDir(), "a"); code != 1 || !strings.HasPrefix(stderr, "error: open repository") {
		t.Errorf("%d %s", code, stderr)
	}
}
