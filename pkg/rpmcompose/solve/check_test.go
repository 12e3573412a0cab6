// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// checker verifies answers without any code of the solver: it walks all
// packages of the set for every dependency and evaluates rich ones on the spot.
type checker struct {
	p    *solve.Problem
	set  []int
	memo map[rpm.Dep][]int
}

// violations lists everything wrong with a set.
func (c *checker) violations() []string {
	var out []string
	for _, i := range c.set {
		pkg := &c.p.Packages[i]
		if a := pkg.NEVRA.Arch; a != c.p.Arch && a != "noarch" && !slices.Contains(c.p.Arches, a) {
			out = append(out, pkg.NEVRA.String()+": wrong architecture")
		}
		for _, d := range pkg.Requires {
			if !strings.HasPrefix(d.Name, "rpmlib(") && !c.holds(d, -1) {
				out = append(out, pkg.NEVRA.String()+": lacks "+d.String())
			}
		}
		for _, d := range pkg.Conflicts {
			// A plain conflict does not mean the package itself; a rich one is
			// evaluated as it stands.
			except := i
			if isRich(d) {
				except = -1
			}
			if c.holds(d, except) {
				out = append(out, pkg.NEVRA.String()+": conflict with "+d.String())
			}
		}
		for _, j := range c.set {
			o := &c.p.Packages[j]
			if i == j {
				continue
			}
			if o.NEVRA.Name == pkg.NEVRA.Name && rpm.Compare(o.NEVRA.EVR, pkg.NEVRA.EVR) == 0 && isTwin(o.NEVRA.Arch, pkg.NEVRA.Arch) {
				continue
			}
			if o.NEVRA.Name == pkg.NEVRA.Name && (!slices.Contains(c.p.InstallOnly, o.NEVRA.Name) || rpm.Compare(o.NEVRA.EVR, pkg.NEVRA.EVR) == 0) {
				out = append(out, pkg.NEVRA.String()+": same name as "+o.NEVRA.String())
			}
			for _, d := range pkg.Obsoletes {
				if d.Name == o.NEVRA.Name && d.Matches(rpm.Dep{Name: o.NEVRA.Name, Flags: rpm.DepEqual, EVR: o.NEVRA.EVR}) {
					out = append(out, pkg.NEVRA.String()+": obsoletes "+o.NEVRA.String())
				}
			}
		}
	}
	return out
}

// holds evaluates a dependency on the set, leaving package except out.
func (c *checker) holds(d rpm.Dep, except int) bool {
	if isRich(d) {
		v, rest := c.eval(d.Name, except)
		if strings.TrimSpace(rest) != "" {
			panic("trailing text in " + d.Name)
		}
		return v
	}
	return len(c.who(d, except)) > 0
}

func (c *checker) who(d rpm.Dep, except int) (out []int) {
	d.Flags &= rpm.DepSenseMask
	all, ok := c.memo[d]
	if !ok {
		for _, i := range c.set {
			if offers(c.p, i, d) {
				all = append(all, i)
			}
		}
		if c.memo == nil {
			c.memo = map[rpm.Dep][]int{}
		}
		c.memo[d] = all
	}
	return minusInts(all, except)
}

func minusInts(list []int, drop int) (out []int) {
	for _, i := range list {
		if i != drop {
			out = append(out, i)
		}
	}
	return out
}

// offers reports whether package i satisfies a plain dependency.
func offers(p *solve.Problem, i int, d rpm.Dep) bool {
	pkg := &p.Packages[i]
	if d.Matches(rpm.Dep{Name: pkg.NEVRA.Name, Flags: rpm.DepEqual, EVR: pkg.NEVRA.EVR}) {
		return true
	}
	for i := range pkg.Provides {
		if pkg.Provides[i].Name == d.Name && d.Matches(pkg.Provides[i]) {
			return true
		}
	}
	if !strings.HasPrefix(d.Name, "/") {
		return false
	}
	return slices.Contains(pkg.Files, d.Name) || p.Lookup != nil && slices.Contains(p.Lookup(d.Name), i)
}

// eval evaluates the parenthesised expression at the start of text, operators
// from left to right, which is all that rpm's grammar allows.
func (c *checker) eval(text string, except int) (bool, string) {
	v, _, rest := c.group(text, except)
	return v, rest
}

// group also returns the packages that satisfy the expression, for with and
// without.
func (c *checker) group(text string, except int) (bool, []int, string) {
	text = strings.TrimLeft(text, " ")[1:]
	val, set, text := c.term(text, except)
	var conds []bool
	op := ""
	vals := []bool{val}
	for {
		text = strings.TrimLeft(text, " ")
		if text[0] == ')' {
			break
		}
		word, rest, _ := strings.Cut(text, " ")
		v, s, rest := c.term(rest, except)
		text = rest
		switch word {
		case "and":
			val = val && v
		case "or":
			val, set = val || v, append(set, s...)
		case "with":
			set = slices.DeleteFunc(slices.Clone(set), func(i int) bool { return !slices.Contains(s, i) })
			val = len(set) > 0
		case "without":
			set = slices.DeleteFunc(slices.Clone(set), func(i int) bool { return slices.Contains(s, i) })
			val = len(set) > 0
		case "if", "unless":
			op, conds = word, append(conds, v)
		case "else":
			vals = append(vals, v)
		default:
			panic("operator " + word)
		}
	}
	if op != "" {
		met := conds[0] == (op == "if")
		switch {
		case met:
			val = vals[0]
		case len(vals) > 1:
			val = vals[1]
		default:
			val = op == "if"
		}
	}
	return val, set, text[1:]
}

func (c *checker) term(text string, except int) (bool, []int, string) {
	text = strings.TrimLeft(text, " ")
	if text[0] == '(' {
		return c.group(text, except)
	}
	depth, end := 0, 0
	for ; end < len(text); end++ {
		if text[end] == '(' {
			depth++
		}
		if text[end] == ')' {
			if depth == 0 {
				break
			}
			depth--
		}
		if text[end] == ' ' {
			break
		}
	}
	d := rpm.Dep{Name: text[:end]}
	rest := strings.TrimLeft(text[end:], " ")
	if n := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("<>=", r) }); n > 0 {
		for _, r := range rest[:n] {
			d.Flags |= map[rune]rpm.DepFlags{'<': rpm.DepLess, '>': rpm.DepGreater, '=': rpm.DepEqual}[r]
		}
		rest = strings.TrimLeft(rest[n:], " ")
		end := strings.IndexAny(rest, " )")
		d.EVR, _ = rpm.ParseEVR(rest[:end])
		rest = rest[end:]
	}
	set := c.who(d, except)
	return len(set) > 0, set, rest
}

// checkSolution fails the test unless the answer is closed, free of conflicts
// and ordered.
func checkSolution(t testing.TB, p *solve.Problem, sol solve.Solution) {
	t.Helper()
	c := checker{p: p, set: sol.Packages}
	for _, v := range c.violations() {
		t.Errorf("install %v: %s", p.Install, v)
	}
	if !slices.Equal(slices.Sorted(slices.Values(sol.Order)), slices.Sorted(slices.Values(sol.Packages))) {
		t.Errorf("install %v: order and set differ", p.Install)
		return
	}
	for _, bad := range c.tooEarly(sol.Order) {
		t.Errorf("install %v: %s", p.Install, bad)
	}
}

// tooEarly lists the packages whose scripts would run before what they need is
// there, although it is in the set. (Real distributions have no circle of
// script requirements.)
func (c *checker) tooEarly(order []int) (out []string) {
	at := map[int]int{}
	for k, i := range order {
		at[i] = k
	}
	const scripts = rpm.DepPreReq | rpm.DepScriptPre | rpm.DepScriptPost | rpm.DepInterp
	for k, i := range order {
		for _, d := range c.p.Packages[i].Requires {
			if d.Flags&scripts == 0 || d.IsRpmlib() || isRich(d) {
				continue
			}
			if !slices.ContainsFunc(c.who(d, -1), func(j int) bool { return at[j] <= k }) {
				out = append(out, c.p.Packages[i].NEVRA.String()+" comes before "+d.String())
			}
		}
	}
	return out
}

func isRich(d rpm.Dep) bool { return strings.HasPrefix(d.Name, "(") }

// isTwin: one of the architectures is x86_64, the other one its 32-bit kind.
func isTwin(a, b string) bool {
	return a != b && (a == "x86_64" || b == "x86_64") && (a == "i686" || b == "i686")
}
