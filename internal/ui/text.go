// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes text of unknown origin safe to print on one line of a terminal:
// control characters, line breaks, invisible and direction-changing characters and
// bytes that are not UTF-8 become escapes such as \n, \x1b or \u202e.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		s = s[n:]
	}
	return b.String()
}

// Markdown makes text of unknown origin safe to stand at the beginning or within a
// line of Markdown: it shows as it is, no markup and no HTML comes of it.
func Markdown(s string) string {
	var b strings.Builder
	s = Printable(s)
	for i, r := range s {
		// At the beginning these are a list, a heading, a rule, a quotation: "- ", "1.", "===", ">".
		begins := i == 0 && strings.ContainsRune("-+=>", r) ||
			(r == '.' || r == ')') && strings.Trim(s[:i], "0123456789") == "" && (i+1 == len(s) || s[i+1] == ' ')
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '&':
			b.WriteString("&amp;")
		case begins || strings.ContainsRune("\\`*_{}[]|~#$", r):
			b.WriteString(`\` + string(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// MarkdownCode gives text of unknown origin as code in Markdown, also within a table.
func MarkdownCode(s string) string {
	s = strings.ReplaceAll(Printable(s), "|", `\|`)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	pad := ""
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") || strings.TrimSpace(s) == "" {
		pad = " "
	}
	return fence + pad + s + pad + fence
}
