// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

const sample = `# top

[core]
repo_version=1
mode=bare

# the updates
[remote "upd"]
url=http://example.com/repo
  gpg-verify = false
branches=a/b;c;
# trailing
`

func mustParse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return f
}

func TestParseKeepsText(t *testing.T) {
	t.Parallel()
	f := mustParse(t, sample)
	if diff := cmp.Diff(sample, string(f.Bytes())); diff != "" {
		t.Errorf("text changed:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"core", `remote "upd"`}, f.Groups()); diff != "" {
		t.Errorf("groups:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"url", "gpg-verify", "branches"}, f.Keys(`remote "upd"`)); diff != "" {
		t.Errorf("keys:\n%s", diff)
	}
	list, err := f.GetStrings(`remote "upd"`, "branches")
	if diff := cmp.Diff([]string{"a/b", "c"}, list); diff != "" || err != nil {
		t.Errorf("list: %v\n%s", err, diff)
	}
	if v, err := f.GetBool(`remote "upd"`, "gpg-verify"); v || err != nil {
		t.Errorf("bool = %v, %v", v, err)
	}
}

func TestEdit(t *testing.T) {
	t.Parallel()
	f := mustParse(t, sample)
	if !f.RemoveGroup(`remote "upd"`) {
		t.Fatal("group not found")
	}
	if f.RemoveGroup(`remote "upd"`) {
		t.Fatal("group removed twice")
	}
	set := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set(f.SetString("core", "mode", "archive-z2"))
	set(f.SetString(`remote "o"`, "url", " x\ny"))
	set(f.SetStrings(`remote "o"`, "branches", []string{"a;b", "c"}))
	set(f.SetBool("core", "fsync", false))
	set(f.SetInt("core", "lock-timeout-secs", -1))
	want := `# top

[core]
repo_version=1
mode=archive-z2
fsync=false
lock-timeout-secs=-1

[remote "o"]
url=\sx\ny
branches=a\;b;c;
`
	if diff := cmp.Diff(want, string(f.Bytes())); diff != "" {
		t.Error(diff)
	}
	c := f.Clone()
	if !c.Remove("core", "fsync") || c.Remove("core", "fsync") {
		t.Error("remove does not tell what it found")
	}
	if _, ok := f.Get("core", "fsync"); !ok {
		t.Error("clone shares lines with its source")
	}
}

func TestLastDuplicateCounts(t *testing.T) {
	t.Parallel()
	f := mustParse(t, "[a]\nk=1\n[b]\n[a]\nk=2\nk=3\n")
	if v, _ := f.Get("a", "k"); v != "3" {
		t.Errorf("k = %q, want 3", v)
	}
	if diff := cmp.Diff([]string{"a", "b"}, f.Groups()); diff != "" {
		t.Error(diff)
	}
	if !f.Remove("a", "k") {
		t.Error("not removed")
	}
	if v, ok := f.Get("a", "k"); ok {
		t.Errorf("k = %q after its removal", v)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		line int
	}{
		{"k=v\n", 1},
		{"[a]\nnoequals\n", 2},
		{"[a]\n\n=v\n", 3},
		{"[]\n", 1},
		{"[a\n", 1},
		{"[a]b]\n", 1},
		{"[a\x01]\n", 1},
		{"[a]\nk=\x00\n", 2},
		{"[a]\nk=\xff\n", 2},
		{"[a]\nk[x=v\n", 2},
		{"[a]\nk]=v\n", 2},
	} {
		_, err := Parse([]byte(tc.text))
		var pe *ParseError
		if !errors.As(err, &pe) {
			t.Errorf("%q: error %v, want a ParseError", tc.text, err)
			continue
		}
		if pe.Line != tc.line {
			t.Errorf("%q: line %d, want %d", tc.text, pe.Line, tc.line)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large input: %v", err)
	}
	if _, err := Read(strings.NewReader(strings.Repeat("#", MaxSize+1))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large reader: %v", err)
	}
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	f := mustParse(t, "[a]\nesc=\\x\nend=\\\nbool=yes\nint=1x\n")
	check := func(name string, err error) {
		t.Helper()
		var ve *ValueError
		if !errors.As(err, &ve) {
			t.Errorf("%s: %v, want a ValueError", name, err)
		}
	}
	_, err := f.GetString("a", "esc")
	check("escape", err)
	_, err = f.GetStrings("a", "end")
	check("end", err)
	_, err = f.GetBool("a", "bool")
	check("bool", err)
	_, err = f.GetInt("a", "int")
	check("int", err)
	if _, err = f.GetBool("a", "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
	if v, err := f.BoolOr("a", "none", true); !v || err != nil {
		t.Errorf("default = %v, %v", v, err)
	}
	if _, err := f.BoolOr("a", "bool", true); err == nil {
		t.Error("a default hides a malformed value")
	}
}

func TestSetRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := New()
	for _, tc := range [][3]string{
		{"a]", "k", "v"}, {"", "k", "v"}, {"a", "", "v"}, {"a", "k=", "v"}, {"a", " k", "v"},
		{"a", "#k", "v"}, {"a", "k", "v\nw=x"}, {"a", "k", " v"}, {"a", "k", "\xff"}, {"a", "k", "v\r"},
	} {
		if err := f.Set(tc[0], tc[1], tc[2]); err == nil {
			t.Errorf("Set(%q) accepted", tc)
		}
	}
	if n := len(f.Bytes()); n != 0 {
		t.Errorf("a refused Set left %d bytes", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("[a]\r\nk = v \\s\r\r\n[a]\nk[de]=x;y\\;z;"))
	f.Add([]byte("#c\n#d\n [x]  \n#e\n[y]\n\n#f\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		first, err := Parse(data)
		if err != nil {
			return
		}
		text := first.Bytes()
		second, err := Parse(text)
		if err != nil {
			t.Fatalf("own output does not parse: %v\n%q", err, text)
		}
		if again := second.Bytes(); !bytes.Equal(text, again) {
			t.Fatalf("not stable: %q then %q", text, again)
		}
		sameValues(t, first, second)
		rewriteValues(t, first, second)
	})
}

func sameValues(t *testing.T, a, b *File) {
	t.Helper()
	if diff := cmp.Diff(a.Groups(), b.Groups()); diff != "" {
		t.Fatal(diff)
	}
	for _, g := range a.Groups() {
		if diff := cmp.Diff(a.Keys(g), b.Keys(g)); diff != "" {
			t.Fatal(diff)
		}
		for _, k := range a.Keys(g) {
			va, _ := a.Get(g, k)
			vb, _ := b.Get(g, k)
			if va != vb {
				t.Fatalf("[%s] %s: %q then %q", g, k, va, vb)
			}
		}
	}
}

// rewriteValues stores every readable value of from in to and reads it again.
func rewriteValues(t *testing.T, from, to *File) {
	t.Helper()
	for _, g := range from.Groups() {
		for _, k := range from.Keys(g) {
			if s, err := from.GetString(g, k); err == nil && to.SetString(g, k, s) == nil {
				if got, err := to.GetString(g, k); err != nil || got != s {
					t.Fatalf("[%s] %s: %q read as %q, %v", g, k, s, got, err)
				}
			}
			if l, err := from.GetStrings(g, k); err == nil && to.SetStrings(g, k, l) == nil {
				if got, err := to.GetStrings(g, k); err != nil || !cmp.Equal(l, got) {
					t.Fatalf("[%s] %s: %q read as %q, %v", g, k, l, got, err)
				}
			}
		}
	}
}
