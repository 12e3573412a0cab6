// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

func TestChoices(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, universe, install, want string
		change                        func(*solve.Problem)
	}{
		{name: "newest version", universe: "a-1-1.noarch\na-3-1.noarch\na-2-1.noarch", install: "a", want: "a-3"},
		{name: "epoch wins", universe: "a-1:1-1.noarch\na-3-1.noarch", install: "a", want: "a-1"},
		{name: "priority before version", universe: "a-1-1.noarch@one:1\na-2-1.noarch@two:2", install: "a", want: "a-1"},
		{name: "priority only prefers", universe: "a-1-1.noarch@one:1\na-2-1.noarch@two:2\nb-1-1.noarch req:a>=2", install: "b", want: "a-2 b-1"},
		{name: "older version if the newest cannot be", universe: "a-1-1.noarch\na-2-1.noarch req:none", install: "a", want: "a-1"},
		{name: "architecture before noarch", universe: "a-1-1.noarch\na-1-1.x86_64 req:b\nb-1-1.noarch", install: "a", want: "a-1 b-1"},
		{name: "foreign architecture", universe: "a-1-1.noarch\na-2-1.i686", install: "a", want: "a-1"},
		{name: "same name as the capability", universe: "x-1-1.noarch prv:z\nz-1-1.noarch\na-1-1.noarch req:z", install: "a", want: "a-1 z-1"},
		{name: "first name", universe: "x-1-1.noarch prv:z\ny-1-1.noarch prv:z\na-1-1.noarch req:z", install: "a", want: "a-1 x-1"},
		{name: "newest capability", universe: "x-1-1.noarch prv:z=1\ny-1-1.noarch prv:z=2\na-1-1.noarch req:z", install: "a", want: "a-1 y-1"},
		{name: "suggested candidate", universe: "x-1-1.noarch prv:z\ny-1-1.noarch prv:z\na-1-1.noarch req:z sug:y", install: "a", want: "a-1 y-1"},
		{name: "recommended candidate", universe: "x-1-1.noarch prv:z\ny-1-1.noarch prv:z\na-1-1.noarch req:z rec:y", install: "a", want: "a-1 y-1"},
		{name: "enhancing candidate", universe: "x-1-1.noarch prv:z\ny-1-1.noarch prv:z enh:a\na-1-1.noarch req:z", install: "a", want: "a-1 y-1"},
		{name: "candidate that is in anyway", universe: "x-1-1.noarch prv:z\ny-1-1.noarch prv:z\na-1-1.noarch req:z|c\nc-1-1.noarch req:d|e\nd-1-1.noarch prv:q\ne-1-1.noarch req:y", install: "a", want: "a-1 c-1 d-1 e-1 y-1"},
		{name: "candidate that comes in later", universe: "x-1-1.noarch prv:z\ny-1-1.noarch prv:z\na-1-1.noarch req:z|c\nc-1-1.noarch req:q\nd-1-1.noarch prv:q req:y\ne-1-1.noarch prv:q", install: "a", want: "a-1 c-1 d-1 y-1"},
		{name: "outdated candidate", universe: "x-1-1.noarch prv:z\nx-2-1.noarch\ny-1-1.noarch prv:z\na-1-1.noarch req:z", install: "a", want: "a-1 y-1"},
		{name: "names before capabilities", universe: "n-1-1.noarch\nn-2-1.noarch con:p\np-1-1.noarch prv:cap\nq-1-1.noarch prv:cap", install: "cap n", want: "n-2 q-1"},
		{name: "obsoleting candidate", universe: "old-9-1.noarch prv:z\nyes-1-1.noarch prv:z obs:old\na-1-1.noarch req:z", install: "a", want: "a-1 yes-1"},
		{name: "obsoletes keep out", universe: "x-1-1.noarch prv:z\na-1-1.noarch obs:x req:z\ny-1-1.noarch prv:z", install: "a", want: "a-1 y-1"},
		{name: "obsoletes look at names only", universe: "x-1-1.noarch prv:z\na-1-1.noarch obs:z req:x", install: "a", want: "a-1 x-1"},
		{name: "conflict avoided", universe: "x-1-1.noarch prv:z con:b\ny-1-1.noarch prv:z\na-1-1.noarch req:z|b\nb-1-1.noarch", install: "a", want: "a-1 b-1 y-1"},
		{name: "conflict with itself", universe: "a-1-1.noarch con:a-cap prv:a-cap", install: "a", want: "a-1"},
		{name: "rpmlib", universe: "a-1-1.noarch req:rpmlib(PayloadIsZstd)<=5.4.18-1", install: "a", want: "a-1"},
		{name: "file in the primary list", universe: "a-1-1.noarch req:/bin/sh\nb-1-1.noarch file:/bin/sh", install: "a", want: "a-1 b-1"},
		{name: "weak", universe: "a-1-1.noarch rec:b\nb-1-1.noarch rec:c\nc-1-1.noarch\nd-1-1.noarch sup:a\ne-1-1.noarch sup:(b_and_c)\nf-1-1.noarch enh:a", install: "a", want: "a-1 b-1 c-1 d-1 e-1"},
		{name: "weak ignored", universe: "a-1-1.noarch rec:b\nb-1-1.noarch\nd-1-1.noarch sup:a", install: "a", want: "a-1", change: func(p *solve.Problem) { p.NoWeak = true }},
		{name: "weak that cannot be", universe: "a-1-1.noarch rec:b|c\nb-1-1.noarch con:a\nc-1-1.noarch req:none", install: "a", want: "a-1"},
		{name: "rich if, condition met", universe: "a-1-1.noarch req:(b_if_c)|c\nb-1-1.noarch\nc-1-1.noarch", install: "a", want: "a-1 b-1 c-1"},
		{name: "rich if, condition not met", universe: "a-1-1.noarch req:(b_if_c)\nb-1-1.noarch\nc-1-1.noarch", install: "a", want: "a-1"},
		{name: "rich if else", universe: "a-1-1.noarch req:(b_if_c_else_d)\nb-1-1.noarch\nc-1-1.noarch\nd-1-1.noarch", install: "a", want: "a-1 d-1"},
		{name: "rich if, condition met later", universe: "a-1-1.noarch req:(b_if_c)|d\nb-1-1.noarch\nc-1-1.noarch\nd-1-1.noarch req:c", install: "a", want: "a-1 b-1 c-1 d-1"},
		{name: "rich with", universe: "a-1-1.noarch req:(z_>=_1_with_z_<_2)\nx-1-1.noarch prv:z=1|z=2\ny-3-1.noarch prv:z=3", install: "a", want: "a-1 x-1"},
		{name: "rich without", universe: "a-1-1.noarch req:(z_without_bad)\nx-1-1.noarch prv:z|bad\ny-3-1.noarch prv:z", install: "a", want: "a-1 y-3"},
		{name: "rich or", universe: "a-1-1.noarch req:(none_or_c)\nc-1-1.noarch", install: "a", want: "a-1 c-1"},
		{name: "rich conflict", universe: "a-1-1.noarch con:(b_and_c) req:z\nb-1-1.noarch\nc-1-1.noarch prv:z\nd-1-1.noarch prv:z", install: "a b", want: "a-1 b-1 d-1"},
		{name: "rich unless", universe: "a-1-1.noarch req:(b_unless_c)\nb-1-1.noarch\nc-1-1.noarch", install: "a", want: "a-1 b-1"},
		{name: "rich recommendation", universe: "a-1-1.noarch rec:(b_if_c)\nb-1-1.noarch\nc-1-1.noarch", install: "a c", want: "a-1 b-1 c-1"},
		{name: "exclude", universe: "a-1-1.noarch req:z\nx-1-1.noarch prv:z\ny-1-1.noarch prv:z", install: "a", want: "a-1 y-1", change: func(p *solve.Problem) { p.Exclude = []string{"x"} }},
		{name: "exclude by pattern", universe: "a-1-1.noarch\na-2-1.noarch", install: "a", want: "a-1", change: func(p *solve.Problem) { p.Exclude = []string{"a-2*"} }},
		{name: "lock", universe: "a-1-1.noarch\na-2-1.noarch", install: "a", want: "a-1", change: func(p *solve.Problem) { p.Locks = map[string]string{"a": "1-1.noarch"} }},
		{name: "repository", universe: "a-1-1.noarch@old\na-2-1.noarch@new", install: "a", want: "a-1", change: func(p *solve.Problem) { p.FromRepo = map[string]string{"a": "old"} }},
		{name: "two versions together", universe: "k-1-1.noarch\nk-2-1.noarch", install: "k-1 k-2", want: "k-1 k-2", change: func(p *solve.Problem) { p.InstallOnly = []string{"k"} }},
		{name: "pattern", universe: "l-en-1-1.noarch\nl-de-1-1.noarch\nm-1-1.noarch", install: "l-*", want: "l-de-1 l-en-1"},
		{name: "name and architecture", universe: "a-1-1.noarch\na-1-1.x86_64", install: "a.noarch", want: "a-1"},
		{name: "full name", universe: "a-1:1-1.noarch\na-1:2-1.noarch", install: "a-1:1-1.noarch", want: "a-1"},
		{name: "capability", universe: "a-1-1.noarch prv:cap(x)", install: "cap(x)", want: "a-1"},
		{name: "path", universe: "a-1-1.noarch file:/usr/bin/x", install: "/usr/bin/x", want: "a-1"},
		{name: "name with a hyphen and a version", universe: "a-b-1-1.noarch\na-1-1.noarch", install: "a-b", want: "a-b-1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := universe(t, c.universe)
			p.Install = strings.Fields(c.install)
			if c.change != nil {
				c.change(&p)
			}
			sol, err := solve.Solve(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := sorted(names(&p, sol.Packages)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			checkSolution(t, &p, sol)
		})
	}
}

func TestRequestsWithSpaces(t *testing.T) {
	t.Parallel()
	p := universe(t, "a-1-1.noarch\na-2-1.noarch\nb-1-1.noarch")
	for spec, want := range map[string]string{"a < 2": "a-1", "(none or b)": "b-1", "(a and b)": "a-2 b-1"} {
		p.Install = []string{spec}
		sol, err := solve.Solve(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(&p, sol.Packages); got != want {
			t.Errorf("%s: got %q, want %q", spec, got, want)
		}
	}
	for _, spec := range []string{"a <", "(a or", "a b", "(a or b and c)", "(a xor b)"} {
		p.Install = []string{spec}
		if _, err := solve.Solve(t.Context(), p); !errors.Is(err, solve.ErrRich) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func TestFileListsAreAskedOnlyWhenNeeded(t *testing.T) {
	t.Parallel()
	p := universe(t, "a-1-1.noarch req:/usr/share/x\nb-1-1.noarch\nc-1-1.noarch req:/usr/share/never\nd-1-1.noarch sup:/usr/share/weak")
	p.Install = []string{"a"}
	var asked, expected []string
	p.Expect = func(paths []string) { expected = append(expected, paths...) }
	p.Lookup = func(path string) []int {
		asked = append(asked, path)
		return []int{1}
	}
	sol, err := solve.Solve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(&p, sol.Order); got != "b-1 a-1" {
		t.Errorf("order %q", got)
	}
	if d := cmp.Diff([]string{"/usr/share/never", "/usr/share/weak", "/usr/share/x"}, expected); d != "" {
		t.Error(d)
	}
	for _, path := range asked {
		if path != "/usr/share/x" {
			t.Errorf("asked for %s", path)
		}
	}
}

func TestExplanations(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, universe, install string
		want                    []string
		change                  func(*solve.Problem)
	}{
		{name: "unknown", universe: "a-1-1.noarch", install: "b zz", want: []string{
			"b was requested, but no package has that name or provides it",
			"zz was requested, but no package has that name or provides it"}},
		{name: "not eligible", universe: "a-1-1.i686\na-2-1.noarch", install: "a", want: []string{
			"a was requested, but cannot be used: a-1-1.i686 (it is for architecture i686), a-2-1.noarch (it is excluded)"},
			change: func(p *solve.Problem) { p.Exclude = []string{"a-2"} }},
		{name: "chain", universe: "a-1-1.noarch req:b>=2\nb-1-1.noarch\nb-2-1.noarch req:c\nb-3-1.noarch req:d", install: "a", want: []string{
			"a was requested, that is a-1-1.noarch",
			"package a-1-1.noarch requires b >= 2, but none of the providers can be installed: b-3-1.noarch, b-2-1.noarch",
			"package b-3-1.noarch requires d, but nothing provides it",
			"package b-2-1.noarch requires c, but nothing provides it"}},
		{name: "other version", universe: "a-1-1.noarch req:b>=2\nb-1-1.noarch", install: "a", want: []string{
			"a was requested, that is a-1-1.noarch",
			"package a-1-1.noarch requires b >= 2, but nothing provides it in that version; there is b-1-1.noarch"}},
		{name: "excluded provider", universe: "a-1-1.noarch req:b\nb-1-1.noarch", install: "a", want: []string{
			"a was requested, that is a-1-1.noarch",
			"package a-1-1.noarch requires b, but nothing provides it except b-1-1.noarch (it is excluded)"},
			change: func(p *solve.Problem) { p.Exclude = []string{"b"} }},
		{name: "conflict", universe: "a-1-1.noarch req:c\nb-1-1.noarch con:c<2\nc-1-1.noarch", install: "a b", want: []string{
			"a was requested, that is a-1-1.noarch",
			"package a-1-1.noarch requires c, which only c-1-1.noarch provides",
			"package b-1-1.noarch conflicts with c < 2, that is c-1-1.noarch",
			"b was requested, that is b-1-1.noarch"}},
		{name: "obsoletes", universe: "a-1-1.noarch obs:b\nb-1-1.noarch", install: "a b", want: []string{
			"a was requested, that is a-1-1.noarch",
			"package a-1-1.noarch obsoletes b, that is b-1-1.noarch",
			"b was requested, that is b-1-1.noarch"}},
		{name: "two versions", universe: "a-1-1.noarch\na-2-1.noarch\nb-1-1.noarch req:a<2", install: "a-2 b", want: []string{
			"a-2 was requested, which can be a-2-1.noarch",
			"packages a-2-1.noarch and a-1-1.noarch cannot be installed together",
			"package b-1-1.noarch requires a < 2, which only a-1-1.noarch provides",
			"b was requested, that is b-1-1.noarch"}},
		{name: "nothing that does not matter", universe: "a-1-1.noarch req:x|y\nx-1-1.noarch\ny-1-1.noarch req:gone rec:x\nq-1-1.noarch req:x", install: "a q", want: []string{
			"a was requested, that is a-1-1.noarch",
			"package a-1-1.noarch requires y, which only y-1-1.noarch provides",
			"package y-1-1.noarch requires gone, but nothing provides it"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := universe(t, c.universe)
			p.Install = strings.Fields(c.install)
			if c.change != nil {
				c.change(&p)
			}
			_, err := solve.Solve(t.Context(), p)
			var u *solve.Unsolvable
			if !errors.As(err, &u) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(sortedJoin(c.want), sortedJoin(u.Reasons)); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			if u.Reasons[0] != c.want[0] {
				t.Errorf("starts with %q", u.Reasons[0])
			}
		})
	}
}

func TestSolveStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	p := universe(t, "a-1-1.noarch")
	p.Install = []string{"a"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := solve.Solve(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := solve.Solve(t.Context(), solve.Problem{}); err == nil {
		t.Error("no architecture accepted")
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, universe, want string }{
		{"requirements first", "a-1-1.noarch req:b\nb-1-1.noarch req:c\nc-1-1.noarch", "c-1 b-1 a-1"},
		{"names decide", "c-1-1.noarch\na-1-1.noarch\nb-1-1.noarch", "a-1 b-1 c-1"},
		{"setup and filesystem first", "a-1-1.noarch\nfilesystem-1-1.noarch pre:setup\nsetup-1-1.noarch req:release\nz-1-1.noarch prv:release", "z-1 setup-1 filesystem-1 a-1"},
		{"circle keeps script requirements", "a-1-1.noarch pre:b\nb-1-1.noarch req:a", "b-1 a-1"},
		{"circle keeps script requirements, other way", "a-1-1.noarch req:b\nb-1-1.noarch pre:a", "a-1 b-1"},
		{"circle of three", "a-1-1.noarch req:b\nb-1-1.noarch pre:c\nc-1-1.noarch req:a", "a-1 c-1 b-1"},
		{"circle of script requirements", "a-1-1.noarch pre:b\nb-1-1.noarch pre:a", "a-1 b-1"},
		{"own capability", "a-1-1.noarch req:x prv:x\nb-1-1.noarch prv:x req:a", "a-1 b-1"},
		{"rich", "a-1-1.noarch req:(c_if_b)\nb-1-1.noarch\nc-1-1.noarch", "b-1 c-1 a-1"},
	}
	for _, c := range cases {
		p := universe(t, c.universe)
		set := make([]int, len(p.Packages))
		for i := range set {
			set[len(set)-1-i] = i
		}
		if got := names(&p, solve.Order(p.Packages, set, nil)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
