// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

func parseJSON(file string, data []byte) (*node, error) {
	r := jsonReader{file: file, data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if n.kind != kindMap {
		return nil, n.errorf("", "a treefile is a table of keys, not %s", n.kind)
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, r.here().errorf("", "text after the end of the JSON value")
	}
	return n, nil
}

type jsonReader struct {
	file  string
	data  []byte
	dec   *json.Decoder
	off   int64
	line  int
	nodes int
}

// here is a node at the decoder's position; lines are counted as it advances.
func (r *jsonReader) here() *node {
	off := min(r.dec.InputOffset(), int64(len(r.data)))
	r.line += bytes.Count(r.data[r.off:off], []byte("\n"))
	r.off = off
	return &node{file: r.file, line: r.line + 1}
}

func (r *jsonReader) token() (json.Token, *node, error) {
	t, err := r.dec.Token()
	n := r.here()
	if err == nil {
		return t, n, nil
	}
	var se *json.SyntaxError
	if errors.As(err, &se) {
		n.line = 1 + bytes.Count(r.data[:min(se.Offset, int64(len(r.data)))], []byte("\n"))
	}
	return nil, nil, &Error{File: r.file, Line: n.line, Msg: "parse JSON", Err: err}
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, n, err := r.token()
	if err != nil {
		return nil, err
	}
	if r.nodes++; depth > maxDepth || r.nodes > maxNodes {
		return nil, n.errorf("", "nested too deeply or too large")
	}
	switch t := t.(type) {
	case nil:
		return n, nil
	case string:
		n.kind, n.str = kindString, t
	case bool:
		n.kind, n.flag = kindBool, t
	case json.Number:
		if i, err := t.Int64(); err == nil {
			n.kind, n.num = kindInt, i
			return n, nil
		}
		f, err := t.Float64()
		if err != nil {
			return nil, n.errorf("", "number %s is too large", t)
		}
		n.kind, n.real, n.str = kindFloat, f, t.String()
	case json.Delim:
		if t == '[' {
			return r.array(n, depth)
		}
		return r.object(n, depth)
	}
	return n, nil
}

func (r *jsonReader) array(n *node, depth int) (*node, error) {
	n.kind = kindList
	for r.dec.More() {
		c, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, c)
	}
	_, _, err := r.token()
	return n, err
}

func (r *jsonReader) object(n *node, depth int) (*node, error) {
	n.kind, n.vals = kindMap, map[string]*node{}
	for r.dec.More() {
		t, at, err := r.token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, at.errorf("", "a key must be a string")
		}
		if _, dup := n.vals[key]; dup {
			return nil, at.errorf(key, "given twice")
		}
		c, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.set(key, c)
	}
	_, _, err := r.token()
	return n, err
}
