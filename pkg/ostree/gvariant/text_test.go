// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// glibTextScript prints values as GLib does, with and without types and with
// swapped bytes, and reads texts.
const glibTextScript = `
import sys, json
from gi.repository import GLib
for line in sys.stdin:
    job = json.loads(line)
    if "text" in job:
        try:
            v = GLib.Variant.parse(None, job["text"], None, None)
            print(json.dumps([v.get_type_string(), v.get_data_as_bytes().get_data().hex()]))
        except GLib.Error:
            print(json.dumps(["", ""]))
        continue
    v = GLib.Variant.new_from_bytes(GLib.VariantType.new(job["type"]), GLib.Bytes.new(bytes.fromhex(job["hex"])), False)
    print(json.dumps([v.print_(True), v.print_(False), v.byteswap().print_(True)]))
`

// texts are command-line values, and what is wrong with them.
var texts = []string{
	"'abc'", `"it's"`, `'it\'s \u00fc\t\\'`, "true", "5", "-5", "uint64 42", "byte 0x1f", "[1, 2, 3]", "[1, uint32 2]", "[1, 2.5]",
	"{'k': <1>, 'l': <@as []>}", "{'a', 1}", "('a', 1, [true])", "(1,)", "()", "@a{sv} {}", "@as []", "<'x'>", "<<uint16 7>>",
	"b'bytes'", `b"a\001\n"`, "just 5", "@ms nothing", "@ms 'x'", "nothing", "[]", "{}", "", "5 6", "[1", "'abc", "uint32 -1", "byte 256",
	"[1, 'a']", "nope", "objectpath '/a/b'", "objectpath 'a'", "signature 'ai'", "1e3", "0x10", "010", "int64 9223372036854775807", "@i 'a'",
	"(1)", "[(1, 'a'), (uint32 2, 'b')]", "[@mi 1, nothing]", "@ay [1, 2]", "double 3", "handle 4", "[just 1, nothing]", "[{'a': 1}, {'b': 2}]", "3000000000", "1_0",
}

func TestTextGLib(t *testing.T) {
	t.Parallel()
	python := glibPython(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	var values []Value
	for range 100 {
		for _, typ := range append([]string{"(yusv)", "a(sas)", "a{ta{sv}}", "mmas", "aay"}, glibTypes...) {
			ti, err := parseType(typ)
			if err != nil {
				t.Fatal(err)
			}
			v := must(t, randomValue(rnd, ti, 0))
			values = append(values, v)
			if err := enc.Encode(map[string]string{"type": typ, "hex": hex.EncodeToString(v.Bytes())}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range texts {
		if err := enc.Encode(map[string]string{"text": s}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", glibTextScript)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(values)+len(texts) {
		t.Fatalf("%d answers for %d questions", len(lines), len(values)+len(texts))
	}
	for i, v := range values {
		var want []string
		if err := json.Unmarshal([]byte(lines[i]), &want); err != nil {
			t.Fatal(err)
		}
		got := []string{v.Text(TextOptions{Types: true}), v.Text(TextOptions{}), v.Text(TextOptions{Types: true, Swap: true})}
		for k := range got {
			if got[k] != want[k] {
				t.Errorf("%s %x: print %d gives\n%s, want\n%s", v.Type(), v.Bytes(), k, got[k], want[k])
			}
		}
	}
	for i, s := range texts {
		var want []string
		if err := json.Unmarshal([]byte(lines[len(values)+i]), &want); err != nil {
			t.Fatal(err)
		}
		v, err := ParseText(s)
		if err != nil && want[0] == "" {
			continue
		}
		if err != nil || v.Type() != want[0] || hex.EncodeToString(v.Bytes()) != want[1] {
			t.Errorf("ParseText(%q) = %s %x, %v; want %q", s, v.Type(), v.Bytes(), err, want)
		}
	}
}

func TestParseTextErrors(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "[", "5 6", "uint32 -1", strings.Repeat("[", 100), "'" + strings.Repeat("a", MaxText)} {
		if v, err := ParseText(s); !errors.Is(err, ErrText) {
			t.Errorf("ParseText(%.20q) = %v, %v", s, v, err)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range texts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer testutil.Bounded(t)()
		v, err := ParseText(s)
		if err != nil {
			return
		}
		if _, err := Parse(v.Type(), v.Bytes()); err != nil {
			t.Fatalf("%q gives %s %x: %v", s, v.Type(), v.Bytes(), err)
		}
		again, err := ParseText(v.Text(TextOptions{Types: true}))
		if err != nil || again.Type() != v.Type() || !bytes.Equal(again.Bytes(), v.Bytes()) {
			t.Fatalf("%q prints as %q, which gives %s %x, %v; want %s %x", s, v.Text(TextOptions{Types: true}), again.Type(), again.Bytes(), err, v.Type(), v.Bytes())
		}
	})
}
