// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

const helpText = "Show help options"

// label gives the left column of an option's help line.
func (o *option) label() string {
	s := "--" + o.long
	if o.short != 0 {
		s = "-" + string(rune(o.short)) + ", " + s
	}
	switch {
	case !o.takesValue() || o.arg == "":
	case o.optional:
		s += "[=" + o.arg + "]"
	default:
		s += "=" + o.arg
	}
	return s
}

// helpPage lays out what --help prints. args is what stands after [OPTION…].
func helpPage(prog, args, summary string, opts []option) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s [OPTION…]", prog)
	if args != "" {
		b.WriteString(" " + args)
	}
	b.WriteString("\n\n")
	if summary != "" {
		b.WriteString(summary + "\n\n")
	}
	width := 12 // GLib's least
	for i := range opts {
		if !opts[i].hidden {
			width = max(width, utf8.RuneCountInString(opts[i].label()))
		}
	}
	fmt.Fprintf(&b, "Help Options:\n  %-*s%s\n\nApplication Options:\n", width+5, "-h, --help", helpText)
	for i := range opts {
		if o := &opts[i]; !o.hidden {
			fmt.Fprintf(&b, "  %-*s%s\n", width+5, o.label(), o.help)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// commandList is the summary of a command that has others below it. width is that
// of the names, 0 for the usual one.
func commandList(title string, verbs []*verb, width int) string {
	var b strings.Builder
	b.WriteString(title)
	for _, v := range verbs {
		if !v.hidden {
			fmt.Fprintf(&b, "\n  %-*s%s", cmp.Or(width, 18), v.name, v.summary)
		}
	}
	return b.String()
}
