// SPDX-License-Identifier: Apache-2.0

package deflate

const (
	tailBytes = 8   // at the end, where no match is looked for
	dull      = 512 // bytes without a match after which fewer positions are looked at
)

// parser turns a segment into blocks of tokens.
type parser struct {
	e          *encoder
	start, end int32 // of the block; of the segment
}

func (e *encoder) literal(b byte) {
	e.tokens[e.n] = token(b) | noDist<<distShift
	e.n++
	e.lits[b]++
}

func (e *encoder) match(length, dist int32) {
	l, d := uint8(length-minMatch), uint32(dist-1)
	k, s := lenCode[l], distCode(d)
	x := d & (1<<distExtra(s) - 1)
	e.tokens[e.n] = token(firstLen+uint32(k)) | token(l-lenBase[k])<<9 | token(s<<distShift|x<<19)
	e.n++
	e.lits[firstLen+int(k)]++
	e.dists[s&(numDists-1)]++
}

func (p *parser) run() {
	e, buf := p.e, p.e.buf
	stop := p.end - tailBytes
	i := p.start
	last := i // where the last match ended
	next := e.candidate(i, stop)
	for i < stop {
		if e.n >= e.due {
			p.check(i)
		}
		pos := e.base + i
		c4 := next
		c3 := e.insert(load32(buf, i), pos, c4)
		next = e.candidate(i+1, stop)
		if max(c4, c3) >= e.oldest(pos) {
			n, d := e.search(i, c4, c3, minMatch-1, min(maxMatch, p.end-i), e.level.depth)
			if d != 0 && worth(n, d) {
				i = p.emit(i, n, d, stop, next)
				if n > minMatch {
					last = i
				}
				next = e.candidate(i, stop)
				continue
			}
		}
		e.literal(buf[i])
		i++
		if i-last > dull {
			i = p.skip(i, stop, min((i-last)/dull, 16))
			next = e.candidate(i, stop)
		}
	}
	for ; i < p.end; i++ {
		e.literal(buf[i])
	}
}

// check ends the block at index i where it is full or the data changes.
func (p *parser) check(i int32) {
	e := p.e
	if e.n >= maxTokens-2 || e.splitter.split(&e.lits, e.n, i-p.start) {
		p.block(i, false)
	}
	e.due = min(e.n+checkEvery, maxTokens-2)
}

// skip passes over bytes that are like the incompressible ones before.
func (p *parser) skip(i, stop, n int32) int32 {
	for ; n > 0 && i < stop; n-- {
		p.e.literal(p.e.buf[i])
		i++
	}
	return i
}

// emit takes the match at index i, or a better one that begins soon after. It gives
// the index after it. next is the candidate at i+1.
func (p *parser) emit(i, n, d, stop, next int32) int32 {
	e, buf := p.e, p.e.buf
	for n < int32(e.level.lazy) && i+1 < stop {
		c4 := next
		c3 := e.insert(load32(buf, i+1), e.base+i+1, c4)
		next = e.candidate(i+2, stop)
		n2, d2 := e.search(i+1, c4, c3, n-1, min(maxMatch, p.end-i-1), e.level.depth/2)
		if !better(n2, d2, n, d) {
			e.match(n, d)
			p.enter(i+2, i+n, stop)
			return i + n
		}
		e.literal(buf[i])
		i, n, d = i+1, n2, d2
	}
	e.match(n, d)
	p.enter(i+1, i+n, stop)
	return i + n
}

// entered is how many bytes at the end of a long match get into the tables: those
// before are like those that it is a copy of.
const entered = 32

// enter puts the bytes inside of a match into the tables, for matches of four bytes
// and more: the shorter ones that are lost cost less than finding them.
func (p *parser) enter(i, end, stop int32) {
	e, buf := p.e, p.e.buf
	end = min(end, stop)
	for i = max(i, end-entered); i < end; i++ {
		v, pos := load32(buf, i), e.base+i
		h4 := &e.head4[hash4(v)]
		e.prev[pos&(windowSize-1)] = *h4
		*h4 = pos
	}
}

// block writes the tokens so far, which stand for the bytes up to end.
func (p *parser) block(end int32, final bool) {
	p.e.writeBlock(p.e.buf[p.start:end], final)
	p.start = end
}

// splitter notices that the data has changed its nature, so that a block with codes
// of its own pays. It compares what came lately with the block before it, by coarse
// kinds of tokens.
type splitter struct {
	kinds  [kinds]uint32 // of the block at the last look
	tokens int
}

const (
	kinds      = 10
	checkEvery = 512
	minBlock   = 4096 // bytes
)

func (s *splitter) reset() { *s = splitter{} }

// kindsOf sums up what was counted: literals by two bits of the top and the lowest,
// matches of up to eight bytes, and longer ones.
func kindsOf(lits *[numLits]uint32) (sums [kinds]uint32) {
	for k := range 4 {
		var even, odd uint32
		quarter := lits[64*k : 64*k+64]
		for i := 0; i < 64; i += 2 {
			even += quarter[i]
			odd += quarter[i+1]
		}
		sums[2*k], sums[2*k+1] = even, odd
	}
	for _, n := range lits[firstLen : firstLen+6] {
		sums[8] += n
	}
	for _, n := range lits[firstLen+6:] {
		sums[9] += n
	}
	return sums
}

// split decides, for a block of so many tokens, and of size bytes, so far.
func (s *splitter) split(lits *[numLits]uint32, tokens int, size int32) bool {
	sums := kindsOf(lits)
	old, recent := uint64(s.tokens), uint64(tokens-s.tokens)
	if old > 0 && size >= minBlock {
		diff := uint64(0)
		for k, sum := range sums {
			a, b := uint64(s.kinds[k])*recent, uint64(sum-s.kinds[k])*old
			diff += max(a, b) - min(a, b)
		}
		// Longer blocks need less of a change: they keep what a new header costs small.
		if diff+uint64(size)/4096*old >= recent*old*2/5 {
			return true
		}
	}
	s.kinds, s.tokens = sums, tokens
	return false
}
