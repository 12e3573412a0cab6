// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"syscall"
)

// The layout of an EROFS image as composefs writes it; docs/formats has the page.
const (
	erofsBlock   = 4096
	erofsSlot    = 32   // inodes start at multiples of it
	erofsSuper   = 1024 // where the superblock stands
	erofsMagic   = 0xE0F5E1E2
	imageMagic   = 0xD078629A // of composefs, at the start of the file
	imageVersion = 1          // of that header, not of the tree's form
	superSize    = 128
	featMtime    = 2
	featFilter   = 4

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	direntSize     = 12
	xattrHeader    = 12
	xattrEntry     = 4
	maxSharedXattr = 128 // per inode
	nullChunk      = 0xFFFFFFFF
	maxChunkBits   = 31 + 12
	maxChunks      = erofsBlock / 4
	maxImageName   = 255
)

// erofsNode is a file of an image. Directories have children sorted by name, "."
// and ".." among them once the tree is prepared.
type erofsNode struct {
	name     string
	mode     uint32
	uid, gid uint32
	size     uint64 // of a regular file
	target   string // of a symbolic link
	xattrs   []imageXattr
	children []*erofsNode
	link     *erofsNode // for "." and ".."

	index   uint32 // the inode number
	nid     uint64 // where the inode is, in slots
	nlink   uint32
	compact bool
	blocks  int // full blocks of data
	tail    int // bytes of data behind the inode
	pad     int // bytes before the inode
	shared  int // how many of the xattrs are in the shared area
	xsize   int // bytes of the xattrs behind the inode
}

func (n *erofsNode) typ() uint32 { return n.mode & syscall.S_IFMT }

func (n *erofsNode) child(name string) (*erofsNode, int) {
	i, ok := slices.BinarySearchFunc(n.children, name, func(c *erofsNode, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return nil, i
	}
	return n.children[i], i
}

func (n *erofsNode) add(c *erofsNode) {
	_, i := n.child(c.name)
	n.children = slices.Insert(n.children, i, c)
}

// erofsImage lays a tree out and writes it.
type erofsImage struct {
	nodes      []*erofsNode // breadth first
	attrs      []Xattr      // shared, in the order in which they are stored
	attrsSize  int
	inodesEnd  uint64
	dataBlocks uint64
	hasACL     bool
	w          *countWriter
	next       uint64 // the first free data block
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }

// layout numbers the inodes and gives each its place.
func (m *erofsImage) layout(root *erofsNode) error {
	m.nodes = []*erofsNode{root}
	for i := 0; i < len(m.nodes); i++ {
		n := m.nodes[i]
		if n.size > maxChunks<<maxChunkBits {
			return fmt.Errorf("%w: file of %d bytes in an image", ErrInvalid, n.size)
		}
		n.index = uint32(i)
		n.nlink = 1
		if n.typ() == syscall.S_IFDIR {
			n.nlink = 2
		}
		slices.SortStableFunc(n.xattrs, func(a, b imageXattr) int { return strings.Compare(a.Name, b.Name) })
		for _, x := range n.xattrs {
			if len(x.Name) > maxImageName || len(x.Value) > 1<<16-1 {
				return fmt.Errorf("%w: attribute %q too long for an image", ErrInvalid, clip(x.Name))
			}
			m.hasACL = m.hasACL || x.Name == "system.posix_acl_access" || x.Name == "system.posix_acl_default"
		}
		for _, c := range n.children {
			if c.link != nil {
				continue
			}
			if c.typ() == syscall.S_IFDIR {
				n.nlink++
			}
			m.nodes = append(m.nodes, c)
		}
	}
	m.shareXattrs()
	pos := uint64(erofsSuper + superSize)
	for _, n := range m.nodes {
		if pos = n.place(pos); pos > 1<<40 {
			return fmt.Errorf("%w: image too large", ErrInvalid)
		}
		m.dataBlocks += uint64(n.blocks)
	}
	m.inodesEnd = roundUp(pos, erofsSlot)
	return nil
}

// chunkBits is the size of the chunks, as a power of two, that a file of the given
// size is described with: one if possible.
func chunkBits(size uint64) int { return min(max(bits.Len64(size-1), 12), maxChunkBits) }

// dataSize decides what of a node's data stands behind its inode and what in blocks.
func (n *erofsNode) dataSize() {
	switch {
	case n.typ() == syscall.S_IFDIR:
		for _, c := range n.children {
			if n.tail+direntSize+len(c.name) > erofsBlock {
				n.blocks, n.tail = n.blocks+1, 0
			}
			n.tail += direntSize + len(c.name)
		}
		if n.tail > erofsBlock/2 {
			n.blocks, n.tail = n.blocks+1, 0
		}
	case n.typ() == syscall.S_IFLNK:
		n.tail = len(n.target)
	case n.typ() == syscall.S_IFREG && n.size > 0:
		chunk := uint64(1) << chunkBits(n.size)
		n.tail = 4 * int((n.size+chunk-1)/chunk)
	}
}

func (n *erofsNode) storedSize() uint64 {
	switch n.typ() {
	case syscall.S_IFDIR:
		return uint64(n.blocks)*erofsBlock + uint64(n.tail)
	case syscall.S_IFLNK:
		return uint64(len(n.target))
	}
	return n.size
}

// place gives a node its position at or after pos, such that its tail is within one
// block, and returns where it ends.
func (n *erofsNode) place(pos uint64) uint64 {
	n.dataSize()
	inode := uint64(64)
	if n.compact = n.uid|n.gid <= 0xFFFF && n.nlink <= 0xFFFF && n.storedSize() <= 0xFFFFFFFF; n.compact {
		inode = 32
	}
	for _, x := range n.xattrs {
		if x.offset < 0 {
			n.xsize += xattrSize(x.Xattr)
		}
	}
	if len(n.xattrs) > 0 {
		n.xsize += xattrHeader + 4*n.shared
	}
	start := roundUp(pos, erofsSlot)
	head := inode + uint64(n.xsize)
	start += n.tailPadding(start, head)
	n.pad = int(start - pos)
	n.nid = start / erofsSlot
	return start + head + uint64(n.tail)
}

// tailPadding is what must stand before an inode; a tail that fits no block becomes
// a block of its own.
func (n *erofsNode) tailPadding(pos, head uint64) uint64 {
	total := head + uint64(n.tail)
	if n.typ() == syscall.S_IFLNK {
		crosses := pos/erofsBlock != (pos+total-1)/erofsBlock
		if total >= erofsBlock {
			n.blocks, n.tail = n.blocks+1, 0
		}
		if crosses {
			return roundUp(pos, erofsBlock) - pos
		}
		return 0
	}
	left := erofsBlock - (pos+head)%erofsBlock
	if left >= uint64(n.tail) {
		return 0
	}
	extra := roundUp(left, erofsSlot)
	if uint64(n.tail) <= erofsBlock-(pos+head+extra)%erofsBlock {
		return extra
	}
	n.blocks, n.tail = n.blocks+1, 0
	return roundUp(pos, erofsBlock) - pos
}

// write writes the image: header, superblock, inodes, shared attributes, blocks.
func (m *erofsImage) write(w io.Writer) error {
	m.w = &countWriter{w: w}
	data := roundUp(m.inodesEnd+uint64(m.attrsSize), erofsBlock)
	m.next = data / erofsBlock
	buf := m.head(data)
	for _, n := range m.nodes {
		buf = append(buf, make([]byte, n.pad)...)
		buf = n.appendInode(buf, m)
		if len(buf) > 1<<20 {
			if _, err := m.w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	buf = append(buf, make([]byte, m.inodesEnd-uint64(m.w.n)-uint64(len(buf)))...)
	for _, x := range m.attrs {
		buf = appendXattr(buf, x)
	}
	buf = append(buf, make([]byte, data-uint64(m.w.n)-uint64(len(buf)))...)
	for _, n := range m.nodes {
		buf = n.appendBlocks(buf)
		if _, err := m.w.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	return nil
}

// head gives the composefs header and the superblock.
func (m *erofsImage) head(data uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, erofsSuper+superSize)
	le.PutUint32(b, imageMagic)
	le.PutUint32(b[4:], imageVersion)
	if m.hasACL {
		b[8] = 1
	}
	s := b[erofsSuper:]
	le.PutUint32(s, erofsMagic)
	le.PutUint32(s[8:], featMtime|featFilter)
	s[12] = 12 // bits of the block size
	le.PutUint16(s[14:], uint16(m.nodes[0].nid))
	le.PutUint64(s[16:], uint64(len(m.nodes)))
	le.PutUint32(s[36:], uint32(data/erofsBlock+m.dataBlocks))
	le.PutUint32(s[44:], uint32(m.inodesEnd/erofsBlock))
	return b
}

func (n *erofsNode) appendInode(b []byte, m *erofsImage) []byte {
	le := binary.LittleEndian
	layout, union := uint16(layoutPlain), uint32(0)
	if n.tail > 0 {
		layout = layoutInline
	}
	if n.blocks > 0 {
		union = uint32(m.next)
		m.next += uint64(n.blocks)
	}
	if n.typ() == syscall.S_IFREG && n.size > 0 {
		layout, union = layoutChunks, uint32(chunkBits(n.size)-12)
	}
	icount := 0
	if n.xsize > 0 {
		icount = (n.xsize-xattrHeader)/4 + 1
	}
	format := layout << 1
	if !n.compact {
		format |= 1
	}
	b = le.AppendUint16(b, format)
	b = le.AppendUint16(b, uint16(icount))
	b = le.AppendUint16(b, uint16(n.mode))
	if n.compact {
		b = le.AppendUint16(b, uint16(n.nlink))
		b = le.AppendUint32(b, uint32(n.storedSize()))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, union)
		b = le.AppendUint32(b, n.index)
		b = le.AppendUint16(b, uint16(n.uid))
		b = le.AppendUint16(b, uint16(n.gid))
		b = le.AppendUint32(b, 0)
	} else {
		b = le.AppendUint16(b, 0)
		b = le.AppendUint64(b, n.storedSize())
		b = le.AppendUint32(b, union)
		b = le.AppendUint32(b, n.index)
		b = le.AppendUint32(b, n.uid)
		b = le.AppendUint32(b, n.gid)
		b = append(b, make([]byte, 12)...) // the time
		b = le.AppendUint32(b, n.nlink)
		b = append(b, make([]byte, 16)...)
	}
	b = n.appendXattrs(b, m)
	if n.tail == 0 {
		return b
	}
	switch {
	case n.typ() == syscall.S_IFDIR:
		return n.appendDirents(b, n.tailStart(), len(n.children), 1)
	case n.typ() == syscall.S_IFLNK:
		return append(b, n.target...)
	}
	for range n.tail / 4 {
		b = le.AppendUint32(b, nullChunk)
	}
	return b
}

// tailStart is the first child whose entry is behind the inode.
func (n *erofsNode) tailStart() int {
	start, used := 0, 0
	for i, c := range n.children {
		if used+direntSize+len(c.name) > erofsBlock {
			start, used = i, 0
		}
		used += direntSize + len(c.name)
	}
	return start
}

// appendDirents writes the entries of one block: numbers and types, then names.
func (n *erofsNode) appendDirents(b []byte, from, to int, align uint64) []byte {
	le := binary.LittleEndian
	start := len(b)
	at := direntSize * (to - from)
	for _, c := range n.children[from:to] {
		t := c
		if c.link != nil {
			t = c.link
		}
		b = le.AppendUint64(b, t.nid)
		b = le.AppendUint16(b, uint16(at))
		b = append(b, dirType(t.typ()), 0)
		at += len(c.name)
	}
	for _, c := range n.children[from:to] {
		b = append(b, c.name...)
	}
	size := uint64(len(b) - start)
	return append(b, make([]byte, roundUp(size, align)-size)...)
}

func dirType(mode uint32) byte {
	switch mode {
	case syscall.S_IFREG:
		return 1
	case syscall.S_IFDIR:
		return 2
	case syscall.S_IFCHR:
		return 3
	case syscall.S_IFLNK:
		return 7
	}
	return 0
}

// appendBlocks gives a node's full blocks.
func (n *erofsNode) appendBlocks(b []byte) []byte {
	if n.blocks == 0 {
		return b
	}
	switch {
	case n.typ() == syscall.S_IFLNK:
		b = append(b, n.target...)
	case n.typ() == syscall.S_IFDIR:
		return n.appendDirBlocks(b)
	default: // the chunks of a file whose tail fitted nowhere
		for range erofsBlock / 4 {
			b = binary.LittleEndian.AppendUint32(b, nullChunk)
		}
	}
	return append(b, make([]byte, n.blocks*erofsBlock-len(b))...)
}

func (n *erofsNode) appendDirBlocks(b []byte) []byte {
	first, used, written := 0, 0, 0
	for i, c := range n.children {
		if used+direntSize+len(c.name) > erofsBlock {
			b = n.appendDirents(b, first, i, erofsBlock)
			first, used, written = i, 0, written+1
		}
		used += direntSize + len(c.name)
	}
	if written < n.blocks {
		b = n.appendDirents(b, first, len(n.children), erofsBlock)
	}
	return b
}
