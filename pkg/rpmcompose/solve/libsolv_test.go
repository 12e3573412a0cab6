// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// libsolvCase writes a problem in the format of libsolv's test cases.
func libsolvCase(p *solve.Problem) string {
	var b strings.Builder
	b.WriteString("repo system 0 empty\nrepo base 0 testtags <inline>\n")
	for i := range p.Packages {
		pkg := &p.Packages[i]
		n := pkg.NEVRA
		fmt.Fprintf(&b, "#>=Pkg: %s %s %s %s\n", n.Name, n.Version, n.Release, n.Arch)
		for _, l := range []struct {
			tag  string
			deps []rpm.Dep
		}{
			{"Req", pkg.Requires}, {"Prv", pkg.Provides}, {"Con", pkg.Conflicts}, {"Obs", pkg.Obsoletes},
			{"Rec", pkg.Recommends}, {"Sug", pkg.Suggests}, {"Sup", pkg.Supplements}, {"Enh", pkg.Enhances},
		} {
			for _, d := range l.deps {
				fmt.Fprintf(&b, "#>=%s: %s\n", l.tag, libsolvDep(d))
			}
		}
		for _, f := range pkg.Files {
			fmt.Fprintf(&b, "#>=Prv: %s\n", f)
		}
	}
	b.WriteString("system x86_64 rpm system\n")
	if p.NoWeak {
		b.WriteString("solverflags ignorerecommended\n")
	}
	for _, s := range p.Install {
		kind := "provides"
		if slices.ContainsFunc(p.Packages, func(k solve.Package) bool { return k.NEVRA.Name == s }) {
			kind = "name"
		}
		fmt.Fprintf(&b, "job install %s %s\n", kind, s)
	}
	b.WriteString("result transaction,problems <inline>\n")
	return b.String()
}

// libsolvDep rewrites a rich dependency's operators.
func libsolvDep(d rpm.Dep) string {
	s := d.String()
	for _, op := range [][2]string{{" and ", " & "}, {" or ", " | "}, {" with ", " + "}, {" without ", " - "}} {
		s = strings.ReplaceAll(s, op[0], op[1])
	}
	for _, op := range []string{"if", "unless"} {
		if l, r, ok := strings.Cut(s, " "+op+" "); ok {
			if cond, other, ok := strings.Cut(r, " else "); ok {
				r = "(" + cond + " <ELSE> " + other + ")"
			}
			s = l + " <" + strings.ToUpper(op) + "> " + r
		}
	}
	return s
}

func TestAgreesWithLibsolv(t *testing.T) {
	t.Parallel()
	tool := testutil.Tool(t, "testsolv")
	file := filepath.Join(t.TempDir(), "case.t")
	var total, equal int
	var differ []string
	rapid.Check(t, func(rt *rapid.T) {
		p := drawUniverse(rt)
		p.InstallOnly = nil
		text := libsolvCase(&p)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			rt.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), tool, "-r", file).Output()
		if err != nil {
			rt.Fatalf("testsolv: %v\n%s", err, text)
		}
		var want []string
		solvable := true
		for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			if id, ok := strings.CutPrefix(l, "install "); ok {
				want = append(want, strings.TrimSuffix(id, "@base"))
			}
			solvable = solvable && !strings.HasPrefix(l, "problem ")
		}
		sol, err := solve.Solve(t.Context(), p)
		var u *solve.Unsolvable
		if err != nil && !errors.As(err, &u) {
			rt.Fatal(err)
		}
		if (err == nil) != solvable {
			rt.Fatalf("libsolv:\n%s\nwe: %v\n%s", out, err, text)
		}
		if err != nil {
			return
		}
		total++
		slices.Sort(want)
		if got := nevras(&p, sol.Packages); slices.Equal(got, want) {
			equal++
		} else if len(differ) < 20 {
			differ = append(differ, fmt.Sprintf("libsolv %v\nwe      %v\n%s", want, got, text))
		}
	})
	t.Logf("%d of %d solvable cases have libsolv's answer", equal, total)
	if testing.Verbose() {
		t.Log(strings.Join(differ, "\n"))
	}
	if equal*100 < total*85 {
		t.Errorf("only %d of %d answers are libsolv's", equal, total)
	}
}
