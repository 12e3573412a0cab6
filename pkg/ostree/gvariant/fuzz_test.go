// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"bytes"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// rebuild takes a value apart and builds it again.
func rebuild(t *testing.T, v Value) Value {
	t.Helper()
	var kids []Value
	for _, c := range v.Children() {
		kids = append(kids, rebuild(t, c))
	}
	typ := v.Type()
	switch typ[0] {
	case 'a':
		return Array(typ[1:], kids...)
	case '(':
		return Tuple(kids...)
	case '{':
		return Entry(kids[0], kids[1])
	case 'v':
		return Variant(kids[0])
	case 'm':
		if len(kids) == 0 {
			return Maybe(typ[1:], nil)
		}
		return Maybe(typ[1:], &kids[0])
	}
	return v
}

// FuzzNormal holds the property that everything rests on: bytes that are accepted
// are the ones that the writer would have written.
func FuzzNormal(f *testing.F) {
	for _, v := range []Value{
		String("x"), Strings([]string{"a", "", "b"}), Tuple(String("foo"), Int32(-1)), Variant(Variant(Uint64(1))),
		Array("{sv}", Entry(String("k"), Variant(Strings([]string{"v"})))), Array("(ayay)", Tuple(ByteSlice([]byte("n\x00")), ByteSlice(nil))),
		Tuple(), Tuple(Byte(1), Uint64(2), Byte(3)), Maybe("s", nil), Array("()", Tuple(), Tuple()), Array("as", Strings(nil), Strings([]string{"a"})),
	} {
		f.Add(v.Type(), v.Bytes())
	}
	for _, typ := range []string{"(a{sv}aya(say)sstayay)", "(a(s(taya{sv}))a{sv})", "a{sa(s(taya{sv}))}", "v", "mv", "a(sssss)", "ma(ymb)", "(ybnqiuxtdsogvay)"} {
		f.Add(typ, []byte{0})
	}
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		defer testutil.Bounded(t)()
		v, err := Parse(typ, data)
		if err != nil {
			return
		}
		again := rebuild(t, v)
		if err := again.Err(); err != nil {
			t.Fatalf("%s %x: cannot rebuild: %v", typ, data, err)
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("%s: rebuilt differently:\n%x\n%x", typ, data, again.Bytes())
		}
	})
}
