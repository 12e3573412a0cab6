// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/BurntSushi/toml"
)

func parseTOML(file string, data []byte) (*node, error) {
	var top map[string]toml.Primitive
	md, err := toml.Decode(string(data), &top)
	if err != nil {
		return nil, tomlError(file, err)
	}
	r := tomlReader{file: file, md: &md, text: string(data)}
	n := newMap(file, 1)
	// Keys() is in document order, and a key of the top level is its own first.
	for _, k := range md.Keys() {
		p, ok := top[k[0]]
		if !ok || n.vals[k[0]] != nil {
			continue
		}
		c, err := r.convert(k[0], p)
		if err != nil {
			return nil, err
		}
		n.set(k[0], c)
	}
	return n, nil
}

func tomlError(file string, err error) error {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return &Error{File: file, Line: pe.Position.Line, Msg: "parse TOML: " + pe.Message}
	}
	return &Error{File: file, Msg: "parse TOML", Err: err}
}

type tomlReader struct {
	file  string
	md    *toml.MetaData
	text  string
	nodes int
}

// locator makes the decoder report where a key stands: the position is only
// public inside the ParseError that wraps an Unmarshaler's refusal.
type locator struct{}

var errLocate = errors.New("locate")

func (*locator) UnmarshalTOML(any) error { return errLocate }

func (r *tomlReader) lineOf(p toml.Primitive) int {
	var pe toml.ParseError
	if err := r.md.PrimitiveDecode(p, &locator{}); errors.As(err, &pe) {
		return pe.Position.Line
	}
	return 0
}

func (r *tomlReader) convert(key string, p toml.Primitive) (*node, error) {
	line := r.lineOf(p)
	if line == 0 {
		line = r.headerLine(key, 0)
	}
	var sub map[string]toml.Primitive
	if err := r.md.PrimitiveDecode(p, &sub); err == nil && sub != nil {
		return r.table(key, line, sub)
	}
	var v any
	if err := r.md.PrimitiveDecode(p, &v); err != nil {
		return nil, tomlError(r.file, err)
	}
	return r.value(key, line, v, 0)
}

// table keeps the position of every key of a top-level table.
func (r *tomlReader) table(key string, line int, sub map[string]toml.Primitive) (*node, error) {
	n := newMap(r.file, line)
	for _, k := range r.md.Keys() {
		if len(k) < 2 || k[0] != key || n.vals[k[1]] != nil {
			continue
		}
		p, ok := sub[k[1]]
		if !ok {
			continue
		}
		l := r.lineOf(p)
		if l == 0 {
			l = line
		}
		var v any
		if err := r.md.PrimitiveDecode(p, &v); err != nil {
			return nil, tomlError(r.file, err)
		}
		c, err := r.value(k[1], l, v, 0)
		if err != nil {
			return nil, err
		}
		n.set(k[1], c)
	}
	return n, nil
}

func (r *tomlReader) value(key string, line int, v any, depth int) (*node, error) {
	n := &node{file: r.file, line: line}
	if r.nodes++; depth > maxDepth || r.nodes > maxNodes {
		return nil, n.errorf(key, "nested too deeply or too large")
	}
	switch v := v.(type) {
	case string:
		n.kind, n.str = kindString, v
	case bool:
		n.kind, n.flag = kindBool, v
	case int64:
		n.kind, n.num = kindInt, v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, n.errorf(key, "not a finite number")
		}
		n.kind, n.real = kindFloat, v
	case []any:
		n.kind = kindList
		var lines []int
		if depth == 0 && line > 0 {
			lines = itemLines(r.text, line)
		}
		for i, item := range v {
			at := line
			if i < len(lines) {
				at = lines[i]
			}
			c, err := r.value(key, at, item, depth+1)
			if err != nil {
				return nil, err
			}
			n.list = append(n.list, c)
		}
	case []map[string]any:
		n.kind = kindList
		for i, item := range v {
			l := line
			if depth == 0 {
				if h := r.headerLine(key, i); h > 0 {
					l = h
				}
			}
			c, err := r.value(key, l, item, depth+1)
			if err != nil {
				return nil, err
			}
			n.list = append(n.list, c)
		}
	case map[string]any:
		n.kind, n.vals = kindMap, map[string]*node{}
		for _, k := range sortedKeys(v) {
			c, err := r.value(k, line, v[k], depth+1)
			if err != nil {
				return nil, err
			}
			n.set(k, c)
		}
	default:
		return nil, n.errorf(key, "a value of type %s has no meaning in a treefile", tomlTypeName(v))
	}
	return n, nil
}

func tomlTypeName(v any) string {
	name := fmt.Sprintf("%T", v)
	if strings.Contains(name, "Time") {
		return "date or time"
	}
	return name
}

// headerLine finds the nth [[key]] (or the [key]) header. The decoder keeps one
// position for all elements of an array of tables; an unusual spelling of the
// header only costs the exact line in a message.
func (r *tomlReader) headerLine(key string, nth int) int {
	for i, l := range strings.Split(r.text, "\n") {
		l = strings.ReplaceAll(strings.TrimSpace(l), " ", "")
		if !strings.HasPrefix(l, "[["+key+"]]") && !strings.HasPrefix(l, "["+key+"]") && !strings.HasPrefix(l, "["+key+".") {
			continue
		}
		if nth == 0 {
			return i + 1
		}
		nth--
	}
	return 0
}
