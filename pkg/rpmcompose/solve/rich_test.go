// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func TestParseRich(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"(a and b)":                         "a b",
		"( a  or b or (c with d >= 1-2) )":  "a b c d >= 1-2",
		"(libx.so.1()(64bit) if config(y))": "libx.so.1()(64bit) config(y)",
		"(a<2 unless b else c)":             "a<2 b c",
		"(a)":                               "a",
	} {
		f, err := parseRich(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var got []string
		f.leaves(func(d rpm.Dep) { got = append(got, d.String()) })
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	for _, in := range []string{
		"", "a", "(", "()", "(a and)", "(a and b", "(a and b) c", "(a xor b)", "(a and b or c)", "(a if b if c)",
		"(a else b)", "(a if b else c else d)", "(a >> 1)", "(a >=)", "(a with (b and c))", "(a without b without c)",
		strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100),
	} {
		if _, err := parseRich(in); !errors.Is(err, ErrRich) {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

// A product of sets larger than the bound is an error, not an endless wait.
func TestRichExpansionIsBounded(t *testing.T) {
	t.Parallel()
	p := Problem{Arch: "x86_64"}
	for i := range 300 {
		n := rpm.NEVRA{Name: "p" + strings.Repeat("x", i), EVR: rpm.EVR{Version: "1", Release: "1"}, Arch: "noarch"}
		p.Packages = append(p.Packages, Package{NEVRA: n, Provides: []rpm.Dep{{Name: "many"}}})
	}
	p.Packages = append(p.Packages, Package{
		NEVRA:     rpm.NEVRA{Name: "a", EVR: rpm.EVR{Version: "1", Release: "1"}, Arch: "noarch"},
		Conflicts: []rpm.Dep{{Name: "(many and (many and many))", Rich: true}},
	})
	p.Install = []string{"a"}
	if _, err := Solve(t.Context(), p); !errors.Is(err, ErrRich) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseRich(f *testing.F) {
	for _, s := range []string{"(a and b)", "(a if (b or c < 2) else d)", "(x()(64bit) with y >= 1:2-3)", "(a unless b)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := parseRich(text)
		if err != nil {
			if !errors.Is(err, ErrRich) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		n := 0
		g.leaves(func(d rpm.Dep) {
			n++
			if d.Name == "" {
				t.Fatalf("%q: a leaf without name", text)
			}
		})
		if n == 0 {
			t.Fatalf("%q: no leaves", text)
		}
	})
}
