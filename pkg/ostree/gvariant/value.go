// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrValue reports a constructor argument that its type cannot represent.
var ErrValue = errors.New("gvariant: value cannot be represented")

// Value is an immutable GVariant value: a type and its serialised normal form.
// The zero Value is invalid; its Err is ErrValue.
type Value struct {
	t    *typeInfo
	data []byte
	err  error
}

// Err is nil for a valid value, else the first error met while building it.
func (v Value) Err() error {
	if v.err == nil && v.t == nil {
		return ErrValue
	}
	return v.err
}

// Type gives the type string, "" for an invalid value.
func (v Value) Type() string {
	if v.t == nil {
		return ""
	}
	return v.t.str
}

// Bytes gives the serialised form; the caller must not change it. It is nil for
// an invalid value.
func (v Value) Bytes() []byte {
	if v.Err() != nil {
		return nil
	}
	return v.data
}

func (v Value) is(kind byte) bool { return v.Err() == nil && v.t.kind == kind }

// Bool reads a b.
func (v Value) Bool() (b, ok bool) {
	if !v.is('b') {
		return false, false
	}
	return v.data[0] == 1, true
}

// Byte reads a y.
func (v Value) Byte() (byte, bool) {
	if !v.is('y') {
		return 0, false
	}
	return v.data[0], true
}

// Uint16 reads a q.
func (v Value) Uint16() (uint16, bool) {
	if !v.is('q') {
		return 0, false
	}
	return binary.LittleEndian.Uint16(v.data), true
}

// Int16 reads an n.
func (v Value) Int16() (int16, bool) {
	if !v.is('n') {
		return 0, false
	}
	return int16(binary.LittleEndian.Uint16(v.data)), true
}

// Uint32 reads a u.
func (v Value) Uint32() (uint32, bool) {
	if !v.is('u') {
		return 0, false
	}
	return binary.LittleEndian.Uint32(v.data), true
}

// Uint32BE reads a u whose bytes are big-endian.
func (v Value) Uint32BE() (uint32, bool) {
	n, ok := v.Uint32()
	return bits.ReverseBytes32(n), ok
}

// Int32 reads an i.
func (v Value) Int32() (int32, bool) {
	if !v.is('i') {
		return 0, false
	}
	return int32(binary.LittleEndian.Uint32(v.data)), true
}

// Uint64 reads a t.
func (v Value) Uint64() (uint64, bool) {
	if !v.is('t') {
		return 0, false
	}
	return binary.LittleEndian.Uint64(v.data), true
}

// Uint64BE reads a t whose bytes are big-endian.
func (v Value) Uint64BE() (uint64, bool) {
	n, ok := v.Uint64()
	return bits.ReverseBytes64(n), ok
}

// Int64 reads an x.
func (v Value) Int64() (int64, bool) {
	if !v.is('x') {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(v.data)), true
}

// Str reads an s, o or g without its terminator.
func (v Value) Str() (string, bool) {
	if !v.is('s') && !v.is('o') && !v.is('g') {
		return "", false
	}
	return string(v.data[:len(v.data)-1]), true
}

// ByteSlice reads an ay; the result is a view and must not be changed.
func (v Value) ByteSlice() ([]byte, bool) {
	if v.Err() != nil || v.t.str != "ay" {
		return nil, false
	}
	return v.data, true
}

// Variant reads the value inside a v.
func (v Value) Variant() (Value, bool) {
	if !v.is('v') {
		return Value{}, false
	}
	t, child, err := splitVariant(v.data)
	return Value{t: t, data: child}, err == nil
}

// Strings reads an as.
func (v Value) Strings() ([]string, bool) {
	if v.Err() != nil || v.t.str != "as" {
		return nil, false
	}
	out := []string{}
	for _, c := range v.Children() {
		s, _ := c.Str()
		out = append(out, s)
	}
	return out, true
}

// ByteSlices reads an aay; the elements are views and must not be changed.
func (v Value) ByteSlices() ([][]byte, bool) {
	if v.Err() != nil || v.t.str != "aay" {
		return nil, false
	}
	out := [][]byte{}
	for _, c := range v.Children() {
		out = append(out, c.data)
	}
	return out, true
}

// Children gives the elements of an array, the members of a tuple or dictionary
// entry, the value in a variant or the value, if any, in a maybe. Other types
// have none.
func (v Value) Children() []Value {
	if v.Err() != nil {
		return nil
	}
	switch v.t.kind {
	case 'a':
		return v.arrayChildren()
	case '(', '{':
		return v.tupleChildren()
	case 'v':
		c, _ := v.Variant()
		return []Value{c}
	case 'm':
		return v.maybeChild()
	}
	return nil
}

func (v Value) maybeChild() []Value {
	if len(v.data) == 0 {
		return nil
	}
	e := v.t.elems[0]
	if e.fixed > 0 {
		return []Value{{t: e, data: v.data}}
	}
	return []Value{{t: e, data: v.data[:len(v.data)-1]}}
}

func (v Value) arrayChildren() []Value {
	e := v.t.elems[0]
	if len(v.data) == 0 {
		return nil
	}
	if e.fixed > 0 {
		out := make([]Value, 0, len(v.data)/e.fixed)
		for i := 0; i < len(v.data); i += e.fixed {
			out = append(out, Value{t: e, data: v.data[i : i+e.fixed : i+e.fixed]})
		}
		return out
	}
	ends, err := arrayEnds(v.data)
	if err != nil { // not reached: Parse has checked the framing
		return nil
	}
	out := make([]Value, 0, ends.count)
	pos := 0
	for i := range ends.count {
		end := ends.at(i)
		out = append(out, Value{t: e, data: v.data[alignUp(pos, e.align):end:end]})
		pos = end
	}
	return out
}

func (v Value) tupleChildren() []Value {
	out := make([]Value, 0, len(v.t.elems))
	w := offsetSize(len(v.data))
	pos, frame := 0, len(v.data)
	for i, e := range v.t.elems {
		end, next, err := memberEnd(v.t, v.data, i, pos, frame, w)
		if err != nil { // not reached: Parse has checked the framing
			return nil
		}
		out = append(out, Value{t: e, data: v.data[alignUp(pos, e.align):end:end]})
		pos, frame = end, next
	}
	return out
}
