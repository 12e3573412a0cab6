// SPDX-License-Identifier: Apache-2.0

package treediff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
)

// Files are the paths that differ.
type Files struct {
	Added    FileCount `json:"added"`
	Removed  FileCount `json:"removed"`
	Modified FileCount `json:"modified"`
	// Ignored counts those of the package database, which are not in the list.
	Ignored int          `json:"ignored"`
	List    []FileChange `json:"list"` // sorted: a directory before what is in it
}

// FileCount sums up changes of one kind.
type FileCount struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"` // content of the new files, of the old ones where removed
}

// FileChange is one path that differs.
type FileChange struct {
	Path   string `json:"path"`
	Change string `json:"change"` // added, removed or modified
	// What says how a modified path differs: type, content, target, mode, owner,
	// label (of SELinux) or xattrs.
	What []string `json:"what,omitempty"`
	Old  *File    `json:"old,omitempty"` // nil where added
	New  *File    `json:"new,omitempty"` // nil where removed
	// Package is the changed package whose file it is; "" for what the compose made,
	// and for files of packages that did not change.
	Package string `json:"package,omitempty"`
}

// File describes a path of one tree.
type File struct {
	Type   string `json:"type"` // file, dir or link
	Size   int64  `json:"size"` // of a file, in bytes
	Mode   string `json:"mode"` // permissions, octal
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Target string `json:"target,omitempty"` // of a link
}

// noise lists where trees keep the package database; it differs whenever a package
// does.
func noise() []string {
	var out []string
	for _, place := range append(rpmdb.Places(), "usr/lib/sysimage/rpm-ostree-base-db") {
		out = append(out, "/"+place+"/")
	}
	return out
}

func compareFiles(ctx context.Context, from, to *side, owners owners, all bool) (Files, error) {
	out := Files{List: []FileChange{}}
	changes, err := ostree.DiffTrees(ctx, from.repo, from.sum, to.repo, to.sum)
	if err != nil {
		return out, err
	}
	var ignored []string
	if !all {
		ignored = noise()
	}
	for _, c := range changes {
		if slices.ContainsFunc(ignored, func(p string) bool { return strings.HasPrefix(c.Path, p) }) {
			out.Ignored++
			continue
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		f, err := describeChange(from.repo, to.repo, c)
		if err != nil {
			return out, fmt.Errorf("%s: %w", c.Path, err)
		}
		f.Package = owners.of(c.Path)
		out.count(f)
		out.List = append(out.List, f)
	}
	return out, nil
}

func (f *Files) count(c FileChange) {
	n, file := &f.Modified, c.New
	switch {
	case c.Old == nil:
		n = &f.Added
	case c.New == nil:
		n, file = &f.Removed, c.Old
	}
	n.Count++
	n.Bytes = add(n.Bytes, file.Size)
}

func describeChange(ra, rb *ostree.Repo, c ostree.Change) (FileChange, error) {
	out := FileChange{Path: c.Path, Change: map[ostree.ChangeKind]string{
		ostree.Added: "added", ostree.Removed: "removed", ostree.Modified: "modified"}[c.Kind]}
	var old, next ostree.NodeInfo
	var err error
	if c.Kind != ostree.Added {
		if old, err = ra.Info(c.Old); err != nil {
			return out, err
		}
		out.Old = describeFile(old)
	}
	if c.Kind != ostree.Removed {
		if next, err = rb.Info(c.New); err != nil {
			return out, err
		}
		out.New = describeFile(next)
	}
	if c.Kind == ostree.Modified {
		out.What, err = what(ra, rb, old, next)
	}
	return out, err
}

func describeFile(n ostree.NodeInfo) *File {
	f := &File{Type: "file", Size: n.Size, Mode: fmt.Sprintf("%04o", n.Mode&0o7777), UID: n.UID, GID: n.GID, Target: n.Target}
	switch {
	case n.IsDir:
		f.Type = "dir"
	case n.IsSymlink():
		f.Type = "link"
	}
	return f
}

// what tells in which respects two nodes of one path differ.
func what(ra, rb *ostree.Repo, old, next ostree.NodeInfo) ([]string, error) {
	if describeFile(old).Type != describeFile(next).Type {
		return []string{"type"}, nil
	}
	var out []string
	note := func(differs bool, word string) {
		if differs {
			out = append(out, word)
		}
	}
	oldLabel, oldRest := splitLabel(old.Xattrs)
	newLabel, newRest := splitLabel(next.Xattrs)
	note(old.Target != next.Target, "target")
	note(old.Mode != next.Mode, "mode")
	note(old.UID != next.UID || old.GID != next.GID, "owner")
	note(oldLabel != newLabel, "label")
	note(!slices.EqualFunc(oldRest, newRest, func(a, b ostree.Xattr) bool { return a.Name == b.Name && string(a.Value) == string(b.Value) }), "xattrs")
	if old.IsDir || old.IsSymlink() {
		return out, nil
	}
	// The checksum is of header and content: with equal headers the content differs.
	differs := len(out) == 0 || old.Size != next.Size
	if !differs {
		var err error
		if differs, err = contentDiffers(ra, rb, old, next); err != nil {
			return nil, err
		}
	}
	if differs {
		out = slices.Insert(out, 0, "content")
	}
	return out, nil
}

func splitLabel(list []ostree.Xattr) (label string, rest []ostree.Xattr) {
	for _, x := range list {
		if x.Name == "security.selinux" {
			label = string(x.Value)
			continue
		}
		rest = append(rest, x)
	}
	return label, rest
}

// contentDiffers compares two files of one size.
func contentDiffers(ra, rb *ostree.Repo, old, next ostree.NodeInfo) (differs bool, err error) {
	_, _, a, err := ra.OpenFile(old.File)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	_, _, b, err := rb.OpenFile(next.File)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	br := bufio.NewReaderSize(b, 64<<10)
	w := &comparer{r: br}
	_, err = io.Copy(w, a)
	if errors.Is(err, errDiffers) {
		return true, nil
	}
	return false, err
}

var errDiffers = errors.New("content differs")

// comparer is written what must come out of r.
type comparer struct {
	r   io.Reader
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	got := c.buf[:len(p)]
	if _, err := io.ReadFull(c.r, got); err != nil {
		return 0, err
	}
	if string(got) != string(p) {
		return 0, errDiffers
	}
	return len(p), nil
}

// owners maps paths of a tree to the changed packages that they belong to.
type owners map[string]string

func newOwners(from, to *side, d pkglist.Diff) owners {
	o := owners{}
	for _, p := range slices.Concat(d.Upgraded, d.Downgraded) {
		o.add(from, p.Old)
		o.add(to, p.New)
	}
	for _, p := range d.Removed {
		o.add(from, p)
	}
	for _, p := range d.Added {
		o.add(to, p)
	}
	return o
}

func (o owners) add(s *side, p pkglist.Package) {
	h := s.find(p)
	if h == nil {
		return
	}
	files := h.Files()
	for i := range files {
		// A package that breaks the rules of trees owns what it can.
		at, err := importer.Place(&files[i], importer.Filter{})
		if err == nil && at.Kind == importer.InTree {
			o[merged(at.Path)] = p.Name
		}
	}
}

func (o owners) of(path string) string { return o[merged(strings.TrimPrefix(path, "/"))] }

// merged gives a path below / the place that it has below /usr where the top
// directories are links.
func merged(path string) string {
	top, _, _ := strings.Cut(path, "/")
	switch top {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		return "usr/" + path
	case "etc": // in trees that were committed as they stood
		return "usr/" + path
	case "boot":
		return "usr/lib/ostree-boot" + strings.TrimPrefix(path, "boot")
	}
	return path
}
