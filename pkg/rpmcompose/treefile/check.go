// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// maxFindings bounds what CheckAll reports.
const maxFindings = 100

// CheckAll is Load for people who want to know everything that is wrong: it goes on
// without what was found, at most 100 times. The findings are in order of file and
// line; with any, there is no Manifest. A defect may hide others, and what only
// follows from one that is listed (a variable of a file that cannot be read) is left out.
func CheckAll(fsys fs.FS, name string, o Options) (*Manifest, []error) {
	om := &omissions{}
	var found []error
	tries := map[defect]int{}
	for len(found) < maxFindings {
		m, err := load(fsys, name, o, om)
		if err == nil && len(found) == 0 {
			return m, nil
		}
		if err == nil {
			break
		}
		var e *Error
		if !errors.As(err, &e) {
			found = append(found, err)
			break
		}
		same := defect{e.Error(), e.id}
		level := omitLevel(tries[same])
		if tries[same]++; level == omitItem && !(e.undefined && om.blind) {
			found = append(found, err)
		}
		if level > omitFile {
			break // it does not come from the text of a file
		}
		om.add(omission{e.File, e.Key, e.Line, e.id, level})
	}
	slices.SortStableFunc(found, func(a, b error) int {
		var x, y *Error
		if !errors.As(a, &x) || !errors.As(b, &y) {
			return 0
		}
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line))
	})
	return nil, found
}

// defect tells findings apart.
type defect struct {
	text string
	id   int
}

// omitLevel is how much is left out for one finding; more when it comes again.
type omitLevel int

const (
	omitItem omitLevel = iota
	omitKey
	omitFile
)

// omission is a place that is not read any more.
type omission struct {
	file, key string
	line, id  int
	level     omitLevel
}

// omissions is what a Load leaves out; nil: nothing.
type omissions struct {
	list []omission
	// blind: what is left out may define variables.
	blind bool
}

func (om *omissions) add(o omission) {
	top, _, _ := strings.Cut(o.key, ".")
	om.blind = om.blind || o.level == omitFile || slices.Contains([]string{"variables", "releasever", "include", "arch-include", "conditional-include"}, top)
	om.list = append(om.list, o)
}

// whole tells that a file is not read at all.
func (om *omissions) whole(file string) bool {
	return om != nil && slices.ContainsFunc(om.list, func(o omission) bool { return o.file == file && o.level == omitFile })
}

// apply takes out of the content of a file what is not to be read.
func (om *omissions) apply(file string, n *node) {
	if om == nil {
		return
	}
	number(n, new(int))
	// All places are found before any is taken away.
	items, keys := map[*node]bool{}, map[string]bool{}
	for _, o := range om.list {
		if o.file != file {
			continue
		}
		key, ok := o.find(n)
		switch {
		case !ok:
		case strings.HasPrefix(key, "check-"): // one without the other is an error, too
			keys["check-passwd"], keys["check-groups"] = true, true
		case o.level > omitItem || !o.mark(n.vals[key], items):
			keys[key] = true
		}
	}
	for _, v := range n.vals {
		v.list = slices.DeleteFunc(v.list, func(c *node) bool { return items[c] })
		for _, k := range slices.Clone(v.keys) {
			if items[v.vals[k]] {
				v.drop(k)
			}
		}
	}
	for key := range keys {
		n.drop(key)
	}
}

// number tells nodes apart; it is the same every time that a file is read.
func number(n *node, last *int) {
	*last++
	n.id = *last
	for _, c := range n.children() {
		number(c, last)
	}
}

// find gives the key of the file's top level that an omission is about.
func (o omission) find(n *node) (key string, ok bool) {
	top, _, _ := strings.Cut(o.key, ".")
	if v := n.get(top); v != nil && (o.line == 0 || o.within(v)) {
		return top, true
	}
	for _, k := range n.keys {
		if o.within(n.vals[k]) {
			return k, true
		}
	}
	return top, n.get(top) != nil
}

// mark collects the items or entries of v that the omission is about; false if there
// are none.
func (o omission) mark(v *node, into map[*node]bool) bool {
	some := false
	for _, c := range v.children() {
		if o.within(c) {
			into[c], some = true, true
		}
	}
	return some
}

// within tells whether the place is a value or in it. Values that were put together of
// several files have no number.
func (o omission) within(n *node) bool {
	if o.id > 0 && n.id == o.id || o.id == 0 && o.line > 0 && n.line == o.line {
		return true
	}
	return slices.ContainsFunc(n.children(), o.within)
}

func (n *node) children() []*node {
	out := slices.Clone(n.list)
	for _, k := range n.keys {
		out = append(out, n.vals[k])
	}
	return out
}
