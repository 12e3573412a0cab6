// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Lookup finds the entry of a tag.
func (h *Header) Lookup(tag Tag) (Entry, bool) {
	if h == nil {
		return Entry{}, false
	}
	lo, hi := 0, len(h.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if h.entries[mid].Tag < tag {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(h.entries) || h.entries[lo].Tag != tag {
		return Entry{}, false
	}
	return h.entries[lo], true
}

// Has says whether the tag is there.
func (h *Header) Has(tag Tag) bool {
	_, ok := h.Lookup(tag)
	return ok
}

// String gives the first string of a tag, or "" if there is none. For a translated text that is the
// untranslated one.
func (h *Header) String(tag Tag) string {
	e, ok := h.Lookup(tag)
	if !ok || !e.isString() {
		return ""
	}
	s, _, _ := strings.Cut(string(e.Data), "\x00")
	return s
}

// Strings gives all strings of a tag; nil if there are none.
func (h *Header) Strings(tag Tag) []string {
	e, ok := h.Lookup(tag)
	if !ok || !e.isString() {
		return nil
	}
	out := make([]string, 0, e.Count)
	rest := string(e.Data)
	for range e.Count {
		var s string
		s, rest, _ = strings.Cut(rest, "\x00")
		out = append(out, s)
	}
	return out
}

// Uint gives the first number of a tag of any integer type.
func (h *Header) Uint(tag Tag) (uint64, bool) {
	e, ok := h.Lookup(tag)
	if !ok || e.Count == 0 {
		return 0, false
	}
	return e.uint(0)
}

// Uints gives all numbers of a tag of any integer type; nil if there are none.
func (h *Header) Uints(tag Tag) []uint64 {
	e, ok := h.Lookup(tag)
	if !ok {
		return nil
	}
	out := make([]uint64, 0, e.Count)
	for i := range int(e.Count) {
		v, ok := e.uint(i)
		if !ok {
			return nil
		}
		out = append(out, v)
	}
	return out
}

// Uint32s gives all numbers of a tag, cut to 32 bits.
func (h *Header) Uint32s(tag Tag) []uint32 {
	all := h.Uints(tag)
	if all == nil {
		return nil
	}
	out := make([]uint32, len(all))
	for i, v := range all {
		out[i] = uint32(v)
	}
	return out
}

// Bytes gives the data of a binary tag, nil if there is none. It must not be changed.
func (h *Header) Bytes(tag Tag) []byte {
	e, ok := h.Lookup(tag)
	if !ok || e.Type != TypeBin {
		return nil
	}
	return e.Data
}

func (e Entry) isString() bool {
	return e.Type == TypeString || e.Type == TypeStringArray || e.Type == TypeI18NString
}

func (e Entry) uint(i int) (uint64, bool) {
	switch e.Type {
	case TypeChar, TypeInt8:
		return uint64(e.Data[i]), true
	case TypeInt16:
		return uint64(binary.BigEndian.Uint16(e.Data[2*i:])), true
	case TypeInt32:
		return uint64(binary.BigEndian.Uint32(e.Data[4*i:])), true
	case TypeInt64:
		return binary.BigEndian.Uint64(e.Data[8*i:]), true
	}
	return 0, false
}

// Uint32Entry builds an entry of 32 bit numbers.
func Uint32Entry(tag Tag, values ...uint32) Entry {
	e := Entry{Tag: tag, Type: TypeInt32, Count: uint32(len(values))}
	for _, v := range values {
		e.Data = binary.BigEndian.AppendUint32(e.Data, v)
	}
	return e
}

// CharEntry builds an entry of single bytes.
func CharEntry(tag Tag, values []byte) Entry {
	return Entry{Tag: tag, Type: TypeChar, Count: uint32(len(values)), Data: values}
}

// StringsEntry builds a string array.
func StringsEntry(tag Tag, values ...string) Entry {
	e := Entry{Tag: tag, Type: TypeStringArray, Count: uint32(len(values))}
	for _, v := range values {
		e.Data = append(append(e.Data, v...), 0)
	}
	return e
}

// stringCount gives the number of strings of a tag; an entry of another type is an error.
func (h *Header) stringCount(tag Tag) (int, error) {
	e, ok := h.Lookup(tag)
	if !ok {
		return 0, nil
	}
	if !e.isString() {
		return 0, fmt.Errorf("read header: tag %d has type %d, not strings: %w", tag, e.Type, ErrFormat)
	}
	return int(e.Count), nil
}

// numberCount gives the number of integers of a tag; an entry of another type is an error.
func (h *Header) numberCount(tag Tag) (int, error) {
	e, ok := h.Lookup(tag)
	if !ok {
		return 0, nil
	}
	if e.Type < TypeChar || e.Type > TypeInt64 {
		return 0, fmt.Errorf("read header: tag %d has type %d, not numbers: %w", tag, e.Type, ErrFormat)
	}
	return int(e.Count), nil
}
