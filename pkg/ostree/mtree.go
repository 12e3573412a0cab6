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
// that is stored, and metadata per directory. It is not safe for concurrent use.
type MTree struct {
	files    map[string]Checksum
	dirs     map[string]*MTree
	meta     Checksum
	metaData []byte // what WriteTree stores; nil where meta is stored already
}

// NewMTree makes an empty directory without metadata.
func NewMTree() *MTree {
	return &MTree{files: map[string]Checksum{}, dirs: map[string]*MTree{}}
}

// LoadMTree reads a whole committed tree.
func LoadMTree(ctx context.Context, r *Repo, tree, meta Checksum) (*MTree, error) {
	left := maxTreeEntries
	return loadMTree(ctx, r, tree, meta, 0, &left)
}

func loadMTree(ctx context.Context, r *Repo, tree, meta Checksum, depth int, left *int) (*MTree, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t, err := r.LoadDirTree(tree)
	if err != nil {
		return nil, err
	}
	*left -= len(t.Files) + len(t.Dirs)
	if depth > maxTreeDepth || *left < 0 {
		return nil, fmt.Errorf("load tree %s: %w: too deep or too large", tree, ErrInvalid)
	}
	m := NewMTree()
	m.meta = meta
	for _, f := range t.Files {
		m.files[f.Name] = f.Checksum
	}
	for _, d := range t.Dirs {
		if m.dirs[d.Name], err = loadMTree(ctx, r, d.Tree, d.Meta, depth+1, left); err != nil {
			return nil, err
		}
	}
	return m, nil
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
	if d, ok := m.dirs[name]; ok {
		return d, nil
	}
	if _, ok := m.files[name]; ok {
		return nil, fmt.Errorf("directory %q: a file %w", clip(name), ErrExists)
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
	if _, ok := m.dirs[name]; ok {
		return fmt.Errorf("file %q: a directory %w", clip(name), ErrExists)
	}
	if err := CheckName(name); err != nil {
		return err
	}
	m.files[name] = c
	return nil
}

// File finds a file.
func (m *MTree) File(name string) (Checksum, bool) {
	c, ok := m.files[name]
	return c, ok
}

// Remove drops a file or a whole subdirectory and tells whether it was there.
func (m *MTree) Remove(name string) bool {
	_, isFile := m.files[name]
	_, isDir := m.dirs[name]
	delete(m.files, name)
	delete(m.dirs, name)
	return isFile || isDir
}

// Files lists the files in byte order of names.
func (m *MTree) Files() []TreeFile {
	out := make([]TreeFile, 0, len(m.files))
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		out = append(out, TreeFile{name, m.files[name]})
	}
	return out
}

// Dirs lists the names of the subdirectories in byte order.
func (m *MTree) Dirs() []string { return slices.Sorted(maps.Keys(m.dirs)) }

// WriteTree stores the directories of m and their metadata and gives the two
// checksums that a commit holds. Every directory must have metadata and every
// file must be present.
func (t *Txn) WriteTree(ctx context.Context, m *MTree) (tree, meta Checksum, err error) {
	return t.writeTree(ctx, m, "/")
}

func (t *Txn) writeTree(ctx context.Context, m *MTree, path string) (tree, meta Checksum, err error) {
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
