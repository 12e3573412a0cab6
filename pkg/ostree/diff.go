// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"path"
	"slices"
	"strings"
)

// ChangeKind is added, removed or modified.
type ChangeKind uint8

// The kinds of change.
const (
	Added ChangeKind = iota + 1
	Removed
	Modified // other content, metadata or type
)

// String gives A, D or M.
func (k ChangeKind) String() string {
	switch k {
	case Added:
		return "A"
	case Removed:
		return "D"
	case Modified:
		return "M"
	}
	return "?"
}

// Change is one path that differs. Old is empty for Added, New for Removed.
type Change struct {
	Path     string
	Kind     ChangeKind
	Old, New Node
}

// Diff compares the trees of two commits. Directories come before what is in
// them, the entries of a directory in byte order; everything below an added or
// removed directory is listed.
func (r *Repo) Diff(ctx context.Context, a, b Checksum) ([]Change, error) {
	old, err := r.Lookup(a, "/")
	if err != nil {
		return nil, err
	}
	next, err := r.Lookup(b, "/")
	if err != nil {
		return nil, err
	}
	d := &differ{r: r, ctx: ctx}
	err = d.both(old, next)
	return d.changes, err
}

type differ struct {
	r       *Repo
	ctx     context.Context
	changes []Change
}

// children gives the entries of a directory in byte order; none for the zero
// Node and for files.
func (d *differ) children(n Node) ([]Node, error) {
	if !n.IsDir {
		return nil, nil
	}
	t, err := d.r.LoadDirTree(n.Tree)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, f := range t.Files {
		out = append(out, Node{Path: path.Join(n.Path, f.Name), File: f.Checksum})
	}
	for _, s := range t.Dirs {
		out = append(out, Node{Path: path.Join(n.Path, s.Name), IsDir: true, Tree: s.Tree, Meta: s.Meta})
	}
	slices.SortFunc(out, func(x, y Node) int { return strings.Compare(x.Path, y.Path) })
	return out, nil
}

// both compares two nodes of one path.
func (d *differ) both(old, next Node) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if old.IsDir != next.IsDir || old.File != next.File || old.Meta != next.Meta {
		d.changes = append(d.changes, Change{next.Path, Modified, old, next})
	}
	if old.IsDir && next.IsDir && old.Tree == next.Tree {
		return nil
	}
	return d.lists(old, next)
}

// lists merges the sorted entries of two directories.
func (d *differ) lists(old, next Node) error {
	olds, err := d.children(old)
	if err != nil {
		return err
	}
	news, err := d.children(next)
	if err != nil {
		return err
	}
	for len(olds) > 0 || len(news) > 0 {
		switch {
		case len(news) == 0 || len(olds) > 0 && olds[0].Path < news[0].Path:
			err = d.one(olds[0], Removed)
			olds = olds[1:]
		case len(olds) == 0 || news[0].Path < olds[0].Path:
			err = d.one(news[0], Added)
			news = news[1:]
		default:
			err = d.both(olds[0], news[0])
			olds, news = olds[1:], news[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// one records a node and all below it.
func (d *differ) one(n Node, kind ChangeKind) error {
	c := Change{Path: n.Path, Kind: kind}
	if kind == Added {
		c.New = n
	} else {
		c.Old = n
	}
	d.changes = append(d.changes, c)
	list, err := d.children(n)
	if err != nil {
		return err
	}
	for _, sub := range list {
		if err := d.one(sub, kind); err != nil {
			return err
		}
	}
	return nil
}
