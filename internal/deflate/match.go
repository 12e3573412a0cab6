// SPDX-License-Identifier: Apache-2.0

package deflate

import "math/bits"

const (
	hash4Bits = 15
	hash3Bits = 11
	// maxPos is where positions start again; far enough for any number of small
	// streams between two clearings of the tables.
	maxPos = 1 << 30
)

// token is a literal byte, or a match: isMatch, length-3 in 8 bits, distance-1 in 16.
type token uint32

const isMatch = 1 << 31

const maxTokens = 1 << 15 // of a block

// encoder finds matches and writes blocks. Positions count on over streams, so that
// the tables, which hold positions, need not be cleared for each: what is below low
// belongs to an earlier stream.
type encoder struct {
	level level
	base  int32 // position of the first byte of the buffer
	low   int32 // position of the first byte of the stream
	next  int32 // position after the last byte that was seen
	head4 [1 << hash4Bits]int32
	head3 [1 << hash3Bits]int32
	prev  [windowSize]int32

	tokens   []token
	lits     [numLits]uint32
	dists    [numDists]uint32
	splitter splitter
	codes    blockCodes
	out      bitWriter
}

func (e *encoder) reset() {
	e.restart()
	e.out.reset()
}

// restart forgets all positions.
func (e *encoder) restart() {
	if e.next == 0 || e.next > maxPos {
		e.head4, e.head3 = [1 << hash4Bits]int32{}, [1 << hash3Bits]int32{}
		e.next = 0
	}
	// Position 0 is no position.
	e.low = e.next + 1
	e.base = e.low
}

// slide tells that the buffer lost n bytes at its start.
func (e *encoder) slide(n int) {
	e.base += int32(n)
	if e.base < maxPos+(1<<28) {
		return
	}
	e.next = 0
	e.restart() // the window is lost once in a GiB
}

func (e *encoder) take() []byte { return e.out.take() }

func hash4(v uint32) uint32 { return v * 0x9E3779B1 >> (32 - hash4Bits) }
func hash3(v uint32) uint32 { return (v << 8) * 0x9E3779B1 >> (32 - hash3Bits) }

// matchLen counts equal bytes at a and b, at most limit.
func matchLen(buf []byte, a, b, limit int32) int32 {
	n := int32(0)
	for n+8 <= limit {
		if x := load64(buf, a+n) ^ load64(buf, b+n); x != 0 {
			return n + int32(bits.TrailingZeros64(x)>>3)
		}
		n += 8
	}
	for n < limit && buf[a+n] == buf[b+n] {
		n++
	}
	return n
}

// insert enters the bytes at index i into the tables and gives the candidates that
// were there.
func (e *encoder) insert(v uint32, pos int32) (c4, c3 int32) {
	h4, h3 := &e.head4[hash4(v)], &e.head3[hash3(v)]
	c4, c3 = *h4, *h3
	e.prev[pos&(windowSize-1)] = c4
	*h4, *h3 = pos, pos
	return c4, c3
}

// search looks for a match at index i that is longer than best. limit is the
// longest that may be. It gives best and 0 where there is none.
func (e *encoder) search(buf []byte, i, c4, c3, best, limit int32, depth int) (length, dist int32) {
	base := e.base
	pos := base + i
	oldest := max(e.low, pos-windowSize+1, base)
	if best < minMatch && c3 >= oldest {
		if (load32(buf, c3-base)^load32(buf, i))<<8 == 0 {
			best, dist = minMatch, pos-c3
		}
	}
	nice := min(int32(e.level.nice), limit)
	if best < minMatch {
		best = minMatch
	}
	if best >= limit {
		return best, dist
	}
	want := load32(buf, i)
	tail := load32(buf, i+best-3)
	for c := c4; c >= oldest && depth > 0; depth-- {
		j := c - base
		if load32(buf, j+best-3) == tail && load32(buf, j) == want {
			if n := 4 + matchLen(buf, j+4, i+4, limit-4); n > best {
				best, dist = n, pos-c
				if n >= nice {
					break
				}
				tail = load32(buf, i+best-3)
			}
		}
		older := e.prev[c&(windowSize-1)]
		if older >= c {
			break
		}
		c = older
	}
	return best, dist
}

// worth tells whether a match is shorter than its bytes as literals may be.
func worth(length, dist int32) bool {
	return length > minMatch || length == minMatch && dist <= 4096
}

// better tells whether a match one byte later is worth the literal.
func better(n2, d2, n1, d1 int32) bool {
	if d2 == 0 || n2 < n1 {
		return false
	}
	return 4*(n2-n1)+int32(bits.Len32(uint32(d1)))-int32(bits.Len32(uint32(d2))) > 2
}

// segment compresses buf[from:]; what is before is the window.
func (e *encoder) segment(buf []byte, from int, final bool) {
	p := parser{e: e, buf: buf, start: int32(from), end: int32(len(buf))}
	p.run()
	e.next = e.base + p.end
	p.block(p.end, final)
}
