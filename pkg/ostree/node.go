// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
)

// Conditions of paths in a commit, beside ErrNotFound.
var (
	// ErrNotDir: a path leads through a file. It is an ErrNotFound, too.
	ErrNotDir = worded(ErrNotFound, "Not a directory")
	// ErrIsDir: a directory where a file is wanted.
	ErrIsDir = worded(ErrInvalid, "Can't open directory")
	// ErrLinkLoop: a chain of symbolic links does not end.
	ErrLinkLoop = errors.New("too many levels of symbolic links")
)

// maxLinks bounds a chain of symbolic links, as the kernel does.
const maxLinks = 40

// NodeInfo is a path of a commit with its metadata. The Mode of a directory has
// S_IFDIR.
type NodeInfo struct {
	Node
	FileHeader
	Size int64 // of a regular file in bytes, 0 for others
}

// Info reads the metadata of a node: the dirmeta of a directory or the header of a
// file. The checksum of a file is not verified.
func (r *Repo) Info(n Node) (NodeInfo, error) {
	if n.IsDir {
		m, err := r.LoadDirMeta(n.Meta)
		return NodeInfo{Node: n, FileHeader: FileHeader{UID: m.UID, GID: m.GID, Mode: m.Mode, Xattrs: m.Xattrs}}, err
	}
	h, size, rc, err := r.OpenFile(n.File)
	if err != nil {
		return NodeInfo{Node: n}, err
	}
	return NodeInfo{Node: n, FileHeader: h, Size: size}, rc.Close()
}

// Children lists what is in a directory: files before directories, both in byte
// order of names. ErrNotDir for a file.
func (r *Repo) Children(n Node) ([]Node, error) {
	if !n.IsDir {
		return nil, fmt.Errorf("list %s: %w", n.Path, ErrNotDir)
	}
	t, err := r.LoadDirTree(n.Tree)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", clip(n.Path), err)
	}
	return childNodes(n, t), nil
}

func childNodes(n Node, t DirTree) []Node {
	out := make([]Node, 0, len(t.Files)+len(t.Dirs))
	for _, f := range t.Files {
		out = append(out, Node{Path: path.Join(n.Path, f.Name), File: f.Checksum})
	}
	for _, d := range t.Dirs {
		out = append(out, Node{Path: path.Join(n.Path, d.Name), IsDir: true, Tree: d.Tree, Meta: d.Meta})
	}
	return out
}

// WalkFrom calls fn for a node and all below it, in the order of Walk.
func (r *Repo) WalkFrom(ctx context.Context, n Node, fn func(Node) error) error {
	if !n.IsDir {
		return fn(n)
	}
	left := maxTreeEntries
	return r.walk(ctx, n, 0, &left, fn)
}

// LookupFollow is Lookup, but a symbolic link at the end of the path is followed
// inside of the commit, again and again; links on the way are not, as libostree has
// it. An absolute target starts at the top of the commit, and ".." does not leave it.
func (r *Repo) LookupFollow(commit Checksum, p string) (NodeInfo, error) {
	for range maxLinks {
		n, err := r.Lookup(commit, p)
		if err != nil {
			return NodeInfo{Node: n}, err
		}
		info, err := r.Info(n)
		if err != nil || !info.IsSymlink() {
			return info, err
		}
		if p = info.Target; !path.IsAbs(p) {
			p = path.Join(path.Dir(n.Path), p)
		}
	}
	return NodeInfo{}, fmt.Errorf("look up %q in %s: %w", clip(p), commit, ErrLinkLoop)
}

// OpenPath opens the content of a regular file of a commit, through symbolic links
// as LookupFollow. ErrIsDir for a directory. The content ends with an error wrapping
// ErrCorrupt where it is not of the size that info tells.
func (r *Repo) OpenPath(commit Checksum, p string) (info NodeInfo, content io.ReadCloser, err error) {
	info, err = r.LookupFollow(commit, p)
	if err != nil {
		return info, nil, err
	}
	if info.IsDir {
		return info, nil, fmt.Errorf("open %s: %w", clip(info.Path), ErrIsDir)
	}
	_, _, rc, err := r.OpenFile(info.File)
	return info, rc, err
}
