// SPDX-License-Identifier: Apache-2.0

package deflate

import "math/bits"

const (
	hash4Bits = 17
	hash3Bits = 11
	// maxPos is where positions start again; far enough for any number of small
	// streams between two clearings of the tables.
	maxPos = 1 << 30
)

// token is a literal byte, or a match: the symbol in 9 bits, the extra bits of the
// length in 5, the symbol of the distance in 5, noDist for a literal, and its extra bits
// in 13.
type token uint32

const (
	noDist    = 30
	distShift = 14
)

const (
	maxTokens = 1 << 15 // of a block
	// A block grows by more than a token between two looks at its length: by the
	// literals before a match, which become fewer than a third of the longest match's
	// length times four, or by those of the end.
	tokenSlack = 512
)

// encoder finds matches and writes blocks. Positions count on over streams, so that
// the tables, which hold positions, need not be cleared for each: what is below base
// belongs to an earlier stream or is no longer in the buffer.
type encoder struct {
	level level
	buf   []byte
	base  int32 // position of the first byte of the buffer
	next  int32 // position after the last byte that was seen
	head4 [1 << hash4Bits]int32
	head3 [1 << hash3Bits]int32
	prev  [windowSize]int32

	tokens   []token // room for maxTokens and tokenSlack
	n        int     // tokens of this block
	due      int     // tokens at which to look whether it ends
	lits     [numLits]uint32
	dists    [numDists]uint32
	splitter splitter
	codes    blockCodes
	packed   packedCodes
	out      bitWriter
}

// init prepares an encoder in its place: it is too large to be copied.
func (e *encoder) init(l level) {
	e.level, e.tokens = l, make([]token, maxTokens+tokenSlack)
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
	e.base = e.next + 1
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

// candidate gives the last position before index i where its next four bytes may be. It
// is asked before the search at the byte before, which hides that the table is slow.
func (e *encoder) candidate(i, stop int32) int32 {
	if i >= stop {
		return 0
	}
	return e.head4[hash4(load32(e.buf, i))]
}

// insert enters the bytes v at pos into the tables, where c4 is the candidate for four
// of them, and gives that for three.
func (e *encoder) insert(v uint32, pos, c4 int32) (c3 int32) {
	h3 := &e.head3[hash3(v)]
	c3 = *h3
	e.prev[pos&(windowSize-1)] = c4
	e.head4[hash4(v)], *h3 = pos, pos
	return c3
}

// oldest gives the position of the first byte that a match at pos may begin at.
func (e *encoder) oldest(pos int32) int32 { return max(pos-windowSize+1, e.base) }

// search looks for a match at index i that is longer than best. limit is the
// longest that may be. It gives best and 0 where there is none.
func (e *encoder) search(i, c4, c3, best, limit int32, depth int) (length, dist int32) {
	buf, base := e.buf, e.base
	pos := base + i
	oldest := e.oldest(pos)
	want := load32(buf, i)
	if best < minMatch {
		if c3 >= oldest && (load32(buf, c3-base)^want)<<8 == 0 {
			dist = pos - c3
		}
		best = minMatch
	}
	if best >= limit {
		return best, dist
	}
	nice := min(int32(e.level.nice), limit)
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
		c = e.prev[c&(windowSize-1)]
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
	e.buf = buf
	p := parser{e: e, start: int32(from), end: int32(len(buf))}
	p.run()
	e.next = e.base + p.end
	p.block(p.end, final)
	e.buf = nil
}
