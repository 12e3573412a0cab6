// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrNotNormal reports bytes that are not the normal form of their type.
var ErrNotNormal = errors.New("gvariant: not in normal form")

// MaxSize is the largest serialised value that Parse accepts: 128 MiB, the limit
// OSTree puts on metadata objects.
const MaxSize = 128 << 20

// Parse checks that data is the normal form of a value of the given type and
// returns it as a view of data, which must not change afterwards. It fails with
// an error wrapping ErrType or ErrNotNormal.
func Parse(typ string, data []byte) (Value, error) {
	t, err := parseType(typ)
	if err != nil {
		return Value{}, err
	}
	if len(data) > MaxSize {
		return Value{}, fmt.Errorf("parse %s: %d bytes exceed the limit of %d", typ, len(data), MaxSize)
	}
	if err := check(t, data, 0); err != nil {
		return Value{}, fmt.Errorf("parse %s: %w", typ, err)
	}
	return Value{t: t, data: data}, nil
}

func notNormal(t *typeInfo, why string) error {
	return fmt.Errorf("%w: %s: %s", ErrNotNormal, t.str, why)
}

func check(t *typeInfo, data []byte, depth int) error {
	if depth > maxDepth {
		return notNormal(t, "nested too deeply")
	}
	if t.fixed > 0 && len(data) != t.fixed {
		return notNormal(t, fmt.Sprintf("%d bytes instead of %d", len(data), t.fixed))
	}
	switch t.kind {
	case 'b':
		if data[0] > 1 {
			return notNormal(t, "boolean is neither 0 nor 1")
		}
	case 's', 'o', 'g':
		return checkString(t, data)
	case 'v':
		return checkVariant(t, data, depth)
	case 'm':
		return checkMaybe(t, data, depth)
	case 'a':
		return checkArray(t, data, depth)
	case '(', '{':
		return checkTuple(t, data, depth)
	}
	return nil
}

func checkString(t *typeInfo, data []byte) error {
	if len(data) == 0 || bytes.IndexByte(data, 0) != len(data)-1 {
		return notNormal(t, "no terminating NUL, or one inside")
	}
	s := data[:len(data)-1]
	switch {
	case !utf8.Valid(s):
		return notNormal(t, "not UTF-8")
	case t.kind == 'o' && !validPath(string(s)):
		return notNormal(t, "not an object path")
	case t.kind == 'g' && !validSignature(string(s)):
		return notNormal(t, "not a signature")
	}
	return nil
}

func checkVariant(t *typeInfo, data []byte, depth int) error {
	inner, child, err := splitVariant(data)
	if err != nil {
		return notNormal(t, err.Error())
	}
	return check(inner, child, depth+1)
}

// splitVariant separates the type string at the end of a variant from its child.
func splitVariant(data []byte) (*typeInfo, []byte, error) {
	tail := data[max(0, len(data)-maxTypeLength-1):]
	i := bytes.LastIndexByte(tail, 0)
	if i < 0 {
		return nil, nil, errors.New("variant without a type string")
	}
	t, err := parseType(string(tail[i+1:]))
	if err != nil {
		return nil, nil, err
	}
	return t, data[:len(data)-len(tail)+i], nil
}

func checkMaybe(t *typeInfo, data []byte, depth int) error {
	if len(data) == 0 {
		return nil
	}
	if t.elems[0].fixed > 0 {
		return check(t.elems[0], data, depth+1)
	}
	if data[len(data)-1] != 0 {
		return notNormal(t, "no trailing zero byte")
	}
	return check(t.elems[0], data[:len(data)-1], depth+1)
}

func checkArray(t *typeInfo, data []byte, depth int) error {
	e := t.elems[0]
	if e.fixed > 0 {
		return checkFixedArray(t, data, depth)
	}
	if len(data) == 0 {
		return nil
	}
	ends, err := arrayEnds(data)
	if err != nil {
		return notNormal(t, err.Error())
	}
	pos := 0
	for i := range ends.count {
		end := ends.at(i)
		start, err := skipPadding(data, pos, e.align, end)
		if err != nil {
			return notNormal(t, fmt.Sprintf("element %d: %v", i, err))
		}
		if err := check(e, data[start:end], depth+1); err != nil {
			return err
		}
		pos = end
	}
	if pos != ends.start {
		return notNormal(t, "bytes between the last element and the offsets")
	}
	return nil
}

func checkFixedArray(t *typeInfo, data []byte, depth int) error {
	e := t.elems[0]
	if len(data)%e.fixed != 0 {
		return notNormal(t, "size is no multiple of the element size")
	}
	if !e.needsCheck() {
		return nil
	}
	for i := 0; i < len(data); i += e.fixed {
		if err := check(e, data[i:i+e.fixed], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// skipPadding aligns pos and checks that the bytes skipped are zero and that the
// child, which ends at end, does not end before it starts.
func skipPadding(data []byte, pos, align, end int) (int, error) {
	start := alignUp(pos, align)
	if end < start || end > len(data) {
		return 0, errors.New("framing offset out of order")
	}
	for _, b := range data[pos:start] {
		if b != 0 {
			return 0, errors.New("padding is not zero")
		}
	}
	return start, nil
}

func checkTuple(t *typeInfo, data []byte, depth int) error {
	if len(t.elems) == 0 {
		if data[0] != 0 {
			return notNormal(t, "unit tuple is not zero")
		}
		return nil
	}
	w := offsetSize(len(data))
	pos, frame := 0, len(data)
	for i, e := range t.elems {
		end, next, err := memberEnd(t, data, i, pos, frame, w)
		if err != nil {
			return notNormal(t, err.Error())
		}
		start, err := skipPadding(data, pos, e.align, end)
		if err != nil {
			return notNormal(t, fmt.Sprintf("member %d: %v", i, err))
		}
		if err := check(e, data[start:end], depth+1); err != nil {
			return err
		}
		pos, frame = end, next
	}
	return checkTupleEnd(t, data, pos, frame)
}

// memberEnd finds where member i ends and where the framing offsets read so far
// begin. Only members of varying size that are not last have an offset.
func memberEnd(t *typeInfo, data []byte, i, pos, frame, w int) (end, newFrame int, err error) {
	e := t.elems[i]
	if e.fixed > 0 {
		end = alignUp(pos, e.align) + e.fixed
	} else if i == len(t.elems)-1 {
		end = frame
	} else {
		frame -= w
		if frame < pos {
			return 0, 0, errors.New("no room for a framing offset")
		}
		end = readOffset(data[frame : frame+w])
	}
	if end < 0 || end > frame {
		return 0, 0, fmt.Errorf("member %d ends beyond the data", i)
	}
	return end, frame, nil
}

func checkTupleEnd(t *typeInfo, data []byte, pos, frame int) error {
	if t.fixed == 0 {
		if pos != frame {
			return notNormal(t, "bytes between the last member and the offsets")
		}
		return nil
	}
	for _, b := range data[pos:] {
		if b != 0 {
			return notNormal(t, "trailing padding is not zero")
		}
	}
	return nil
}

// frameEnds reads the framing offsets of an array of varying-size elements.
type frameEnds struct {
	table []byte
	width int
	count int
	start int // where the table begins, which is where the last element ends
}

func (f frameEnds) at(i int) int { return readOffset(f.table[i*f.width : (i+1)*f.width]) }

func arrayEnds(data []byte) (frameEnds, error) {
	w := offsetSize(len(data))
	start := readOffset(data[len(data)-w:])
	if start < 0 || start >= len(data) {
		return frameEnds{}, errors.New("offset table begins beyond the data")
	}
	if (len(data)-start)%w != 0 {
		return frameEnds{}, errors.New("offset table has a broken size")
	}
	return frameEnds{table: data[start:], width: w, count: (len(data) - start) / w, start: start}, nil
}

// readOffset gives -1 for an offset that no slice can have.
func readOffset(b []byte) int {
	var n uint64
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	if n > 1<<62 {
		return -1
	}
	return int(n)
}

func validPath(s string) bool {
	if s == "/" {
		return true
	}
	if s == "" || s[0] != '/' || s[len(s)-1] == '/' {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		ok := c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !ok && (c != '/' || s[i-1] == '/') {
			return false
		}
	}
	return true
}

func validSignature(s string) bool {
	for s != "" {
		_, rest, err := parseOne(s, 0)
		if err != nil {
			return false
		}
		s = rest
	}
	return true
}
