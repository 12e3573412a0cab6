// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"path"
	"slices"
	"strings"
)

// flatten turns the merged and expanded tree into the form of Manifest.Flat.
// It runs after all decoding steps, so that every value is known to be sound.
func (d *decoder) flatten(m *Manifest) error {
	flat := newMap(d.root.file, 1)
	flat.set("basearch", &node{kind: kindString, str: m.Basearch})
	for _, f := range d.schema.order {
		n := d.root.get(f.name)
		if n == nil || f.name == "bootstrap_packages" {
			continue
		}
		v, err := d.flatValue(f, n)
		if err != nil {
			return err
		}
		flat.set(f.name, v)
	}
	if boot := d.root.get("bootstrap_packages"); boot != nil && flat.get("packages") == nil {
		v, err := d.flatPackages(boot)
		if err != nil {
			return err
		}
		flat.set("packages", v)
	}
	m.flat = newMap(flat.file, 1)
	for _, f := range d.schema.order {
		if v := flat.get(f.name); v != nil {
			m.flat.set(f.name, v)
		}
	}
	return nil
}

func (d *decoder) flatValue(f field, n *node) (*node, error) {
	dir := path.Dir(d.root.file)
	switch f.name {
	case "packages":
		return d.flatPackages(n, d.root.get("bootstrap_packages"))
	case "exclude-packages":
		return flatWords(f.name, n)
	case "repo-packages", "ex-override-replace":
		return flatRepoPackages(f.name, n)
	case "postprocess-script":
		return n.withText(relative(dir, n.str)), nil
	case "check-passwd", "check-groups":
		c := n.clone()
		if name := c.get("filename"); name != nil {
			name.str = relative(dir, name.str)
		}
		return c, nil
	case "add-files":
		c := n.clone()
		for _, pair := range c.list {
			pair.list[0].str = relative(dir, pair.list[0].str)
		}
		return c, nil
	case "repos", "lockfile-repos", "groups":
		return n.uniqueItems(false), nil
	case "etc-group-members", "ignore-removed-users", "ignore-removed-groups":
		return n.uniqueItems(true), nil
	}
	return n.clone(), nil
}

func (d *decoder) flatPackages(lists ...*node) (*node, error) {
	all := &node{kind: kindList, file: lists[0].file, line: lists[0].line}
	for _, l := range lists {
		all.list = append(all.list, items(l)...)
	}
	return flatWords("packages", all)
}

// flatWords splits the items of a list and sorts the words; one with white space
// is put into the quotes that keep it together.
func flatWords(key string, n *node) (*node, error) {
	list, err := words(key, n)
	if err != nil {
		return nil, err
	}
	out := &node{kind: kindList, file: n.file, line: n.line, list: sortedNodes(list)}
	for i, c := range out.list {
		if strings.ContainsAny(c.str, " \t\r\n\v\f\u0085\u00a0") || c.str == "" {
			out.list[i] = c.withText("'" + c.str + "'")
		}
	}
	return out, nil
}

func flatRepoPackages(key string, n *node) (*node, error) {
	list, err := effectiveRepoPackages(key, n)
	if err != nil {
		return nil, err
	}
	out := &node{kind: kindList, file: n.file, line: n.line}
	for _, e := range list {
		specs, err := flatWords(key, &node{kind: kindList, file: e.at.file, line: e.at.line, list: e.specs})
		if err != nil {
			return nil, err
		}
		c := newMap(e.at.file, e.at.line)
		if key == "ex-override-replace" {
			from := newMap(e.at.file, e.at.line)
			from.set("repo", e.repo.clone())
			c.set("from", from)
		} else {
			c.set("repo", e.repo.clone())
		}
		c.set("packages", specs)
		out.list = append(out.list, c)
	}
	return out, nil
}

// uniqueItems copies a list of strings without what is in it twice.
func (n *node) uniqueItems(sorted bool) *node {
	out := &node{kind: kindList, file: n.file, line: n.line}
	for _, c := range n.list {
		if !slices.ContainsFunc(out.list, func(o *node) bool { return o.str == c.str }) {
			out.list = append(out.list, c)
		}
	}
	if sorted {
		out.list = sortedNodes(out.list)
	}
	return out.clone()
}

func sortedNodes(in []*node) []*node {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b *node) int { return strings.Compare(a.str, b.str) })
	return slices.CompactFunc(out, func(a, b *node) bool { return a.str == b.str })
}

// withText is a string node at the place of n.
func (n *node) withText(s string) *node {
	return &node{kind: kindString, file: n.file, line: n.line, str: s}
}

// clone copies a value without comments.
func (n *node) clone() *node {
	c := *n
	c.comment = comment{}
	c.list, c.keys, c.vals = nil, nil, nil
	for _, item := range n.list {
		c.list = append(c.list, item.clone())
	}
	if n.kind == kindMap {
		c.vals = map[string]*node{}
		for _, k := range n.keys {
			c.set(k, n.vals[k].clone())
		}
	}
	return &c
}
