// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

func parseYAML(file string, data []byte) (*node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return newMap(file, 1), nil
	}
	if err != nil {
		return nil, yamlError(file, err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, yamlError(file, err)
		}
		return nil, &Error{File: file, Line: more.Line, Msg: "a second YAML document"}
	}
	r := yamlReader{file: file}
	n, err := r.convert(&doc, 0)
	if err != nil {
		return nil, err
	}
	if n.kind == kindNull {
		return newMap(file, 1), nil
	}
	if n.kind != kindMap {
		return nil, n.errorf("", "a treefile is a table of keys, not %s", n.kind)
	}
	n.comment = comment{head: doc.HeadComment, foot: doc.FootComment}
	return n, nil
}

// yamlError takes the line out of the library's "yaml: line N: text".
func yamlError(file string, err error) error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	// The library leaves the first line's number out.
	e := &Error{File: file, Line: 1, Msg: "parse YAML: " + msg}
	rest, ok := strings.CutPrefix(msg, "line ")
	if !ok {
		return e
	}
	num, text, ok := strings.Cut(rest, ": ")
	if line, aerr := strconv.Atoi(num); ok && aerr == nil {
		e.Line, e.Msg = line, "parse YAML: "+text
	}
	return e
}

type yamlReader struct {
	file  string
	nodes int
}

func (r *yamlReader) convert(y *yaml.Node, depth int) (*node, error) {
	n := &node{file: r.file, line: y.Line}
	// Counting what aliases expand to is what stops a billion laughs.
	if r.nodes++; depth > maxDepth || r.nodes > maxNodes {
		return nil, n.errorf("", "nested too deeply or too large")
	}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) != 1 {
			return n, nil
		}
		return r.convert(y.Content[0], depth)
	case yaml.AliasNode:
		return r.convert(y.Alias, depth+1)
	case yaml.ScalarNode:
		return r.scalar(y, n)
	case yaml.SequenceNode:
		n.kind = kindList
		for _, c := range y.Content {
			v, err := r.convert(c, depth+1)
			if err != nil {
				return nil, err
			}
			v.comment = comment{head: c.HeadComment, line: c.LineComment, foot: c.FootComment}
			n.list = append(n.list, v)
		}
		return n, nil
	case yaml.MappingNode:
		return r.mapping(y, n, depth)
	}
	return n, nil
}

func (r *yamlReader) mapping(y *yaml.Node, n *node, depth int) (*node, error) {
	n.kind, n.vals = kindMap, map[string]*node{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		at := &node{file: r.file, line: k.Line}
		if k.Kind != yaml.ScalarNode {
			return nil, at.errorf("", "a key must be a plain word")
		}
		if k.Tag == "!!merge" {
			return nil, at.errorf("<<", "YAML merge keys are not part of the treefile format")
		}
		if _, dup := n.vals[k.Value]; dup {
			return nil, at.errorf(k.Value, "given twice")
		}
		c, err := r.convert(v, depth+1)
		if err != nil {
			return nil, err
		}
		if c.kind != kindList && c.kind != kindMap || c.line == 0 {
			c.line = k.Line
		}
		c.comment = comment{head: joinLines(k.HeadComment, v.HeadComment), line: joinLines(k.LineComment, v.LineComment),
			foot: joinLines(v.FootComment, k.FootComment)}
		n.set(k.Value, c)
	}
	return n, nil
}

func joinLines(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "\n" + b
}

func (r *yamlReader) scalar(y *yaml.Node, n *node) (*node, error) {
	switch y.ShortTag() {
	case "!!str":
		n.kind, n.str = kindString, y.Value
	case "!!null":
		n.kind = kindNull
	case "!!bool":
		n.kind = kindBool
		if err := y.Decode(&n.flag); err != nil {
			return nil, n.errorf("", "parse boolean %q", y.Value)
		}
	case "!!int":
		n.kind = kindInt
		if err := y.Decode(&n.num); err != nil {
			return nil, n.errorf("", "integer %s is too large", y.Value)
		}
	case "!!float":
		n.kind = kindFloat
		// The spelling is kept: a release of 9.10 is not 9.1.
		n.str = y.Value
		if err := y.Decode(&n.real); err != nil || math.IsNaN(n.real) || math.IsInf(n.real, 0) {
			return nil, n.errorf("", "not a finite number: %s", y.Value)
		}
	case "!!timestamp":
		n.kind, n.str = kindString, y.Value
	default:
		return nil, n.errorf("", "a value tagged %s has no meaning in a treefile", y.ShortTag())
	}
	return n, nil
}
