// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// diffNode is one path of a side.
type diffNode struct {
	name, path string
	isDir      bool
	commit     ostree.Node // of a commit's side
}

// diffTree is one side of a comparison.
type diffTree interface {
	top() diffNode
	// list gives the entries of a directory in the order in which they are printed.
	list(diffNode) ([]diffNode, error)
	checksum(diffNode) (ostree.Checksum, error)
	close()
}

// commitTree is the tree of a commit.
type commitTree struct {
	r    *ostree.Repo
	root ostree.Node
}

func (t *commitTree) top() diffNode {
	return diffNode{path: "/", isDir: true, commit: t.root}
}

func (t *commitTree) close() {}

func (t *commitTree) list(n diffNode) ([]diffNode, error) {
	children, err := t.r.Children(n.commit)
	if err != nil {
		return nil, err
	}
	out := make([]diffNode, len(children))
	for i, c := range children {
		out[i] = diffNode{name: path.Base(c.Path), path: c.Path, isDir: c.IsDir, commit: c}
	}
	return out, nil
}

func (t *commitTree) checksum(n diffNode) (ostree.Checksum, error) {
	if n.commit.IsDir {
		return n.commit.Meta, nil
	}
	return n.commit.File, nil
}

// localTree is a directory of the file system. Its paths are relative.
type localTree struct {
	dir      *fsx.Dir
	noXattrs bool
	owner    owner
}

func (t *localTree) top() diffNode { return diffNode{path: ".", isDir: true} }

func (t *localTree) close() { _ = t.dir.Close() }

func (t *localTree) list(n diffNode) ([]diffNode, error) {
	entries, err := t.dir.ReadDir(n.path)
	if err != nil {
		return nil, err
	}
	var out []diffNode
	for _, e := range entries {
		out = append(out, diffNode{name: e.Name, path: path.Join(n.path, e.Name), isDir: e.IsDir()})
	}
	// Files first, as in a commit.
	slices.SortStableFunc(out, func(a, b diffNode) int { return boolInt(a.isDir) - boolInt(b.isDir) })
	return out, nil
}

func (t *localTree) checksum(n diffNode) (ostree.Checksum, error) {
	c, err := localChecksum(t.dir, n.path, t.noXattrs, t.owner)
	if errors.Is(err, ostree.ErrUnsupported) {
		return c, nil // a socket or the like: no object is the same
	}
	return c, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// treeDiff collects the paths that differ.
type treeDiff struct {
	ctx                      context.Context
	a, b                     diffTree
	modified, removed, added []string
}

// maxDiffDepth bounds the nesting of directories.
const maxDiffDepth = 1024

// dirs compares two directories. What is below a removed one is not listed, what is
// below an added one is.
func (d *treeDiff) dirs(a, b diffNode) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if strings.Count(a.path, "/") > maxDiffDepth {
		return errors.New("directories are nested too deeply")
	}
	if !a.commit.Tree.IsZero() && a.commit.Tree == b.commit.Tree {
		return nil
	}
	olds, err := d.a.list(a)
	if err != nil {
		return err
	}
	news, err := d.b.list(b)
	if err != nil {
		return err
	}
	byName := make(map[string]diffNode, len(news))
	for _, n := range news {
		byName[n.name] = n
	}
	for _, old := range olds {
		n, ok := byName[old.name]
		delete(byName, old.name)
		if !ok {
			d.removed = append(d.removed, old.path)
			continue
		}
		if err := d.both(old, n); err != nil {
			return err
		}
	}
	for _, n := range news {
		if _, ok := byName[n.name]; !ok {
			continue
		}
		if err := d.add(n, 0); err != nil {
			return err
		}
	}
	return nil
}

func (d *treeDiff) both(a, b diffNode) error {
	if a.isDir != b.isDir {
		d.modified = append(d.modified, a.path)
		return nil
	}
	x, err := d.a.checksum(a)
	if err != nil {
		return fmt.Errorf("compare %s: %w", a.path, err)
	}
	y, err := d.b.checksum(b)
	if err != nil {
		return fmt.Errorf("compare %s: %w", b.path, err)
	}
	if x != y {
		d.modified = append(d.modified, a.path)
	}
	if a.isDir {
		return d.dirs(a, b)
	}
	return nil
}

func (d *treeDiff) add(n diffNode, depth int) error {
	d.added = append(d.added, n.path)
	if !n.isDir {
		return nil
	}
	if depth > maxDiffDepth {
		return errors.New("directories are nested too deeply")
	}
	list, err := d.b.list(n)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := d.add(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}
