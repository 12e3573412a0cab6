// SPDX-License-Identifier: Apache-2.0

package deflate

import "encoding/binary"

// blockCodes are the codes of a block and their description.
type blockCodes struct {
	lits   [numLits]code
	dists  [numDists]code
	lens   [numLens]code // of the description
	nLits  int
	nDists int
	nLens  int
	runs   []run
}

// run is a symbol of the description with its extra bits.
type run struct{ sym, extra uint8 }

// lensOrder is the order in which the description's own code lengths are written.
var lensOrder = [numLens]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// build makes the codes for counted tokens and gives the size of their description
// in bits.
func (c *blockCodes) build(lits, dists []uint32) int {
	lengths(lits, 15, c.lits[:])
	lengths(dists, 15, c.dists[:])
	assign(c.lits[:])
	assign(c.dists[:])
	for c.nLits = 286; c.nLits > 257 && c.lits[c.nLits-1].len == 0; c.nLits-- {
	}
	for c.nDists = 30; c.nDists > 1 && c.dists[c.nDists-1].len == 0; c.nDists-- {
	}
	var all [numLits + numDists]uint8
	for i := range c.nLits {
		all[i] = c.lits[i].len
	}
	for i := range c.nDists {
		all[c.nLits+i] = c.dists[i].len
	}
	var freq [numLens]uint32
	c.describe(all[:c.nLits+c.nDists], &freq)
	lengths(freq[:], 7, c.lens[:])
	assign(c.lens[:])
	for c.nLens = numLens; c.nLens > 4 && c.lens[lensOrder[c.nLens-1]].len == 0; c.nLens-- {
	}
	size := 14 + 3*c.nLens
	for s, f := range freq {
		size += int(f) * (int(c.lens[s].len) + runBits(uint8(s)))
	}
	return size
}

func runBits(sym uint8) int {
	switch sym {
	case 16:
		return 2
	case 17:
		return 3
	case 18:
		return 7
	}
	return 0
}

// describe writes code lengths as runs.
func (c *blockCodes) describe(all []uint8, freq *[numLens]uint32) {
	c.runs = c.runs[:0]
	add := func(sym, extra uint8) {
		c.runs = append(c.runs, run{sym, extra})
		freq[sym]++
	}
	for i := 0; i < len(all); {
		l, n := all[i], 1
		for i+n < len(all) && all[i+n] == l {
			n++
		}
		i += n
		if l == 0 {
			for ; n >= 11; n -= min(n, 138) {
				add(18, uint8(min(n, 138)-11))
			}
			if n >= 3 {
				add(17, uint8(n-3))
				n = 0
			}
		} else {
			add(l, 0)
			for n--; n >= 3; n -= min(n, 6) {
				add(16, uint8(min(n, 6)-3))
			}
		}
		for ; n > 0; n-- {
			add(l, 0)
		}
	}
}

// cost gives the size of counted tokens in bits under codes.
func cost(lits, dists []uint32, lc *[numLits]code, dc *[numDists]code) int {
	size := 0
	for s, f := range lits {
		n := int(lc[s].len)
		if s >= firstLen && s < firstLen+29 {
			n += int(lenExtra[s-firstLen])
		}
		size += int(f) * n
	}
	for s, f := range dists {
		size += int(f) * (int(dc[s].len) + int(distExtra(uint32(s))))
	}
	return size
}

// writeBlock writes the tokens, which stand for raw, in the shortest of the three
// forms and forgets them.
func (e *encoder) writeBlock(raw []byte, final bool) {
	if len(raw) == 0 && !final {
		return
	}
	e.lits[endBlock]++
	dynamic := e.codes.build(e.lits[:], e.dists[:]) + cost(e.lits[:], e.dists[:], &e.codes.lits, &e.codes.dists)
	fixed := cost(e.lits[:], e.dists[:], &fixedLits, &fixedDists)
	last := uint64(0)
	if final {
		last = 1
	}
	if stored := (len(raw)/maxStored+1)*40 + 8*len(raw); len(raw) > 0 && stored < min(dynamic, fixed) {
		e.writeStored(raw, last)
	} else if fixed <= dynamic {
		e.out.grow(fixed/8 + 16)
		e.out.add(last|1<<1, 3)
		e.writeTokens(&fixedLits, &fixedDists)
	} else {
		e.out.grow(dynamic/8 + 64)
		e.out.add(last|2<<1, 3)
		e.writeCodes()
		e.writeTokens(&e.codes.lits, &e.codes.dists)
	}
	if final {
		e.out.align()
	}
	e.n, e.due = 0, checkEvery
	e.lits, e.dists = [numLits]uint32{}, [numDists]uint32{}
	e.splitter.reset()
}

func (e *encoder) writeStored(raw []byte, last uint64) {
	for len(raw) > 0 {
		n := min(len(raw), maxStored)
		e.out.grow(n + 16)
		if n == len(raw) {
			e.out.add(last, 3)
		} else {
			e.out.add(0, 3)
		}
		e.out.align()
		e.out.add(uint64(n)|uint64(^uint16(n))<<16, 32)
		e.out.bytes(raw[:n])
		raw = raw[n:]
	}
}

func (e *encoder) writeCodes() {
	c, w := &e.codes, &e.out
	w.add(uint64(c.nLits-257), 5)
	w.add(uint64(c.nDists-1), 5)
	w.add(uint64(c.nLens-4), 4)
	for _, s := range lensOrder[:c.nLens] {
		w.add(uint64(c.lens[s].len), 3)
	}
	for _, r := range c.runs {
		w.add(uint64(c.lens[r.sym].bits), uint(c.lens[r.sym].len))
		w.add(uint64(r.extra), uint(runBits(r.sym)))
	}
}

// packedCodes are codes as writeTokens needs them: their bits in 16 bits, the number of
// them in 8, and that number with the extra bits in 8. Where there is no code all are 0.
type packedCodes struct {
	lits  [512]uint32
	dists [numDists]uint32
}

func (p *packedCodes) pack(lits *[numLits]code, dists *[numDists]code) {
	for s, c := range lits {
		p.lits[s] = uint32(c.bits) | uint32(c.len)<<16 | uint32(c.len)<<24
	}
	for s, x := range lenExtra {
		p.lits[firstLen+s] += uint32(x) << 24
	}
	for s, c := range dists[:noDist] {
		p.dists[s] = uint32(c.bits) | uint32(c.len)<<16 | (uint32(c.len)+distExtra(uint32(s)))<<24
	}
}

// writeTokens knows no difference between literals and matches: a branch would often be
// mispredicted. A token has at most 48 bits.
func (e *encoder) writeTokens(lits *[numLits]code, dists *[numDists]code) {
	p := &e.packed
	p.pack(lits, dists)
	e.out.add(0, 0)
	buf, n := e.out.buf, e.out.n
	acc, have := e.out.acc, e.out.have
	for _, t := range e.tokens[:e.n] {
		c, d := p.lits[t&511], p.dists[t>>distShift&31]
		l := uint64(c&0xffff) | uint64(t>>9&31)<<(c>>16&31)
		m := uint64(d&0xffff) | uint64(t>>19)<<(d>>16&31)
		acc |= (l | m<<(c>>24&63)) << (have & 63)
		have += uint(c>>24 + d>>24)
		binary.LittleEndian.PutUint64(buf[n:], acc)
		n += int(have >> 3)
		acc >>= have & 56
		have &= 7
	}
	e.out.n, e.out.acc, e.out.have = n, acc, have
	e.out.add(uint64(lits[endBlock].bits), uint(lits[endBlock].len))
}

// bitWriter collects bits, low ones first. Fewer than 64 are pending.
type bitWriter struct {
	buf  []byte // room and, up to n, what is written
	n    int
	acc  uint64
	have uint
}

func (w *bitWriter) reset() { w.n, w.acc, w.have = 0, 0, 0 }

// grow makes room for size bytes and a word more.
func (w *bitWriter) grow(size int) {
	if need := w.n + size + 16; need > len(w.buf) {
		buf := make([]byte, max(need, 2*len(w.buf)))
		copy(buf, w.buf[:w.n])
		w.buf = buf
	}
}

// add appends up to 48 bits.
func (w *bitWriter) add(v uint64, bits uint) {
	if w.have > 15 {
		binary.LittleEndian.PutUint64(w.buf[w.n:], w.acc)
		w.n += int(w.have >> 3)
		w.acc >>= w.have & 56
		w.have &= 7
	}
	w.acc |= v << w.have
	w.have += bits
}

// align fills the last byte up and writes what is pending.
func (w *bitWriter) align() {
	w.grow(8)
	for ; w.have > 0; w.have -= min(w.have, 8) {
		w.buf[w.n] = byte(w.acc)
		w.n++
		w.acc >>= 8
	}
}

// bytes appends raw bytes after align and 32 bits.
func (w *bitWriter) bytes(p []byte) {
	w.align()
	w.grow(len(p))
	w.n += copy(w.buf[w.n:], p)
}

// take gives the whole bytes so far; they hold until the next write.
func (w *bitWriter) take() []byte {
	n := w.n
	w.n = 0
	return w.buf[:n]
}
