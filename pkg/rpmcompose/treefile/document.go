// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Format is one of the three notations of a treefile.
type Format string

// The formats; the text is also the file extension.
const (
	TOML Format = "toml"
	YAML Format = "yaml"
	JSON Format = "json"
)

// FormatOf tells a file's format by its extension.
func FormatOf(name string) (Format, error) {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".toml", ".yaml", ".json":
		return Format(ext[1:]), nil
	case ".yml":
		return YAML, nil
	}
	return "", &Error{File: name, Msg: "unknown treefile format", Hint: "name it .toml, .yaml or .json"}
}

// Origin is the place of a value: a file inside the file system that was loaded
// and a line counted from 1. The zero Origin is that of a default; Line alone is
// zero where the format gives no position.
type Origin struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func (o Origin) String() string {
	switch {
	case o.File == "":
		return "default"
	case o.Line == 0:
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Document is a treefile as data: either one file as it is written, or all
// files flattened into one. Every value knows its Origin.
type Document struct{ root *node }

// Entry is one value of a Document: a scalar, or an empty list or table.
type Entry struct {
	Key    string `json:"key"` // dotted, items of lists as [N] from 0
	Value  any    `json:"value"`
	Origin Origin `json:"origin"`
}

// Parse reads one file without what it includes and checks its keys. The format
// follows from the extension of name. A defect is an *Error.
func Parse(name string, data []byte) (*Document, error) {
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("read %s: %w: more than %d bytes", name, ErrTooLarge, maxFileSize)
	}
	n, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	if err := newSchema().check(n, false); err != nil {
		return nil, err
	}
	return &Document{root: n}, nil
}

// Flat returns the manifest as one treefile without includes, variables and
// architectures: what Load understood, in the order of the key table. Names of
// external files are relative to the folder of the root treefile, so that the
// document may be stored beside it. With defaults it also has the keys that no
// file sets.
func (m *Manifest) Flat(defaults bool) (*Document, error) {
	if !defaults {
		return &Document{root: m.flat}, nil
	}
	raw, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	root := newMap(m.flat.file, m.flat.line)
	for _, f := range fields() {
		if v := m.flat.get(f.name); v != nil {
			root.set(f.name, v)
			continue
		}
		text, ok := values[f.name]
		if !ok {
			continue
		}
		n, err := parseJSON("", fmt.Appendf(nil, `{"v": %s}`, text))
		if err != nil {
			return nil, err
		}
		v := n.vals["v"]
		v.clearOrigin()
		root.set(f.name, v)
	}
	return &Document{root: root}, nil
}

// Where returns the origin of a key's value, or of one item of a list where
// index is not negative. It is the zero Origin where no file sets it.
func (m *Manifest) Where(key string, index int) Origin {
	n := m.flat.get(key)
	if n == nil {
		return Origin{}
	}
	if index >= 0 && n.kind == kindList && index < len(n.list) {
		n = n.list[index]
	}
	return n.origin()
}

// Entries lists the values in the document's order.
func (d *Document) Entries() []Entry {
	var out []Entry
	d.root.walk("", func(key string, n *node) {
		out = append(out, Entry{Key: key, Value: n.plain(), Origin: n.origin()})
	})
	return out
}

func (n *node) origin() Origin { return Origin{File: n.file, Line: n.line} }

func (n *node) clearOrigin() {
	n.file, n.line = "", 0
	for _, c := range n.list {
		c.clearOrigin()
	}
	for _, c := range n.vals {
		c.clearOrigin()
	}
}

// walk calls fn for every leaf.
func (n *node) walk(key string, fn func(key string, n *node)) {
	for i, c := range n.list {
		c.walk(fmt.Sprintf("%s[%d]", key, i), fn)
	}
	for _, k := range n.keys {
		sub := k
		if key != "" {
			sub = key + "." + k
		}
		n.vals[k].walk(sub, fn)
	}
	if len(n.list) == 0 && len(n.keys) == 0 && key != "" {
		fn(key, n)
	}
}

// relative gives the path of name as seen from directory dir; both are clean
// paths inside one file system.
func relative(dir, name string) string {
	if dir == "." {
		return name
	}
	from, to := strings.Split(dir, "/"), strings.Split(name, "/")
	same := 0
	for same < len(from) && same < len(to)-1 && from[same] == to[same] {
		same++
	}
	up := slices.Repeat([]string{".."}, len(from)-same)
	return strings.Join(append(up, to[same:]...), "/")
}
