// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// EncodeOptions change how Encode writes.
type EncodeOptions struct {
	// Origins writes behind every value where it stands, as a comment; JSON has
	// none.
	Origins bool
}

// Encode writes the document in one of the formats. Comments of a YAML file are
// kept in YAML and TOML.
func (d *Document) Encode(f Format, o EncodeOptions) ([]byte, error) {
	switch f {
	case TOML:
		return encodeTOML(d.root, o)
	case YAML:
		return encodeYAML(d.root, o)
	case JSON:
		return encodeJSON(d.root)
	}
	return nil, fmt.Errorf("encode treefile: unknown format %q", f)
}

// remark is the comment behind a value.
func (o EncodeOptions) remark(n *node) string {
	if o.Origins {
		return "# " + n.origin().String()
	}
	return n.comment.line
}

// numberText spells a number so that it is read back as what it is.
func numberText(n *node) string {
	if n.kind == kindInt {
		return strconv.FormatInt(n.num, 10)
	}
	s := strconv.FormatFloat(n.real, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func encodeJSON(n *node) ([]byte, error) {
	var b strings.Builder
	if err := writeJSON(&b, n, "\n"); err != nil {
		return nil, fmt.Errorf("encode treefile: %w", err)
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

func writeJSON(b *strings.Builder, n *node, indent string) error {
	switch n.kind {
	case kindInt, kindFloat:
		b.WriteString(numberText(n))
		return nil
	case kindList:
		return writeJSONItems(b, '[', ']', len(n.list), indent, func(i int, in string) error { return writeJSON(b, n.list[i], in) })
	case kindMap:
		return writeJSONItems(b, '{', '}', len(n.keys), indent, func(i int, in string) error {
			if err := writeJSON(b, &node{kind: kindString, str: n.keys[i]}, in); err != nil {
				return err
			}
			b.WriteString(": ")
			return writeJSON(b, n.vals[n.keys[i]], in)
		})
	}
	enc := json.NewEncoder(trimNewline{b})
	enc.SetEscapeHTML(false)
	return enc.Encode(n.plain())
}

func writeJSONItems(b *strings.Builder, open, end byte, count int, indent string, item func(i int, indent string) error) error {
	b.WriteByte(open)
	for i := range count {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(indent + "  ")
		if err := item(i, indent+"  "); err != nil {
			return err
		}
	}
	if count > 0 {
		b.WriteString(indent)
	}
	b.WriteByte(end)
	return nil
}

// trimNewline drops the line end that json.Encoder adds to a value.
type trimNewline struct{ b *strings.Builder }

func (t trimNewline) Write(p []byte) (int, error) {
	t.b.WriteString(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func encodeYAML(n *node, o EncodeOptions) ([]byte, error) {
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	doc := &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{yamlNode(n, o)}}
	if !o.Origins {
		doc.HeadComment, doc.FootComment = n.comment.head, n.comment.foot
	}
	err := enc.Encode(doc)
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encode treefile: %w", err)
	}
	return []byte(b.String()), nil
}

func yamlNode(n *node, o EncodeOptions) *yaml.Node {
	y := &yaml.Node{Kind: yaml.ScalarNode}
	switch n.kind {
	case kindNull:
		y.Tag, y.Value = "!!null", "null"
	case kindString:
		y.Tag, y.Value = "!!str", n.str
		if !yamlPlain(n.str) {
			y.Style = yaml.DoubleQuotedStyle
		}
	case kindBool:
		y.Tag, y.Value = "!!bool", strconv.FormatBool(n.flag)
	case kindInt:
		y.Tag, y.Value = "!!int", numberText(n)
	case kindFloat:
		y.Tag, y.Value = "!!float", numberText(n)
	case kindList:
		y.Kind, y.Tag = yaml.SequenceNode, "!!seq"
		for _, c := range n.list {
			item := yamlNode(c, o)
			if c.kind != kindList && c.kind != kindMap {
				item.LineComment = o.remark(c)
			}
			if !o.Origins {
				item.HeadComment, item.FootComment = c.comment.head, c.comment.foot
			}
			y.Content = append(y.Content, item)
		}
		if len(n.list) == 0 {
			y.Style = yaml.FlowStyle
		}
	case kindMap:
		y.Kind, y.Tag = yaml.MappingNode, "!!map"
		for _, k := range n.keys {
			y.Content = append(y.Content, yamlPair(k, n.vals[k], o)...)
		}
		if len(n.keys) == 0 {
			y.Style = yaml.FlowStyle
		}
	}
	return y
}

func yamlPair(key string, c *node, o EncodeOptions) []*yaml.Node {
	k := yamlNode(&node{kind: kindString, str: key}, EncodeOptions{})
	v := yamlNode(c, o)
	if !o.Origins {
		k.HeadComment, k.FootComment = c.comment.head, c.comment.foot
	}
	if v.Kind == yaml.ScalarNode || len(v.Content) == 0 {
		v.LineComment = o.remark(c)
	} else if !o.Origins {
		k.LineComment = c.comment.line
	}
	return []*yaml.Node{k, v}
}

// yamlPlain reports whether the library may choose the style of a string. What
// readers of YAML 1.1 take for a boolean is quoted, and so is text of which a
// block would lose something.
func yamlPlain(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "~", "=", "<<":
		return false
	}
	if strings.HasPrefix(s, "\n") || strings.HasPrefix(s, " ") || strings.HasPrefix(s, "\t") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r <= 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd
	})
}
