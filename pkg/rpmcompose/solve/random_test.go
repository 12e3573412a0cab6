// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// drawUniverse makes up to eight packages of few names and capabilities, so
// that they get in each other's way.
func drawUniverse(t *rapid.T) solve.Problem {
	names := []string{"a", "b", "c", "d", "e"}
	pick := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "x", "y", "a>=2", "b<2", "x=1", "x>1", "none", "/f"})
	rich := rapid.Custom(func(t *rapid.T) string {
		op := rapid.SampledFrom([]string{"and", "or", "if", "unless", "with", "without"}).Draw(t, "op")
		l, r := pick.Draw(t, "l"), pick.Draw(t, "r")
		space := strings.NewReplacer(">=", "_>=_", "<", "_<_", "=", "_=_", ">", "_>_")
		l, r = space.Replace(strings.ReplaceAll(l, ">=", "≥")), space.Replace(strings.ReplaceAll(r, ">=", "≥"))
		l, r = strings.ReplaceAll(l, "≥", "_>=_"), strings.ReplaceAll(r, "≥", "_>=_")
		if (op == "if" || op == "unless") && rapid.Bool().Draw(t, "else") {
			return fmt.Sprintf("(%s_%s_%s_else_%s)", l, op, r, rapid.SampledFrom(names).Draw(t, "e"))
		}
		if rapid.Bool().Draw(t, "nest") {
			l = fmt.Sprintf("(%s_or_%s)", l, rapid.SampledFrom(names).Draw(t, "n"))
		}
		return fmt.Sprintf("(%s_%s_%s)", l, op, r)
	})
	any := rapid.OneOf(pick, pick, pick, rich)
	p := solve.Problem{Arch: "x86_64", NoWeak: rapid.Bool().Draw(t, "noweak")}
	if rapid.Bool().Draw(t, "multi") {
		p.InstallOnly = []string{"a"}
	}
	n := rapid.IntRange(1, 8).Draw(t, "count")
	seen := map[string]bool{}
	for range n {
		id := fmt.Sprintf("%s-%d-1.noarch", rapid.SampledFrom(names).Draw(t, "name"), rapid.IntRange(1, 3).Draw(t, "version"))
		if seen[id] {
			continue
		}
		seen[id] = true
		line := id
		for _, kind := range []string{"req", "req", "con", "obs", "rec", "sup"} {
			if rapid.IntRange(0, 2).Draw(t, kind+"?") > 0 {
				continue
			}
			d := pick.Draw(t, kind)
			if kind != "obs" {
				d = any.Draw(t, kind)
			}
			line += " " + kind + ":" + d
		}
		if rapid.Bool().Draw(t, "prv?") {
			line += " prv:" + rapid.SampledFrom([]string{"x", "x=1", "x=2", "y", "y=1"}).Draw(t, "prv")
		}
		if rapid.IntRange(0, 4).Draw(t, "file?") == 0 {
			line += " file:/f"
		}
		p.Packages = append(p.Packages, universe(&testing.T{}, line).Packages...)
		dropSelfConflicts(&p, len(p.Packages)-1)
	}
	for range rapid.IntRange(1, 2).Draw(t, "requests") {
		p.Install = append(p.Install, rapid.SampledFrom([]string{"a", "b", "c", "x", "/f"}).Draw(t, "request"))
	}
	return p
}

// dropSelfConflicts removes rich conflicts that speak of the package itself:
// which part of such a one counts has no independent definition.
func dropSelfConflicts(p *solve.Problem, i int) {
	pkg := &p.Packages[i]
	pkg.Conflicts = slices.DeleteFunc(pkg.Conflicts, func(d rpm.Dep) bool {
		if !d.Rich {
			return false
		}
		for _, word := range strings.FieldsFunc(d.Name, func(r rune) bool { return strings.ContainsRune("() <>=12", r) }) {
			if offers(p, i, rpm.Dep{Name: word}) {
				return true
			}
		}
		return false
	})
}

// bruteForce tries every set and reports whether one satisfies the requests.
func bruteForce(p *solve.Problem) bool {
	for mask := range 1 << len(p.Packages) {
		c := checker{p: p}
		for i := range p.Packages {
			if mask>>i&1 != 0 {
				c.set = append(c.set, i)
			}
		}
		ok := true
		for _, s := range p.Install {
			named := slices.ContainsFunc(p.Packages, func(k solve.Package) bool { return k.NEVRA.Name == s })
			met := slices.ContainsFunc(c.set, func(i int) bool {
				if named {
					return p.Packages[i].NEVRA.Name == s
				}
				return offers(p, i, dep(s))
			})
			ok = ok && met
		}
		if ok && len(c.violations()) == 0 {
			return true
		}
	}
	return false
}

func TestAgreesWithBruteForce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawUniverse(rt)
		sol, err := solve.Solve(t.Context(), p)
		var u *solve.Unsolvable
		if err != nil && !errors.As(err, &u) {
			rt.Fatalf("solve: %v", err)
		}
		if want := bruteForce(&p); want != (err == nil) {
			rt.Fatalf("solvable: %v, but got %v", want, err)
		}
		if u != nil && len(u.Reasons) == 0 {
			rt.Fatal("no reasons")
		}
		if err != nil {
			return
		}
		c := checker{p: &p, set: sol.Packages}
		if bad := c.violations(); len(bad) > 0 {
			rt.Fatalf("answer %s: %v\n%+v", names(&p, sol.Packages), bad, p)
		}
		for _, i := range sol.Requested {
			if !slices.Contains(sol.Packages, i) {
				rt.Fatal("a requested package is not in the set")
			}
		}
	})
}

func TestAnswerDoesNotDependOnInputOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawUniverse(rt)
		one, err1 := solve.Solve(t.Context(), p)
		q := p
		q.Packages, q.Install = slices.Clone(p.Packages), slices.Clone(p.Install)
		r := rand.New(rand.NewSource(rapid.Int64().Draw(rt, "seed")))
		r.Shuffle(len(q.Packages), func(i, j int) { q.Packages[i], q.Packages[j] = q.Packages[j], q.Packages[i] })
		slices.Reverse(q.Install)
		two, err2 := solve.Solve(t.Context(), q)
		if fmt.Sprint(err1) != fmt.Sprint(err2) {
			rt.Fatalf("errors differ:\n%v\n%v", err1, err2)
		}
		if a, b := names(&p, one.Packages), names(&q, two.Packages); a != b {
			rt.Fatalf("%q and %q", a, b)
		}
		if a, b := names(&p, one.Order), names(&q, two.Order); a != b {
			rt.Fatalf("order %q and %q", a, b)
		}
	})
}
