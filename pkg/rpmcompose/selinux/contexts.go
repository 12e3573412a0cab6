// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"slices"
	"strings"
)

// typeMask selects the type in a file's mode (S_IFMT).
const typeMask = 0o170000

// none is the context of files that are to have no label from the policy.
const none = "<<none>>"

// Files are the texts in a policy's directory contexts/files; nil stands for a file
// that is absent.
type Files struct {
	// Name is the path of file_contexts, for errors.
	Name string
	// Base is file_contexts, Homedirs and Local are file_contexts.homedirs and
	// .local. Of two lines that match the later one counts, in this order of files.
	Base, Homedirs, Local []byte
	// Subs and SubsDist are file_contexts.subs and .subs_dist: directories that are
	// labelled as others. Subs goes first.
	Subs, SubsDist []byte
}

// Contexts answers what label a path has. It may be used by several goroutines.
type Contexts struct {
	specs          []*spec // the last that matches counts
	prefixes       []prefix
	subs, subsDist []sub
}

// prefix is a text that begins paths, with the specs all of whose matches begin so.
type prefix struct {
	text   string
	parent int32   // the longest other prefix that begins this one; -1: none
	specs  []int32 // ascending
}

// Parse reads a policy's texts. Errors wrap ErrSyntax and name file and line.
func Parse(f Files) (*Contexts, error) {
	c := &Contexts{}
	var exact []*spec
	budget := maxTotalCost
	for _, part := range []struct {
		suffix string
		text   []byte
	}{{"", f.Base}, {".homedirs", f.Homedirs}, {".local", f.Local}} {
		specs, err := parseSpecs(f.Name+part.suffix, string(part.text), &budget)
		if err != nil {
			return nil, err
		}
		for _, s := range specs {
			if s.exact {
				exact = append(exact, s)
			} else {
				c.specs = append(c.specs, s)
			}
		}
	}
	// Plain paths count more than all patterns, wherever they stand.
	c.specs = append(c.specs, exact...)
	c.index()
	var err error
	if c.subs, err = parseSubs(f.Name+".subs", string(f.Subs)); err != nil {
		return nil, err
	}
	c.subsDist, err = parseSubs(f.Name+".subs_dist", string(f.SubsDist))
	return c, err
}

// index sorts the literal prefixes. One that begins another stands before it, so
// that a stack finds the parents.
func (c *Contexts) index() {
	byText := map[string][]int32{}
	for i, s := range c.specs {
		byText[s.literal] = append(byText[s.literal], int32(i))
	}
	for text, specs := range byText {
		c.prefixes = append(c.prefixes, prefix{text: text, specs: specs})
	}
	slices.SortFunc(c.prefixes, func(a, b prefix) int { return strings.Compare(a.text, b.text) })
	parent := int32(-1)
	for i := range c.prefixes {
		p := &c.prefixes[i]
		for parent >= 0 && !strings.HasPrefix(p.text, c.prefixes[parent].text) {
			parent = c.prefixes[parent].parent
		}
		p.parent, parent = parent, int32(i)
	}
}

// Len is the number of patterns and paths that the policy has.
func (c *Contexts) Len() int { return len(c.specs) }

// Lookup gives the context for an absolute path and the mode of the file, of which
// the type counts; 0 stands for any type. ok is false where the policy has no
// label for it.
func (c *Contexts) Lookup(path string, mode uint32) (label string, ok bool) {
	key := c.substitute(clean(path))
	if key == "" {
		return "", false
	}
	s := c.find(newSubject(key), mode&typeMask)
	if s == nil || s.context == none {
		return "", false
	}
	return s.context, true
}

// clean makes of many slashes one and drops the last.
func clean(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

func (c *Contexts) substitute(path string) string {
	if p, ok := replace(c.subs, path); ok {
		path = p
	}
	if p, ok := replace(c.subsDist, path); ok {
		path = p
	}
	return path
}

// find gives the last spec that matches.
func (c *Contexts) find(s subject, typ uint32) *spec {
	var room [16][]int32
	lists := room[:0]
	for i := c.longest(s.path); i >= 0; i = c.prefixes[i].parent {
		lists = append(lists, c.prefixes[i].specs)
	}
	for {
		// Each list ends with its last spec: take the last of all.
		best, from := int32(-1), 0
		for i, l := range lists {
			if n := len(l); n > 0 && l[n-1] > best {
				best, from = l[n-1], i
			}
		}
		if best < 0 {
			return nil
		}
		lists[from] = lists[from][:len(lists[from])-1]
		if spec := c.specs[best]; (typ == 0 || spec.typ == 0 || spec.typ == typ) && spec.matches(s) {
			return spec
		}
	}
}

// longest finds the longest prefix of path: all that sort between it and the path
// begin with it, too.
func (c *Contexts) longest(path string) int32 {
	i, found := slices.BinarySearchFunc(c.prefixes, path, func(p prefix, path string) int { return strings.Compare(p.text, path) })
	if !found {
		i--
	}
	n := int32(i)
	for n >= 0 && !strings.HasPrefix(path, c.prefixes[n].text) {
		n = c.prefixes[n].parent
	}
	return n
}
