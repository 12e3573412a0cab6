// SPDX-License-Identifier: Apache-2.0

package debian_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
)

// versionOrder is ascending.
var versionOrder = []string{
	"0~~", "0~", "0", "0.1", "0.9a", "0.9.1", "1.0~rc1-1", "1.0-1~deb12u1", "1.0-1", "1.0-1+b1", "1.0-1+deb12u2",
	"1.0-1+deb12u10", "1.0-1.1", "1.0-2", "1.0-.", "1.0+ds1-0", "1.0.1-1", "1.10-1", "20230311+deb12u1", "1:0.1-1", "2:0",
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	for i, a := range versionOrder {
		for j, b := range versionOrder {
			if got, want := sign(debian.CompareVersions(a, b)), sign(i-j); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

// dpkg itself has to agree with the list above.
func TestVersionOrderAgreesWithDpkg(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "dpkg")
	for i := 1; i < len(versionOrder); i++ {
		if err := exec.Command("dpkg", "--compare-versions", versionOrder[i-1], "lt", versionOrder[i]).Run(); err != nil {
			t.Errorf("dpkg says that %s is not before %s: %v", versionOrder[i-1], versionOrder[i], err)
		}
	}
}

func TestReadStanzas(t *testing.T) {
	t.Parallel()
	in := "Package: a\nDepends: b,\n c\nSize: 1\n\n\nPackage: d\nDescription: x\n .\n y\n"
	var got []debian.Stanza
	err := debian.ReadStanzas(strings.NewReader(in), nil, func(s debian.Stanza) error { got = append(got, s); return nil })
	if err != nil {
		t.Fatal(err)
	}
	want := []debian.Stanza{
		{"Package": "a", "Depends": "b,\nc", "Size": "1"},
		{"Package": "d", "Description": "x\n.\ny"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := debian.ReadStanzas(strings.NewReader("no colon\n"), nil, nil); err == nil {
		t.Error("a line without a colon was accepted")
	}
}

func TestParseRelations(t *testing.T) {
	t.Parallel()
	got, err := debian.ParseRelations("libc6 (>= 2.36), python3:any, a | b (<< 2), c (< 1)")
	if err != nil {
		t.Fatal(err)
	}
	want := []debian.Group{
		{{Name: "libc6", Op: ">=", Version: "2.36"}},
		{{Name: "python3"}},
		{{Name: "a"}, {Name: "b", Op: "<<", Version: "2"}},
		{{Name: "c", Op: "<=", Version: "1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"a (>= 1", "a (~ 1)", "a b", "a | | b"} {
		if _, err := debian.ParseRelations(bad); err == nil {
			t.Errorf("ParseRelations(%q) succeeded", bad)
		}
	}
}

func pkg(name, version, depends, provides string) *debian.Package {
	return &debian.Package{Name: name, Version: version, Depends: depends, Provides: provides}
}

func TestClosure(t *testing.T) {
	t.Parallel()
	list := []*debian.Package{
		pkg("app", "1", "lib (>= 2), dpkg | nothing, mta, either | other", ""),
		pkg("lib", "1", "", ""),
		pkg("lib", "2", "low", ""),
		pkg("low", "1", "", ""),
		pkg("exim", "4", "", "mta"),
		pkg("either", "1", "", ""),
		pkg("other", "1", "", ""),
		pkg("picky", "1", "mta (>= 1)", ""),
	}
	x, err := debian.NewIndex(list)
	if err != nil {
		t.Fatal(err)
	}
	closure := func(names ...string) []string {
		t.Helper()
		got, err := x.Closure(debian.Selection{Names: names, Drop: map[string]bool{"dpkg": true}})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, p := range got {
			out = append(out, p.Name+"="+p.Version)
		}
		return out
	}
	if diff := cmp.Diff([]string{"app=1", "either=1", "exim=4", "lib=2", "low=1"}, closure("app")); diff != "" {
		t.Error(diff)
	}
	// What is selected already beats the first alternative.
	if diff := cmp.Diff([]string{"app=1", "exim=4", "lib=2", "low=1", "other=1"}, closure("other", "app")); diff != "" {
		t.Error(diff)
	}
	// An unversioned Provides does not meet a versioned relation.
	if _, err := x.Closure(debian.Selection{Names: []string{"picky"}}); err == nil {
		t.Error("closure of picky succeeded")
	}
	if _, err := x.Closure(debian.Selection{Names: []string{"absent"}}); err == nil {
		t.Error("closure of an absent package succeeded")
	}
}

func TestOfSources(t *testing.T) {
	t.Parallel()
	list, err := debian.ReadPackages(strings.NewReader("Package: udev\nSource: systemd (254)\nVersion: 254\nSize: 1\nSHA256: "+
		strings.Repeat("0", 64)+"\n\nPackage: vim\nVersion: 9\nSize: 1\nSHA256: "+strings.Repeat("1", 64)+"\n"), debian.Suite{Config: "x"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := debian.OfSources(list, []string{"systemd"})
	if err != nil || len(got) != 1 || got[0].Name != "udev" || got[0].Suite.Config != "x" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := debian.OfSources(list, []string{"systemd", "udev"}); err == nil {
		t.Error("a source package that is none was found")
	}
}

func sign(n int) int { return max(min(n, 1), -1) }
