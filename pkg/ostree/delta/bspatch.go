// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	controlSize = 24
	// maxSeek keeps positions in the old file far from overflow.
	maxSeek = 1 << 61
)

// bspatcher is the file that a bsdiff patch makes out of an old one. Patch and
// old file are read as needed.
type bspatcher struct {
	old     io.ReaderAt
	oldSize int64
	patch   io.Reader
	left    int64 // bytes of the new file still to come
	oldPos  int64
	diff    int64 // of the current control: bytes still to be added to old ones
	extra   int64 // and to be copied
	seek    int64
	buf     []byte
	head    [controlSize]byte
}

// newBspatcher begins a patch; buf is memory to work with, which decides how much
// is read at a time.
func newBspatcher(old io.ReaderAt, oldSize int64, patch io.Reader, newSize int64, buf []byte) *bspatcher {
	return &bspatcher{old: old, oldSize: oldSize, patch: patch, left: newSize, buf: buf}
}

func (b *bspatcher) Read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case b.diff > 0:
			return b.readDiff(p[:min(int64(len(p)), b.diff)])
		case b.extra > 0:
			p = p[:min(int64(len(p)), b.extra)]
			if err := b.fill(p); err != nil {
				return 0, err
			}
			b.extra -= int64(len(p))
			b.left -= int64(len(p))
			return len(p), nil
		case b.left == 0:
			return 0, io.EOF
		}
		if err := b.control(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (b *bspatcher) control() error {
	b.oldPos += b.seek
	if b.oldPos > maxSeek || b.oldPos < -maxSeek {
		return fmt.Errorf("%w: patch seeks to %d", ErrCorrupt, b.oldPos)
	}
	c := b.head[:]
	if err := b.fill(c); err != nil {
		return err
	}
	b.diff, b.extra, b.seek = signMagnitude(c[:8]), signMagnitude(c[8:16]), signMagnitude(c[16:])
	if b.diff < 0 || b.diff > b.left || b.extra < 0 || b.extra > b.left-b.diff || b.seek > maxSeek || b.seek < -maxSeek {
		return fmt.Errorf("%w: patch control %d, %d, %d with %d bytes to go", ErrCorrupt, b.diff, b.extra, b.seek, b.left)
	}
	return nil
}

func (b *bspatcher) fill(p []byte) error {
	_, err := io.ReadFull(b.patch, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: patch is cut off", ErrCorrupt)
	}
	return err
}

// readDiff adds the bytes of the patch to those of the old file; positions
// outside of it count as zero.
func (b *bspatcher) readDiff(p []byte) (int, error) {
	p = p[:min(len(p), len(b.buf))]
	if err := b.fill(p); err != nil {
		return 0, err
	}
	lo, hi := max(b.oldPos, 0), min(b.oldPos+int64(len(p)), b.oldSize)
	if lo < hi {
		old := b.buf[:hi-lo]
		if n, err := b.old.ReadAt(old, lo); n < len(old) {
			return 0, fmt.Errorf("read source at %d: %w", lo, err)
		}
		addBytes(p[lo-b.oldPos:], old)
	}
	b.oldPos += int64(len(p))
	b.diff -= int64(len(p))
	b.left -= int64(len(p))
	return len(p), nil
}

// addBytes adds src to dst byte by byte, eight at a time: the high bits are kept
// out of the addition so that no carry crosses a byte.
func addBytes(dst, src []byte) {
	const high = 0x8080808080808080
	i := 0
	for ; i+8 <= len(src); i += 8 {
		a, b := binary.LittleEndian.Uint64(dst[i:]), binary.LittleEndian.Uint64(src[i:])
		binary.LittleEndian.PutUint64(dst[i:], (a&^high+b&^high)^(a^b)&high)
	}
	for ; i < len(src); i++ {
		dst[i] += src[i]
	}
}

// signMagnitude reads a little-endian number whose top bit is the sign.
func signMagnitude(b []byte) int64 {
	n := binary.LittleEndian.Uint64(b)
	if n>>63 == 1 {
		return -int64(n &^ (1 << 63))
	}
	return int64(n)
}

func putSignMagnitude(b []byte, n int64) {
	u := uint64(n)
	if n < 0 {
		u = uint64(-n) | 1<<63
	}
	binary.LittleEndian.PutUint64(b, u)
}
