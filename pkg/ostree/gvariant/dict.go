// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"fmt"
	"slices"
	"strings"
)

// DictEntry is one key of a Dict.
type DictEntry struct {
	Key   string
	Value Value // what the variant holds
}

// Dict is an a{sv}. It keeps the order of its entries, because the order is part
// of the bytes that get hashed. The zero Dict is empty and ready for use. Copies
// of a Dict are independent of each other.
type Dict struct {
	entries []DictEntry
}

// ParseDict reads an a{sv} in normal form. Where a key occurs twice, Get finds
// the first; both are kept.
func ParseDict(data []byte) (Dict, error) {
	v, err := Parse("a{sv}", data)
	if err != nil {
		return Dict{}, err
	}
	d, _ := v.Dict()
	return d, nil
}

// Dict reads an a{sv}.
func (v Value) Dict() (Dict, bool) {
	if v.Err() != nil || v.t.str != "a{sv}" {
		return Dict{}, false
	}
	var d Dict
	for _, e := range v.Children() {
		kv := e.Children()
		key, _ := kv[0].Str()
		val, _ := kv[1].Variant()
		d.entries = append(d.entries, DictEntry{key, val})
	}
	return d, true
}

// Value makes the a{sv}; its Err tells about keys or values that cannot be
// represented.
func (d Dict) Value() Value {
	vs := make([]Value, len(d.entries))
	for i, e := range d.entries {
		if err := e.Value.Err(); err != nil {
			return Value{err: fmt.Errorf("key %q: %w", e.Key, err)}
		}
		vs[i] = Entry(String(e.Key), Variant(e.Value))
	}
	return Array("{sv}", vs...)
}

// Marshal gives the bytes of the a{sv}, or the error of its first bad entry.
func (d Dict) Marshal() ([]byte, error) {
	v := d.Value()
	return v.Bytes(), v.Err()
}

// Len gives the number of entries.
func (d Dict) Len() int { return len(d.entries) }

// Entries gives the entries in order; the slice is the caller's.
func (d Dict) Entries() []DictEntry { return slices.Clone(d.entries) }

// Keys gives the keys in order.
func (d Dict) Keys() []string {
	keys := make([]string, len(d.entries))
	for i, e := range d.entries {
		keys[i] = e.Key
	}
	return keys
}

// Get gives the value of a key.
func (d Dict) Get(key string) (Value, bool) {
	for _, e := range d.entries {
		if e.Key == key {
			return e.Value, true
		}
	}
	return Value{}, false
}

// Set replaces the value of a key in its place, or appends the key.
func (d *Dict) Set(key string, v Value) {
	// A fresh slice, so that copies of the Dict keep what they have.
	d.entries = slices.Clone(d.entries)
	for i := range d.entries {
		if d.entries[i].Key == key {
			d.entries[i].Value = v
			return
		}
	}
	d.entries = append(d.entries, DictEntry{key, v})
}

// Remove drops every entry with the key.
func (d *Dict) Remove(key string) {
	d.entries = slices.DeleteFunc(slices.Clone(d.entries), func(e DictEntry) bool { return e.Key == key })
}

// Sort puts the entries into byte order of their keys.
func (d *Dict) Sort() {
	d.entries = slices.Clone(d.entries)
	slices.SortStableFunc(d.entries, func(a, b DictEntry) int { return strings.Compare(a.Key, b.Key) })
}

// Str gives the string under a key; ok is false where the key is absent or
// has another type.
func (d Dict) Str(key string) (s string, ok bool) {
	v, _ := d.Get(key)
	return v.Str()
}

// Strings gives the as under a key.
func (d Dict) Strings(key string) ([]string, bool) {
	v, _ := d.Get(key)
	return v.Strings()
}

// Bool gives the b under a key.
func (d Dict) Bool(key string) (b, ok bool) {
	v, _ := d.Get(key)
	return v.Bool()
}

// ByteSlice gives the ay under a key.
func (d Dict) ByteSlice(key string) ([]byte, bool) {
	v, _ := d.Get(key)
	return v.ByteSlice()
}

// ByteSlices gives the aay under a key.
func (d Dict) ByteSlices(key string) ([][]byte, bool) {
	v, _ := d.Get(key)
	return v.ByteSlices()
}

// Uint64 gives the t under a key.
func (d Dict) Uint64(key string) (uint64, bool) {
	v, _ := d.Get(key)
	return v.Uint64()
}

// Uint64BE gives the t with big-endian bytes under a key.
func (d Dict) Uint64BE(key string) (uint64, bool) {
	v, _ := d.Get(key)
	return v.Uint64BE()
}
