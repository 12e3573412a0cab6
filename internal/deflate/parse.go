// SPDX-License-Identifier: Apache-2.0

package deflate

const (
	tailBytes = 8    // at the end, where no match is looked for
	dull      = 1024 // bytes without a match after which fewer positions are looked at
)

// parser turns a segment into blocks of tokens.
type parser struct {
	e          *encoder
	buf        []byte
	start, end int32 // of the block; of the segment
}

func (p *parser) literal(b byte) {
	e := p.e
	e.tokens = append(e.tokens, token(b))
	e.lits[b]++
	e.splitter.literal(b)
}

func (p *parser) match(length, dist int32) {
	e := p.e
	e.tokens = append(e.tokens, isMatch|token(length-minMatch)<<16|token(dist-1))
	e.lits[firstLen+int(lenCode[length-minMatch])]++
	e.dists[distCode(uint32(dist-1))]++
	e.splitter.match(length)
}

func (p *parser) run() {
	e, buf := p.e, p.buf
	stop := p.end - tailBytes
	i := p.start
	last := i // where the last match ended
	for i < stop {
		if len(e.tokens) >= maxTokens-2 || e.splitter.due() && e.splitter.split(i-p.start) {
			p.block(i, false)
		}
		c4, c3 := e.insert(load32(buf, i), e.base+i)
		n, d := e.search(buf, i, c4, c3, minMatch-1, min(maxMatch, p.end-i), e.level.depth)
		if d == 0 || !worth(n, d) {
			p.literal(buf[i])
			i++
			if i-last > dull {
				i = p.skip(i, stop, min((i-last)/dull, 16))
			}
			continue
		}
		i = p.emit(i, n, d, stop)
		if n > minMatch {
			last = i
		}
	}
	for ; i < p.end; i++ {
		p.literal(buf[i])
	}
}

// skip passes over bytes that are like the incompressible ones before.
func (p *parser) skip(i, stop, n int32) int32 {
	for ; n > 0 && i < stop; n-- {
		p.literal(p.buf[i])
		i++
	}
	return i
}

// emit takes the match at index i, or a better one that begins soon after. It gives
// the index after it.
func (p *parser) emit(i, n, d, stop int32) int32 {
	e, buf := p.e, p.buf
	for n < int32(e.level.lazy) && i+1 < stop {
		c4, c3 := e.insert(load32(buf, i+1), e.base+i+1)
		n2, d2 := e.search(buf, i+1, c4, c3, n-1, min(maxMatch, p.end-i-1), e.level.depth/2)
		if !better(n2, d2, n, d) {
			p.match(n, d)
			p.enter(i+2, i+n, stop)
			return i + n
		}
		p.literal(buf[i])
		i, n, d = i+1, n2, d2
	}
	p.match(n, d)
	p.enter(i+1, i+n, stop)
	return i + n
}

// enter puts the bytes inside of a match into the tables, for matches of four bytes
// and more: the shorter ones that are lost cost less than finding them.
func (p *parser) enter(i, end, stop int32) {
	e, buf := p.e, p.buf
	for end = min(end, stop); i < end; i++ {
		v, pos := load32(buf, i), e.base+i
		h4 := &e.head4[hash4(v)]
		e.prev[pos&(windowSize-1)] = *h4
		*h4 = pos
	}
}

// block writes the tokens so far, which stand for the bytes up to end.
func (p *parser) block(end int32, final bool) {
	p.e.writeBlock(p.buf[p.start:end], final)
	p.start = end
}

// splitter notices that the data has changed its nature, so that a block with codes
// of its own pays. It compares what came lately with the block before it, by coarse
// kinds of tokens.
type splitter struct {
	old, recent [kinds]uint32
	nOld, n     uint32
}

const (
	kinds      = 10
	checkEvery = 512
	minBlock   = 8192 // bytes
)

func (s *splitter) reset() { *s = splitter{} }

func (s *splitter) literal(b byte) {
	s.recent[b>>5&6|b&1]++
	s.n++
}

func (s *splitter) match(length int32) {
	k := 8
	if length > 8 {
		k = 9
	}
	s.recent[k]++
	s.n++
}

func (s *splitter) due() bool { return s.n >= checkEvery }

// split decides, for a block of size bytes so far.
func (s *splitter) split(size int32) bool {
	if s.nOld > 0 && size >= minBlock {
		diff := uint64(0)
		for k := range s.old {
			a, b := uint64(s.old[k])*uint64(s.n), uint64(s.recent[k])*uint64(s.nOld)
			diff += max(a, b) - min(a, b)
		}
		// Longer blocks need less of a change: they keep what a new header costs small.
		limit := uint64(s.n) * uint64(s.nOld) * 2 / 5
		if diff+uint64(size)/4096*uint64(s.nOld) >= limit {
			return true
		}
	}
	for k := range s.old {
		s.old[k] += s.recent[k]
		s.recent[k] = 0
	}
	s.nOld, s.n = s.nOld+s.n, 0
	return false
}
