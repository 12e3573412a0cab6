// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

// diffText renders a report for a terminal.
func diffText(r *report) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, side := range []struct {
		word string
		c    treediff.Commit
	}{{"From", r.from}, {"To", r.to}} {
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%s\n", side.word, ui.Printable(cmp.Or(side.c.Version, "-")), side.c.Checksum,
			side.c.Timestamp.Format(time.DateTime), ui.Printable(strings.Join(side.c.Refs, " ")))
	}
	_ = w.Flush() // the writer is a buffer
	for _, f := range r.facts {
		fmt.Fprintf(&b, "%s: %s\n", f.name, ui.Printable(f.value))
	}
	if r.same {
		b.WriteString("The trees are the same.\n")
	}
	for _, l := range r.advisories {
		textAdvisories(&b, l)
	}
	for _, l := range r.packages {
		textPackages(&b, l)
	}
	textChangelogs(&b, r.changelogs)
	textFiles(&b, r.files)
	return b.String()
}

func textAdvisories(b *strings.Builder, l advisoryList) {
	fmt.Fprintf(b, "\n%s (%d):\n", l.title, len(l.list))
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, a := range l.list {
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

func textPackages(b *strings.Builder, l packageList) {
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

func textChangelogs(b *strings.Builder, list []changelog) {
	for i, c := range list {
		if i == 0 {
			b.WriteString("\nChangelogs:\n")
		}
		fmt.Fprintf(b, "  %s: %s -> %s%s\n", ui.Printable(strings.Join(c.packages, ", ")), ui.Printable(c.old), ui.Printable(c.new), c.note())
		for _, e := range c.entries {
			fmt.Fprintf(b, "    * %s %s\n", e.date, ui.Printable(e.author))
			for _, item := range e.items {
				fmt.Fprintf(b, "      - %s\n", ui.Printable(item))
			}
			if e.more > 0 {
				fmt.Fprintf(b, "      … %d more\n", e.more)
			}
		}
		if c.more > 0 {
			fmt.Fprintf(b, "    … %s\n", counted(c.more, "older release"))
		}
	}
}

func textFiles(b *strings.Builder, f fileReport) {
	fmt.Fprintf(b, "\nFiles: %s\n", f.summary)
	if len(f.rows) == 0 {
		return
	}
	if f.partial {
		b.WriteString("Of these, no changed package has:\n")
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range f.rows {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", row.letter, ui.Printable(row.path), ui.Printable(row.note))
	}
	_ = w.Flush()
	if f.more > 0 {
		fmt.Fprintf(b, "  … %s more\n", counted(f.more, "file"))
	}
}
