// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"fmt"
	"strconv"
	"strings"
)

// maxDepth bounds nesting inside one file, maxNodes what aliases may expand to.
const (
	maxDepth = 64
	maxNodes = 200_000
)

// Error is a defect of a treefile, at the place a person has to edit.
type Error struct {
	File string // name inside the file system handed to Load
	Line int    // counted from 1; 0 where the format gives no position
	Key  string // the key concerned, dotted where nested; may be empty
	Msg  string
	Hint string // a suggestion, may be empty
	Err  error  // the cause, may be nil

	undefined bool // the cause is errUndefined
	id        int  // of the node concerned
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(e.Line))
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

type kind uint8

const (
	kindNull kind = iota
	kindString
	kindBool
	kindInt
	kindFloat
	kindList
	kindMap
)

func (k kind) String() string {
	return [...]string{"null", "a string", "a boolean", "an integer", "a number", "a list", "a table"}[k]
}

// node is one value of any of the three formats, with the place it came from.
type node struct {
	kind kind
	file string
	line int
	id   int // place in the file, where CheckAll reads it

	str  string // kindString
	flag bool   // kindBool
	num  int64  // kindInt
	real float64
	list []*node
	keys []string         // kindMap, in the file's order
	vals map[string]*node // kindMap

	comment comment
}

// comment is what people wrote around a value, lines with their "#". Only YAML
// files give it; TOML files take it.
type comment struct{ head, line, foot string }

func (n *node) errorf(key, format string, args ...any) *Error {
	return &Error{File: n.file, Line: n.line, Key: key, Msg: fmt.Sprintf(format, args...), id: n.id}
}

func newMap(file string, line int) *node {
	return &node{kind: kindMap, file: file, line: line, vals: map[string]*node{}}
}

func (n *node) get(key string) *node {
	if n == nil || n.kind != kindMap {
		return nil
	}
	return n.vals[key]
}

func (n *node) set(key string, v *node) {
	if _, ok := n.vals[key]; !ok {
		n.keys = append(n.keys, key)
	}
	n.vals[key] = v
}

func (n *node) drop(key string) {
	if _, ok := n.vals[key]; !ok {
		return
	}
	delete(n.vals, key)
	kept := n.keys[:0]
	for _, k := range n.keys {
		if k != key {
			kept = append(kept, k)
		}
	}
	n.keys = kept
}

// rename changes a key in its place.
func (n *node) rename(old, now string) {
	for i, k := range n.keys {
		if k == old {
			n.keys[i] = now
		}
	}
	n.vals[now] = n.vals[old]
	delete(n.vals, old)
}

// strings returns the items of a list of strings, or a lone string as one item.
func (n *node) strings() []string {
	if n == nil {
		return nil
	}
	if n.kind == kindString {
		return []string{n.str}
	}
	out := make([]string, 0, len(n.list))
	for _, c := range n.list {
		out = append(out, c.str)
	}
	return out
}

// plain converts to what encoding/json would have decoded, integers kept whole.
func (n *node) plain() any {
	switch n.kind {
	case kindString:
		return n.str
	case kindBool:
		return n.flag
	case kindInt:
		return n.num
	case kindFloat:
		return n.real
	case kindList:
		out := make([]any, 0, len(n.list))
		for _, c := range n.list {
			out = append(out, c.plain())
		}
		return out
	case kindMap:
		out := make(map[string]any, len(n.keys))
		for _, k := range n.keys {
			out[k] = n.vals[k].plain()
		}
		return out
	}
	return nil
}

// parse turns one file into a map node.
func parse(file string, data []byte) (*node, error) {
	format, err := FormatOf(file)
	if err != nil {
		return nil, err
	}
	switch format {
	case TOML:
		return parseTOML(file, data)
	case YAML:
		return parseYAML(file, data)
	}
	return parseJSON(file, data)
}
