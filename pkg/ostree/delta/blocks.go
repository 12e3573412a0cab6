// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"io"
)

const (
	blockSize  = 8 << 10
	blockSlots = 64
)

// blocks reads a file through a few of its blocks: patches take a few bytes at a
// time, going back and forth, and each would be a system call. It is not safe for
// concurrent use.
type blocks struct {
	r    io.ReaderAt
	size int64
	slot [blockSlots]cached
}

type cached struct {
	number int64 // -1: none
	data   []byte
}

// reset begins with another file and keeps the memory.
func (b *blocks) reset(r io.ReaderAt, size int64) {
	b.r, b.size = r, size
	for i := range b.slot {
		b.slot[i].number = -1
	}
}

// ReadAt is io.ReaderAt's.
func (b *blocks) ReadAt(p []byte, off int64) (total int, err error) {
	if len(p) >= blockSize {
		return b.r.ReadAt(p, off)
	}
	for total < len(p) {
		if off < 0 || off >= b.size {
			return total, io.EOF
		}
		data, err := b.load(off / blockSize)
		if err != nil {
			return total, err
		}
		from := int(off % blockSize)
		if from >= len(data) {
			return total, io.EOF
		}
		n := copy(p[total:], data[from:])
		total += n
		off += int64(n)
	}
	return total, nil
}

func (b *blocks) load(number int64) ([]byte, error) {
	s := &b.slot[number%blockSlots]
	if s.number == number {
		return s.data, nil
	}
	if s.data == nil {
		s.data = make([]byte, blockSize)
	}
	s.number = -1
	at := number * blockSize
	s.data = s.data[:min(blockSize, b.size-at)]
	n, err := b.r.ReadAt(s.data, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	s.data, s.number = s.data[:n], number
	return s.data, nil
}
