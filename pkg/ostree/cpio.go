// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
)

// The magic numbers of cpio archives: "newc", the same with checksums, which are not
// looked at, and the portable format of POSIX.
const (
	cpioNew = "070701"
	cpioCRC = "070702"
	cpioOld = "070707"
)

const (
	cpioTrailer = "TRAILER!!!"
	maxCpioName = 1 << 16
)

type cpioInode struct{ dev, ino uint64 }

// cpioReader reads cpio archives. Files of one inode are hard links: the first name is
// the target of the others, whichever brings the content.
type cpioReader struct {
	r     io.Reader
	left  int64 // of the entry's content
	pad   int64 // bytes after it
	links map[cpioInode]string
}

type cpioHeader struct {
	cpioInode
	mode, uid, gid, nlink uint64
	size, name            uint64
	align                 int64
}

func (c *cpioReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) && c.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *cpioReader) next() (*archiveEntry, error) {
	if _, err := io.CopyN(io.Discard, c.r, c.left+c.pad); err != nil {
		return nil, corrupt("cpio archive", err)
	}
	h, err := c.header()
	if err != nil {
		return nil, err
	}
	name, err := c.text(int64(h.name), h.align)
	if err != nil {
		return nil, err
	}
	name = name[:len(name)-1]
	if name == cpioTrailer {
		return nil, io.EOF
	}
	c.left, c.pad = int64(h.size), padding(int64(h.size), h.align)
	e := &archiveEntry{path: name, size: c.left, content: c}
	e.header = FileHeader{UID: uint32(h.uid), GID: uint32(h.gid), Mode: uint32(h.mode)}
	switch {
	case e.header.IsSymlink():
		if h.size > maxTarget {
			return nil, fmt.Errorf("%w: cpio entry %q: link target of %d bytes", ErrCorrupt, clip(name), h.size)
		}
		target, err := io.ReadAll(c)
		if err != nil {
			return nil, corrupt("cpio archive", err)
		}
		e.header.Target, e.size = string(target), 0
	case e.header.IsRegular() && h.nlink > 1:
		if first, ok := c.links[h.cpioInode]; ok {
			e.linkTo = first
		} else {
			c.links[h.cpioInode] = name
		}
	case !e.header.IsRegular():
		e.size = 0
	}
	return e, nil
}

func padding(n, align int64) int64 { return (align - n%align) % align }

// text reads a name with its NUL.
func (c *cpioReader) text(n, align int64) (string, error) {
	pad := int64(0)
	if align > 1 {
		pad = padding(110+n, align)
	}
	buf := make([]byte, n+pad)
	if _, err := io.ReadFull(c.r, buf); err != nil {
		return "", corrupt("cpio name", err)
	}
	if buf[n-1] != 0 {
		return "", fmt.Errorf("%w: cpio name %q without NUL", ErrCorrupt, clip(string(buf[:n])))
	}
	return string(buf[:n]), nil
}

func (c *cpioReader) header() (h cpioHeader, err error) {
	var magic [6]byte
	if _, err := io.ReadFull(c.r, magic[:]); err != nil {
		return h, corrupt("cpio header", err)
	}
	f := &cpioFields{r: c.r}
	switch string(magic[:]) {
	case cpioNew, cpioCRC:
		f.base, h.align = 16, 4
		h.ino, h.mode, h.uid, h.gid, h.nlink = f.num(8), f.num(8), f.num(8), f.num(8), f.num(8)
		f.num(8) // time
		h.size = f.num(8)
		h.dev = f.num(8)<<32 | f.num(8)
		f.num(16) // device number
		h.name = f.num(8)
		f.num(8) // checksum
	case cpioOld:
		f.base, h.align = 8, 1
		h.dev, h.ino, h.mode, h.uid, h.gid, h.nlink = f.num(6), f.num(6), f.num(6), f.num(6), f.num(6), f.num(6)
		f.num(6)  // device number
		f.num(11) // time
		h.name, h.size = f.num(6), f.num(11)
	default:
		return h, fmt.Errorf("%w: cpio magic %q", ErrCorrupt, magic)
	}
	if f.err != nil {
		return h, f.err
	}
	if h.name == 0 || h.name > maxCpioName || h.mode&^(syscall.S_IFMT|0o7777) != 0 {
		return h, fmt.Errorf("%w: cpio entry: name of %d bytes, mode %o", ErrCorrupt, h.name, h.mode)
	}
	return h, nil
}

// cpioFields reads numbers written as digits and keeps the first error.
type cpioFields struct {
	r    io.Reader
	base int
	err  error
}

func (f *cpioFields) num(width int) uint64 {
	var buf [16]byte
	if f.err != nil {
		return 0
	}
	if _, f.err = io.ReadFull(f.r, buf[:width]); f.err != nil {
		f.err = corrupt("cpio header", f.err)
		return 0
	}
	n, err := strconv.ParseUint(string(buf[:width]), f.base, 64)
	if err != nil {
		f.err = fmt.Errorf("%w: cpio header: %q", ErrCorrupt, buf[:width])
	}
	return n
}
