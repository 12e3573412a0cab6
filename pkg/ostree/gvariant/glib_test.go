// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// glibScript prints for each line "TYPE HEX" whether GLib takes the bytes as the
// normal form of the type.
const glibScript = `
import sys
from gi.repository import GLib
for line in sys.stdin:
    typ, _, data = line.rstrip("\n").partition(" ")
    data = bytes.fromhex(data)
    v = GLib.Variant.new_from_bytes(GLib.VariantType.new(typ), GLib.Bytes.new(data), False)
    # GLib also calls an empty tuple of several arrays normal, which nothing
    # that serialises makes: normal is what comes out again as it went in.
    ok = v.is_normal_form()
    if ok:
        ok = GLib.Variant.parse(v.get_type(), v.print_(True), None, None).get_data_as_bytes().get_data() == data
    print(1 if ok else 0)
`

var glibTypes = []string{"(a{sv}aya(say)sstayay)", "(a(say)a(sayay))", "(uuua(ayay))", "(tuuuusa(ayay))", "a{sv}", "as", "aay", "v", "(ysy)", "mas", "a(yv)", "a(sssss)"}

// TestGLib compares the verdict on normal form with GLib's, for values built
// here and for damaged copies of them.
func TestGLib(t *testing.T) {
	t.Parallel()
	python := glibPython(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	var in strings.Builder
	var types []string
	var inputs [][]byte
	add := func(typ string, data []byte) {
		types, inputs = append(types, typ), append(inputs, data)
		in.WriteString(typ + " " + hex.EncodeToString(data) + "\n")
	}
	for range 300 {
		for _, typ := range glibTypes {
			ti, err := parseType(typ)
			if err != nil {
				t.Fatal(err)
			}
			data := must(t, randomValue(rnd, ti, 0)).Bytes()
			add(typ, data)
			for range 3 {
				add(typ, damage(rnd, data))
			}
		}
	}
	cmd := exec.Command(python, "-c", glibScript)
	cmd.Stdin, cmd.Stderr = strings.NewReader(in.String()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	verdicts := strings.Fields(string(out))
	if len(verdicts) != len(inputs) {
		t.Fatalf("%d verdicts for %d inputs", len(verdicts), len(inputs))
	}
	normal := 0
	for i, data := range inputs {
		_, err := Parse(types[i], data)
		if want := verdicts[i] == "1"; (err == nil) != want {
			t.Errorf("%s %x: %v, GLib says normal = %t", types[i], data, err, want)
		}
		if err == nil {
			normal++
		}
	}
	if normal < 300*len(glibTypes) || normal == len(inputs) {
		t.Errorf("%d of %d inputs are normal: the test compares nothing", normal, len(inputs))
	}
}

// glibPython finds a Python with bindings of GLib: the system's has them, one
// that comes first in PATH may not.
func glibPython(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "from gi.repository import GLib").Run() == nil {
			return python
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("python3 with GLib bindings is not installed")
	}
	t.Skip("python3 with GLib bindings is not installed")
	return ""
}

func damage(rnd *rand.Rand, data []byte) []byte {
	out := append([]byte(nil), data...)
	if len(out) == 0 {
		return []byte{byte(rnd.IntN(3))}
	}
	i := rnd.IntN(len(out))
	switch rnd.IntN(4) {
	case 0:
		out[i] ^= 1 << rnd.IntN(8)
	case 1:
		out[i] = 0
	case 2:
		out = append(out[:i], out[i+1:]...)
	default:
		out = append(out[:i], append([]byte{0}, out[i:]...)...)
	}
	return out
}

func randomValue(rnd *rand.Rand, ti *typeInfo, depth int) Value {
	switch ti.kind {
	case 'y':
		return Byte(byte(rnd.Uint32()))
	case 'u':
		return Uint32(rnd.Uint32())
	case 't':
		return Uint64(rnd.Uint64())
	case 's':
		return String([]string{"", "a", "ünï", strings.Repeat("x", rnd.IntN(300))}[rnd.IntN(4)])
	case 'v':
		pool := []string{"s", "u", "ay", "as", "a{sv}", "(yt)", "b", "()"}
		if depth > 3 {
			pool = pool[:3]
		}
		inner, _ := parseType(pool[rnd.IntN(len(pool))])
		return Variant(randomValue(rnd, inner, depth+1))
	case 'b':
		return Bool(rnd.IntN(2) == 0)
	}
	n := len(ti.elems)
	if ti.kind == 'a' || ti.kind == 'm' {
		n = rnd.IntN(4)
	}
	var kids []Value
	for i := range n {
		kids = append(kids, randomValue(rnd, ti.elems[i%len(ti.elems)], depth+1))
	}
	switch {
	case ti.kind == 'a':
		return Array(ti.elems[0].str, kids...)
	case ti.kind == '{':
		return Entry(kids[0], kids[1])
	case ti.kind == '(':
		return Tuple(kids...)
	case len(kids) > 0:
		return Maybe(ti.elems[0].str, &kids[0])
	}
	return Maybe(ti.elems[0].str, nil)
}
