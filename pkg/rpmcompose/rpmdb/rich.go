// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"slices"
	"strings"
)

// richNames gives the keys under which a rich dependency is indexed, sorted: the names in it, with "!" in
// front of those whose presence makes the dependency weaker. A condition with an "else" branch works both
// ways, so its names stand for both.
func richNames(dep string) []string {
	r := &richReader{text: dep}
	r.group()
	keys := make([]string, 0, len(r.keys))
	for _, k := range r.keys {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

type richKey struct {
	name    string
	negated bool
}

func (k richKey) String() string {
	if k.negated {
		return "!" + k.name
	}
	return k.name
}

type richReader struct {
	text    string
	keys    []richKey
	negated bool
}

// group reads from an opening bracket to its closing one. A malformed dependency gives the keys found so
// far: it matches nothing anyway.
func (r *richReader) group() {
	r.text = r.text[1:]
	outer := r.negated
	condition := -1
	for {
		r.text = strings.TrimLeft(r.text, " ")
		switch {
		case r.text == "":
			return
		case r.text[0] == ')':
			r.text = r.text[1:]
			r.negated = outer
			return
		case r.text[0] == '(':
			r.group()
			continue
		}
		switch word := r.word(); word {
		case "and", "or", "with", "without":
		case "if", "unless":
			condition = len(r.keys)
			r.negated = !r.negated
		case "else":
			if condition >= 0 {
				for _, k := range r.keys[condition:] {
					r.keys = append(r.keys, richKey{k.name, !k.negated})
				}
				r.negated = !r.negated
			}
		case "<", "<=", "=", ">=", ">", "==":
			r.text = strings.TrimLeft(r.text, " ")
			r.word()
		default:
			r.keys = append(r.keys, richKey{word, r.negated})
		}
	}
}

// word takes the text up to a blank or the bracket that closes the group; brackets inside a name, as in
// "libc.so.6()(64bit)", are balanced. It takes at least one byte.
func (r *richReader) word() string {
	depth, i := 0, 0
	for ; i < len(r.text) && r.text[i] != ' '; i++ {
		if r.text[i] == '(' {
			depth++
		}
		if r.text[i] == ')' {
			if depth == 0 {
				break
			}
			depth--
		}
	}
	word := r.text[:i]
	r.text = r.text[i:]
	return word
}
