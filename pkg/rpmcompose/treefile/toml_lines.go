// SPDX-License-Identifier: Apache-2.0

package treefile

import "strings"

// itemLines gives the line of every item of the array that is the value of the
// key on line (counted from 1), as far as the text shows it: the decoder knows
// the place of the key only. The text is known to be sound TOML. Where the array
// is not found the result is shorter than the array, or nil.
func itemLines(text string, line int) []int {
	for range line - 1 {
		i := strings.IndexByte(text, '\n')
		if i < 0 {
			return nil
		}
		text = text[i+1:]
	}
	s := tomlScanner{text: text, line: line}
	if !s.to('=') {
		return nil
	}
	s.space()
	if s.next() != '[' {
		return nil
	}
	var out []int
	for s.space(); s.peek() != ']' && s.peek() != 0; s.space() {
		out = append(out, s.line)
		before := s.pos
		if s.item(); s.pos == before && s.peek() != ',' {
			return nil // not the array after all
		}
		s.space()
		if s.peek() == ',' {
			s.next()
		}
	}
	return out
}

// tomlScanner steps through TOML text and counts lines.
type tomlScanner struct {
	text string
	pos  int
	line int
}

func (s *tomlScanner) peek() byte {
	if s.pos >= len(s.text) {
		return 0
	}
	return s.text[s.pos]
}

func (s *tomlScanner) next() byte {
	c := s.peek()
	if c == '\n' {
		s.line++
	}
	if s.pos < len(s.text) {
		s.pos++
	}
	return c
}

// to moves behind the next c of this line that is not inside quotes.
func (s *tomlScanner) to(c byte) bool {
	for {
		switch s.peek() {
		case c:
			s.next()
			return true
		case 0, '\n':
			return false
		case '"', '\'':
			s.quoted()
		default:
			s.next()
		}
	}
}

// space skips white space, line ends and comments.
func (s *tomlScanner) space() {
	for {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.next()
		case '#':
			for s.peek() != '\n' && s.peek() != 0 {
				s.next()
			}
		default:
			return
		}
	}
}

// item skips one value, up to the comma or bracket behind it.
func (s *tomlScanner) item() {
	depth := 0
	for {
		switch s.peek() {
		case 0:
			return
		case '"', '\'':
			s.quoted()
			continue
		case '#':
			s.space()
			continue
		case '[', '{':
			depth++
		case ']', '}':
			if depth == 0 {
				return
			}
			depth--
		case ',':
			if depth == 0 {
				return
			}
		}
		s.next()
	}
}

// quoted skips a string of any of the four kinds.
func (s *tomlScanner) quoted() {
	q := s.text[s.pos : s.pos+1]
	end := q
	if long := strings.Repeat(q, 3); strings.HasPrefix(s.text[s.pos:], long) {
		end = long
	}
	for range end {
		s.next()
	}
	for s.peek() != 0 {
		if s.peek() == '\\' && q == `"` {
			s.next()
			s.next()
			continue
		}
		if strings.HasPrefix(s.text[s.pos:], end) {
			for range end {
				s.next()
			}
			// Up to two quotes may belong to the text before the closing ones.
			for len(end) == 3 && s.peek() == q[0] {
				s.next()
			}
			return
		}
		s.next()
	}
}
