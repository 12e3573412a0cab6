// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

// What is shown without --full.
const (
	shortEntries = 3  // of each changelog
	shortLines   = 8  // of each entry
	shortFiles   = 20 // that belong to no changed package
)

// diffText renders a difference for a terminal.
func diffText(d *treediff.Diff, full bool) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, side := range []struct {
		word string
		c    treediff.Commit
	}{{"From", d.From}, {"To", d.To}} {
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%s\n", side.word, ui.Printable(cmp.Or(side.c.Version, "-")), side.c.Checksum,
			side.c.Timestamp.Format(time.DateTime), ui.Printable(strings.Join(side.c.Refs, " ")))
	}
	_ = w.Flush() // the writer is a buffer
	for _, line := range diffFacts(d) {
		fmt.Fprintf(&b, "%s: %s\n", line[0], ui.Printable(line[1]))
	}
	if d.Same {
		b.WriteString("The trees are the same.\n")
	}
	textPackages(&b, d.Packages)
	textAdvisories(&b, "Advisories", d.Advisories.Added)
	textAdvisories(&b, "Advisories that no longer hold", d.Advisories.Lost)
	textChangelogs(&b, d.Packages, full)
	textFiles(&b, d.Files, full)
	return b.String()
}

// diffFacts are the lines that stand first in every format, as name and value.
func diffFacts(d *treediff.Diff) [][2]string {
	var out [][2]string
	for side, c := range map[string]treediff.Commit{"Base of the old commit": d.From, "Base of the new commit": d.To} {
		if c.Base != nil {
			out = append(out, [2]string{side, c.Base.String()})
		}
	}
	slices.SortFunc(out, func(a, b [2]string) int { return -strings.Compare(a[0], b[0]) })
	switch from, to := d.From.Kernel, d.To.Kernel; {
	case from != to:
		out = append(out, [2]string{"Kernel", cmp.Or(from, "none") + " -> " + cmp.Or(to, "none")})
	case to != "":
		out = append(out, [2]string{"Kernel", to + " (unchanged)"})
	}
	about := ""
	if d.Sizes.Fetch.Estimated {
		about = " at most"
	}
	delta := ""
	if d.Sizes.Delta != nil {
		delta = ", or " + ui.Bytes(*d.Sizes.Delta) + " as static delta"
	}
	return append(out, [2]string{"Size", fmt.Sprintf("%s -> %s; to download%s %s in %s%s", ui.Bytes(d.Sizes.Old.Bytes), ui.Bytes(d.Sizes.New.Bytes), about,
		ui.Bytes(d.Sizes.Fetch.Bytes), counted(d.Sizes.Fetch.Objects, "object"), delta)})
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func textPackages(b *strings.Builder, p *treediff.Packages) {
	if p == nil {
		b.WriteString("The packages are not known: a tree has neither package database nor package list.\n")
		return
	}
	for _, l := range packageLists(p) {
		if len(l.list) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s (%d):\n", l.title, len(l.list))
		w := tabwriter.NewWriter(b, 0, 0, 1, ' ', 0)
		for _, c := range l.list {
			if c.Old == nil || c.New == nil {
				fmt.Fprintf(w, "  %s\n", ui.Printable(cmp.Or(c.New, c.Old).NEVRA))
				continue
			}
			fmt.Fprintf(w, "  %s\t%s\t-> %s\n", ui.Printable(packageName(c)), ui.Printable(c.Old.Version), ui.Printable(c.New.Version))
		}
		_ = w.Flush()
	}
}

type packageList struct {
	title string
	list  []treediff.PackageChange
}

func packageLists(p *treediff.Packages) []packageList {
	return []packageList{{"Upgraded", p.Upgraded}, {"Downgraded", p.Downgraded}, {"Removed", p.Removed}, {"Added", p.Added}}
}

// packageName has the architecture, or both where it changes.
func packageName(c treediff.PackageChange) string {
	if c.Old.Arch == c.New.Arch {
		return c.Name + "." + c.New.Arch
	}
	return c.Name + "." + c.Old.Arch + "->" + c.New.Arch
}

func textAdvisories(b *strings.Builder, title string, list []treediff.Advisory) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s (%d):\n", title, len(list))
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, a := range list {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", ui.Printable(a.ID), ui.Printable(kindOf(a)), ui.Printable(strings.Join(a.Packages, ", ")))
		if a.Title != "" {
			fmt.Fprintf(w, "    %s\n", ui.Printable(a.Title))
		}
		for _, r := range a.References {
			fmt.Fprintf(w, "    %s\n", ui.Printable(strings.TrimSpace(r.Title+" "+r.URL)))
		}
	}
	_ = w.Flush()
}

// kindOf gives "security important".
func kindOf(a treediff.Advisory) string {
	return strings.TrimSpace(a.Type + " " + a.Severity)
}

// changelog is one list of entries with all packages that have it: those of one
// source package as a rule.
type changelog struct {
	title    string
	packages []string
	entries  []treediff.ChangelogEntry
	lost     bool // by a downgrade
}

func changelogs(p *treediff.Packages) []changelog {
	if p == nil {
		return nil
	}
	var out []changelog
	at := map[string]int{}
	add := func(c treediff.PackageChange, lost bool) {
		if len(c.Changelog) == 0 {
			return
		}
		key := fmt.Sprint(c.Old.Source, "\x00", c.New.Source, "\x00", c.Old.Version, "\x00", c.New.Version, "\x00", c.Changelog)
		if i, ok := at[key]; ok {
			if !slices.Contains(out[i].packages, c.Name) {
				out[i].packages = append(out[i].packages, c.Name)
			}
			return
		}
		at[key] = len(out)
		out = append(out, changelog{c.Old.Version + " -> " + c.New.Version, []string{c.Name}, c.Changelog, lost})
	}
	for _, c := range p.Upgraded {
		add(c, false)
	}
	for _, c := range p.Downgraded {
		add(c, true)
	}
	return out
}

// shorten gives the first of a list, and how many are left out; all of them with full.
func shorten[T any](list []T, most int, full bool) (shown []T, more int) {
	if full || len(list) <= most {
		return list, 0
	}
	return list[:most], len(list) - most
}

func textChangelogs(b *strings.Builder, p *treediff.Packages, full bool) {
	for i, c := range changelogs(p) {
		if i == 0 {
			b.WriteString("\nChangelogs:\n")
		}
		lost := ""
		if c.lost {
			lost = " (no longer in)"
		}
		fmt.Fprintf(b, "  %s: %s%s\n", ui.Printable(strings.Join(c.packages, ", ")), ui.Printable(c.title), lost)
		list, more := shorten(c.entries, shortEntries, full)
		for _, e := range list {
			fmt.Fprintf(b, "    * %s %s\n", e.Time.Format(time.DateOnly), ui.Printable(e.Author))
			lines, left := shorten(strings.Split(strings.TrimSpace(e.Text), "\n"), shortLines, full)
			for _, line := range lines {
				fmt.Fprintf(b, "      %s\n", ui.Printable(strings.TrimRight(line, " \t\r")))
			}
			if left > 0 {
				fmt.Fprintf(b, "      … %d more lines\n", left)
			}
		}
		if more > 0 {
			fmt.Fprintf(b, "    … %d more\n", more)
		}
	}
}

// fileSummary gives "3 added (1.2 kB), 1 modified (5 B)".
func fileSummary(f treediff.Files) string {
	var parts []string
	for _, k := range []struct {
		word string
		n    treediff.FileCount
	}{{"added", f.Added}, {"removed", f.Removed}, {"modified", f.Modified}} {
		if k.n.Count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", k.n.Count, k.word, ui.Bytes(k.n.Bytes)))
		}
	}
	if f.Ignored > 0 {
		parts = append(parts, fmt.Sprintf("%d of the package database not listed", f.Ignored))
	}
	return cmp.Or(strings.Join(parts, ", "), "no difference")
}

// shownFiles gives the files to list, and how many more there are of their sort.
func shownFiles(f treediff.Files, full bool) (list []treediff.FileChange, more int) {
	if full {
		return f.List, 0
	}
	for _, c := range f.List {
		if c.Package == "" {
			list = append(list, c)
		}
	}
	return shorten(list, shortFiles, false)
}

func textFiles(b *strings.Builder, f treediff.Files, full bool) {
	fmt.Fprintf(b, "\nFiles: %s\n", fileSummary(f))
	list, more := shownFiles(f, full)
	if len(list) == 0 {
		return
	}
	if !full {
		b.WriteString("Of these, no changed package has:\n")
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, c := range list {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", changeLetter(c), ui.Printable(c.Path), ui.Printable(fileNote(c)))
	}
	_ = w.Flush()
	if more > 0 {
		fmt.Fprintf(b, "  … %d more\n", more)
	}
}

// changeLetter is that of `ostree diff`.
func changeLetter(c treediff.FileChange) string {
	return map[string]string{"added": "A", "removed": "D", "modified": "M"}[c.Change]
}

// fileNote tells what became of a file, in a few words.
func fileNote(c treediff.FileChange) string {
	switch {
	case c.Old == nil:
		return fileWord(c.New)
	case c.New == nil:
		return fileWord(c.Old)
	}
	var parts []string
	for _, w := range c.What {
		switch w {
		case "type":
			w = fileWord(c.Old) + " -> " + fileWord(c.New)
		case "content":
			w = "content"
			if c.Old.Size != c.New.Size {
				w = ui.Bytes(c.Old.Size) + " -> " + ui.Bytes(c.New.Size)
			}
		case "target":
			w = "-> " + c.New.Target
		case "mode":
			w = "mode " + c.Old.Mode + " -> " + c.New.Mode
		case "owner":
			w = fmt.Sprintf("owner %d:%d -> %d:%d", c.Old.UID, c.Old.GID, c.New.UID, c.New.GID)
		}
		parts = append(parts, w)
	}
	return strings.Join(parts, ", ")
}

func fileWord(f *treediff.File) string {
	switch f.Type {
	case "dir":
		return "directory"
	case "link":
		return "-> " + f.Target
	}
	return ui.Bytes(f.Size)
}
