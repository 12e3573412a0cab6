// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrText reports text that is not in the GVariant text format.
var ErrText = errors.New("gvariant: invalid text")

// MaxText bounds the bytes that ParseText reads.
const MaxText = 1 << 20

// ParseText reads a value in the GVariant text format, as g_variant_parse and
// command lines do: 'text', uint32 5, [1, 2], ('a', true), {'k': <1>}, @as [].
// Numbers without a type are i, or d where they have a point. Elements of an array
// take the type of the first one that names it.
func ParseText(s string) (Value, error) {
	if len(s) > MaxText {
		return Value{}, fmt.Errorf("%w: %d bytes", ErrText, len(s))
	}
	p := &textParser{s: s}
	n, err := p.node(0)
	if err == nil {
		if p.skipSpace(); p.i < len(s) {
			err = p.fail("expected end of input")
		}
	}
	if err != nil {
		return Value{}, err
	}
	v := n.build(settle(n.infer()))
	return v, v.Err()
}

// textNode is a parsed value whose type is not settled: a container waits for its
// neighbours.
type textNode struct {
	kind byte   // 0 number, else as in type strings; 'Y' a byte string
	text string // of numbers, strings and booleans
	typ  string // what @TYPE or a word says, "" without
	kids []*textNode
}

type textParser struct {
	s string
	i int
}

func (p *textParser) fail(format string, args ...any) error {
	return fmt.Errorf("%w: at %d: %s", ErrText, p.i, fmt.Sprintf(format, args...))
}

func (p *textParser) skipSpace() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n\v\f", p.s[p.i]) >= 0 {
		p.i++
	}
}

// take skips spaces and then c, if it is there.
func (p *textParser) take(c byte) bool {
	p.skipSpace()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// word reads letters, digits and what numbers and types consist of.
func (p *textParser) word(more string) string {
	from := p.i
	for p.i < len(p.s) {
		c := p.s[p.i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte(more, c) < 0 {
			break
		}
		p.i++
	}
	return p.s[from:p.i]
}

func (p *textParser) node(depth int) (*textNode, error) {
	p.skipSpace()
	if depth > maxDepth {
		return nil, p.fail("nested too deeply")
	}
	if p.i >= len(p.s) {
		return nil, p.fail("expected value")
	}
	switch c := p.s[p.i]; c {
	case '@':
		p.i++
		return p.typed(p.word("(){}"), depth)
	case '[':
		return p.list('a', ']', depth)
	case '(':
		return p.list('(', ')', depth)
	case '{':
		return p.dict(depth)
	case '<':
		p.i++
		n, err := p.node(depth + 1)
		if err == nil && !p.take('>') {
			err = p.fail("expected '>'")
		}
		return &textNode{kind: 'v', kids: []*textNode{n}}, err
	case '\'', '"':
		s, err := p.quoted(false)
		return &textNode{kind: 's', text: s}, err
	case 'b':
		if p.i+1 < len(p.s) && (p.s[p.i+1] == '\'' || p.s[p.i+1] == '"') {
			p.i++
			s, err := p.quoted(true)
			return &textNode{kind: 'Y', text: s}, err
		}
	}
	return p.plain(depth)
}

// wordTypes are the words that announce a type.
var wordTypes = map[string]string{
	"boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "handle": "h", "uint32": "u",
	"int64": "x", "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}

func (p *textParser) plain(depth int) (*textNode, error) {
	w := p.word("+-._")
	switch w {
	case "":
		return nil, p.fail("unexpected %q", p.s[p.i])
	case "true", "false":
		return &textNode{kind: 'b', text: w}, nil
	case "nothing":
		return &textNode{kind: 'm'}, nil
	case "just":
		n, err := p.node(depth + 1)
		return &textNode{kind: 'm', kids: []*textNode{n}}, err
	}
	if t, ok := wordTypes[w]; ok {
		return p.typed(t, depth)
	}
	if c := w[0]; c != '+' && c != '-' && c != '.' && (c < '0' || c > '9') && w != "inf" && w != "nan" {
		return nil, p.fail("unknown keyword %q", w)
	}
	return &textNode{text: w}, nil
}

func (p *textParser) typed(typ string, depth int) (*textNode, error) {
	if _, err := parseType(typ); err != nil {
		return nil, err
	}
	n, err := p.node(depth + 1)
	if err != nil {
		return nil, err
	}
	if n.typ != "" && n.typ != typ {
		return nil, p.fail("type %s of a value of type %s", typ, n.typ)
	}
	n.typ = typ
	return n, nil
}

func (p *textParser) list(kind, end byte, depth int) (*textNode, error) {
	p.i++
	n := &textNode{kind: kind}
	for !p.take(end) {
		if len(n.kids) > 0 && !p.take(',') {
			return nil, p.fail("expected ',' or '%c'", end)
		}
		if kind == '(' && len(n.kids) == 1 && p.take(end) {
			return n, nil
		}
		k, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, k)
	}
	if kind == '(' && len(n.kids) == 1 {
		return nil, p.fail("expected ',' after the only member of a tuple")
	}
	return n, nil
}

// dict reads {k: v, …}, an array of entries, and {k, v}, one entry.
func (p *textParser) dict(depth int) (*textNode, error) {
	p.i++
	n := &textNode{kind: 'a'}
	if p.take('}') {
		n.kind = 'D'
		return n, nil
	}
	for {
		k, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		single := len(n.kids) == 0 && p.take(',')
		if !single && !p.take(':') {
			return nil, p.fail("expected ':'")
		}
		v, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		e := &textNode{kind: '{', kids: []*textNode{k, v}}
		n.kids = append(n.kids, e)
		if p.take('}') {
			if single {
				return e, nil
			}
			return n, nil
		}
		if single || !p.take(',') {
			return nil, p.fail("expected ',' or '}'")
		}
	}
}

// quoted reads a string; bytes allows the escapes of byte strings.
func (p *textParser) quoted(bytes bool) (string, error) {
	quote := p.s[p.i]
	p.i++
	var b strings.Builder
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == quote:
			return b.String(), nil
		case c != '\\':
			b.WriteByte(c)
		default:
			if err := p.escape(&b, bytes); err != nil {
				return "", err
			}
		}
	}
	return "", p.fail("unterminated string")
}

func (p *textParser) escape(b *strings.Builder, bytes bool) error {
	if p.i >= len(p.s) {
		return p.fail("unterminated string")
	}
	c := p.s[p.i]
	p.i++
	letters, values := "abfnrtv", "\a\b\f\n\r\t\v"
	if bytes {
		letters, values = "bfnrtv", "\b\f\n\r\t\v"
	}
	if i := strings.IndexByte(letters, c); i >= 0 {
		b.WriteByte(values[i])
		return nil
	}
	switch {
	case bytes && c >= '0' && c <= '7':
		return p.octal(b)
	case !bytes && c == 'u':
		return p.unicode(b, 4)
	case !bytes && c == 'U':
		return p.unicode(b, 8)
	case c == '\n':
		return nil
	}
	b.WriteByte(c)
	return nil
}

func (p *textParser) octal(b *strings.Builder) error {
	p.i--
	n, k := 0, 0
	for ; k < 3 && p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '7'; k++ {
		n = n*8 + int(p.s[p.i]-'0')
		p.i++
	}
	b.WriteByte(byte(n))
	return nil
}

func (p *textParser) unicode(b *strings.Builder, digits int) error {
	if p.i+digits > len(p.s) {
		return p.fail("invalid escape")
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+digits], 16, 32)
	if err != nil || n == 0 || n > math.MaxInt32 {
		return p.fail("invalid escape")
	}
	p.i += digits
	b.WriteRune(rune(n))
	return nil
}

// infer gives the node's type as far as the text tells it: N stands for any
// number, F for one with a point, S for any kind of string, * for a whole type.
func (n *textNode) infer() string {
	if n.typ != "" {
		return n.typ
	}
	switch n.kind {
	case 0:
		if isDouble(n.text) {
			return "F"
		}
		return "N"
	case 's':
		return "S"
	case 'Y':
		return "ay"
	case 'D':
		return "a{**}"
	case '(', '{':
		typ := string(n.kind)
		for _, k := range n.kids {
			typ += k.infer()
		}
		return typ + map[byte]string{'(': ")", '{': "}"}[n.kind]
	case 'a', 'm':
		elem := "*"
		for _, k := range n.kids {
			elem = unify(elem, k.infer())
		}
		return string(n.kind) + elem
	}
	return string(n.kind)
}

func isDouble(s string) bool {
	if strings.HasPrefix(strings.TrimLeft(s, "+-"), "0x") {
		return false
	}
	return strings.ContainsAny(s, ".eE") || strings.HasSuffix(s, "inf") || s == "nan"
}

// unify finds the type that both patterns allow. Where there is none it gives the
// first, and the second value will not fit.
func unify(a, b string) string {
	var out strings.Builder
	for x, y := a, b; x != ""; {
		if y == "" {
			return a
		}
		c := unifyOne(x[0], y[0])
		switch {
		case c == 0:
			return a
		case x[0] == '*':
			n := typeLen(y)
			out.WriteString(y[:n])
			x, y = x[1:], y[n:]
		case y[0] == '*':
			n := typeLen(x)
			out.WriteString(x[:n])
			x, y = x[n:], y[1:]
		default:
			out.WriteByte(c)
			x, y = x[1:], y[1:]
		}
	}
	return out.String()
}

func unifyOne(x, y byte) byte {
	switch {
	case x == y || y == '*':
		return x
	case x == '*':
		return y
	case x == 'S' && strings.IndexByte("sog", y) >= 0, x == 'N' && strings.IndexByte("ynqiuxthdF", y) >= 0, x == 'F' && y == 'd':
		return y
	case strings.IndexByte("NFS", y) >= 0 && strings.IndexByte("NFS", x) < 0, y == 'N' && x == 'F':
		return unifyOne(y, x)
	}
	return 0
}

// typeLen gives the length of the first complete type of a pattern.
func typeLen(s string) int {
	deep := 0
	for i := range len(s) {
		switch s[i] {
		case 'a', 'm':
			continue
		case '(', '{':
			deep++
		case ')', '}':
			deep--
		}
		if deep == 0 {
			return i + 1
		}
	}
	return len(s)
}

// settle replaces what is still open by the usual types.
func settle(pattern string) string {
	return strings.NewReplacer("N", "i", "F", "d", "S", "s").Replace(pattern)
}
