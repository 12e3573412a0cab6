// SPDX-License-Identifier: Apache-2.0

package bls

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const sample = `title Example 1 (ostree:0)
version 2
options root=LABEL=x rw ostree=/ostree/boot.0/os/d459/0
linux /ostree/os-d459/vmlinuz-5.10
initrd /ostree/os-d459/initramfs-5.10.img
initrd /ostree/initramfs-overlays/a.img
x-owner me and you
`

func TestParseFormat(t *testing.T) {
	t.Parallel()
	e, err := Parse([]byte("# comment\n\n" + sample))
	if err != nil {
		t.Fatal(err)
	}
	want := Entry{
		Title: "Example 1 (ostree:0)", Version: "2",
		Options: "root=LABEL=x rw ostree=/ostree/boot.0/os/d459/0",
		Linux:   "/ostree/os-d459/vmlinuz-5.10",
		Initrd:  []string{"/ostree/os-d459/initramfs-5.10.img", "/ostree/initramfs-overlays/a.img"},
		Extra:   []Field{{"x-owner", "me and you"}},
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Fatal(d)
	}
	out, err := e.Format()
	if err != nil || string(out) != sample {
		t.Fatalf("Format: %v\n%s", err, out)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"repeat":   "linux /a\nlinux /b\n",
		"control":  "title a\x1bb\n",
		"not utf8": "title \xff\n",
		"large":    string(bytes.Repeat([]byte("x"), MaxSize+1)),
	} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	t.Parallel()
	for _, e := range []Entry{
		{Title: "a\nlinux /evil"}, {Options: "a\rb"}, {Linux: " /x"},
		{Extra: []Field{{"a b", "c"}}}, {Extra: []Field{{"", "c"}}},
	} {
		if _, err := e.Format(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`)
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{Title: word.Draw(t, "title"), Version: word.Draw(t, "version"), Options: word.Draw(t, "options"),
			Linux: word.Draw(t, "linux"), Initrd: rapid.SliceOfN(word, 0, 3).Draw(t, "initrd")}
		for _, k := range rapid.SliceOfN(rapid.StringMatching(`x-[a-z]{1,5}`), 0, 3).Draw(t, "keys") {
			e.Extra = append(e.Extra, Field{k, word.Draw(t, "value")})
		}
		if len(e.Initrd) == 0 {
			e.Initrd = nil
		}
		data, err := e.Format()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestKargs(t *testing.T) {
	t.Parallel()
	k := ParseKargs(`  a=1 quiet  dyndbg="file a +p" "b=x y" a=2 ostree=/x `)
	want := Kargs{"a=1", "quiet", `dyndbg="file a +p"`, `"b=x y"`, "a=2", "ostree=/x"}
	if d := cmp.Diff(want, k); d != "" {
		t.Fatal(d)
	}
	for name, want := range map[string]string{"a": "2", "quiet": "", "dyndbg": "file a +p", "b": "x y"} {
		if got, ok := k.Value(name); !ok || got != want {
			t.Errorf("Value(%s) = %q, %v", name, got, ok)
		}
	}
	if _, ok := k.Value("c"); ok {
		t.Error("Value(c) found")
	}
	if got := k.Without("a", "ostree").String(); got != `quiet dyndbg="file a +p" "b=x y"` {
		t.Error(got)
	}
	if got, ok := k.Delete("a=1"); !ok || got[0] != "quiet" || len(k) != 6 {
		t.Error(got, ok)
	}
	if _, ok := k.Delete("a"); ok {
		t.Error("ambiguous delete accepted")
	}
	if got, ok := k.Delete("dyndbg"); !ok || len(got) != 5 {
		t.Error(got, ok)
	}
	if got := k.Replace("a=9"); got[0] != "a=9" || len(got) != 5 {
		t.Error(got)
	}
	if got := k.Replace("new"); got[6] != "new" {
		t.Error(got)
	}
}

func TestRunningKargs(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"BOOT_IMAGE=(hd0)/v root=x initrd=\\i ostree=/o quiet\n", "root=x quiet hostctl.trial panic=10"} {
		if got := RunningKargs(line).String(); got != "root=x quiet" {
			t.Error(got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(data)
		if err != nil {
			return
		}
		out, err := e.Format()
		if err != nil {
			return // e.g. a value of spaces only around a non-breaking character
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Format()
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("%v\n%q\n%q", err, out, twice)
		}
	})
}
