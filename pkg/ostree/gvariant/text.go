// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode"
)

// TextOptions say how Text prints a value.
type TextOptions struct {
	// Types prints the types that cannot be told from the text, so that ParseText
	// gives the same value again.
	Types bool
	// Swap prints every number with its bytes reversed: the number that is meant
	// where a format stores big-endian numbers.
	Swap bool
}

// Text prints a value in the GVariant text format, byte for byte as GLib does.
// An invalid value gives "".
func (v Value) Text(o TextOptions) string {
	if v.Err() != nil {
		return ""
	}
	var p printer
	p.swap = o.Swap
	p.value(v, o.Types)
	return p.String()
}

type printer struct {
	strings.Builder
	swap bool
}

// numberWords announce the numeric types but i, which is the default.
var numberWords = map[byte]string{
	'y': "byte ", 'n': "int16 ", 'q': "uint16 ", 'u': "uint32 ", 'h': "handle ", 'x': "int64 ", 't': "uint64 ",
	'o': "objectpath ", 'g': "signature ",
}

func (p *printer) value(v Value, types bool) {
	kind := v.Type()[0]
	if types {
		p.WriteString(numberWords[kind])
	}
	switch kind {
	case 's', 'o', 'g':
		s, _ := v.Str()
		p.quote(s)
	case 'v':
		inner, _ := v.Variant()
		p.WriteByte('<')
		p.value(inner, true)
		p.WriteByte('>')
	case 'a':
		p.array(v, types)
	case '(':
		p.tuple(v, types)
	case '{':
		c := v.Children()
		p.WriteByte('{')
		p.value(c[0], types)
		p.WriteString(", ")
		p.value(c[1], types)
		p.WriteByte('}')
	case 'm':
		p.maybe(v, types)
	default:
		p.number(v, kind)
	}
}

func (p *printer) number(v Value, kind byte) {
	switch kind {
	case 'b':
		b, _ := v.Bool()
		p.WriteString(strconv.FormatBool(b))
	case 'y':
		b, _ := v.Byte()
		fmt.Fprintf(p, "0x%02x", b)
	case 'n':
		n, _ := v.Int16()
		p.WriteString(strconv.FormatInt(int64(int16(p.swap16(uint16(n)))), 10))
	case 'q':
		n, _ := v.Uint16()
		p.WriteString(strconv.FormatUint(uint64(p.swap16(n)), 10))
	case 'i':
		n, _ := v.Int32()
		p.WriteString(strconv.FormatInt(int64(int32(p.swap32(uint32(n)))), 10))
	case 'u':
		n, _ := v.Uint32()
		p.WriteString(strconv.FormatUint(uint64(p.swap32(n)), 10))
	case 'x':
		n, _ := v.Int64()
		p.WriteString(strconv.FormatInt(int64(p.swap64(uint64(n))), 10))
	case 't':
		n, _ := v.Uint64()
		p.WriteString(strconv.FormatUint(p.swap64(n), 10))
	case 'h':
		p.WriteString(strconv.FormatInt(int64(int32(p.swap32(binary.LittleEndian.Uint32(v.data)))), 10))
	case 'd':
		p.double(math.Float64frombits(p.swap64(binary.LittleEndian.Uint64(v.data))))
	}
}

// double prints so many digits that reading gives the same number, and always
// something that tells it from an integer.
func (p *printer) double(f float64) {
	s := strconv.FormatFloat(f, 'g', 17, 64)
	switch {
	case math.IsNaN(f):
		s = "nan"
	case math.IsInf(f, 0):
		s = strings.ToLower(strings.TrimPrefix(s, "+"))
	case !strings.ContainsAny(s, ".e"):
		s += ".0"
	}
	p.WriteString(s)
}

func (p *printer) swap16(n uint16) uint16 {
	if p.swap {
		return bits.ReverseBytes16(n)
	}
	return n
}

func (p *printer) swap32(n uint32) uint32 {
	if p.swap {
		return bits.ReverseBytes32(n)
	}
	return n
}

func (p *printer) swap64(n uint64) uint64 {
	if p.swap {
		return bits.ReverseBytes64(n)
	}
	return n
}

// array prints the type once, at the first element, or in full if there is none.
func (p *printer) array(v Value, types bool) {
	typ := v.Type()
	if typ == "ay" && p.byteString(v) {
		return
	}
	open, end := byte('['), byte(']')
	if typ[1] == '{' {
		open, end = '{', '}'
	}
	list := v.Children()
	if len(list) == 0 && types {
		p.WriteString("@" + typ + " ")
	}
	p.WriteByte(open)
	for i, c := range list {
		if i > 0 {
			p.WriteString(", ")
		}
		if open == '{' {
			kv := c.Children()
			p.value(kv[0], types && i == 0)
			p.WriteString(": ")
			p.value(kv[1], types && i == 0)
		} else {
			p.value(c, types && i == 0)
		}
	}
	p.WriteByte(end)
}

// byteString prints bytes of which only the last is NUL as text.
func (p *printer) byteString(v Value) bool {
	b, _ := v.ByteSlice()
	if len(b) == 0 || strings.IndexByte(string(b), 0) != len(b)-1 {
		return false
	}
	text := b[:len(b)-1]
	quote := byte('\'')
	if strings.IndexByte(string(text), '\'') >= 0 {
		quote = '"'
	}
	p.WriteByte('b')
	p.WriteByte(quote)
	for _, c := range text {
		if i := strings.IndexByte("\b\f\n\r\t\v", c); i >= 0 {
			p.WriteByte('\\')
			p.WriteByte("bfnrtv"[i])
		} else if c == '\\' || c == '"' {
			p.WriteByte('\\')
			p.WriteByte(c)
		} else if c < ' ' || c >= 0x7f {
			fmt.Fprintf(p, "\\%03o", c)
		} else {
			p.WriteByte(c)
		}
	}
	p.WriteByte(quote)
	return true
}

func (p *printer) tuple(v Value, types bool) {
	list := v.Children()
	p.WriteByte('(')
	for i, c := range list {
		if i > 0 {
			p.WriteString(", ")
		}
		p.value(c, types)
	}
	if len(list) == 1 {
		p.WriteByte(',')
	}
	p.WriteByte(')')
}

// maybe prints the value in it; "just" is needed only where one of several nested
// ones is empty.
func (p *printer) maybe(v Value, types bool) {
	if types {
		p.WriteString("@" + v.Type() + " ")
	}
	for depth := 0; ; depth++ {
		c := v.Children()
		if len(c) == 0 {
			p.WriteString(strings.Repeat("just ", depth) + "nothing")
			return
		}
		if v = c[0]; v.Type()[0] != 'm' {
			p.value(v, false)
			return
		}
	}
}

// quote prints a string in single quotes, or in double ones if it has a single one.
func (p *printer) quote(s string) {
	quote := '\''
	if strings.ContainsRune(s, '\'') {
		quote = '"'
	}
	p.WriteRune(quote)
	for _, r := range s {
		switch i := strings.IndexRune("\a\b\f\n\r\t\v", r); {
		case r == quote || r == '\\':
			p.WriteByte('\\')
			p.WriteRune(r)
		case i >= 0:
			p.WriteByte('\\')
			p.WriteByte("abfnrtv"[i])
		case unicode.IsPrint(r):
			p.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(p, "\\u%04x", r)
		default:
			fmt.Fprintf(p, "\\U%08x", r)
		}
	}
	p.WriteRune(quote)
}
