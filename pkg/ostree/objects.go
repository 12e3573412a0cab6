// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// The serialised types of the metadata objects.
const (
	dirMetaType   = "(uuua(ayay))"
	dirTreeType   = "(a(say)a(sayay))"
	commitType    = "(a{sv}aya(say)sstayay)"
	tombstoneType = "a{sv}"
)

// MaxMetadataSize is the largest metadata object in bytes.
const MaxMetadataSize = gvariant.MaxSize

// Xattr is an extended attribute. Name has no terminating NUL.
type Xattr struct {
	Name  string
	Value []byte
}

// DirMeta is the metadata of a directory. Mode holds S_IFDIR.
type DirMeta struct {
	UID, GID, Mode uint32
	Xattrs         []Xattr
}

// TreeFile is a file of a directory.
type TreeFile struct {
	Name     string
	Checksum Checksum
}

// TreeDir is a subdirectory: its dirtree and its dirmeta.
type TreeDir struct {
	Name       string
	Tree, Meta Checksum
}

// DirTree is the content of a directory, both lists in byte order of names.
type DirTree struct {
	Files []TreeFile
	Dirs  []TreeDir
}

// Commit is a commit object. A zero Parent means none; Timestamp is seconds
// since 1970 UTC.
type Commit struct {
	Metadata           gvariant.Dict
	Parent             Checksum
	Subject, Body      string
	Timestamp          uint64
	RootTree, RootMeta Checksum
}

// checkXattrs verifies and sorts: names unique, not empty, without NUL.
func sortedXattrs(xattrs []Xattr) ([]Xattr, error) {
	byName := func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(xattrs, byName) {
		xattrs = slices.Clone(xattrs)
		slices.SortFunc(xattrs, byName)
	}
	for i, x := range xattrs {
		if x.Name == "" || strings.IndexByte(x.Name, 0) >= 0 {
			return nil, fmt.Errorf("%w: extended attribute name %q", ErrInvalid, clip(x.Name))
		}
		if i > 0 && xattrs[i-1].Name == x.Name {
			return nil, fmt.Errorf("%w: extended attribute %q twice", ErrInvalid, clip(x.Name))
		}
	}
	return xattrs, nil
}

func xattrsValue(xattrs []Xattr) gvariant.Value {
	vs := make([]gvariant.Value, len(xattrs))
	for i, x := range xattrs {
		vs[i] = gvariant.Tuple(gvariant.ByteSlice(append([]byte(x.Name), 0)), gvariant.ByteSlice(x.Value))
	}
	return gvariant.Array("(ayay)", vs...)
}

func parseXattrs(v gvariant.Value) ([]Xattr, error) {
	var out []Xattr
	for _, c := range v.Children() {
		kv := c.Children()
		name, _ := kv[0].ByteSlice()
		value, _ := kv[1].ByteSlice()
		if len(name) < 2 || bytes.IndexByte(name, 0) != len(name)-1 {
			return nil, fmt.Errorf("%w: extended attribute name %q", ErrInvalid, clip(string(name)))
		}
		x := Xattr{string(name[:len(name)-1]), value}
		if len(out) > 0 && out[len(out)-1].Name >= x.Name {
			return nil, fmt.Errorf("%w: extended attributes out of order at %q", ErrInvalid, clip(x.Name))
		}
		out = append(out, x)
	}
	return out, nil
}

func equalXattrs(a, b []Xattr) bool {
	return slices.EqualFunc(a, b, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
}

func checkDirMode(mode uint32) error {
	if mode&syscall.S_IFMT != syscall.S_IFDIR || mode&^uint32(syscall.S_IFMT|0o7777) != 0 {
		return fmt.Errorf("%w: directory mode %o", ErrInvalid, mode)
	}
	return nil
}

// Marshal gives the object's bytes. Xattrs need not be sorted.
func (m DirMeta) Marshal() ([]byte, error) {
	if err := checkDirMode(m.Mode); err != nil {
		return nil, err
	}
	xattrs, err := sortedXattrs(m.Xattrs)
	if err != nil {
		return nil, err
	}
	v := gvariant.Tuple(gvariant.Uint32BE(m.UID), gvariant.Uint32BE(m.GID), gvariant.Uint32BE(m.Mode), xattrsValue(xattrs))
	return v.Bytes(), v.Err()
}

// ParseDirMeta reads a dirmeta object, strictly.
func ParseDirMeta(data []byte) (DirMeta, error) {
	v, err := gvariant.Parse(dirMetaType, data)
	if err != nil {
		return DirMeta{}, fmt.Errorf("%w: dirmeta: %w", ErrCorrupt, err)
	}
	m, err := metaFields(v)
	if err == nil {
		err = checkDirMode(m.Mode)
	}
	if err != nil {
		return DirMeta{}, fmt.Errorf("%w: dirmeta: %w", ErrCorrupt, err)
	}
	return m, nil
}

// metaFields reads (uuua(ayay)), the form of dirmeta and of user.ostreemeta.
func metaFields(v gvariant.Value) (m DirMeta, err error) {
	c := v.Children()
	m.UID, _ = c[0].Uint32BE()
	m.GID, _ = c[1].Uint32BE()
	m.Mode, _ = c[2].Uint32BE()
	m.Xattrs, err = parseXattrs(c[3])
	return m, err
}

// CheckName verifies the name of a tree entry: UTF-8, not empty, not "." or
// "..", without slash and NUL.
func CheckName(name string) error {
	switch {
	case name == "":
		return worded(ErrInvalid, "Invalid empty filename")
	case name == "." || name == "..":
		return worded(ErrInvalid, "Invalid self-referential filename '%s'", name)
	case strings.Contains(name, "/"):
		return worded(ErrInvalid, "Invalid / in filename %s", clip(name))
	case strings.Contains(name, "\x00") || !utf8.ValidString(name):
		return worded(ErrInvalid, "Invalid UTF-8 in filename %q", clip(name))
	}
	return nil
}

func (t DirTree) check() error {
	for i, f := range t.Files {
		if err := CheckName(f.Name); err != nil {
			return err
		}
		if i > 0 && t.Files[i-1].Name >= f.Name {
			return fmt.Errorf("%w: files out of order at %q", ErrInvalid, clip(f.Name))
		}
	}
	for i, d := range t.Dirs {
		if err := CheckName(d.Name); err != nil {
			return err
		}
		if i > 0 && t.Dirs[i-1].Name >= d.Name {
			return fmt.Errorf("%w: directories out of order at %q", ErrInvalid, clip(d.Name))
		}
		if _, found := t.File(d.Name); found {
			return fmt.Errorf("%w: %q is both a file and a directory", ErrInvalid, clip(d.Name))
		}
	}
	return nil
}

// File finds a file by name.
func (t DirTree) File(name string) (TreeFile, bool) {
	i, ok := slices.BinarySearchFunc(t.Files, name, func(f TreeFile, n string) int { return strings.Compare(f.Name, n) })
	if !ok {
		return TreeFile{}, false
	}
	return t.Files[i], true
}

// Dir finds a subdirectory by name.
func (t DirTree) Dir(name string) (TreeDir, bool) {
	i, ok := slices.BinarySearchFunc(t.Dirs, name, func(d TreeDir, n string) int { return strings.Compare(d.Name, n) })
	if !ok {
		return TreeDir{}, false
	}
	return t.Dirs[i], true
}

// Marshal gives the object's bytes; the lists must be sorted and valid.
func (t DirTree) Marshal() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	files := make([]gvariant.Value, len(t.Files))
	for i, f := range t.Files {
		files[i] = gvariant.Tuple(gvariant.String(f.Name), gvariant.ByteSlice(f.Checksum[:]))
	}
	dirs := make([]gvariant.Value, len(t.Dirs))
	for i, d := range t.Dirs {
		dirs[i] = gvariant.Tuple(gvariant.String(d.Name), gvariant.ByteSlice(d.Tree[:]), gvariant.ByteSlice(d.Meta[:]))
	}
	v := gvariant.Tuple(gvariant.Array("(say)", files...), gvariant.Array("(sayay)", dirs...))
	return v.Bytes(), v.Err()
}

// ParseDirTree reads a dirtree object, strictly: names that could leave the
// directory, are unsorted or occur twice are refused.
func ParseDirTree(data []byte) (DirTree, error) {
	v, err := gvariant.Parse(dirTreeType, data)
	if err != nil {
		return DirTree{}, fmt.Errorf("%w: dirtree: %w", ErrCorrupt, err)
	}
	t, err := treeFields(v)
	if err == nil {
		err = t.check()
	}
	if err != nil {
		return DirTree{}, fmt.Errorf("%w: dirtree: %w", ErrCorrupt, err)
	}
	return t, nil
}

func treeFields(v gvariant.Value) (t DirTree, err error) {
	lists := v.Children()
	for _, c := range lists[0].Children() {
		f := c.Children()
		e := TreeFile{}
		e.Name, _ = f[0].Str()
		if e.Checksum, err = checksumField(f[1]); err != nil {
			return t, err
		}
		t.Files = append(t.Files, e)
	}
	for _, c := range lists[1].Children() {
		f := c.Children()
		e := TreeDir{}
		e.Name, _ = f[0].Str()
		if e.Tree, err = checksumField(f[1]); err != nil {
			return t, err
		}
		if e.Meta, err = checksumField(f[2]); err != nil {
			return t, err
		}
		t.Dirs = append(t.Dirs, e)
	}
	return t, nil
}

func checksumField(v gvariant.Value) (Checksum, error) {
	b, _ := v.ByteSlice()
	return ChecksumFromBytes(b)
}

// Marshal gives the object's bytes.
func (c Commit) Marshal() ([]byte, error) {
	var parent []byte
	if !c.Parent.IsZero() {
		parent = c.Parent[:]
	}
	v := gvariant.Tuple(
		c.Metadata.Value(),
		gvariant.ByteSlice(parent),
		gvariant.Array("(say)"),
		gvariant.String(c.Subject),
		gvariant.String(c.Body),
		gvariant.Uint64(bits.ReverseBytes64(c.Timestamp)),
		gvariant.ByteSlice(c.RootTree[:]),
		gvariant.ByteSlice(c.RootMeta[:]),
	)
	return v.Bytes(), v.Err()
}

// ParseCommit reads a commit object, strictly. Related objects, which no writer
// produces, are refused.
func ParseCommit(data []byte) (Commit, error) {
	v, err := gvariant.Parse(commitType, data)
	if err != nil {
		return Commit{}, fmt.Errorf("%w: commit: %w", ErrCorrupt, err)
	}
	c, err := commitFields(v)
	if err != nil {
		return Commit{}, fmt.Errorf("%w: commit: %w", ErrCorrupt, err)
	}
	return c, nil
}

func commitFields(v gvariant.Value) (c Commit, err error) {
	f := v.Children()
	c.Metadata, _ = f[0].Dict()
	if p, _ := f[1].ByteSlice(); len(p) > 0 {
		if c.Parent, err = ChecksumFromBytes(p); err != nil {
			return c, fmt.Errorf("parent: %w", err)
		}
		if c.Parent.IsZero() {
			return c, fmt.Errorf("%w: parent is all zero", ErrInvalid)
		}
	}
	if len(f[2].Children()) > 0 {
		return c, fmt.Errorf("%w: related objects", ErrUnsupported)
	}
	c.Subject, _ = f[3].Str()
	c.Body, _ = f[4].Str()
	c.Timestamp, _ = f[5].Uint64BE()
	if c.RootTree, err = checksumField(f[6]); err != nil {
		return c, fmt.Errorf("root tree: %w", err)
	}
	if c.RootMeta, err = checksumField(f[7]); err != nil {
		return c, fmt.Errorf("root metadata: %w", err)
	}
	return c, nil
}

// ContentChecksum identifies the tree alone: commits of equal trees share it.
func (c Commit) ContentChecksum() Checksum {
	return sha256.Sum256(append(c.RootTree[:], c.RootMeta[:]...))
}
