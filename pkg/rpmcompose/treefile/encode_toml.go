// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// tomlWriter writes the top level first and then tables, since in TOML a key
// after a table's header belongs to that table.
type tomlWriter struct {
	b strings.Builder
	o EncodeOptions
}

// errNull: TOML knows no null.
var errNull = errors.New("null has no form in TOML")

func encodeTOML(n *node, o EncodeOptions) ([]byte, error) {
	w := &tomlWriter{o: o}
	if err := w.document(n); err != nil {
		return nil, fmt.Errorf("encode treefile: %w", err)
	}
	return []byte(w.b.String()), nil
}

func (w *tomlWriter) document(n *node) error {
	if w.comment(n.comment.head); w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	for _, k := range n.keys {
		if c := n.vals[k]; !isTable(c) && !isTables(c) {
			if err := w.pair(k, c); err != nil {
				return err
			}
		}
	}
	for _, k := range n.keys {
		c := n.vals[k]
		var err error
		switch {
		case isTable(c):
			err = w.table("["+tomlKey(k)+"]", c)
		case isTables(c):
			err = w.tables(k, c)
		}
		if err != nil {
			return err
		}
	}
	w.comment(n.comment.foot)
	return nil
}

// isTable: an empty table stays a value, there is nothing below its header.
func isTable(n *node) bool { return n.kind == kindMap && len(n.keys) > 0 }

func isTables(n *node) bool {
	return n.kind == kindList && len(n.list) > 0 && !slices.ContainsFunc(n.list, func(c *node) bool { return !isTable(c) })
}

func (w *tomlWriter) table(header string, n *node) error {
	w.gap()
	w.comment(n.comment.head)
	w.b.WriteString(header)
	if !w.o.Origins {
		w.line(n.comment.line)
	} else {
		w.b.WriteByte('\n')
	}
	for _, k := range n.keys {
		if err := w.pair(k, n.vals[k]); err != nil {
			return err
		}
	}
	w.comment(n.comment.foot)
	return nil
}

func (w *tomlWriter) tables(key string, n *node) error {
	if n.comment.head != "" && !w.o.Origins {
		w.gap()
		w.comment(n.comment.head)
	}
	for _, c := range n.list {
		if err := w.table("[["+tomlKey(key)+"]]", c); err != nil {
			return err
		}
	}
	w.comment(n.comment.foot)
	return nil
}

func (w *tomlWriter) pair(key string, n *node) error {
	w.comment(n.comment.head)
	w.b.WriteString(tomlKey(key) + " = ")
	if n.kind == kindList && len(n.list) > 0 && (len(n.list) > 1 || len(n.list[0].comment.head) > 0 || w.o.Origins) {
		if err := w.longList(n); err != nil {
			return err
		}
	} else {
		if err := w.value(n); err != nil {
			return err
		}
		w.line(w.o.remark(w.single(n)))
	}
	w.comment(n.comment.foot)
	return nil
}

// single is the lone item of a list, whose comment stands for the list's.
func (w *tomlWriter) single(n *node) *node {
	if n.kind == kindList && len(n.list) == 1 && n.comment.line == "" {
		return n.list[0]
	}
	return n
}

func (w *tomlWriter) longList(n *node) error {
	w.b.WriteByte('[')
	if w.o.Origins {
		w.b.WriteByte('\n')
	} else {
		w.line(n.comment.line)
	}
	for _, c := range n.list {
		w.indented(c.comment.head)
		w.b.WriteString("  ")
		if err := w.value(c); err != nil {
			return err
		}
		w.b.WriteByte(',')
		w.line(w.o.remark(c))
		w.indented(c.comment.foot)
	}
	w.b.WriteString("]\n")
	return nil
}

func (w *tomlWriter) value(n *node) error {
	switch n.kind {
	case kindNull:
		return errNull
	case kindString:
		w.b.WriteString(tomlString(n.str))
	case kindBool:
		w.b.WriteString(strconv.FormatBool(n.flag))
	case kindInt, kindFloat:
		w.b.WriteString(numberText(n))
	case kindList:
		return w.inline('[', ']', len(n.list), func(i int) error { return w.value(n.list[i]) })
	case kindMap:
		return w.inline('{', '}', len(n.keys), func(i int) error {
			w.b.WriteString(tomlKey(n.keys[i]) + " = ")
			return w.value(n.vals[n.keys[i]])
		})
	}
	return nil
}

func (w *tomlWriter) inline(open, end byte, count int, item func(i int) error) error {
	w.b.WriteByte(open)
	for i := range count {
		if i > 0 {
			w.b.WriteString(", ")
		}
		if err := item(i); err != nil {
			return err
		}
	}
	w.b.WriteByte(end)
	return nil
}

// gap separates a table from what is above it.
func (w *tomlWriter) gap() {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
}

func (w *tomlWriter) comment(text string) { w.comments(text, "") }

func (w *tomlWriter) indented(text string) { w.comments(text, "  ") }

func (w *tomlWriter) comments(text, indent string) {
	if text == "" || w.o.Origins {
		return
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			w.b.WriteByte('\n')
			continue
		}
		w.b.WriteString(indent + tomlRemark(line) + "\n")
	}
}

// line ends a line with a comment.
func (w *tomlWriter) line(remark string) {
	if remark != "" {
		w.b.WriteString(" " + tomlRemark(strings.ReplaceAll(remark, "\n", " ")))
	}
	w.b.WriteByte('\n')
}

// tomlRemark drops what TOML does not allow in a comment.
func tomlRemark(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if !strings.HasPrefix(s, "#") {
		s = "# " + s
	}
	return s
}

func tomlKey(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" && s != "" {
		return s
	}
	return tomlQuoted(s)
}

// tomlString prefers a block for several lines, as scripts are.
func tomlString(s string) string {
	if !strings.Contains(s, "\n") || strings.Contains(s, "'''") || strings.HasSuffix(s, "'") ||
		strings.ContainsFunc(s, func(r rune) bool { return tomlControl(r) && r != '\n' && r != '\t' }) {
		return tomlQuoted(s)
	}
	return "'''\n" + s + "'''"
}

func tomlControl(r rune) bool { return r < ' ' || r == 0x7f }

func tomlQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case tomlControl(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
