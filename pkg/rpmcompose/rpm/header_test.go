// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	cavalier "github.com/cavaliergopher/rpm"
	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestEVR(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]EVR{
		"1.0-2":     {Version: "1.0", Release: "2"},
		"3:1.0-2":   {Epoch: 3, HasEpoch: true, Version: "1.0", Release: "2"},
		"0:1":       {HasEpoch: true, Version: "1"},
		":1":        {HasEpoch: true, Version: "1"},
		"a:1":       {Version: "a:1"},
		"1-2-3":     {Version: "1-2", Release: "3"},
		"1~rc1^git": {Version: "1~rc1^git"},
	} {
		if got, err := ParseEVR(text); err != nil || got != want {
			t.Errorf("ParseEVR(%q) = %+v, %v", text, got, err)
		}
	}
	if _, err := ParseEVR("99999999999:1"); !errors.Is(err, ErrSyntax) {
		t.Error(err)
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"1:1-1", "2-1", 1}, {"0:1-1", "1-1", 0}, {"1-1", "1-2", -1}, {"1~rc-1", "1-1", -1}, {"1^git-1", "1-9", 1}, {"1-1", "1", 1}} {
		a, _ := ParseEVR(c.a)
		b, _ := ParseEVR(c.b)
		if got := Compare(a, b); got != c.want {
			t.Errorf("Compare(%s, %s) = %d", c.a, c.b, got)
		}
	}
}

func TestNEVRA(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]NEVRA{
		"bash-5.2-1.fc40.x86_64":      {"bash", EVR{Version: "5.2", Release: "1.fc40"}, "x86_64"},
		"gtk+-devel-1:1.2-3.noarch":   {"gtk+-devel", EVR{Epoch: 1, HasEpoch: true, Version: "1.2", Release: "3"}, "noarch"},
		"1:gtk+-devel-1.2-3.noarch":   {"gtk+-devel", EVR{Epoch: 1, HasEpoch: true, Version: "1.2", Release: "3"}, "noarch"},
		"glibc-2.17-222.el7~1^2.i686": {"glibc", EVR{Version: "2.17", Release: "222.el7~1^2"}, "i686"},
	} {
		got, err := ParseNEVRA(text)
		if err != nil || got != want {
			t.Errorf("ParseNEVRA(%q) = %+v, %v", text, got, err)
		}
		if again, err := ParseNEVRA(got.String()); err != nil || again != got {
			t.Errorf("%q does not come back: %v, %v", got.String(), again, err)
		}
	}
	for _, bad := range []string{"", "a", "a.b", "a-1.b", "-1-1.b", "a-1-1.", "a--1.b", "a-1-.b"} {
		if got, err := ParseNEVRA(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseNEVRA(%q) = %v, %v", bad, got, err)
		}
	}
}

func TestDepMatches(t *testing.T) {
	t.Parallel()
	dep := func(s string) Dep {
		f := strings.Fields(s)
		if len(f) == 1 {
			return newDep(f[0], 0, "")
		}
		flags := map[string]DepFlags{"<": DepLess, "<=": DepLess | DepEqual, "=": DepEqual, ">=": DepGreater | DepEqual, ">": DepGreater}[f[1]]
		return newDep(f[0], uint32(flags), f[2])
	}
	for _, c := range []struct {
		require, provide string
		want             bool
	}{
		{"a", "a = 1", true}, {"a = 1", "a", true}, {"a", "b", false},
		{"a = 1", "a = 1-5", true}, {"a = 1-5", "a = 1", true}, {"a = 1-5", "a = 1-6", false},
		{"a >= 2", "a = 1", false}, {"a >= 1", "a = 1", true}, {"a > 1", "a = 1", false}, {"a > 1-1", "a = 1-2", true},
		{"a < 2", "a >= 1", true}, {"a < 1", "a > 2", false}, {"a < 1", "a < 2", true}, {"a < 1:1", "a = 5", true},
		{"a <= 1", "a = 1-5", true}, {"a < 1", "a = 1-5", false},
	} {
		if got := dep(c.require).Matches(dep(c.provide)); got != c.want {
			t.Errorf("%q by %q: %v", c.require, c.provide, got)
		}
	}
	if d := newDep("(a if b)", 0, ""); !d.Rich || d.String() != "(a if b)" {
		t.Errorf("%+v", d)
	}
}

// TestHeaderRefused changes one thing about a good header at a time.
func TestHeaderRefused(t *testing.T) {
	t.Parallel()
	files := []testFile{{path: "/a", data: "x", mode: regular}}
	with := func(e ...Entry) []byte { return buildPackage(append(baseEntries(files), e...), nil) }
	without := func(tag Tag) []byte {
		var keep []Entry
		for _, e := range baseEntries(files) {
			if e.Tag != tag {
				keep = append(keep, e)
			}
		}
		return buildPackage(keep, nil)
	}
	good := with()
	p, err := ReadPackage(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	at := int(p.HeaderOffset)
	patch := func(offset int, value uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[at+offset:], value)
		return b
	}
	for name, data := range map[string][]byte{
		"no name":             without(TagName),
		"no version":          without(TagVersion),
		"no modes":            without(TagFileModes),
		"no directories":      without(TagDirnames),
		"no indexes":          without(TagDirIndexes),
		"uneven dependencies": with(StringsEntry(TagRequireName, "a", "b"), StringsEntry(TagRequireVersion, ""), Uint32Entry(TagRequireFlags, 0, 0)),
		"wrong type":          with(Uint32Entry(TagRequireName, 1)),
		"trigger script":      with(StringsEntry(TagTriggerScripts, "x"), StringsEntry(TagTriggerName, "a"), Uint32Entry(TagTriggerIndex, 7)),
		"trigger without":     with(StringsEntry(TagTriggerName, "a")),
		"uneven files":        with(StringsEntry(TagFileLangs, "a", "b")),
		"climbing file":       buildPackage(baseEntries([]testFile{{path: "/../a", mode: regular}}), nil),
		"relative file":       buildPackage(baseEntries([]testFile{{path: "a", mode: regular}}), nil),
		"directory file":      buildPackage(baseEntries([]testFile{{path: "/a/", mode: regular}}), nil),
		"same tag twice":      with(str(TagSummary, "a"), str(TagSummary, "b")),
		"magic":               patch(0, 0x8eade802),
		"no entries":          patch(8, 0),
		"many entries":        patch(8, 0x10000),
		"much data":           patch(12, 0x10000001),
		"region tag":          patch(16, 62),
		"region type":         patch(20, 6),
		"region offset":       patch(24, 0xfffffff0),
		"region count":        patch(28, 17),
		"entry type":          patch(36, 10),
		"entry offset":        patch(40, 0x7fffffff),
		"entry count":         patch(44, 0xffffffff),
		"lead":                append([]byte("\xed\xab\xee\xda"), good[4:]...),
	} {
		if _, err := ReadPackage(bytes.NewReader(data)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range at + len(p.HeaderBytes) {
		if _, err := ReadPackage(bytes.NewReader(good[:n])); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
	}
}

// TestNothingHidesBehindTheRegion adds an entry that signatures would not cover.
func TestNothingHidesBehindTheRegion(t *testing.T) {
	t.Parallel()
	header := buildHeader(TagHeaderImmutable, baseEntries(nil))
	h, err := ParseHeader(header[8:])
	if err != nil {
		t.Fatal(err)
	}
	blob, err := h.Merge(Uint32Entry(TagInstallTime, 5), str(TagSummary, "hidden"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseHeader(blob); err != nil {
		t.Errorf("in a database: %v", err)
	}
	pkg := buildPackage(baseEntries(nil), nil)
	bad := append(bytes.Clone(pkg[:len(pkg)-len(header)]), headerMagic[:]...)
	if _, err := ReadPackage(bytes.NewReader(append(bad, blob...))); !errors.Is(err, ErrFormat) {
		t.Errorf("in a package: %v", err)
	}
	if _, err := h.Merge(str(TagName, "other")); !errors.Is(err, ErrFormat) {
		t.Errorf("replacing a signed tag: %v", err)
	}
	// A signature entry in the main header could stand in for the real one.
	p, err := ReadPackage(bytes.NewReader(buildPackage(append(baseEntries(nil), str(TagSHA1Header, strings.Repeat("0", 40))), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Blob(); !errors.Is(err, ErrFormat) {
		t.Errorf("signature entry in the main header: %v", err)
	}
}

func TestScriptsAndTriggers(t *testing.T) {
	t.Parallel()
	p := readHeaderOf(t, testutil.Corpus(t, "rpms", "built-from-rpm-tests-specs", "noarch", "filetriggers-1.0-1.noarch.rpm"))
	kinds := map[TriggerKind]int{}
	for _, tr := range p.Triggers() {
		kinds[tr.Kind]++
		if len(tr.Interp) != 1 || tr.Body == "" || len(tr.Prefixes()) == 0 || tr.Priority != DefaultTriggerPriority {
			t.Errorf("%+v", tr)
		}
	}
	want := map[TriggerKind]int{FileTriggerIn: 3, FileTriggerUn: 3, FileTriggerPostUn: 2, TransFileTriggerIn: 2, TransFileTriggerUn: 2, TransFileTriggerPostUn: 2}
	if len(kinds) < 4 {
		t.Errorf("kinds %v, want about %v", kinds, want)
	}
	lua := 0
	for _, file := range corpusPackages(t, "rpms", "rpm-6.1-tests") {
		for _, s := range readHeaderOf(t, file).Scriptlets() {
			if s.IsLua() {
				lua++
			}
		}
	}
	if lua == 0 {
		t.Error("no Lua script was found")
	}
}

// TestSameAsCavalier compares with an independent reader where that is known to be right: not for
// supplements, which it cannot read, nor for "^" in versions.
func TestSameAsCavalier(t *testing.T) {
	t.Parallel()
	n := 0
	for _, file := range corpusPackages(t, "rpms") {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := cavalier.Read(f)
		_ = f.Close()
		if err != nil {
			continue
		}
		p := readHeaderOf(t, file)
		n++
		nevra := p.NEVRA()
		if nevra.Name != theirs.Name() || nevra.Version != theirs.Version() || nevra.Release != theirs.Release() || int(nevra.Epoch) != theirs.Epoch() || p.Arch() != theirs.Architecture() {
			t.Errorf("%s: %v", file, nevra)
		}
		names := func(deps []cavalier.Dependency) (out []string) {
			for _, d := range deps {
				out = append(out, d.Name())
			}
			return out
		}
		own := func(deps []Dep) (out []string) {
			for _, d := range deps {
				out = append(out, d.Name)
			}
			return out
		}
		for _, d := range []string{
			cmp.Diff(names(theirs.Requires()), own(p.Requires())), cmp.Diff(names(theirs.Provides()), own(p.Provides())),
			cmp.Diff(names(theirs.Conflicts()), own(p.Conflicts())), cmp.Diff(names(theirs.Obsoletes()), own(p.Obsoletes())),
		} {
			if d != "" {
				t.Errorf("%s: %s", file, d)
			}
		}
		for i, f := range theirs.Files() {
			if own := p.Files()[i]; own.Path != f.Name() || own.Size != f.Size() || own.Digest != f.Digest() || own.Link != f.Linkname() {
				t.Errorf("%s: file %+v, theirs %v", file, own, f)
			}
		}
	}
	if n < 200 {
		t.Errorf("only %d packages were compared", n)
	}
}
