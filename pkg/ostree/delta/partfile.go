// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	modeSize = 12
	// maxTables bounds the tables of modes and of attributes together, in bytes.
	maxTables = 16 << 20
	// maxAttributes bounds the lists of attributes, which may be as short as the
	// offset that ends them.
	maxAttributes = 1 << 18
	// maxTarget bounds a symbolic link's target in bytes.
	maxTarget = 1 << 16
)

// partData is an unpacked part: (a(uuu)aa(ayay)ayay). The data and the
// operations stay where they are and are read piece by piece.
type partData struct {
	modes  []byte
	xattrs []gvariant.Value // each a(ayay)
	data   *io.SectionReader
	ops    *io.SectionReader

	raw io.ReaderAt // the part, in which data begin at at
	at  int64
}

func (p *partData) inMemory() bool {
	s, ok := p.raw.(*partSpool)
	return ok && s.inMemory()
}

// release tells that data before off are not read again.
func (p *partData) release(off int64) {
	if s, ok := p.raw.(*partSpool); ok {
		s.release(p.at + min(off, p.data.Size()))
	}
}

// openPart finds the members of a part of the given size. Only the tables, which
// are small, are read.
func openPart(r io.ReaderAt, size int64) (*partData, error) {
	w := int64(offsetWidth(size))
	if size < 3*w {
		return nil, fmt.Errorf("%w: part of %d bytes", ErrCorrupt, size)
	}
	tail := make([]byte, 3*w)
	if _, err := r.ReadAt(tail, size-3*w); err != nil {
		return nil, fmt.Errorf("read part: %w", err)
	}
	// The framing offsets stand backwards: the last one ends the first member.
	var ends [3]int64
	for i := range ends {
		var b [8]byte
		copy(b[:], tail[int64(2-i)*w:int64(3-i)*w])
		n := binary.LittleEndian.Uint64(b[:])
		if n > uint64(size-3*w) || i > 0 && int64(n) < ends[i-1] {
			return nil, fmt.Errorf("%w: part: framing offset %d", ErrCorrupt, n)
		}
		ends[i] = int64(n)
	}
	if opsEnd := size - 3*w; int64(len(partFrame(ends[0], ends[1]-ends[0], ends[2]-ends[1], opsEnd-ends[2]))) != 3*w {
		return nil, fmt.Errorf("%w: part: framing offsets of %d bytes, narrower ones would do", ErrCorrupt, w)
	}
	if ends[1] > maxTables || ends[0]%modeSize != 0 {
		return nil, fmt.Errorf("%w: part: tables of %d bytes", ErrCorrupt, ends[1])
	}
	tables := make([]byte, ends[1])
	if _, err := r.ReadAt(tables, 0); err != nil && ends[1] > 0 {
		return nil, fmt.Errorf("read part: %w", err)
	}
	attrs, err := gvariant.Parse("aa(ayay)", tables[ends[0]:])
	if err != nil {
		return nil, fmt.Errorf("%w: part: attributes: %w", ErrCorrupt, err)
	}
	if n := countElements(attrs.Bytes()); n > maxAttributes {
		return nil, fmt.Errorf("%w: part: %d lists of attributes", ErrCorrupt, n)
	}
	return &partData{
		modes: tables[:ends[0]], xattrs: attrs.Children(),
		data: io.NewSectionReader(r, ends[1], ends[2]-ends[1]),
		ops:  io.NewSectionReader(r, ends[2], size-3*w-ends[2]),
		raw:  r, at: ends[1],
	}, nil
}

// countElements tells how many elements of varying size a valid array has: its
// last framing offset says where the offsets begin.
func countElements(array []byte) int {
	if len(array) == 0 {
		return 0
	}
	w := offsetWidth(int64(len(array)))
	var b [8]byte
	copy(b[:], array[len(array)-w:])
	return (len(array) - int(binary.LittleEndian.Uint64(b[:]))) / w
}

// offsetWidth is the width of the framing offsets in a container of n bytes.
func offsetWidth(n int64) int {
	switch {
	case n <= 0xff:
		return 1
	case n <= 0xffff:
		return 2
	case n <= 0xffffffff:
		return 4
	}
	return 8
}

// partFrame gives the framing offsets that end a part.
func partFrame(modes, xattrs, data, ops int64) []byte {
	w := 1
	for w < 8 && offsetWidth(modes+xattrs+data+ops+int64(3*w)) > w {
		w *= 2
	}
	var out []byte
	for _, end := range []int64{modes + xattrs + data, modes + xattrs, modes} {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(end))
		out = append(out, b[:w]...)
	}
	return out
}

func (p *partData) numModes() int { return len(p.modes) / modeSize }

// header gives the attributes of a file from the two tables.
func (p *partData) header(mode, xattr uint64) (ostree.FileHeader, error) {
	if mode >= uint64(p.numModes()) || xattr >= uint64(len(p.xattrs)) {
		return ostree.FileHeader{}, fmt.Errorf("%w: mode %d or attributes %d not in the tables", ErrCorrupt, mode, xattr)
	}
	m := p.modes[mode*modeSize:]
	h := ostree.FileHeader{UID: binary.BigEndian.Uint32(m), GID: binary.BigEndian.Uint32(m[4:]), Mode: binary.BigEndian.Uint32(m[8:])}
	if t := h.Mode & syscall.S_IFMT; t != syscall.S_IFREG && t != syscall.S_IFLNK {
		return h, fmt.Errorf("%w: file mode %o", ErrCorrupt, h.Mode)
	}
	for _, c := range p.xattrs[xattr].Children() {
		f := c.Children()
		name, _ := f[0].ByteSlice()
		value, _ := f[1].ByteSlice()
		if len(name) < 2 || name[len(name)-1] != 0 {
			return h, fmt.Errorf("%w: attribute name %q", ErrCorrupt, name)
		}
		h.Xattrs = append(h.Xattrs, ostree.Xattr{Name: string(name[:len(name)-1]), Value: value})
	}
	return h, nil
}

// slice checks a range of the data.
func (p *partData) slice(off, n uint64) error {
	size := uint64(p.data.Size())
	if off > size || n > size-off {
		return fmt.Errorf("%w: range %d+%d beyond the %d bytes of data", ErrCorrupt, off, n, size)
	}
	return nil
}

// section gives a range of the data.
func (p *partData) section(off, n uint64) (*io.SectionReader, error) {
	if err := p.slice(off, n); err != nil {
		return nil, err
	}
	return io.NewSectionReader(p.data, int64(off), int64(n)), nil
}

// sourceSum reads the checksum of an object that is to be the source.
func (p *partData) sourceSum(off uint64) (c ostree.Checksum, err error) {
	sum, err := p.bytes(off, uint64(len(c)), uint64(len(c)))
	if err != nil {
		return c, err
	}
	return ostree.Checksum(sum), nil
}

// bytes reads a range of the data that is small.
func (p *partData) bytes(off, n, limit uint64) ([]byte, error) {
	if err := p.slice(off, n); err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes where at most %d make sense", ErrCorrupt, n, limit)
	}
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	if _, err := p.data.ReadAt(b, int64(off)); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read part: %w", err)
	}
	return b, nil
}
