// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
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
	return DiffTrees(ctx, r, a, r, b)
}

// maxDiffBytes bounds what the changes between two trees take in memory.
const maxDiffBytes = 1 << 30

// DiffTrees is [Repo.Diff] for commits of two repositories, which may be the same.
func DiffTrees(ctx context.Context, ra *Repo, a Checksum, rb *Repo, b Checksum) ([]Change, error) {
	old, err := ra.Lookup(a, "/")
	if err != nil {
		return nil, err
	}
	next, err := rb.Lookup(b, "/")
	if err != nil {
		return nil, err
	}
	d := &differ{ctx: ctx, left: maxTreeEntries, room: maxDiffBytes}
	err = d.both(diffNode{ra, old, 0}, diffNode{rb, next, 0})
	return d.changes, err
}

type differ struct {
	ctx     context.Context
	changes []Change
	// left bounds the entries that are read: subtrees may be shared, so that a few
	// objects make a tree without end.
	left, room int
}

// record keeps a change. Its cost besides the path is roughly that of two nodes.
func (d *differ) record(c Change) error {
	if d.room -= len(c.Path) + 256; d.room < 0 {
		return fmt.Errorf("compare %s: %w: too many differences", clip(c.Path), ErrInvalid)
	}
	d.changes = append(d.changes, c)
	return nil
}

// diffNode is a path of one side.
type diffNode struct {
	r *Repo
	Node
	depth int
}

// children gives the entries of a directory in byte order; none for files.
func (d *differ) children(n diffNode) ([]diffNode, error) {
	if !n.IsDir {
		return nil, nil
	}
	list, err := n.r.Children(n.Node)
	if err != nil {
		return nil, err
	}
	d.left -= len(list)
	if n.depth > maxTreeDepth || d.left < 0 {
		return nil, fmt.Errorf("compare %s: %w: tree too deep or too large", clip(n.Path), ErrInvalid)
	}
	slices.SortFunc(list, func(x, y Node) int { return strings.Compare(x.Path, y.Path) })
	out := make([]diffNode, len(list))
	for i, sub := range list {
		out[i] = diffNode{n.r, sub, n.depth + 1}
	}
	return out, nil
}

// both compares two nodes of one path.
func (d *differ) both(old, next diffNode) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if old.IsDir != next.IsDir || old.File != next.File || old.Meta != next.Meta {
		if err := d.record(Change{next.Path, Modified, old.Node, next.Node}); err != nil {
			return err
		}
	}
	if old.IsDir && next.IsDir && old.Tree == next.Tree {
		return nil
	}
	return d.lists(old, next)
}

// lists merges the sorted entries of two directories.
func (d *differ) lists(old, next diffNode) error {
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
func (d *differ) one(n diffNode, kind ChangeKind) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	c := Change{Path: n.Path, Kind: kind}
	if kind == Added {
		c.New = n.Node
	} else {
		c.Old = n.Node
	}
	if err := d.record(c); err != nil {
		return err
	}
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
