// SPDX-License-Identifier: Apache-2.0

// Package etcmerge carries local changes of /etc from one deployment to the
// next: a three-way merge of whole files between the old defaults (base), the
// live /etc (current) and the new defaults (next). There is no merge of text
// inside a file. What changed locally wins; where the defaults changed as well,
// the plan says so.
//
// Snapshot and Hash read, Plan is pure, Apply writes into the new /etc only. The
// rules as a table are in docs/formats/etc-merge.md.
package etcmerge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// FileKind is the type of a name in a snapshot.
type FileKind uint8

// The kinds. Special is a socket, FIFO or device, which no commit can hold.
const (
	Absent FileKind = iota
	File
	Dir
	Link
	Special
)

// Node is one name in a snapshot. The zero Node is an absent name.
type Node struct {
	Kind     FileKind
	Mode     uint32 // permission bits 07777; 0 for links
	UID, GID uint32
	Target   string // of a link
	Size     int64  // of a file
	Dev, Ino uint64 // of a file; equal ones hold equal bytes

	Digest    [sha256.Size]byte // of a file's bytes, only if HasDigest
	HasDigest bool
}

// Snapshot maps the paths of a tree ("a/b", without the root itself) to nodes.
type Snapshot map[string]Node

// maxNodes bounds a snapshot; a real /etc has a few thousand names.
const maxNodes = 1 << 20

// ErrTooMany reports a tree that is too large to be somebody's /etc.
var ErrTooMany = errors.New("too many files")

// Scan reads the tree at dir without file contents; see Hash. Names that vanish
// while it runs are left out.
func Scan(ctx context.Context, dir *fsx.Dir) (Snapshot, error) {
	s := Snapshot{}
	if err := s.scan(ctx, dir, "."); err != nil {
		return nil, fmt.Errorf("scan %s: %w", dir.Path(), err)
	}
	return s, nil
}

// scan adds what is in dir, whose path in the snapshot is at. Each directory is
// opened once, so that a name costs one call and not a walk from the top.
func (s Snapshot) scan(ctx context.Context, dir *fsx.Dir, at string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	list, err := dir.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range list {
		name := path.Join(at, e.Name)
		n, err := readNode(dir, e.Name)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		if s[name] = n; len(s) > maxNodes {
			return ErrTooMany
		}
		if n.Kind != Dir {
			continue
		}
		if err := s.scanBelow(ctx, dir, e.Name, name); err != nil {
			return err
		}
	}
	return nil
}

func (s Snapshot) scanBelow(ctx context.Context, dir *fsx.Dir, base, name string) error {
	sub, err := dir.OpenDir(base)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	return s.scan(ctx, sub, name)
}

// gone reports that a name was removed or replaced between two looks at it.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}

func readNode(dir *fsx.Dir, name string) (Node, error) {
	st, err := dir.Lstat(name)
	if err != nil {
		return Node{}, err
	}
	n := Node{Kind: Special, Mode: st.Mode & 0o7777, UID: st.UID, GID: st.GID}
	switch {
	case st.IsDir():
		n.Kind = Dir
	case st.IsRegular():
		n.Kind, n.Size, n.Dev, n.Ino = File, st.Size, st.Dev, st.Ino
	case st.IsSymlink():
		n.Kind, n.Mode = Link, 0
		n.Target, err = dir.Readlink(name)
	}
	return n, err
}

// Tree is a snapshot with the directory it was taken of.
type Tree struct {
	Dir *fsx.Dir
	Snapshot
}

// Hash fills in the digests that Plan needs: those of files that have the size
// of their counterpart in another tree and are not the same inode. The
// counterpart of NAME.rpmnew is NAME as well. A file that vanished meanwhile
// becomes absent.
func Hash(ctx context.Context, trees ...Tree) error {
	buf := make([]byte, 64<<10)
	for i, t := range trees {
		for name, n := range t.Snapshot {
			if !needsDigest(trees, i, name, n) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			sum, err := digest(t.Dir, name, buf)
			if gone(err) {
				delete(t.Snapshot, name)
				continue
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", path.Join(t.Dir.Path(), name), err)
			}
			n.Digest, n.HasDigest = sum, true
			t.Snapshot[name] = n
		}
	}
	return nil
}

func needsDigest(trees []Tree, self int, name string, n Node) bool {
	if n.Kind != File || n.HasDigest || n.Size == 0 {
		return false
	}
	for i, t := range trees {
		if i == self {
			continue
		}
		for _, other := range []string{name, name + newSuffix, strings.TrimSuffix(name, newSuffix)} {
			if o := t.Snapshot[other]; o.Kind == File && o.Size == n.Size && !sameInode(n, o) {
				return true
			}
		}
	}
	return false
}

func digest(dir *fsx.Dir, name string, buf []byte) (sum [sha256.Size]byte, err error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	// Only Read, or a buffer would be made for each of thousands of small files.
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, buf); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

func sameInode(a, b Node) bool { return a.Ino != 0 && a.Dev == b.Dev && a.Ino == b.Ino }

// same compares what the merge looks at: type, content or target, owner and
// permission bits. Extended attributes do not count, or every change of a label
// in a new policy would look like a local edit.
func same(a, b Node) bool {
	if a.Kind != b.Kind || a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID {
		return false
	}
	switch a.Kind {
	case Link:
		return a.Target == b.Target
	case File:
		return sameContent(a, b)
	}
	return true
}

// sameContent errs towards "changed": a difference that is none keeps the local
// file, a missed one would lose it.
func sameContent(a, b Node) bool {
	if a.Size != b.Size {
		return false
	}
	return a.Size == 0 || sameInode(a, b) || (a.HasDigest && b.HasDigest && a.Digest == b.Digest)
}
