// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// Bounds on trees read from a repository: objects can be shared, so that a few
// hostile ones describe a tree without end.
const (
	maxTreeDepth   = 1024
	maxTreeEntries = 1 << 24
)

// MTree is a directory tree under construction: names with checksums of content
// that is stored, and metadata per directory. Directories taken from a commit are
// read when something below them is looked at; an error then is that of WriteTree.
// It is not safe for concurrent use.
type MTree struct {
	files    map[string]Checksum
	dirs     map[string]*MTree
	meta     Checksum
	metaData []byte   // what WriteTree stores; nil where meta is stored already
	lazy     lazyTree // the content, while nothing of it was looked at
	err      error    // of reading it
}

// lazyTree is a stored directory and how to read it. The zero value is none.
type lazyTree struct {
	load  func(Checksum) (DirTree, error)
	tree  Checksum
	depth int
}

// NewMTree makes an empty directory without metadata.
func NewMTree() *MTree {
	return &MTree{files: map[string]Checksum{}, dirs: map[string]*MTree{}}
}

func (m *MTree) openAll(ctx context.Context, left *int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.open(); err != nil {
		return err
	}
	if *left -= len(m.files) + len(m.dirs); *left < 0 {
		return fmt.Errorf("load tree: %w: too large", ErrInvalid)
	}
	for _, d := range m.dirs {
		if err := d.openAll(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// open reads the directory, once.
func (m *MTree) open() error {
	if m.lazy.load == nil {
		return m.err
	}
	l := m.lazy
	m.lazy = lazyTree{}
	t, err := l.load(l.tree)
	if err == nil && l.depth > maxTreeDepth {
		err = fmt.Errorf("load tree %s: %w: too deep", l.tree, ErrInvalid)
	}
	if err != nil {
		m.err = err
		return err
	}
	for _, f := range t.Files {
		m.files[f.Name] = f.Checksum
	}
	for _, d := range t.Dirs {
		sub := NewMTree()
		sub.meta = d.Meta
		sub.lazy = lazyTree{load: l.load, tree: d.Tree, depth: l.depth + 1}
		m.dirs[d.Name] = sub
	}
	return nil
}

// merge lays a stored directory over m.
func (m *MTree) merge(l lazyTree, meta Checksum) error {
	if m.lazy.load == nil && m.err == nil && len(m.files)+len(m.dirs) == 0 {
		m.meta, m.metaData, m.lazy = meta, nil, l
		return nil
	}
	if m.lazy.load != nil && m.lazy.tree == l.tree {
		m.meta, m.metaData = meta, nil
		return nil
	}
	if err := m.open(); err != nil {
		return err
	}
	m.meta, m.metaData = meta, nil
	t, err := l.load(l.tree)
	if err == nil && l.depth > maxTreeDepth {
		err = fmt.Errorf("load tree %s: %w: too deep", l.tree, ErrInvalid)
	}
	if err != nil {
		return err
	}
	for _, f := range t.Files {
		if err := m.SetFile(f.Name, f.Checksum); err != nil {
			return err
		}
	}
	for _, d := range t.Dirs {
		sub, err := m.Dir(d.Name, true)
		if err == nil {
			err = sub.merge(lazyTree{load: l.load, tree: d.Tree, depth: l.depth + 1}, d.Meta)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SetMeta records the directory's metadata, which WriteTree stores.
func (m *MTree) SetMeta(d DirMeta) error {
	data, err := d.Marshal()
	if err != nil {
		return err
	}
	m.meta, m.metaData = sha256.Sum256(data), data
	return nil
}

// SetMetaChecksum records metadata that is stored already.
func (m *MTree) SetMetaChecksum(c Checksum) { m.meta, m.metaData = c, nil }

// MetaChecksum gives the checksum of the directory's metadata, zero if none is set.
func (m *MTree) MetaChecksum() Checksum { return m.meta }

// Dir finds a subdirectory or, with create, makes it. ErrNotFound where it is
// absent, ErrExists where a file has the name, ErrInvalid for a bad name.
func (m *MTree) Dir(name string, create bool) (*MTree, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	if d, ok := m.dirs[name]; ok {
		return d, nil
	}
	if _, ok := m.files[name]; ok {
		return nil, worded(ErrExists, "Can't replace file with directory: %s", clip(name))
	}
	if !create {
		return nil, fmt.Errorf("directory %q: %w", clip(name), ErrNotFound)
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	d := NewMTree()
	m.dirs[name] = d
	return d, nil
}

// SetFile records a file, replacing a file of that name; ErrExists where a
// directory has it.
func (m *MTree) SetFile(name string, c Checksum) error {
	if err := m.open(); err != nil {
		return err
	}
	if _, ok := m.dirs[name]; ok {
		return worded(ErrExists, "Can't replace directory with file: %s", clip(name))
	}
	if err := CheckName(name); err != nil {
		return err
	}
	m.files[name] = c
	return nil
}

// File finds a file.
func (m *MTree) File(name string) (Checksum, bool) {
	_ = m.open() // WriteTree tells
	c, ok := m.files[name]
	return c, ok
}

// Remove drops a file or a whole subdirectory and tells whether it was there.
func (m *MTree) Remove(name string) bool {
	_ = m.open() // WriteTree tells
	_, isFile := m.files[name]
	_, isDir := m.dirs[name]
	delete(m.files, name)
	delete(m.dirs, name)
	return isFile || isDir
}

// Files lists the files in byte order of names.
func (m *MTree) Files() []TreeFile {
	_ = m.open() // WriteTree tells
	out := make([]TreeFile, 0, len(m.files))
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		out = append(out, TreeFile{name, m.files[name]})
	}
	return out
}

// Dirs lists the names of the subdirectories in byte order.
func (m *MTree) Dirs() []string {
	_ = m.open() // WriteTree tells
	return slices.Sorted(maps.Keys(m.dirs))
}

// WriteTree stores the directories of m and their metadata and gives the two
// checksums that a commit holds. Every directory must have metadata, and what it
// holds must be present; of a directory taken from a commit and not looked at, only
// the directory itself is checked.
func (t *Txn) WriteTree(ctx context.Context, m *MTree) (tree, meta Checksum, err error) {
	return t.writeTree(ctx, m, "/")
}

func (t *Txn) writeTree(ctx context.Context, m *MTree, path string) (tree, meta Checksum, err error) {
	if m.lazy.load != nil {
		return t.keepTree(m, path)
	}
	if m.err != nil {
		return tree, meta, fmt.Errorf("write tree %s: %w", path, m.err)
	}
	dt := DirTree{Files: m.Files()}
	if err := t.checkFiles(dt.Files); err != nil {
		return tree, meta, fmt.Errorf("write tree %s: %w", path, err)
	}
	for _, name := range m.Dirs() {
		d := TreeDir{Name: name}
		if d.Tree, d.Meta, err = t.writeTree(ctx, m.dirs[name], path+name+"/"); err != nil {
			return tree, meta, err
		}
		dt.Dirs = append(dt.Dirs, d)
	}
	data, err := dt.Marshal()
	if err != nil {
		return tree, meta, fmt.Errorf("write tree %s: %w", path, err)
	}
	if tree, err = t.WriteMetadata(ctx, TypeDirTree, data); err != nil {
		return tree, meta, err
	}
	if meta, err = t.writeTreeMeta(ctx, m); err != nil {
		return tree, meta, fmt.Errorf("write tree %s: %w", path, err)
	}
	return tree, meta, nil
}

// foldTree stores what m holds and leaves it to be read again when it is looked at.
func (t *Txn) foldTree(ctx context.Context, m *MTree, path string) error {
	tree, meta, err := t.writeTree(ctx, m, path)
	if err != nil {
		return err
	}
	*m = MTree{files: map[string]Checksum{}, dirs: map[string]*MTree{}, meta: meta, lazy: lazyTree{load: t.loadDirTree, tree: tree}}
	return nil
}

// keepTree takes over a stored directory as it is.
func (t *Txn) keepTree(m *MTree, path string) (tree, meta Checksum, err error) {
	for _, n := range []ObjectName{{m.lazy.tree, TypeDirTree}, {m.meta, TypeDirMeta}} {
		found, err := t.Has(n)
		if err == nil && !found {
			err = fmt.Errorf("object %s: %w", n, ErrNotFound)
		}
		if err != nil {
			return tree, meta, fmt.Errorf("write tree %s: %w", path, err)
		}
	}
	return m.lazy.tree, m.meta, nil
}

func (t *Txn) writeTreeMeta(ctx context.Context, m *MTree) (Checksum, error) {
	if m.metaData != nil {
		return t.WriteMetadata(ctx, TypeDirMeta, m.metaData)
	}
	if m.meta.IsZero() {
		return m.meta, fmt.Errorf("%w: directory without metadata", ErrInvalid)
	}
	found, err := t.Has(ObjectName{m.meta, TypeDirMeta})
	if err == nil && !found {
		err = fmt.Errorf("metadata %s: %w", m.meta, ErrNotFound)
	}
	return m.meta, err
}

func (t *Txn) checkFiles(files []TreeFile) error {
	for _, f := range files {
		found, err := t.Has(ObjectName{f.Checksum, TypeFile})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("content %s of %q: %w", f.Checksum, f.Name, ErrNotFound)
		}
	}
	return nil
}
