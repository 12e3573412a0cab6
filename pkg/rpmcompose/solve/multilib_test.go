// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// A machine that can run 32-bit programs gets them where they are asked for or
// needed, and not otherwise.
func TestMultilib(t *testing.T) {
	t.Parallel()
	const lib = "lib-1-1.x86_64 prv:lib.so()(64bit)\nlib-1-1.i686 prv:lib.so\n"
	cases := []struct{ name, universe, install, want string }{
		{"name means the best architecture", lib, "lib", "lib-1-1.x86_64"},
		{"older of the best architecture", "a-1-1.x86_64\na-2-1.i686", "a", "a-1-1.x86_64"},
		{"noarch rather than 32 bits", "a-1-1.noarch\na-2-1.i686", "a", "a-1-1.noarch"},
		{"only there is", "wine-1-1.i686 req:lib.so\n" + lib, "wine", "lib-1-1.i686 wine-1-1.i686"},
		{"asked for", lib, "lib.i686", "lib-1-1.i686"},
		{"both asked for", lib, "lib lib.i686", "lib-1-1.i686 lib-1-1.x86_64"},
		{"needed by name of the file", "a-1-1.x86_64 req:lib.so\n" + lib, "a", "a-1-1.x86_64 lib-1-1.i686"},
		{"dependency that both meet", "a-1-1.i686 req:tool\ntool-1-1.x86_64\ntool-1-1.i686", "a", "a-1-1.i686 tool-1-1.x86_64"},
		{"versions in step", "a-1-1.x86_64 req:lib.so\n" + lib + "lib-2-1.x86_64", "a lib", "a-1-1.x86_64 lib-1-1.i686 lib-1-1.x86_64"},
		{"recommended", "a-1-1.x86_64 rec:lib\n" + lib, "a", "a-1-1.x86_64 lib-1-1.x86_64"},
		{"recommended but broken", "a-1-1.x86_64 rec:b\nb-1-1.x86_64 req:none\nb-1-1.i686", "a", "a-1-1.x86_64"},
		{"supplementing", "a-1-1.x86_64\nb-1-1.x86_64 sup:a\nb-1-1.i686 sup:a", "a", "a-1-1.x86_64 b-1-1.x86_64"},
		{"supplementing but broken", "a-1-1.x86_64\nb-1-1.x86_64 sup:a req:none\nb-1-1.i686 sup:a", "a", "a-1-1.x86_64"},
		{"supplementing its own kind", "a-1-1.i686 prv:a(x86-32)\np-1-1.x86_64 sup:a(x86-64)\np-1-1.i686 sup:a(x86-32)", "a", "a-1-1.i686 p-1-1.i686"},
		{"pattern", lib, "li*", "lib-1-1.x86_64"},
		{"pattern with architecture", lib, "li*.i686", "lib-1-1.i686"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := universe(t, c.universe)
			p.Arches, p.Install = solve.CompatibleArches(p.Arch), strings.Fields(c.install)
			sol, err := solve.Solve(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, strings.Join(nevras(&p, sol.Packages), " ")); d != "" {
				t.Error(d)
			}
			checkSolution(t, &p, sol)
		})
	}
}

// That the 64-bit build is broken must not lead to its twin, and is explained
// with architectures.
func TestMultilibExplained(t *testing.T) {
	t.Parallel()
	cases := []struct {
		universe, install string
		want              []string
	}{
		{"a-1-1.x86_64 req:none\na-1-1.i686", "a", []string{"a was requested, that is a-1-1.x86_64", "package a-1-1.x86_64 requires none, but nothing provides it"}},
		{"a-1-1.x86_64 req:b.so=1\nb-1-1.i686 prv:b.so=1\nb-2-1.x86_64", "a b", []string{
			"a was requested, that is a-1-1.x86_64",
			"package a-1-1.x86_64 requires b.so = 1, which only b-1-1.i686 provides",
			"packages b-2-1.x86_64 and b-1-1.i686 cannot be installed together: builds for x86_64 and i686 must have the same version",
			"b was requested, that is b-2-1.x86_64"}},
		{"a-1-1.aarch64", "a", []string{"a was requested, but cannot be used: a-1-1.aarch64 (it is for architecture aarch64)"}},
	}
	for _, c := range cases {
		p := universe(t, c.universe)
		p.Arches, p.Install = solve.CompatibleArches(p.Arch), strings.Fields(c.install)
		_, err := solve.Solve(t.Context(), p)
		var u *solve.Unsolvable
		if !errors.As(err, &u) {
			t.Fatalf("%s: %v", c.install, err)
		}
		if d := cmp.Diff(c.want, u.Reasons); d != "" {
			t.Errorf("%s: %s", c.install, d)
		}
	}
}

func TestCompatibleArches(t *testing.T) {
	t.Parallel()
	for arch, want := range map[string]string{
		"x86_64": "x86_64 i686 i586 i486 i386 noarch", "x86_64_v2": "x86_64_v2 x86_64 i686 i586 i486 i386 noarch",
		"i586": "i586 i486 i386 noarch", "aarch64": "aarch64 noarch", "noarch": "noarch",
	} {
		if got := strings.Join(solve.CompatibleArches(arch), " "); got != want {
			t.Errorf("%s: %s", arch, got)
		}
	}
}
