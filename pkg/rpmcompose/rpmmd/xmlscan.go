// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// scanner is a minimal XML reader for the large lists: elements, attributes, text, entities, comments and
// CDATA, no document types. It works on the whole text in memory and copies nothing by itself; general XML
// decoding takes 20 times as long.
type scanner struct {
	b     []byte
	i     int
	depth int
	from  int  // offset of b in the whole text, for messages
	open  bool // the text may end inside the root element
	// The current start tag.
	name      []byte // local name, without a namespace prefix
	attrs     []byte // raw text between name and closing bracket
	selfClose bool
	pendClose bool
}

type token uint8

const (
	tokenEOF token = iota
	tokenStart
	tokenEnd
)

// maxDepth bounds nesting; real lists use 5.
const maxDepth = 64

func (s *scanner) fail(what string) error {
	return fmt.Errorf("offset %d: %s: %w", s.from+s.i, what, ErrSyntax)
}

// next goes to the next start or end tag. An empty element gives both.
func (s *scanner) next() (token, error) {
	if s.pendClose {
		s.pendClose = false
		s.depth--
		return tokenEnd, nil
	}
	for {
		lt := bytes.IndexByte(s.b[s.i:], '<')
		if lt < 0 {
			s.i = len(s.b)
			if s.depth != b2i(s.open) {
				return tokenEOF, s.fail("text ends inside an element")
			}
			return tokenEOF, nil
		}
		s.i += lt
		rest := s.b[s.i:]
		switch {
		case bytes.HasPrefix(rest, []byte("<!--")):
			if err := s.skipTo("-->"); err != nil {
				return tokenEOF, err
			}
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			if err := s.skipTo("]]>"); err != nil {
				return tokenEOF, err
			}
		case bytes.HasPrefix(rest, []byte("<?")):
			if err := s.skipTo("?>"); err != nil {
				return tokenEOF, err
			}
		case bytes.HasPrefix(rest, []byte("<!")):
			return tokenEOF, s.fail("document type is not allowed")
		default:
			return s.tag(rest)
		}
	}
}

func (s *scanner) skipTo(end string) error {
	n := bytes.Index(s.b[s.i:], []byte(end))
	if n < 0 {
		return s.fail("no " + end)
	}
	s.i += n + len(end)
	return nil
}

// tag reads one start or end tag at the front of rest.
func (s *scanner) tag(rest []byte) (token, error) {
	end := tagEnd(rest)
	if end < 2 {
		return tokenEOF, s.fail("tag without end")
	}
	inner := rest[1:end]
	s.i += end + 1
	if inner[0] == '/' {
		s.name = localName(bytes.TrimRight(inner[1:], " \t\r\n"))
		if s.depth--; s.depth < 0 {
			return tokenEOF, s.fail("end tag without start")
		}
		return tokenEnd, nil
	}
	s.selfClose = inner[len(inner)-1] == '/'
	if s.selfClose {
		inner = inner[:len(inner)-1]
	}
	n := bytes.IndexAny(inner, " \t\r\n")
	if n < 0 {
		n = len(inner)
	}
	s.name, s.attrs = localName(inner[:n]), inner[n:]
	if len(s.name) == 0 {
		return tokenEOF, s.fail("tag without name")
	}
	if s.depth++; s.depth > maxDepth {
		return tokenEOF, s.fail("elements nested too deep")
	}
	s.pendClose = s.selfClose
	return tokenStart, nil
}

// tagEnd finds the closing bracket; one inside a quoted attribute does not count.
func tagEnd(b []byte) int {
	end := bytes.IndexByte(b, '>')
	if end < 0 || bytes.Count(b[:end], []byte{'"'})%2 == 0 {
		return end
	}
	quoted := false
	for i, c := range b {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return i
		}
	}
	return -1
}

// emptyTag gives the text of what seems to be an empty element that comes next, and goes to its start. Only
// what [scanner.next] read before under the same text is one for sure: a quoted bracket may hide in it.
func (s *scanner) emptyTag() []byte {
	i := skipSpace(s.b, s.i)
	if i >= len(s.b) || s.b[i] != '<' {
		return nil
	}
	s.i = i
	end := bytes.IndexByte(s.b[i:], '>')
	if end < 1 || s.b[i+end-1] != '/' {
		return nil
	}
	return s.b[i : i+end+1]
}

func localName(name []byte) []byte {
	if i := bytes.IndexByte(name, ':'); i >= 0 {
		return name[i+1:]
	}
	return name
}

// nextAttr takes the first attribute off rest, which starts as s.attrs. Values are raw: entities are not
// replaced. ok is false at the end.
func nextAttr(rest []byte) (name, value, left []byte, ok bool) {
	i := skipSpace(rest, 0)
	start := i
	for i < len(rest) && rest[i] != '=' && !isSpace(rest[i]) {
		i++
	}
	name = rest[start:i]
	i = skipSpace(rest, i)
	if len(name) == 0 || i >= len(rest) || rest[i] != '=' {
		return nil, nil, nil, false
	}
	i = skipSpace(rest, i+1)
	if i >= len(rest) || rest[i] != '"' && rest[i] != '\'' {
		return nil, nil, nil, false
	}
	end := bytes.IndexByte(rest[i+1:], rest[i])
	if end < 0 {
		return nil, nil, nil, false
	}
	return name, rest[i+1 : i+1+end], rest[i+2+end:], true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// text gives the raw text up to the next tag and the end tag of the current element; child elements are an
// error. Entities are not replaced; CDATA is rare enough to be handled by a copy.
func (s *scanner) text() ([]byte, error) {
	if s.pendClose {
		s.pendClose = false
		s.depth--
		return nil, nil
	}
	var whole []byte
	for {
		lt := bytes.IndexByte(s.b[s.i:], '<')
		if lt < 0 {
			return nil, s.fail("text without end")
		}
		part := s.b[s.i : s.i+lt]
		s.i += lt
		rest := s.b[s.i:]
		switch {
		case bytes.HasPrefix(rest, []byte("</")):
			if whole != nil {
				part = append(whole, part...)
			}
			_, err := s.tag(rest)
			return part, err
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			end := bytes.Index(rest, []byte("]]>"))
			if end < 0 {
				return nil, s.fail("CDATA without end")
			}
			whole = append(append(whole, part...), escape(rest[9:end])...)
			s.i += end + 3
		case bytes.HasPrefix(rest, []byte("<!--")):
			whole = append(whole, part...)
			if err := s.skipTo("-->"); err != nil {
				return nil, err
			}
		default:
			return nil, s.fail("element inside text")
		}
	}
}

// escape undoes what unescape will do, for CDATA inside text.
func escape(b []byte) []byte { return bytes.ReplaceAll(b, []byte("&"), []byte("&amp;")) }

// skip passes over the rest of the current element.
func (s *scanner) skip() error {
	for depth := s.depth; s.depth >= depth; {
		if tok, err := s.next(); err != nil {
			return err
		} else if tok == tokenEOF {
			return s.fail("text ends inside an element")
		}
	}
	return nil
}

// unescape replaces entities; it gives b itself where there are none.
func unescape(b []byte) ([]byte, error) {
	amp := bytes.IndexByte(b, '&')
	if amp < 0 {
		return b, nil
	}
	out := make([]byte, 0, len(b))
	for amp >= 0 {
		out = append(out, b[:amp]...)
		b = b[amp:]
		semi := bytes.IndexByte(b, ';')
		if semi < 0 {
			return nil, fmt.Errorf("entity %.12q: %w", b, ErrSyntax)
		}
		r, err := entity(string(b[1:semi]))
		if err != nil {
			return nil, err
		}
		out = utf8.AppendRune(out, r)
		b = b[semi+1:]
		amp = bytes.IndexByte(b, '&')
	}
	return append(out, b...), nil
}

func entity(name string) (rune, error) {
	switch name {
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "amp":
		return '&', nil
	case "quot":
		return '"', nil
	case "apos":
		return '\'', nil
	}
	if len(name) > 1 && name[0] == '#' {
		digits, base := name[1:], 10
		if digits[0] == 'x' {
			digits, base = digits[1:], 16
		}
		if n, err := strconv.ParseUint(digits, base, 21); err == nil && n > 0 && utf8.ValidRune(rune(n)) {
			return rune(n), nil
		}
	}
	return 0, fmt.Errorf("entity %q: %w", name, ErrSyntax)
}
