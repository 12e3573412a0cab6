// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

// diffMarkdown renders a report for release notes.
func diffMarkdown(r *report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Changes from %s to %s\n\n", ui.Markdown(commitName(r.from)), ui.Markdown(commitName(r.to)))
	b.WriteString("| | From | To |\n| --- | --- | --- |\n")
	fmt.Fprintf(&b, "| Version | %s | %s |\n", ui.Markdown(cmp.Or(r.from.Version, "–")), ui.Markdown(cmp.Or(r.to.Version, "–")))
	fmt.Fprintf(&b, "| Commit | `%.12s` | `%.12s` |\n", r.from.Checksum, r.to.Checksum)
	fmt.Fprintf(&b, "| Date | %s | %s |\n\n", r.from.Timestamp.Format(time.DateOnly), r.to.Timestamp.Format(time.DateOnly))
	for _, f := range r.facts {
		fmt.Fprintf(&b, "- %s: %s\n", f.name, ui.Markdown(f.value))
	}
	if r.same {
		b.WriteString("- The trees are the same.\n")
	}
	for _, l := range r.advisories {
		markdownAdvisories(&b, l)
	}
	for i, l := range r.packages {
		if i == 0 {
			b.WriteString("\n## Packages\n")
		}
		markdownPackages(&b, l)
	}
	markdownChangelogs(&b, r.changelogs)
	markdownFiles(&b, r.files)
	return b.String()
}

func commitName(c treediff.Commit) string {
	return cmp.Or(c.Version, c.Checksum.String()[:12])
}

func markdownAdvisories(b *strings.Builder, l advisoryList) {
	fmt.Fprintf(b, "\n## %s (%d)\n\n", l.title, len(l.list))
	for _, a := range l.list {
		fmt.Fprintf(b, "- **%s** (%s)", ui.Markdown(a.ID), ui.Markdown(kindOf(a)))
		if a.Title != "" {
			fmt.Fprintf(b, ": %s", ui.Markdown(a.Title))
		}
		fmt.Fprintf(b, "\n  Packages: %s\n", ui.Markdown(strings.Join(a.Packages, ", ")))
		for _, r := range a.References {
			fmt.Fprintf(b, "  - %s\n", markdownLink(r))
		}
	}
}

// markdownLink makes a link of a web address only, and of anything else text.
func markdownLink(r treediff.Reference) string {
	title := ui.Markdown(cmp.Or(r.Title, r.URL))
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return title
	}
	safe := strings.NewReplacer("<", "%3C", ">", "%3E", "(", "%28", ")", "%29", `\`, "%5C", "|", "%7C", "`", "%60").Replace(u.String())
	return "[" + title + "](<" + ui.Printable(safe) + ">)"
}

func markdownPackages(b *strings.Builder, l packageList) {
	fmt.Fprintf(b, "\n### %s (%d)\n\n", l.title, len(l.list))
	if l.list[0].Old == nil || l.list[0].New == nil {
		b.WriteString("| Package | Version |\n| --- | --- |\n")
		for _, c := range l.list {
			one := cmp.Or(c.New, c.Old)
			fmt.Fprintf(b, "| %s | %s |\n", ui.Markdown(c.Name+"."+one.Arch), ui.MarkdownCode(one.Version))
		}
		return
	}
	b.WriteString("| Package | From | To |\n| --- | --- | --- |\n")
	for _, c := range l.list {
		fmt.Fprintf(b, "| %s | %s | %s |\n", ui.Markdown(packageName(c)), ui.MarkdownCode(c.Old.Version), ui.MarkdownCode(c.New.Version))
	}
}

func markdownChangelogs(b *strings.Builder, list []changelog) {
	for i, c := range list {
		if i == 0 {
			b.WriteString("\n## Changelogs\n")
		}
		fmt.Fprintf(b, "\n### %s\n\n%s -> %s%s\n\n", ui.Markdown(strings.Join(c.packages, ", ")), ui.MarkdownCode(c.old), ui.MarkdownCode(c.new), c.note())
		for _, e := range c.entries {
			fmt.Fprintf(b, "- %s %s\n", e.date, ui.Markdown(e.author))
			for _, item := range e.items {
				fmt.Fprintf(b, "  - %s\n", ui.Markdown(item))
			}
			if e.more > 0 {
				fmt.Fprintf(b, "  - … %d more\n", e.more)
			}
		}
		if c.more > 0 {
			fmt.Fprintf(b, "- … %s\n", counted(c.more, "older release"))
		}
	}
}

func markdownFiles(b *strings.Builder, f fileReport) {
	fmt.Fprintf(b, "\n## Files\n\n%s.\n", f.summary)
	if len(f.rows) == 0 {
		return
	}
	if f.partial {
		b.WriteString("\nOf these, no changed package has:\n")
	}
	b.WriteString("\n| | File | |\n| --- | --- | --- |\n")
	for _, row := range f.rows {
		fmt.Fprintf(b, "| %s | %s | %s |\n", ui.Markdown(row.letter), ui.MarkdownCode(row.path), ui.Markdown(row.note))
	}
	if f.more > 0 {
		fmt.Fprintf(b, "\n… %s more\n", counted(f.more, "file"))
	}
}
