// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
)

func invalid(format string, args ...any) Value {
	return Value{err: fmt.Errorf("%w: %s", ErrValue, fmt.Sprintf(format, args...))}
}

func leaf(kind string, data []byte) Value {
	t, err := parseType(kind)
	return Value{t: t, data: data, err: err}
}

// Bool makes a b.
func Bool(b bool) Value {
	if b {
		return leaf("b", []byte{1})
	}
	return leaf("b", []byte{0})
}

// Byte makes a y.
func Byte(b byte) Value { return leaf("y", []byte{b}) }

// Uint16 makes a q.
func Uint16(n uint16) Value { return leaf("q", binary.LittleEndian.AppendUint16(nil, n)) }

// Int16 makes an n.
func Int16(n int16) Value { return leaf("n", binary.LittleEndian.AppendUint16(nil, uint16(n))) }

// Uint32 makes a u.
func Uint32(n uint32) Value { return leaf("u", binary.LittleEndian.AppendUint32(nil, n)) }

// Uint32BE makes a u whose bytes are big-endian.
func Uint32BE(n uint32) Value { return Uint32(bits.ReverseBytes32(n)) }

// Int32 makes an i.
func Int32(n int32) Value { return leaf("i", binary.LittleEndian.AppendUint32(nil, uint32(n))) }

// Uint64 makes a t.
func Uint64(n uint64) Value { return leaf("t", binary.LittleEndian.AppendUint64(nil, n)) }

// Uint64BE makes a t whose bytes are big-endian.
func Uint64BE(n uint64) Value { return Uint64(bits.ReverseBytes64(n)) }

// Int64 makes an x.
func Int64(n int64) Value { return leaf("x", binary.LittleEndian.AppendUint64(nil, uint64(n))) }

// String makes an s; it must be UTF-8 without NUL.
func String(s string) Value {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return invalid("string %q is not UTF-8 or holds a NUL", s)
	}
	return leaf("s", append([]byte(s), 0))
}

// ByteSlice makes an ay; the bytes are not copied and must not change.
func ByteSlice(b []byte) Value { return leaf("ay", b) }

// Strings makes an as.
func Strings(list []string) Value {
	vs := make([]Value, len(list))
	for i, s := range list {
		vs[i] = String(s)
	}
	return Array("s", vs...)
}

// ByteSlices makes an aay.
func ByteSlices(list [][]byte) Value {
	vs := make([]Value, len(list))
	for i, b := range list {
		vs[i] = ByteSlice(b)
	}
	return Array("ay", vs...)
}

// Variant makes a v around a value.
func Variant(v Value) Value {
	if err := v.Err(); err != nil {
		return Value{err: err}
	}
	data := make([]byte, 0, len(v.data)+1+len(v.t.str))
	data = append(append(append(data, v.data...), 0), v.t.str...)
	return leaf("v", data)
}

// Maybe makes an m of the element type: nothing, or just the value.
func Maybe(elem string, v *Value) Value {
	t, err := parseType("m" + elem)
	if err != nil {
		return Value{err: err}
	}
	if v == nil {
		return Value{t: t}
	}
	if err := v.Err(); err != nil {
		return Value{err: err}
	}
	if v.t.str != elem {
		return invalid("%s in a maybe of %s", v.t.str, elem)
	}
	if t.elems[0].fixed > 0 {
		return Value{t: t, data: v.data}
	}
	return Value{t: t, data: append(v.data[:len(v.data):len(v.data)], 0)}
}

// Array makes an array of the element type; every value must have that type.
func Array(elem string, values ...Value) Value {
	t, err := parseType("a" + elem)
	if err != nil {
		return Value{err: err}
	}
	size := 0
	for i, v := range values {
		if err := v.Err(); err != nil {
			return Value{err: err}
		}
		if v.t.str != elem {
			return invalid("element %d has type %s in an array of %s", i, v.t.str, elem)
		}
		size += len(v.data) + t.align - 1
	}
	data := make([]byte, 0, size+4*len(values))
	fixed := t.elems[0].fixed > 0
	ends := make([]int, 0, len(values))
	for _, v := range values {
		data = append(pad(data, t.align), v.data...)
		if !fixed {
			ends = append(ends, len(data))
		}
	}
	return Value{t: t, data: appendOffsets(data, ends, false)}
}

// Tuple makes a tuple of the values.
func Tuple(values ...Value) Value { return members("(", ")", values) }

// Entry makes a dictionary entry; the key must be of a basic type.
func Entry(key, value Value) Value { return members("{", "}", []Value{key, value}) }

func members(open, end string, values []Value) Value {
	typ, size := append(make([]byte, 0, 64), open...), 0
	for _, v := range values {
		if err := v.Err(); err != nil {
			return Value{err: err}
		}
		typ = append(typ, v.t.str...)
		size += len(v.data) + maxAlign - 1
	}
	typ = append(typ, end...)
	t, err := parseType(string(typ))
	if err != nil {
		return Value{err: err}
	}
	if len(values) == 0 {
		return Value{t: t, data: []byte{0}}
	}
	data := make([]byte, 0, size+4*len(values))
	ends := make([]int, 0, len(values))
	for i, v := range values {
		data = append(pad(data, v.t.align), v.data...)
		if v.t.fixed == 0 && i < len(values)-1 {
			ends = append(ends, len(data))
		}
	}
	if t.fixed > 0 {
		return Value{t: t, data: pad(data, t.align)}
	}
	return Value{t: t, data: appendOffsets(data, ends, true)}
}

func pad(data []byte, align int) []byte {
	for len(data)%align != 0 {
		data = append(data, 0)
	}
	return data
}

// appendOffsets writes the framing offsets in the smallest width that addresses
// the whole container, its offsets included; tuples store them backwards.
func appendOffsets(data []byte, ends []int, backwards bool) []byte {
	w := 1
	for w < 8 && offsetSize(len(data)+w*len(ends)) > w {
		w *= 2
	}
	for i := range ends {
		e := ends[i]
		if backwards {
			e = ends[len(ends)-1-i]
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(e))
		data = append(data, b[:w]...)
	}
	return data
}
