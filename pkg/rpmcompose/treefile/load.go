// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Limits on what Load reads.
const (
	maxFileSize     = 512 << 10
	maxIncludeDepth = 50
	maxIncludes     = 500
)

// Options change how Load reads. The zero value asks nothing.
type Options struct {
	// Basearch is RPM's name of the architecture, e.g. "x86_64". Empty: the
	// treefile's own key `basearch`, which must then be present.
	Basearch string
	// Variables win over those that treefiles define. The names basearch and
	// releasever are reserved.
	Variables map[string]Value
}

// ErrTooLarge is the condition of a file over Load's bounds.
var ErrTooLarge = errors.New("file is too large")

// Load reads the treefile name (slash-separated, inside fsys) with everything
// it includes and refers to. A defect in a treefile is an *Error.
//
// Includes follow rpm-ostree: a scalar of the including file wins, also over
// those of all its includes, of which the first wins; lists are concatenated,
// the included file's items first; tables merge key by key. No file may be
// included twice.
func Load(fsys fs.FS, name string, o Options) (*Manifest, error) {
	return load(fsys, name, o, nil)
}

func load(fsys fs.FS, name string, o Options, om *omissions) (*Manifest, error) {
	l := &loader{fsys: fsys, schema: newSchema(), seen: map[string]*node{}, vars: map[string]Value{}, omit: om}
	for k, v := range o.Variables {
		if k == "basearch" || k == "releasever" || !isWord(k) {
			return nil, fmt.Errorf("load %s: variable name %q is reserved or not a word", name, k)
		}
		l.vars[k] = v
	}
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("load %s: not a plain path inside the file system", name)
	}
	root, err := l.read(name, nil)
	if err != nil {
		return nil, err
	}
	if err := l.predefine(root, o); err != nil {
		return nil, err
	}
	if root, err = l.include(name, root, 0); err != nil {
		return nil, err
	}
	return l.finish(root)
}

type loader struct {
	fsys    fs.FS
	schema  *schema
	seen    map[string]*node // file -> the node that included it (nil for the root)
	sources []string
	arch    string
	vars    map[string]Value
	omit    *omissions
}

// predefine settles basearch and releasever, which conditions may use.
func (l *loader) predefine(root *node, o Options) error {
	l.arch = o.Basearch
	if n := root.get("basearch"); n != nil {
		if l.arch != "" && l.arch != n.str {
			return n.errorf("basearch", "is %q, but %q was asked for", n.str, l.arch)
		}
		l.arch = n.str
	}
	if !isWord(l.arch) {
		return &Error{File: root.file, Key: "basearch", Msg: fmt.Sprintf("%q is not an architecture", l.arch), Hint: "set the key, or give it on the command line"}
	}
	l.vars["basearch"] = StringValue(l.arch)
	if n := root.get("releasever"); n != nil {
		v, err := nodeValue("releasever", n)
		if err != nil {
			return err
		}
		l.vars["releasever"] = v
	}
	return nil
}

// read parses and checks one file.
func (l *loader) read(name string, by *node) (*node, error) {
	if first, ok := l.seen[name]; ok {
		where := "it is the treefile itself"
		if first != nil {
			where = fmt.Sprintf("first at %s:%d", first.file, first.line)
		}
		return nil, by.errorf("include", "%s is included a second time (%s)", name, where)
	}
	if len(l.seen) >= maxIncludes {
		return nil, by.errorf("include", "more than %d files", maxIncludes)
	}
	l.seen[name] = by
	l.sources = append(l.sources, name)
	if l.omit.whole(name) {
		return newMap(name, 1), nil
	}
	data, _, err := readFile(l.fsys, name, maxFileSize)
	if err != nil {
		if by == nil {
			return nil, fmt.Errorf("read treefile: %w", err)
		}
		return nil, &Error{File: by.file, Line: by.line, Key: "include", Msg: "read " + name, Err: err, id: by.id}
	}
	n, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	l.omit.apply(name, n)
	return n, l.schema.check(n, false)
}

// include merges everything that n (the content of file name) includes into n.
func (l *loader) include(name string, n *node, depth int) (*node, error) {
	if err := l.addVariables(n); err != nil {
		return nil, err
	}
	l.packagesForArch(n)
	paths, err := l.includes(n)
	if err != nil {
		return nil, err
	}
	// Before includes are merged in, every name in n is relative to this file.
	if err := bindPaths(name, n); err != nil {
		return nil, err
	}
	for _, p := range paths {
		if depth >= maxIncludeDepth {
			return nil, p.errorf("include", "more than %d levels deep", maxIncludeDepth)
		}
		file, err := resolve(name, "include", p)
		if err != nil {
			return nil, err
		}
		sub, err := l.read(file, p)
		if err != nil {
			return nil, err
		}
		if sub, err = l.include(file, sub, depth+1); err != nil {
			return nil, err
		}
		l.merge(n, sub)
	}
	return n, nil
}

// addVariables makes a file's variables visible from here on; those of
// including files are there already and win.
func (l *loader) addVariables(n *node) error {
	vars := n.get("variables")
	n.drop("variables")
	if vars == nil {
		return nil
	}
	for _, k := range vars.keys {
		c := vars.vals[k]
		if k == "basearch" || k == "releasever" {
			return c.errorf("variables."+k, "is predefined: use the key %q of the top level", k)
		}
		if !isWord(k) {
			return c.errorf("variables."+k, "a variable's name consists of letters, digits and _")
		}
		v, err := nodeValue("variables."+k, c)
		if err != nil {
			return err
		}
		if _, ok := l.vars[k]; !ok {
			l.vars[k] = v
		}
	}
	return nil
}

// packagesForArch folds packages-ARCH into packages.
func (l *loader) packagesForArch(n *node) {
	var keys []string
	for _, k := range n.keys {
		if strings.HasPrefix(k, "packages-") {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		v := n.vals[k]
		n.drop(k)
		if k != "packages-"+l.arch {
			continue
		}
		if have := n.get("packages"); have != nil {
			have.list = append(have.list, v.list...)
			continue
		}
		n.set("packages", v)
	}
}

// includes returns the file names that n includes, as nodes for their position,
// and merges inline treefiles at once.
func (l *loader) includes(n *node) ([]*node, error) {
	out := items(n.get("include"))
	arch := n.get("arch-include")
	cond := n.get("conditional-include")
	for _, k := range []string{"include", "arch-include", "conditional-include"} {
		n.drop(k)
	}
	if arch != nil {
		if arch.kind != kindMap {
			return nil, arch.errorf("arch-include", "must be a table from architecture to file names, not %s", arch.kind)
		}
		for _, a := range arch.keys {
			f := field{shape: shapeIncludes}
			if err := f.check("arch-include."+a, arch.vals[a]); err != nil {
				return nil, err
			}
			if a == l.arch {
				out = append(out, items(arch.vals[a])...)
			}
		}
	}
	if cond == nil {
		return out, nil
	}
	if cond.kind != kindList {
		return nil, cond.errorf("conditional-include", "must be a list of tables with the keys if and include, not %s", cond.kind)
	}
	for _, c := range cond.list {
		more, err := l.conditional(n, c)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func (l *loader) conditional(n, c *node) ([]*node, error) {
	if err := checkKeys("conditional-include", c, []string{"if", "include"}, nil); err != nil {
		return nil, err
	}
	holds := true
	// All conditions are evaluated, so that a mistake shows on every machine.
	for _, item := range items(c.get("if")) {
		cond, err := parseCondition(item)
		if err != nil {
			return nil, err
		}
		ok, err := cond.eval(l.vars)
		if err != nil {
			e := item.errorf("conditional-include.if", "evaluate %q: %v", item.str, err)
			e.undefined = errors.Is(err, errUndefined)
			return nil, e
		}
		holds = holds && ok
	}
	inc := c.get("include")
	if inc.kind != kindMap {
		f := field{shape: shapeIncludes}
		if err := f.check("conditional-include.include", inc); err != nil {
			return nil, err
		}
		if !holds {
			return nil, nil
		}
		return items(inc), nil
	}
	if err := l.schema.check(inc, true); err != nil {
		return nil, err
	}
	if holds {
		l.packagesForArch(inc)
		l.merge(n, inc)
	}
	return nil, nil
}

// merge folds an included file into the including one.
func (l *loader) merge(dst, src *node) {
	for _, k := range src.keys {
		s, d := src.vals[k], dst.vals[k]
		if d == nil {
			dst.set(k, s)
			continue
		}
		f, _ := l.schema.lookup(k)
		switch {
		case f.merge == mergeAppend && d.kind == kindList && s.kind == kindList:
			d.list = append(append(make([]*node, 0, len(s.list)+len(d.list)), s.list...), d.list...)
		case f.merge == mergeLists:
			for _, mk := range s.keys {
				if have := d.vals[mk]; have != nil && have.kind == kindList && s.vals[mk].kind == kindList {
					have.list = append(slices.Clone(s.vals[mk].list), have.list...)
				} else if have == nil {
					d.set(mk, s.vals[mk])
				}
			}
		case f.merge == mergeKeys:
			merged := newMap(d.file, d.line)
			for _, from := range []*node{s, d} {
				for _, mk := range from.keys {
					merged.set(mk, from.vals[mk])
				}
			}
			dst.vals[k] = merged
		}
	}
}

// bindPaths makes the names of external files relative to fsys instead of to
// the file they stand in.
func bindPaths(name string, n *node) error {
	names := map[string][]*node{
		"postprocess-script":    {n.get("postprocess-script")},
		"check-passwd.filename": {n.get("check-passwd").get("filename")},
		"check-groups.filename": {n.get("check-groups").get("filename")},
	}
	for _, pair := range items(n.get("add-files")) {
		if pair.kind == kindList && len(pair.list) > 0 {
			names["add-files"] = append(names["add-files"], pair.list[0])
		}
	}
	for _, key := range sortedKeys(names) {
		for _, c := range names[key] {
			if c == nil || c.kind != kindString {
				continue
			}
			p, err := resolve(name, key, c)
			if err != nil {
				return err
			}
			c.str = p
		}
	}
	return nil
}

// resolve turns a name written in file into a path inside the file system.
func resolve(file, key string, n *node) (string, error) {
	if n.str == "" || strings.HasPrefix(n.str, "/") || strings.ContainsRune(n.str, 0) {
		return "", n.errorf(key, "%q is not a relative file name", n.str)
	}
	p := path.Join(path.Dir(file), n.str)
	if !fs.ValidPath(p) || p == "." {
		return "", n.errorf(key, "%q leads out of the treefile's directory tree", n.str)
	}
	return p, nil
}

// items returns the items of a list, or a lone value as one item.
func items(n *node) []*node {
	if n == nil {
		return nil
	}
	if n.kind == kindList {
		return n.list
	}
	return []*node{n}
}

// readFile reads one regular file of at most limit bytes.
func readFile(fsys fs.FS, name string, limit int64) ([]byte, fs.FileMode, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("stat %s: %w", name, err)
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("read %s: not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("read %s: %w: more than %d bytes", name, ErrTooLarge, limit)
	}
	return data, st.Mode().Perm(), nil
}

// finish turns the merged tree into a Manifest.
func (l *loader) finish(root *node) (*Manifest, error) {
	vars := maps.Clone(l.vars)
	// An included file may be the one that sets releasever.
	if n := root.get("releasever"); n != nil {
		v, err := nodeValue("releasever", n)
		if err != nil {
			return nil, err
		}
		vars["releasever"] = v
	}
	for _, k := range expandable() {
		if n := root.get(k); n != nil {
			if err := expandNode(k, n, vars); err != nil {
				return nil, err
			}
		}
	}
	d := decoder{root: root, fsys: l.fsys, schema: l.schema, arch: l.arch, sources: l.sources}
	m, err := d.manifest()
	if err != nil {
		return nil, err
	}
	m.Sources = l.sources
	return m, nil
}
