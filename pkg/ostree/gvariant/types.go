// SPDX-License-Identifier: Apache-2.0

package gvariant

import (
	"errors"
	"fmt"
)

// Limits of this implementation. Nesting counts containers in type strings and
// variants inside variants; type strings inside variants come from hostile data.
const (
	maxDepth      = 64
	maxTypeLength = 4096
)

const maxAlign = 8 // of any type, bytes

// ErrType reports a malformed or unsupported type string.
var ErrType = errors.New("gvariant: invalid type string")

// typeInfo is a parsed type string: one node per type.
type typeInfo struct {
	str   string
	kind  byte // the first character: b y n q i u x t h d s o g v m a ( {
	align int  // 1, 2, 4 or 8
	fixed int  // serialised size, 0 if it varies
	elems []*typeInfo
}

// commonTypes are the parsed types of what repositories are full of.
var commonTypes = parseTypes("b", "y", "q", "n", "u", "i", "t", "x", "d", "s", "v", "ay", "as", "aay", "a{sv}",
	"(ayay)", "a(ayay)", "(uuua(ayay))", "(uuuusa(ayay))", "(tuuuusa(ayay))", "(say)", "(sayay)", "a(say)", "a(sayay)", "(a(say)a(sayay))")

func parseTypes(list ...string) map[string]*typeInfo {
	types := map[string]*typeInfo{}
	for _, s := range list {
		if t, err := parseNew(s); err == nil {
			types[s] = t
		}
	}
	return types
}

func parseType(s string) (*typeInfo, error) {
	if t := commonTypes[s]; t != nil {
		return t, nil
	}
	return parseNew(s)
}

func parseNew(s string) (*typeInfo, error) {
	if len(s) > maxTypeLength {
		return nil, fmt.Errorf("%w: %d characters", ErrType, len(s))
	}
	t, rest, err := parseOne(s, 0)
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, fmt.Errorf("%w %q: more than one type", ErrType, s)
	}
	return t, nil
}

func parseOne(s string, depth int) (*typeInfo, string, error) {
	if s == "" || depth > maxDepth {
		return nil, "", fmt.Errorf("%w %q", ErrType, s)
	}
	t := &typeInfo{kind: s[0], align: 1}
	var rest string
	var err error
	switch s[0] {
	case 'b', 'y':
		t.fixed = 1
	case 'n', 'q':
		t.align, t.fixed = 2, 2
	case 'i', 'u', 'h':
		t.align, t.fixed = 4, 4
	case 'x', 't', 'd':
		t.align, t.fixed = 8, 8
	case 's', 'o', 'g':
	case 'v':
		t.align = 8
	case 'a', 'm':
		rest, err = t.parseSingle(s[1:], depth)
	case '(':
		rest, err = t.parseMembers(s[1:], ')', depth)
	case '{':
		rest, err = t.parseEntry(s[1:], depth)
	default:
		err = fmt.Errorf("%w %q", ErrType, s)
	}
	if err != nil {
		return nil, "", err
	}
	if t.elems == nil && t.kind != '(' {
		rest = s[1:]
	}
	t.str = s[:len(s)-len(rest)]
	return t, rest, nil
}

func (t *typeInfo) parseSingle(s string, depth int) (string, error) {
	e, rest, err := parseOne(s, depth+1)
	if err != nil {
		return "", err
	}
	t.elems, t.align = []*typeInfo{e}, e.align
	return rest, nil
}

func (t *typeInfo) parseEntry(s string, depth int) (string, error) {
	rest, err := t.parseMembers(s, '}', depth)
	if err != nil {
		return "", err
	}
	if len(t.elems) != 2 || !t.elems[0].basic() {
		return "", fmt.Errorf("%w: dictionary entry %q", ErrType, "{"+s)
	}
	return rest, nil
}

func (t *typeInfo) parseMembers(s string, end byte, depth int) (string, error) {
	size, fixed := 0, true
	for {
		if s == "" {
			return "", fmt.Errorf("%w: no %q", ErrType, end)
		}
		if s[0] == end {
			break
		}
		e, rest, err := parseOne(s, depth+1)
		if err != nil {
			return "", err
		}
		t.elems = append(t.elems, e)
		t.align = max(t.align, e.align)
		fixed = fixed && e.fixed > 0
		size = alignUp(size, e.align) + e.fixed
		s = rest
	}
	switch {
	case len(t.elems) == 0:
		t.fixed = 1 // the unit tuple is one zero byte
	case fixed:
		t.fixed = alignUp(size, t.align)
	}
	return s[1:], nil
}

func (t *typeInfo) basic() bool {
	switch t.kind {
	case 'v', 'm', 'a', '(', '{':
		return false
	}
	return true
}

// needsCheck tells whether a fixed-size type has bytes that can be non-normal.
func (t *typeInfo) needsCheck() bool {
	switch t.kind {
	case 'b', '(', '{':
		return true
	}
	return t.fixed == 0
}

func alignUp(n, align int) int { return (n + align - 1) &^ (align - 1) }

// offsetSize gives the width of the framing offsets of a container of n bytes.
func offsetSize(n int) int {
	switch {
	case n <= 0xff:
		return 1
	case n <= 0xffff:
		return 2
	case uint64(n) <= 0xffffffff:
		return 4
	}
	return 8
}
