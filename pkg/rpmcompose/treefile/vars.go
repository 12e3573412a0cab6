// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Value is the value of a variable: a boolean, a number or a string. The zero
// Value is the empty string.
type Value struct {
	kind valueKind
	num  uint64
	str  string
}

type valueKind uint8

const (
	valueString valueKind = iota
	valueBool
	valueNumber
)

func (k valueKind) String() string { return [...]string{"a string", "a boolean", "a number"}[k] }

// StringValue returns a string.
func StringValue(s string) Value { return Value{str: s} }

// NumberValue returns a number.
func NumberValue(n uint64) Value { return Value{kind: valueNumber, num: n} }

// BoolValue returns a boolean.
func BoolValue(b bool) Value {
	v := Value{kind: valueBool}
	if b {
		v.num = 1
	}
	return v
}

// ParseValue reads a value as conditions write it without quotes: true, false
// or decimal digits; everything else is a string.
func ParseValue(s string) Value {
	switch s {
	case "true", "false":
		return BoolValue(s == "true")
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil && s[0] != '+' {
		return NumberValue(n)
	}
	return StringValue(s)
}

func (v Value) String() string {
	switch v.kind {
	case valueBool:
		return strconv.FormatBool(v.num != 0)
	case valueNumber:
		return strconv.FormatUint(v.num, 10)
	}
	return v.str
}

func nodeValue(key string, n *node) (Value, error) {
	switch n.kind {
	case kindBool:
		return BoolValue(n.flag), nil
	case kindInt:
		if n.num < 0 {
			return Value{}, n.errorf(key, "is negative")
		}
		return NumberValue(uint64(n.num)), nil
	}
	return StringValue(n.str), nil
}

// condition is `variable op value`, e.g. `basearch != "s390x"`.
type condition struct {
	variable, op string
	value        Value
}

func parseCondition(n *node) (condition, error) {
	if n.kind != kindString {
		return condition{}, n.errorf("conditional-include.if", "must be a string or a list of strings, not %s", n.kind)
	}
	bad := func(why string) (condition, error) {
		e := n.errorf("conditional-include.if", "parse condition %q: %s", n.str, why)
		e.Hint = `write it like: releasever >= 41, or: stream == "stable"`
		return condition{}, e
	}
	s := strings.TrimSpace(n.str)
	end := strings.IndexFunc(s, func(c rune) bool { return c > 127 || !isWord(string(c)) })
	if end <= 0 {
		return bad("it must start with the name of a variable")
	}
	c := condition{variable: s[:end]}
	s = strings.TrimSpace(s[end:])
	for _, op := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			c.op, s = op, strings.TrimSpace(rest)
			break
		}
	}
	if c.op == "" {
		return bad("the operator must be one of == != < <= > >=")
	}
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		c.value = StringValue(s[1 : len(s)-1])
		return c, nil
	}
	if c.value = ParseValue(s); c.value.kind == valueString {
		return bad("the value must be true, false, a number or a string in double quotes")
	}
	return c, nil
}

func (c condition) eval(vars map[string]Value) (bool, error) {
	v, ok := vars[c.variable]
	if !ok {
		return false, fmt.Errorf("variable %q %w", c.variable, errUndefined)
	}
	if v.kind != c.value.kind {
		return false, fmt.Errorf("variable %q is %s, but %q is %s", c.variable, v.kind, c.value, c.value.kind)
	}
	switch c.op {
	case "==":
		return v == c.value, nil
	case "!=":
		return v != c.value, nil
	}
	if v.kind != valueNumber {
		return false, fmt.Errorf("%s compares numbers, but variable %q is %s", c.op, c.variable, v.kind)
	}
	switch c.op {
	case "<":
		return v.num < c.value.num, nil
	case "<=":
		return v.num <= c.value.num, nil
	case ">":
		return v.num > c.value.num, nil
	}
	return v.num >= c.value.num, nil
}

// expand replaces ${name} in s. A lone "$" stays.
func expand(s string, vars map[string]Value) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("${ without closing }")
		}
		name := s[i+2 : i+end]
		v, ok := vars[name]
		if !ok {
			return "", fmt.Errorf("variable %q %w", name, errUndefined)
		}
		b.WriteString(s[:i])
		b.WriteString(v.String())
		s = s[i+end+1:]
	}
}

// errUndefined is the condition of a variable that no file defines.
var errUndefined = errors.New("is not defined")

// expandNode expands every string below n.
func expandNode(key string, n *node, vars map[string]Value) error {
	switch n.kind {
	case kindString:
		s, err := expand(n.str, vars)
		if err != nil {
			e := n.errorf(key, "expand %q: %v", n.str, err)
			e.undefined = errors.Is(err, errUndefined)
			return e
		}
		n.str = s
	case kindList:
		for _, c := range n.list {
			if err := expandNode(key, c, vars); err != nil {
				return err
			}
		}
	case kindMap:
		for _, k := range n.keys {
			if err := expandNode(key+"."+k, n.vals[k], vars); err != nil {
				return err
			}
		}
	}
	return nil
}

// expandable lists the keys in which ${variable} has a meaning. Scripts are not
// among them: there it is the shell's.
func expandable() []string {
	return []string{"ref", "rojig", "metadata", "add-commit-metadata", "automatic-version-prefix", "mutate-os-release",
		"platform-module", "modules", "repos", "lockfile-repos", "packages", "repo-packages", "exclude-packages", "groups", "repovars"}
}
