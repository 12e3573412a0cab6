// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Limits on one rich dependency, far above anything a packager writes.
const (
	maxRichDepth   = 32
	maxRichClauses = 20_000
)

// ErrRich is the condition of a malformed or unreasonable rich dependency.
var ErrRich = errors.New("malformed rich dependency")

type richOp uint8

const (
	opLeaf richOp = iota
	opAnd
	opOr
	opIf
	opUnless
	opWith
	opWithout
)

// formula is a parsed rich dependency. opIf and opUnless have two operands, and
// a third with else.
type formula struct {
	op   richOp
	leaf rpm.Dep
	args []*formula
}

func (f *formula) leaves(visit func(rpm.Dep)) {
	if f.op == opLeaf {
		visit(f.leaf)
		return
	}
	for _, a := range f.args {
		a.leaves(visit)
	}
}

// parseRich reads rpm's syntax: ( A op B [op C ...] ), where A, B and C are
// "NAME [OP VERSION]" or in parentheses again.
func parseRich(text string) (*formula, error) {
	p := richParser{text: text, rest: text}
	f, err := p.group(0)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(p.rest) != "" {
		return nil, p.fail("text after the closing parenthesis")
	}
	return f, nil
}

type richParser struct{ text, rest string }

func (p *richParser) fail(why string) error {
	return fmt.Errorf("parse %q: %s: %w", p.text, why, ErrRich)
}

func (p *richParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

func (p *richParser) operand(depth int) (*formula, error) {
	p.space()
	if strings.HasPrefix(p.rest, "(") {
		return p.group(depth + 1)
	}
	d, err := p.plain()
	return &formula{leaf: d}, err
}

// group parses one parenthesised expression.
func (p *richParser) group(depth int) (*formula, error) {
	if depth > maxRichDepth {
		return nil, p.fail("nested too deeply")
	}
	p.space()
	if !strings.HasPrefix(p.rest, "(") {
		return nil, p.fail("no opening parenthesis")
	}
	p.rest = p.rest[1:]
	first, err := p.operand(depth)
	if err != nil {
		return nil, err
	}
	f := &formula{args: []*formula{first}}
	for {
		p.space()
		if strings.HasPrefix(p.rest, ")") {
			p.rest = p.rest[1:]
			return p.finish(f)
		}
		word := p.word()
		if err := p.operator(f, word); err != nil {
			return nil, err
		}
		arg, err := p.operand(depth)
		if err != nil {
			return nil, err
		}
		f.args = append(f.args, arg)
	}
}

func (p *richParser) finish(f *formula) (*formula, error) {
	if f.op == opLeaf {
		// "(a)" is "a".
		return f.args[0], nil
	}
	if f.op == opWith || f.op == opWithout {
		for _, a := range f.args {
			if a.op != opLeaf && a.op != opWith && a.op != opWithout && a.op != opOr {
				return nil, p.fail("with and without combine sets of packages only")
			}
		}
	}
	return f, nil
}

// operator checks that word may follow what f has so far.
func (p *richParser) operator(f *formula, word string) error {
	ops := map[string]richOp{"and": opAnd, "or": opOr, "if": opIf, "unless": opUnless, "with": opWith, "without": opWithout}
	if word == "else" && (f.op == opIf || f.op == opUnless) && len(f.args) == 2 {
		return nil
	}
	op, ok := ops[word]
	switch {
	case !ok:
		return p.fail(fmt.Sprintf("unknown operator %q", word))
	case f.op == opLeaf:
		f.op = op
	case f.op != op:
		return p.fail("different operators without parentheses")
	case op == opIf || op == opUnless || op == opWithout:
		return p.fail(word + " cannot be chained")
	}
	return nil
}

func (p *richParser) word() string {
	i := strings.IndexAny(p.rest, " \t\n()")
	if i < 0 {
		i = len(p.rest)
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

// plain parses NAME [OP VERSION]; a name may contain balanced parentheses.
func (p *richParser) plain() (rpm.Dep, error) {
	name := p.token()
	if name == "" {
		return rpm.Dep{}, p.fail("a name is missing")
	}
	d := rpm.Dep{Name: name}
	p.space()
	n := 0
	for n < len(p.rest) && strings.IndexByte("<>=", p.rest[n]) >= 0 {
		switch p.rest[n] {
		case '<':
			d.Flags |= rpm.DepLess
		case '>':
			d.Flags |= rpm.DepGreater
		case '=':
			d.Flags |= rpm.DepEqual
		}
		n++
	}
	if n == 0 {
		return d, nil
	}
	if !slices.Contains([]string{"<", "<=", "=", ">=", ">"}, p.rest[:n]) {
		return d, p.fail("unknown comparison")
	}
	p.rest = p.rest[n:]
	p.space()
	evr, err := rpm.ParseEVR(p.token())
	if err != nil || evr.IsZero() {
		return d, p.fail("a version is missing")
	}
	d.EVR = evr
	return d, nil
}

// token reads up to white space or a parenthesis that it did not open.
func (p *richParser) token() string {
	open := 0
	for i := range len(p.rest) {
		switch p.rest[i] {
		case '(':
			open++
		case ')':
			if open == 0 {
				t := p.rest[:i]
				p.rest = p.rest[i:]
				return t
			}
			open--
		case ' ', '\t', '\n':
			t := p.rest[:i]
			p.rest = p.rest[i:]
			return t
		}
	}
	t := p.rest
	p.rest = ""
	return t
}

// holds evaluates f where installed says of a set of packages whether one of
// them is in.
func (pl *pool) holds(f *formula, installed func([]int32) bool) bool {
	switch f.op {
	case opLeaf, opWith, opWithout:
		return installed(pl.set(f, false))
	case opAnd:
		return !slices.ContainsFunc(f.args, func(a *formula) bool { return !pl.holds(a, installed) })
	case opOr:
		return slices.ContainsFunc(f.args, func(a *formula) bool { return pl.holds(a, installed) })
	}
	cond := pl.holds(f.args[1], installed)
	switch {
	case f.op == opIf && cond, f.op == opUnless && !cond:
		return pl.holds(f.args[0], installed)
	case len(f.args) == 3:
		return pl.holds(f.args[2], installed)
	}
	return f.op == opIf
}

// set is the packages that satisfy a leaf, with or without.
func (pl *pool) set(f *formula, ask bool) []int32 {
	if f.op == opLeaf {
		return pl.providers(f.leaf, ask)
	}
	out := slices.Clone(pl.set(f.args[0], ask))
	for _, a := range f.args[1:] {
		other := pl.set(a, ask)
		switch f.op {
		case opOr:
			out = append(out, other...)
		default:
			out = slices.DeleteFunc(out, func(v int32) bool {
				return slices.Contains(other, v) == (f.op == opWithout)
			})
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clauses returns the conjunctive normal form of f, or of its negation:
// literals are variables, negative where the package must be absent. No clause:
// always true. An empty clause: never.
func (pl *pool) clauses(f *formula, want bool) ([][]int32, error) {
	switch f.op {
	case opLeaf, opWith, opWithout:
		set := pl.set(f, true)
		if want {
			return [][]int32{set}, nil
		}
		var out [][]int32
		for _, v := range set {
			out = append(out, []int32{-v})
		}
		return out, nil
	case opAnd, opOr:
		return pl.combine(f.args, want, (f.op == opAnd) == want)
	}
	// a if b       = a or not b            a if b else c     = (a or not b) and (b or c)
	// a unless b   = a and not b           a unless b else c = (a and not b) or (b and c)
	sub := func(i int, w bool) operand { return operand{f.args[i], w == want} }
	conj := (f.op == opUnless) == want
	first, err := pl.join([]operand{sub(0, true), sub(1, false)}, conj)
	if err != nil || len(f.args) == 2 {
		return first, err
	}
	second, err := pl.join([]operand{sub(1, true), sub(2, true)}, conj)
	if err != nil {
		return nil, err
	}
	if conj {
		return product(first, second)
	}
	return append(first, second...), nil
}

type operand struct {
	f    *formula
	want bool
}

func (pl *pool) combine(args []*formula, want, conj bool) ([][]int32, error) {
	ops := make([]operand, 0, len(args))
	for _, a := range args {
		ops = append(ops, operand{a, want})
	}
	return pl.join(ops, conj)
}

// join combines operands by and (conj) or by or.
func (pl *pool) join(ops []operand, conj bool) ([][]int32, error) {
	var out [][]int32
	for i, o := range ops {
		c, err := pl.clauses(o.f, o.want)
		if err != nil {
			return nil, err
		}
		switch {
		case i == 0:
			out = c
		case conj:
			out = append(slices.Clip(out), c...)
		default:
			if out, err = product(out, c); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// product is the disjunction of two conjunctive normal forms.
func product(a, b [][]int32) ([][]int32, error) {
	if len(a)*len(b) > maxRichClauses {
		return nil, fmt.Errorf("more than %d alternatives: %w", maxRichClauses, ErrRich)
	}
	var out [][]int32
	for _, x := range a {
		for _, y := range b {
			c := append(slices.Clone(x), y...)
			slices.Sort(c)
			c = slices.Compact(c)
			if !tautology(c) {
				out = append(out, c)
			}
		}
	}
	return out, nil
}

// tautology reports whether a clause holds a literal and its negation.
func tautology(c []int32) bool {
	for _, l := range c {
		if l < 0 && slices.Contains(c, -l) {
			return true
		}
	}
	return false
}
