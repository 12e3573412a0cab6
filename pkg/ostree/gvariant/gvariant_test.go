// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, v Value) Value {
	t.Helper()
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	return v
}

// The bytes are those of the specification's examples or were written by GLib.
func TestEncode(t *testing.T) {
	t.Parallel()
	one := Uint16(1)
	hello := String("hello world")
	tests := []struct {
		v         Value
		typ, want string
	}{
		{hello, "s", "68656c6c6f20776f726c6400"},
		{Maybe("s", &hello), "ms", "68656c6c6f20776f726c640000"},
		{Maybe("s", nil), "ms", ""},
		{Maybe("q", &one), "mq", "0100"},
		{Array("b", Bool(true), Bool(false), Bool(false), Bool(true), Bool(true)), "ab", "0100000101"},
		{Tuple(String("foo"), Int32(-1)), "(si)", "666f6f00ffffffff04"},
		{Array("{si}", Entry(String("hi"), Int32(-2)), Entry(String("bye"), Int32(-1))), "a{si}", "68690000feffffff03000000" + "62796500ffffffff04" + "0915"},
		{Strings([]string{"i", "can", "has", "strings?"}), "as", "690063616e0068617300737472696e67733f0002060a13"},
		{Array("ay", ByteSlice([]byte("i\x00")), ByteSlice([]byte("can\x00")), ByteSlice([]byte("has\x00")), ByteSlice([]byte("strings?\x00"))), "aay",
			"690063616e0068617300737472696e67733f0002060a13"},
		{Array("i", Int32(4), Int32(258)), "ai", "0400000002010000"},
		{Tuple(Byte(0x70), Uint32(0x80)), "(yu)", "7000000080000000"},
		{Tuple(Uint32(0x60), Byte(0x70)), "(uy)", "6000000070000000"},
		{Tuple(), "()", "00"},
		{Variant(String("x")), "v", "78000073"},
		{Array("s"), "as", ""},
		{Uint32BE(0x01020304), "u", "01020304"},
		{Uint64BE(1), "t", "0000000000000001"},
	}
	for _, tt := range tests {
		v := must(t, tt.v)
		if got := hex.EncodeToString(v.Bytes()); got != tt.want || v.Type() != tt.typ {
			t.Errorf("%s %s, want %s %s", v.Type(), got, tt.typ, tt.want)
		}
		back, err := Parse(v.Type(), v.Bytes())
		if err != nil {
			t.Errorf("%s: %v", tt.typ, err)
		}
		if !bytes.Equal(rebuild(t, back).Bytes(), v.Bytes()) {
			t.Errorf("%s: not rebuilt to the same bytes", tt.typ)
		}
	}
}

// Offsets grow with the container, their own size included.
func TestOffsetWidths(t *testing.T) {
	t.Parallel()
	for n := 240; n < 270; n++ {
		v := must(t, Strings([]string{strings.Repeat("x", n), "", "y"}))
		back, err := Parse("as", v.Bytes())
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if s, ok := back.Strings(); !ok || len(s[0]) != n || s[2] != "y" {
			t.Errorf("%d: read back %d strings", n, len(s))
		}
	}
	v := must(t, Strings([]string{strings.Repeat("x", 70000), "y"}))
	if want := 70001 + 2 + 2*4; len(v.Bytes()) != want {
		t.Errorf("%d bytes, want %d", len(v.Bytes()), want)
	}
}

func TestNotNormal(t *testing.T) {
	t.Parallel()
	tests := []struct{ typ, data, why string }{
		{"b", "02", "boolean"}, {"b", "", "size"}, {"u", "000000", "size"}, {"s", "", "no terminator"}, {"s", "6162", "no terminator"},
		{"s", "610062", "inner NUL"}, {"s", "61000000", "inner NUL"}, {"s", "ff00", "UTF-8"}, {"()", "01", "unit"}, {"(yu)", "7001000080000000", "padding"},
		{"(uy)", "6000000070000001", "trailing padding"}, {"au", "0000000000", "size"}, {"as", "00", "offset"}, {"as", "6100ff", "offset"},
		{"as", "61000003", "gap"}, {"as", "6100620005030405", "order"}, {"(si)", "666f6f00ffffffff03", "offset"}, {"(ss)", "6100620009", "offset"},
		{"v", "", "empty"}, {"v", "7800", "no type"}, {"v", "780000", "no type"}, {"v", "78000071717171", "types"}, {"v", "7800007a", "unknown type"},
		{"ms", "78000001", "maybe"}, {"o", "6100", "path"}, {"o", "2f612f00", "path"}, {"g", "2800", "signature"}, {"ab", "000102", "boolean"},
		{"a(ys)", "6100", "element"}, {"(ayay)", "", "empty tuple"},
	}
	for _, tt := range tests {
		data, err := hex.DecodeString(tt.data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(tt.typ, data); !errors.Is(err, ErrNotNormal) {
			t.Errorf("%s %s (%s): %v", tt.typ, tt.data, tt.why, err)
		}
	}
	deep := strings.Repeat("a", 100) + "y"
	for _, typ := range []string{"", "z", "a", "(", "(s", "{sv", "{vs}", "{s}", "{svv}", "ss", "m", ")", deep, strings.Repeat("(y", 5000)} {
		if _, err := Parse(typ, nil); !errors.Is(err, ErrType) {
			t.Errorf("type %.20q: %v", typ, err)
		}
	}
	nested := []byte{0, 'y'}
	nested = append([]byte{1}, nested...)
	for range 100 {
		nested = append(nested, 0, 'v')
	}
	if _, err := Parse("v", nested); !errors.Is(err, ErrNotNormal) {
		t.Errorf("variants nested 100 deep: %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]Value{
		"zero": {}, "NUL": String("a\x00"), "UTF-8": String("\xff"), "element": Array("s", Byte(1)), "type": Array("z"),
		"inner": Tuple(String("a\x00")), "key": Entry(Variant(Byte(1)), Byte(1)), "variant": Variant(Value{}), "as": Strings([]string{"a\x00"}),
	} {
		if v.Err() == nil || v.Bytes() != nil || v.Children() != nil {
			t.Errorf("%s: no error", name)
		}
	}
	var d Dict
	d.Set("bad", String("\x00"))
	if _, err := d.Marshal(); !errors.Is(err, ErrValue) || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("marshal = %v", err)
	}
}

func TestDict(t *testing.T) {
	t.Parallel()
	var d Dict
	d.Set("b", Bool(true))
	d.Set("s", String("text"))
	d.Set("as", Strings([]string{"x", "y"}))
	d.Set("ay", ByteSlice([]byte{1, 2}))
	d.Set("aay", ByteSlices([][]byte{{1}, {}}))
	d.Set("t", Uint64(7))
	d.Set("tbe", Uint64BE(8))
	copied := d
	d.Set("b", Bool(false))
	d.Remove("t")
	if b, ok := copied.Bool("b"); !b || !ok || copied.Len() != 7 {
		t.Error("a copy changes with the original")
	}
	data, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseDict(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "s", "as", "ay", "aay", "tbe"}, back.Keys()); diff != "" {
		t.Error(diff)
	}
	if s, ok := back.Str("s"); s != "text" || !ok {
		t.Error("s", s, ok)
	}
	if l, ok := back.Strings("as"); !slices.Equal(l, []string{"x", "y"}) || !ok {
		t.Error("as", l, ok)
	}
	if b, ok := back.ByteSlice("ay"); !bytes.Equal(b, []byte{1, 2}) || !ok {
		t.Error("ay", b, ok)
	}
	if b, ok := back.ByteSlices("aay"); len(b) != 2 || !ok {
		t.Error("aay", b, ok)
	}
	if n, ok := back.Uint64BE("tbe"); n != 8 || !ok {
		t.Error("tbe", n, ok)
	}
	if _, ok := back.Str("b"); ok {
		t.Error("a boolean reads as a string")
	}
	if _, ok := back.Uint64("t"); ok {
		t.Error("a removed key is there")
	}
	empty, err := ParseDict(nil)
	if err != nil || empty.Len() != 0 {
		t.Error(empty, err)
	}
}
