// SPDX-License-Identifier: Apache-2.0

// Package deflate writes and reads raw DEFLATE streams (RFC 1951). Its output at a
// level is not larger than that of zlib on what OS trees are made of, in less than
// half of the time.
package deflate

import (
	"fmt"
	"io"
)

const (
	windowSize = 1 << 15
	segment    = 1 << 20 // bytes that are compressed at a time
	minMatch   = 3
	maxMatch   = 258
	maxStored  = 65535
)

// level is how much work goes into finding matches.
type level struct {
	depth int // candidates per position
	nice  int // length that ends a search
	lazy  int // matches up to this length give way to a better one at the next byte
}

// levels has the effort of zlib's levels 1 to 9.
var levels = [10]level{
	1: {2, 16, 0}, 2: {3, 20, 0}, 3: {4, 24, 0}, 4: {6, 24, 8}, 5: {8, 32, 12},
	6: {12, 32, 16}, 7: {24, 96, 64}, 8: {64, 192, 192}, 9: {256, 258, 258},
}

// Writer compresses what is written to it. It keeps about 2 MiB of memory.
type Writer struct {
	w    io.Writer
	buf  []byte // window and segment
	hist int    // bytes of the window in buf
	err  error
	enc  encoder
}

// NewWriter makes a writer of a level from 1, fast, to 9, small.
func NewWriter(w io.Writer, lvl int) (*Writer, error) {
	if lvl < 1 || lvl > 9 {
		return nil, fmt.Errorf("deflate: level %d", lvl)
	}
	z := &Writer{}
	z.enc.init(levels[lvl])
	z.Reset(w)
	return z, nil
}

// Reset begins a new stream to w.
func (z *Writer) Reset(w io.Writer) {
	z.w, z.err, z.hist = w, nil, 0
	z.buf = z.buf[:0]
	z.enc.reset()
}

// Write implements io.Writer.
func (z *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && z.err == nil {
		if len(z.buf)-z.hist == segment {
			z.flush(false)
		}
		k := min(len(p), segment-(len(z.buf)-z.hist))
		z.buf = append(z.buf, p[:k]...)
		p = p[k:]
	}
	if z.err != nil {
		return 0, z.err
	}
	return n, nil
}

// flush compresses what is in the buffer but the window, and keeps a window.
func (z *Writer) flush(final bool) {
	z.enc.segment(z.buf, z.hist, final)
	_, z.err = z.w.Write(z.enc.take())
	if drop := len(z.buf) - windowSize; drop > 0 && !final {
		copy(z.buf, z.buf[drop:])
		z.buf = z.buf[:windowSize]
		z.enc.slide(drop)
	}
	z.hist = len(z.buf)
}

// Close ends the stream; it does not close what is below.
func (z *Writer) Close() error {
	if z.err == nil {
		z.flush(true)
	}
	return z.err
}

// Compress appends src, compressed as a whole stream, to dst.
func (z *Writer) Compress(dst, src []byte) []byte {
	z.Reset(nil)
	z.enc.out.buf, z.enc.out.n = dst[:cap(dst)], len(dst)
	for at := 0; ; at += segment {
		end := min(at+segment, len(src))
		z.enc.segment(src[:end], at, end == len(src))
		if end == len(src) {
			break
		}
	}
	out := z.enc.out.buf[:z.enc.out.n]
	z.enc.out = bitWriter{}
	return out
}
