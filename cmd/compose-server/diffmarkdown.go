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

// diffMarkdown renders a difference for release notes.
func diffMarkdown(d *treediff.Diff, full bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Changes from %s to %s\n\n", ui.Markdown(commitName(d.From)), ui.Markdown(commitName(d.To)))
	b.WriteString("| | From | To |\n| --- | --- | --- |\n")
	fmt.Fprintf(&b, "| Version | %s | %s |\n", ui.Markdown(cmp.Or(d.From.Version, "–")), ui.Markdown(cmp.Or(d.To.Version, "–")))
	fmt.Fprintf(&b, "| Commit | `%.12s` | `%.12s` |\n", d.From.Checksum, d.To.Checksum)
	fmt.Fprintf(&b, "| Date | %s | %s |\n\n", d.From.Timestamp.Format(time.DateOnly), d.To.Timestamp.Format(time.DateOnly))
	for _, line := range diffFacts(d) {
		fmt.Fprintf(&b, "- %s: %s\n", line[0], ui.Markdown(line[1]))
	}
	if d.Same {
		b.WriteString("- The trees are the same.\n")
	}
	markdownAdvisories(&b, "Security and other advisories", d.Advisories.Added)
	markdownAdvisories(&b, "Advisories that no longer hold", d.Advisories.Lost)
	markdownPackages(&b, d.Packages)
	markdownChangelogs(&b, d.Packages, full)
	markdownFiles(&b, d.Files, full)
	return b.String()
}

func commitName(c treediff.Commit) string {
	return cmp.Or(c.Version, c.Checksum.String()[:12])
}

func markdownAdvisories(b *strings.Builder, title string, list []treediff.Advisory) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	for _, a := range list {
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

func markdownPackages(b *strings.Builder, p *treediff.Packages) {
	b.WriteString("\n## Packages\n")
	if p == nil {
		b.WriteString("\nNot known: a tree has neither package database nor package list.\n")
		return
	}
	if p.Count() == 0 {
		b.WriteString("\nNo package differs.\n")
	}
	for _, l := range packageLists(p) {
		if len(l.list) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n### %s (%d)\n\n", l.title, len(l.list))
		if l.list[0].Old == nil || l.list[0].New == nil {
			b.WriteString("| Package | Version |\n| --- | --- |\n")
			for _, c := range l.list {
				one := cmp.Or(c.New, c.Old)
				fmt.Fprintf(b, "| %s | %s |\n", ui.Markdown(c.Name+"."+one.Arch), ui.MarkdownCode(one.Version))
			}
			continue
		}
		b.WriteString("| Package | From | To |\n| --- | --- | --- |\n")
		for _, c := range l.list {
			fmt.Fprintf(b, "| %s | %s | %s |\n", ui.Markdown(packageName(c)), ui.MarkdownCode(c.Old.Version), ui.MarkdownCode(c.New.Version))
		}
	}
}

func markdownChangelogs(b *strings.Builder, p *treediff.Packages, full bool) {
	for i, c := range changelogs(p) {
		if i == 0 {
			b.WriteString("\n## Changelogs\n")
		}
		lost := ""
		if c.lost {
			lost = " (no longer in)"
		}
		fmt.Fprintf(b, "\n### %s\n\n%s%s\n\n", ui.Markdown(strings.Join(c.packages, ", ")), ui.Markdown(c.title), lost)
		list, more := shorten(c.entries, shortEntries, full)
		for _, e := range list {
			fmt.Fprintf(b, "- %s %s\n", e.Time.Format(time.DateOnly), ui.Markdown(e.Author))
			items, left := shorten(changelogItems(e.Text), shortLines, full)
			for _, item := range items {
				fmt.Fprintf(b, "  - %s\n", ui.Markdown(item))
			}
			if left > 0 {
				fmt.Fprintf(b, "  - … %d more\n", left)
			}
		}
		if more > 0 {
			fmt.Fprintf(b, "- … %d more\n", more)
		}
	}
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
		item, ok := strings.CutPrefix(line, "-")
		if !ok {
			item, ok = strings.CutPrefix(line, "*")
		}
		if ok || len(out) == 0 {
			out = append(out, strings.TrimSpace(item))
			continue
		}
		out[len(out)-1] += " " + line
	}
	return out
}

func markdownFiles(b *strings.Builder, f treediff.Files, full bool) {
	fmt.Fprintf(b, "\n## Files\n\n%s.\n", fileSummary(f))
	list, more := shownFiles(f, full)
	if len(list) == 0 {
		return
	}
	if !full {
		b.WriteString("\nOf these, no changed package has:\n")
	}
	b.WriteString("\n| | File | |\n| --- | --- | --- |\n")
	for _, c := range list {
		fmt.Fprintf(b, "| %s | %s | %s |\n", changeLetter(c), ui.MarkdownCode(c.Path), ui.Markdown(fileNote(c)))
	}
	if more > 0 {
		fmt.Fprintf(b, "\n… %d more\n", more)
	}
}
