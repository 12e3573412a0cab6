// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"
)

const space = " \t\v\f\r"

// Parse reads a key file. A malformed line yields a *ParseError, input beyond
// MaxSize ErrTooLarge. A group opened twice continues the first; of a key given
// twice the last counts; both stay in the file.
func Parse(data []byte) (*File, error) {
	if len(data) > MaxSize {
		return nil, ErrTooLarge
	}
	p := parser{file: New()}
	for len(data) > 0 {
		text, rest, _ := bytes.Cut(data, []byte{'\n'})
		data = rest
		p.no++
		if err := p.line(strings.TrimRight(string(text), "\r")); err != nil {
			return nil, err
		}
	}
	return p.file, nil
}

type parser struct {
	file *File
	cur  *group
	no   int
}

func (p *parser) fail(msg string) error { return &ParseError{Line: p.no, Msg: msg} }

func (p *parser) line(text string) error {
	if !utf8.ValidString(text) {
		return p.fail("not valid UTF-8")
	}
	if strings.IndexByte(text, 0) >= 0 {
		return p.fail("NUL byte")
	}
	trimmed := strings.TrimLeft(text, space)
	switch {
	case trimmed == "" || trimmed[0] == '#':
		p.other(text)
		return nil
	case isHeader(trimmed):
		return p.header(trimmed)
	}
	return p.pair(text, trimmed)
}

// other keeps a blank line or a comment where it stands.
func (p *parser) other(text string) {
	if p.cur == nil {
		p.file.head = append(p.file.head, text)
		return
	}
	p.cur.lines = append(p.cur.lines, line{raw: text})
}

// isHeader tells a group header from a pair whose key starts with a bracket,
// which is an error that the pair branch reports.
func isHeader(text string) bool {
	return text[0] == '[' && strings.HasSuffix(strings.TrimRight(text, space), "]")
}

func (p *parser) header(text string) error {
	text = strings.TrimRight(text, space)
	name := text[1 : len(text)-1]
	if err := checkGroupName(name); err != nil {
		return p.fail(err.Error())
	}
	g := &group{name: name}
	if p.cur == nil {
		p.file.head, g.lead = splitLead(p.file.head)
	} else {
		p.cur.lines, g.lead = splitLeadLines(p.cur.lines)
	}
	p.file.groups = append(p.file.groups, g)
	p.cur = g
	return nil
}

func (p *parser) pair(text, trimmed string) error {
	key, value, ok := strings.Cut(trimmed, "=")
	if !ok {
		return p.fail("neither a group, a KEY=VALUE pair nor a comment")
	}
	if p.cur == nil {
		return p.fail("key before the first group")
	}
	key = strings.TrimRight(key, space)
	if err := checkKeyName(key); err != nil {
		return p.fail(err.Error())
	}
	value = strings.TrimLeft(value, space)
	p.cur.lines = append(p.cur.lines, line{raw: text, key: key, value: value})
	return nil
}

// splitLead cuts the comment lines at the end of a run: they describe the
// header that follows.
func splitLead(lines []string) (rest, lead []string) {
	at := len(lines)
	for at > 0 && isComment(lines[at-1]) {
		at--
	}
	return lines[:at:at], lines[at:]
}

func splitLeadLines(lines []line) (rest []line, lead []string) {
	at := len(lines)
	for at > 0 && lines[at-1].key == "" && isComment(lines[at-1].raw) {
		at--
	}
	for _, l := range lines[at:] {
		lead = append(lead, l.raw)
	}
	return lines[:at:at], lead
}

func isComment(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, space), "#")
}

var (
	errGroupName = errors.New("group name is empty or holds a bracket or a control character")
	errKeyName   = errors.New("key is empty or holds a character that keys must not have")
	errRawValue  = errors.New("value holds a line break or NUL, starts with white space or is not UTF-8")
)

func checkGroupName(name string) error {
	if name == "" || strings.ContainsAny(name, "[]") || !printable(name) {
		return errGroupName
	}
	return nil
}

// checkKeyName accepts what GLib accepts: any text without '=', brackets or
// surrounding white space, optionally followed by a [locale].
func checkKeyName(key string) error {
	base := key
	if at := strings.IndexByte(key, '['); at >= 0 {
		if !isLocale(key[at:]) {
			return errKeyName
		}
		base = key[:at]
	}
	if base == "" || base[0] == '#' || strings.ContainsAny(base, "=[]") ||
		strings.Trim(base, space) != base || !printable(base) {
		return errKeyName
	}
	return nil
}

func isLocale(s string) bool {
	if len(s) < 2 || s[len(s)-1] != ']' {
		return false
	}
	for _, r := range s[1 : len(s)-1] {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune("-_.@", r) && r < utf8.RuneSelf {
			return false
		}
	}
	return true
}

func checkRawValue(raw string) error {
	if strings.ContainsAny(raw, "\n\x00") || strings.TrimLeft(raw, space) != raw ||
		strings.HasSuffix(raw, "\r") || !utf8.ValidString(raw) {
		return errRawValue
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}
