// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// build makes the value in the given type.
func (n *textNode) build(typ string) Value {
	if n.typ != "" && n.typ != typ {
		return n.mismatch(typ)
	}
	t, err := parseType(typ)
	if err != nil {
		return Value{err: fmt.Errorf("%w: unable to infer type", ErrText)}
	}
	switch t.kind {
	case 'a':
		return n.buildArray(t)
	case '(', '{':
		return n.buildMembers(t)
	case 'm':
		return n.buildMaybe(t)
	case 'v':
		if n.kind != 'v' {
			return n.mismatch(typ)
		}
		return Variant(n.kids[0].build(settle(n.kids[0].infer())))
	case 's', 'o', 'g':
		return n.buildString(t)
	case 'b':
		if n.kind != 'b' {
			return n.mismatch(typ)
		}
		return Bool(n.text == "true")
	}
	if n.kind != 0 {
		return n.mismatch(typ)
	}
	return n.buildNumber(t.kind)
}

func (n *textNode) mismatch(typ string) Value {
	return Value{err: fmt.Errorf("%w: can not parse as value of type '%s'", ErrText, typ)}
}

func (n *textNode) buildArray(t *typeInfo) Value {
	elem := t.elems[0].str
	if n.kind == 'Y' && elem == "y" {
		return ByteSlice(append([]byte(n.text), 0))
	}
	if n.kind == 'D' && elem[0] == '{' {
		return Array(elem)
	}
	if n.kind != 'a' {
		return n.mismatch(t.str)
	}
	vs := make([]Value, len(n.kids))
	for i, k := range n.kids {
		vs[i] = k.build(elem)
	}
	return Array(elem, vs...)
}

func (n *textNode) buildMembers(t *typeInfo) Value {
	if n.kind != t.kind || len(n.kids) != len(t.elems) {
		return n.mismatch(t.str)
	}
	vs := make([]Value, len(n.kids))
	for i, k := range n.kids {
		vs[i] = k.build(t.elems[i].str)
	}
	if t.kind == '{' {
		return Entry(vs[0], vs[1])
	}
	return Tuple(vs...)
}

// buildMaybe accepts a value without "just", as GLib does where the type says so.
func (n *textNode) buildMaybe(t *typeInfo) Value {
	inner := n
	if n.kind == 'm' {
		if len(n.kids) == 0 {
			return Maybe(t.elems[0].str, nil)
		}
		inner = n.kids[0]
	} else {
		plain := *n
		plain.typ = ""
		inner = &plain
	}
	v := inner.build(t.elems[0].str)
	return Maybe(t.elems[0].str, &v)
}

func (n *textNode) buildString(t *typeInfo) Value {
	if n.kind != 's' {
		return n.mismatch(t.str)
	}
	v := String(n.text)
	if t.kind == 's' || v.Err() != nil {
		return v
	}
	v, err := Parse(t.str, v.Bytes())
	if err != nil {
		return Value{err: err}
	}
	return v
}

func (n *textNode) buildNumber(kind byte) Value {
	if strings.Contains(n.text, "_") || strings.HasPrefix(strings.TrimLeft(n.text, "+-"), "0b") || strings.HasPrefix(strings.TrimLeft(n.text, "+-"), "0o") {
		return n.badNumber(strconv.ErrSyntax) // Go's notations
	}
	size := map[byte]int{'y': 8, 'n': 16, 'q': 16, 'i': 32, 'u': 32, 'h': 32, 'x': 64, 't': 64}[kind]
	switch kind {
	case 'd':
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil {
			return n.badNumber(err)
		}
		return leaf("d", binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)))
	case 'y', 'q', 'u', 't':
		u, err := strconv.ParseUint(strings.TrimPrefix(n.text, "+"), 0, size)
		if err != nil {
			return n.badNumber(err)
		}
		return leaf(string(kind), binary.LittleEndian.AppendUint64(nil, u)[:size/8])
	}
	i, err := strconv.ParseInt(n.text, 0, size)
	if err != nil {
		return n.badNumber(err)
	}
	return leaf(string(kind), binary.LittleEndian.AppendUint64(nil, uint64(i))[:size/8])
}

func (n *textNode) badNumber(err error) Value {
	if errors.Is(err, strconv.ErrRange) {
		return Value{err: fmt.Errorf("%w: number %q out of range", ErrText, n.text)}
	}
	return Value{err: fmt.Errorf("%w: invalid character in number %q", ErrText, n.text)}
}
