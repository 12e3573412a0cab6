// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

// What is shown without --full.
const (
	shortEntries = 3  // of each changelog
	shortLines   = 8  // of each entry
	shortFiles   = 20 // lines of files that belong to no changed package
	shortFolder  = 5  // such files of one folder; more of them share a line
)

// report is a difference as people read it: what is told, in which order and how much
// of it. The formats differ in how they write it down.
type report struct {
	from, to   treediff.Commit
	facts      []fact
	same       bool
	advisories []advisoryList
	known      bool // which packages there are
	packages   []packageList
	changelogs []changelog
	files      fileReport
}

// fact is a line at the beginning.
type fact struct{ name, value string }

type advisoryList struct {
	title string
	list  []treediff.Advisory
}

type packageList struct {
	title string
	list  []treediff.PackageChange
}

// changelog is one list of entries with all packages that have it: those of one
// source package as a rule.
type changelog struct {
	packages []string
	old, new string // versions
	lost     bool   // by a downgrade
	entries  []logEntry
	more     int // entries that are left out
}

// note tells that the new tree has not what is listed.
func (c changelog) note() string {
	if c.lost {
		return " (no longer in)"
	}
	return ""
}

type logEntry struct {
	date, author string
	items        []string
	more         int // items that are left out
}

type fileReport struct {
	summary string
	partial bool // rows has only what belongs to no changed package
	rows    []fileRow
	more    int // files that are left out
}

// fileRow is a file, or a folder with many.
type fileRow struct {
	letter, path, note string
	files              int
}

func newReport(d *treediff.Diff, full bool) *report {
	r := &report{from: d.From, to: d.To, same: d.Same, known: d.Packages != nil, changelogs: changelogs(d.Packages, full), files: newFileReport(d.Files, full)}
	for _, l := range []advisoryList{{"Advisories", d.Advisories.Added}, {"Advisories that no longer hold", d.Advisories.Lost}} {
		if len(l.list) > 0 {
			l.list = slices.Clone(l.list)
			slices.SortStableFunc(l.list, func(a, b treediff.Advisory) int { return cmp.Compare(urgency(a), urgency(b)) })
			r.advisories = append(r.advisories, l)
		}
	}
	if r.known {
		r.packages = slices.DeleteFunc(packageLists(d.Packages), func(l packageList) bool { return len(l.list) == 0 })
	}
	r.facts = diffFacts(d, r)
	return r
}

// diffFacts tells the most important in a few lines.
func diffFacts(d *treediff.Diff, r *report) []fact {
	var out []fact
	for _, side := range []struct {
		name string
		c    treediff.Commit
	}{{"Base of the old commit", d.From}, {"Base of the new commit", d.To}} {
		if side.c.Base != nil {
			out = append(out, fact{side.name, side.c.Base.String()})
		}
	}
	switch from, to := d.From.Kernel, d.To.Kernel; {
	case from != to:
		out = append(out, fact{"Kernel", cmp.Or(from, "none") + " -> " + cmp.Or(to, "none")})
	case to != "":
		out = append(out, fact{"Kernel", to + " (unchanged)"})
	}
	if r.known {
		var parts []string
		for _, l := range r.packages {
			parts = append(parts, fmt.Sprintf("%d %s", len(l.list), strings.ToLower(l.title)))
		}
		out = append(out, fact{"Packages", fmt.Sprintf("%d -> %d; %s", d.From.PackageCount, d.To.PackageCount, cmp.Or(strings.Join(parts, ", "), "no package differs"))})
	} else {
		out = append(out, fact{"Packages", "not known: a tree has neither package database nor package list"})
	}
	for _, l := range r.advisories {
		out = append(out, fact{l.title, countKinds(l.list)})
	}
	about, delta := "", ""
	if d.Sizes.Fetch.Estimated {
		about = " at most"
	}
	if d.Sizes.Delta != nil {
		delta = ", or " + ui.Bytes(*d.Sizes.Delta) + " as static delta"
	}
	return append(out, fact{"Size", fmt.Sprintf("%s -> %s; to download%s %s in %s%s", ui.Bytes(d.Sizes.Old.Bytes), ui.Bytes(d.Sizes.New.Bytes), about,
		ui.Bytes(d.Sizes.Fetch.Bytes), counted(d.Sizes.Fetch.Objects, "object"), delta)})
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// countKinds gives "1 security critical, 2 bugfix" of a sorted list.
func countKinds(list []treediff.Advisory) string {
	var parts []string
	for len(list) > 0 {
		kind := kindOf(list[0])
		n := slices.IndexFunc(list, func(a treediff.Advisory) bool { return kindOf(a) != kind })
		if n < 0 {
			n = len(list)
		}
		parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		list = list[n:]
	}
	return strings.Join(parts, ", ")
}

// kindOf gives "security important".
func kindOf(a treediff.Advisory) string {
	return strings.TrimSpace(a.Type + " " + a.Severity)
}

// urgency sorts security before the rest, and what is worse first; the kind keeps
// equal ones together.
func urgency(a treediff.Advisory) string {
	rank := func(word string, list ...string) int {
		if i := slices.Index(list, word); i >= 0 {
			return i
		}
		return len(list)
	}
	return fmt.Sprint(rank(a.Type, "security", "bugfix", "enhancement", "newpackage"), rank(a.Severity, "critical", "important", "moderate", "low"), kindOf(a))
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

func changelogs(p *treediff.Packages, full bool) []changelog {
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
		l := changelog{packages: []string{c.Name}, old: c.Old.Version, new: c.New.Version, lost: lost}
		entries, more := shorten(c.Changelog, shortEntries, full)
		for _, e := range entries {
			items, left := shorten(changelogItems(e.Text), shortLines, full)
			l.entries = append(l.entries, logEntry{e.Time.Format(time.DateOnly), e.Author, items, left})
		}
		l.more = more
		out = append(out, l)
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

// changelogItems splits the text of an entry at its dashes; lines without one
// continue the item before.
func changelogItems(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		item, ok := cutBullet(line)
		if ok || len(out) == 0 {
			out = append(out, item)
			continue
		}
		out[len(out)-1] += " " + line
	}
	return out
}

// cutBullet takes the dash from an item; "--option" goes on with one.
func cutBullet(line string) (item string, ok bool) {
	rest := strings.TrimLeft(line[:1], "-*") + line[1:]
	if rest == line || strings.HasPrefix(rest, "-") {
		return line, false
	}
	return strings.TrimSpace(rest), true
}

func newFileReport(f treediff.Files, full bool) fileReport {
	r := fileReport{summary: fileSummary(f), partial: !full}
	if full {
		for _, c := range f.List {
			r.rows = append(r.rows, newFileRow(c))
		}
		return r
	}
	rows := foldFolders(slices.DeleteFunc(slices.Clone(f.List), func(c treediff.FileChange) bool { return c.Package != "" }))
	r.rows, _ = shorten(rows, shortFiles, false)
	for _, row := range rows[len(r.rows):] {
		r.more += row.files
	}
	return r
}

func newFileRow(c treediff.FileChange) fileRow {
	return fileRow{letter: changeLetter(c), path: c.Path, note: fileNote(c), files: 1}
}

// foldFolders makes one row of a folder's files where they are many, such as links to
// certificates.
func foldFolders(list []treediff.FileChange) []fileRow {
	byFolder := map[string][]treediff.FileChange{}
	for _, c := range list {
		byFolder[path.Dir(c.Path)] = append(byFolder[path.Dir(c.Path)], c)
	}
	var rows []fileRow
	for _, c := range list {
		folder := path.Dir(c.Path)
		switch all := byFolder[folder]; {
		case len(all) <= shortFolder:
			rows = append(rows, newFileRow(c))
		case all[0].Path == c.Path:
			rows = append(rows, foldFolder(folder, all))
		}
	}
	return rows
}

func foldFolder(folder string, list []treediff.FileChange) fileRow {
	row := fileRow{letter: changeLetter(list[0]), path: strings.TrimSuffix(folder, "/") + "/*", files: len(list)}
	var parts []string
	for _, word := range []string{"added", "removed", "modified"} {
		n := 0
		for _, c := range list {
			if c.Change == word {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	if len(parts) > 1 {
		row.letter = "*"
	}
	row.note = strings.Join(parts, ", ")
	return row
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
