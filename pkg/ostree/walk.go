// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Node is one path of a commit.
type Node struct {
	Path       string // "/" or "/usr/bin"
	IsDir      bool
	File       Checksum // the content of a file
	Tree, Meta Checksum // of a directory
}

// SkipDir, returned by the function given to Walk, leaves out what is below a
// directory.
var SkipDir = errors.New("skip this directory") //nolint:staticcheck // ST1012: named after fs.SkipDir

// Walk calls fn for every path of a commit, parents first, files of a directory
// before its subdirectories, both in byte order. An error of fn ends it.
func (r *Repo) Walk(ctx context.Context, commit Checksum, fn func(Node) error) error {
	c, err := r.LoadCommit(commit)
	if err != nil {
		return err
	}
	left := maxTreeEntries
	return r.walk(ctx, Node{Path: "/", IsDir: true, Tree: c.RootTree, Meta: c.RootMeta}, 0, &left, fn)
}

func (r *Repo) walk(ctx context.Context, n Node, depth int, left *int, fn func(Node) error) error {
	return walkTree(ctx, r, n, depth, left, fn)
}

// treeSource has the objects of trees: a repository, or a transaction with what it
// wrote.
type treeSource interface {
	LoadRaw(n ObjectName) ([]byte, error)
	OpenFile(c Checksum) (FileHeader, int64, io.ReadCloser, error)
}

func walkTree(ctx context.Context, src treeSource, n Node, depth int, left *int, fn func(Node) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := fn(n)
	if errors.Is(err, SkipDir) {
		return nil
	}
	if err != nil {
		return err
	}
	t, err := loadParsed(src.LoadRaw, ObjectName{n.Tree, TypeDirTree}, ParseDirTree)
	if err != nil {
		return err
	}
	*left -= len(t.Files) + len(t.Dirs)
	if depth > maxTreeDepth || *left < 0 {
		return fmt.Errorf("walk %s: %w: tree too deep or too large", clip(n.Path), ErrInvalid)
	}
	for _, sub := range childNodes(n, t) {
		if !sub.IsDir {
			err = fn(sub)
		} else {
			err = walkTree(ctx, src, sub, depth+1, left, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Lookup finds a path in a commit. Symbolic links are not followed, ".." does not
// leave the commit. Absent is ErrNotFound in an fs.PathError, whose Path is the
// part of the path that is absent; a path that leads through a file is ErrNotDir.
func (r *Repo) Lookup(commit Checksum, p string) (Node, error) {
	c, err := r.LoadCommit(commit)
	if err != nil {
		return Node{}, err
	}
	n := Node{Path: "/", IsDir: true, Tree: c.RootTree, Meta: c.RootMeta}
	for name := range strings.SplitSeq(strings.Trim(path.Clean("/"+p), "/"), "/") {
		if name == "" {
			continue
		}
		if n, err = r.child(n, name); err != nil {
			return n, fmt.Errorf("look up %q in %s: %w", clip(p), commit, err)
		}
	}
	return n, nil
}

func (r *Repo) child(n Node, name string) (Node, error) {
	if !n.IsDir {
		return n, &fs.PathError{Op: "enter", Path: n.Path, Err: ErrNotDir}
	}
	t, err := r.LoadDirTree(n.Tree)
	if err != nil {
		return n, err
	}
	p := path.Join(n.Path, name)
	if f, ok := t.File(name); ok {
		return Node{Path: p, File: f.Checksum}, nil
	}
	if d, ok := t.Dir(name); ok {
		return Node{Path: p, IsDir: true, Tree: d.Tree, Meta: d.Meta}, nil
	}
	return n, &fs.PathError{Op: "find", Path: p, Err: ErrNotFound}
}

// Reachable lists the objects that a commit needs: itself, its directories and
// its files, not its parents and not its detached metadata. A missing object is
// an error wrapping ErrNotFound.
func (r *Repo) Reachable(ctx context.Context, commit Checksum) (map[ObjectName]struct{}, error) {
	set := map[ObjectName]struct{}{}
	s := &sweep{r: r, ctx: ctx, seen: set}
	return set, s.commit(commit)
}

// sweep collects closures; every object is read once however often it is used,
// so that shared subtrees cost nothing.
type sweep struct {
	r    *Repo
	ctx  context.Context
	seen map[ObjectName]struct{}
	// missing is called for a metadata object that cannot be read; nil stops there.
	missing func(n ObjectName, err error) error
	// fresh, if set, is called for every object the first time it is met.
	fresh func(n ObjectName)
}

func (s *sweep) add(n ObjectName) (fresh bool) {
	if _, ok := s.seen[n]; ok {
		return false
	}
	s.seen[n] = struct{}{}
	if s.fresh != nil {
		s.fresh(n)
	}
	return true
}

func (s *sweep) fail(n ObjectName, err error) error {
	if s.missing != nil {
		return s.missing(n, err)
	}
	return err
}

func (s *sweep) commit(sum Checksum) error {
	n := ObjectName{sum, TypeCommit}
	if !s.add(n) {
		return nil
	}
	c, err := s.r.LoadCommit(sum)
	if err != nil {
		return s.fail(n, err)
	}
	s.add(ObjectName{c.RootMeta, TypeDirMeta})
	return s.trees(c.RootTree)
}

// trees goes through a tree with a list of its own, as hostile trees may be
// deeper than a stack.
func (s *sweep) trees(root Checksum) error {
	todo := []Checksum{root}
	for len(todo) > 0 {
		sum := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := ObjectName{sum, TypeDirTree}
		if !s.add(n) {
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		t, err := s.r.LoadDirTree(sum)
		if err != nil {
			if err = s.fail(n, err); err != nil {
				return err
			}
			continue
		}
		for _, f := range t.Files {
			s.add(ObjectName{f.Checksum, TypeFile})
		}
		for _, d := range t.Dirs {
			s.add(ObjectName{d.Meta, TypeDirMeta})
			todo = append(todo, d.Tree)
		}
	}
	return nil
}
