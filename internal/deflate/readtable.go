// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"fmt"
	"math/bits"
	"slices"
)

// entry says what a code means: its length in bits 0 to 5; the operation in bits 8
// to 11; a number of bits in bits 12 to 15; a value above.
type entry uint32

const (
	opLiteral = iota
	opBase    // value is a base to which extra bits are added
	opEnd     // of the block
	opTable   // value is the offset of a second table with as many index bits
	opInvalid
)

func (e entry) op() uint32  { return uint32(e) >> 8 & 15 }
func (e entry) extra() uint { return uint(e) >> 12 & 15 }

func makeEntry(op, extra, value uint32) entry { return entry(op<<8 | extra<<12 | value<<16) }

// huffTable decodes one alphabet: a first table for short codes, followed by second
// tables for the rest.
type huffTable struct {
	first   uint // index bits of the first table
	entries []entry
}

// find gives the entry for the code at the low end of b.
func (t *huffTable) find(b uint64) entry {
	e := t.entries[b&(1<<t.first-1)]
	if e.op() == opTable {
		e = t.entries[int(e>>16)+int(b>>t.first)&(1<<e.extra()-1)]
	}
	return e
}

const maxCodeLen = 15

// build makes the tables for code lengths and what the symbols mean. A set of codes
// must be complete; a single one of one bit, or none, may stand alone.
func (t *huffTable) build(first uint, lengths []uint8, meaning func(sym int) entry) error {
	var count [maxCodeLen + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	used, left, longest := 0, 1, 0
	for n := 1; n <= maxCodeLen; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return fmt.Errorf("%w: too many codes", ErrCorrupt)
		}
		used += count[n]
		if count[n] > 0 {
			longest = n
		}
	}
	if left > 0 && (used > 1 || longest > 1) {
		return fmt.Errorf("%w: incomplete set of codes", ErrCorrupt)
	}
	var next [maxCodeLen + 2]uint32
	for n := 1; n <= maxCodeLen; n++ {
		next[n+1] = (next[n] + uint32(count[n])) << 1
	}
	t.reset(first)
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		code := bits.Reverse32(next[n]) >> (32 - n)
		next[n]++
		t.add(code, uint(n), uint(longest), meaning(sym))
	}
	return nil
}

func (t *huffTable) reset(first uint) {
	t.first = first
	t.entries = slices.Grow(t.entries[:0], 1<<first)[:1<<first]
	for i := range t.entries {
		t.entries[i] = makeEntry(opInvalid, 0, 0) | 1
	}
}

// add enters a code, lowest bit first, wherever the bits behind it lead.
func (t *huffTable) add(code uint32, n, longest uint, e entry) {
	if n <= t.first {
		for i := code; i < 1<<t.first; i += 1 << n {
			t.entries[i] = e | entry(n)
		}
		return
	}
	head := code & (1<<t.first - 1)
	sub := longest - t.first
	if t.entries[head].op() != opTable {
		at := len(t.entries)
		t.entries[head] = makeEntry(opTable, uint32(sub), uint32(at))
		for range 1 << sub {
			t.entries = append(t.entries, makeEntry(opInvalid, 0, 0)|1)
		}
	}
	table := t.entries[t.entries[head]>>16:]
	for i := code >> t.first; i < 1<<sub; i += 1 << (n - t.first) {
		table[i] = e | entry(n)
	}
}

func literalMeaning(sym int) entry {
	switch {
	case sym < 256:
		return makeEntry(opLiteral, 0, uint32(sym))
	case sym == 256:
		return makeEntry(opEnd, 0, 0)
	case sym < 265:
		return makeEntry(opBase, 0, uint32(sym-254))
	case sym < 285:
		extra := uint32(sym-261) / 4
		return makeEntry(opBase, extra, (4+uint32(sym-265)%4)<<extra+3)
	case sym == 285:
		return makeEntry(opBase, 0, maxMatch)
	}
	return makeEntry(opInvalid, 0, 0)
}

func distanceMeaning(sym int) entry {
	switch {
	case sym < 4:
		return makeEntry(opBase, 0, uint32(sym+1))
	case sym < 30:
		extra := uint32(sym-2) / 2
		return makeEntry(opBase, extra, (2+uint32(sym)%2)<<extra+1)
	}
	return makeEntry(opInvalid, 0, 0)
}

// fixed enters the codes of block type 1.
func (r *Reader) fixed() {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	_ = r.lit.build(litBits, lengths[:], literalMeaning)
	for i := range 32 {
		lengths[i] = 5
	}
	_ = r.dist.build(distBits, lengths[:32], distanceMeaning)
	r.state = (*Reader).codes
}

// dynamic reads the codes of block type 2.
func (r *Reader) dynamic() error {
	h, err := r.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, nlen := int(h&31)+257, int(h>>5&31)+1, int(h>>10)+4
	if nlit > 286 || ndist > 30 {
		return fmt.Errorf("%w: %d and %d codes", ErrCorrupt, nlit, ndist)
	}
	order := [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var lens [19]uint8
	for _, i := range order[:nlen] {
		v, err := r.take(3)
		if err != nil {
			return err
		}
		lens[i] = uint8(v)
	}
	// The table of lengths is needed for a moment only.
	err = r.dist.build(7, lens[:], func(sym int) entry { return makeEntry(opLiteral, 0, uint32(sym)) })
	if err != nil {
		return err
	}
	var lengths [286 + 30]uint8
	if err := r.readLengths(lengths[:nlit+ndist]); err != nil {
		return err
	}
	if lengths[256] == 0 {
		return fmt.Errorf("%w: no end of block", ErrCorrupt)
	}
	if err := r.lit.build(litBits, lengths[:nlit], literalMeaning); err != nil {
		return err
	}
	if err := r.dist.build(distBits, lengths[nlit:nlit+ndist], distanceMeaning); err != nil {
		return err
	}
	r.state = (*Reader).codes
	return nil
}

func (r *Reader) readLengths(lengths []uint8) error {
	for i := 0; i < len(lengths); {
		if err := r.need(7); err != nil {
			return err
		}
		e := r.dist.find(r.bits)
		if err := r.use(uint(e & 63)); err != nil {
			return err
		}
		if e.op() != opLiteral {
			return fmt.Errorf("%w: invalid code length", ErrCorrupt)
		}
		sym := uint8(e >> 16)
		if sym < 16 {
			lengths[i] = sym
			i++
			continue
		}
		n, value, err := r.repeat(sym, lengths[:i])
		if err != nil {
			return err
		}
		if i+n > len(lengths) {
			return fmt.Errorf("%w: code lengths overflow", ErrCorrupt)
		}
		for range n {
			lengths[i] = value
			i++
		}
	}
	return nil
}

func (r *Reader) repeat(sym uint8, before []uint8) (n int, value uint8, err error) {
	var extra uint
	var base int
	switch sym {
	case 16:
		if len(before) == 0 {
			return 0, 0, fmt.Errorf("%w: nothing to repeat", ErrCorrupt)
		}
		base, extra, value = 3, 2, before[len(before)-1]
	case 17:
		base, extra = 3, 3
	default:
		base, extra = 11, 7
	}
	v, err := r.take(extra)
	return base + int(v), value, err
}
