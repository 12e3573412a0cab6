// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"fmt"
	"io"
	"math/bits"
)

// entry says what a code means. Bits 0 to 5 are the number of bits that it takes, those of
// the number behind it included; bits 8 to 11 the length of the code alone; bits 16 to 31
// a value. Bit 15 marks a literal. Bit 14 marks what is special: bits 12 and 13 are an
// operation then, and one that leads to a second table takes no bits yet.
type entry uint32

const (
	literalFlag = 1 << 15
	specialFlag = 1 << 14
	kindShift   = 12
)

const (
	opTable = iota // a second table: the value is its offset, bits 8 to 11 its index bits
	opEnd          // of the block
	opInvalid
	badDistance // is no operation
)

const (
	endMeaning     entry = specialFlag | opEnd<<kindShift
	invalidMeaning entry = specialFlag | opInvalid<<kindShift
	invalidEntry         = invalidMeaning + 1
)

func (e entry) literal() bool { return e&literalFlag != 0 }
func (e entry) special() bool { return e&specialFlag != 0 }
func (e entry) op() uint32    { return uint32(e) >> kindShift & 3 }
func (e entry) bits() uint    { return uint(e) & 63 }
func (e entry) code() uint    { return uint(e) >> 8 & 15 }

// number gives a length or distance whose code is at the low end of b. Bits 12 and 13
// are zero then, and masks that fit shift instructions cost nothing.
func (e entry) number(b uint64) int {
	return int(e>>16) + int(b&(1<<(e&63)-1)>>(e>>8&63))
}

// withCode enters the length of the code of what a symbol means.
func (e entry) withCode(n uint) entry { return e + entry(n)*0x101 }

func literalEntry(value uint32) entry { return entry(literalFlag | value<<16) }

// numberEntry is a base to which extra bits are added.
func numberEntry(base, extra uint32) entry { return entry(base<<16 | extra) }

// Sizes have room for a first table and the second tables of all longer codes: each has
// at least two symbols, and an entry for all that may follow the first bits.
const (
	litSize  = 1<<litBits + 288/2<<(maxCodeLen-litBits)
	distSize = 1<<distBits + 32/2<<(maxCodeLen-distBits)
)

// second follows e to a second table, if it leads to one; b are the bits behind the first.
func second(entries []entry, e entry, b uint64) entry {
	if e.op() != opTable {
		return e
	}
	return entries[int(e>>16)+int(b&(1<<e.code()-1))]
}

// huffTable decodes one alphabet: a first table for short codes, followed by second
// tables for the rest.
type huffTable struct {
	first   uint // index bits of the first table
	used    int  // entries
	entries []entry
}

// find gives the entry for the code at the low end of b.
func (t *huffTable) find(b uint64) entry {
	e := t.entries[b&(1<<t.first-1)]
	if e.special() {
		e = second(t.entries, e, b>>t.first)
	}
	return e
}

const maxCodeLen = 15

// build makes the tables for code lengths and what the symbols mean. A set of codes
// must be complete; a single one of one bit, or none, may stand alone.
func (t *huffTable) build(first uint, lengths []uint8, means []entry) error {
	// The halves of the alphabet have counts of their own: each would else wait for the
	// one before.
	var count, other, next, upper [maxCodeLen + 2]int
	half := (len(lengths) + 1) / 2
	low, high := lengths[:half], lengths[half:]
	for i, n := range low {
		count[n&15]++
		if i < len(high) {
			other[high[i]&15]++
		}
	}
	count[0], other[0] = 0, 0
	left, longest := 1, 0
	for n := 1; n <= maxCodeLen; n++ {
		upper[n] = next[n] + count[n]
		count[n] += other[n]
		left = left<<1 - count[n]
		if left < 0 {
			return fmt.Errorf("%w: too many codes", ErrCorrupt)
		}
		next[n+1] = next[n] + count[n]
		if count[n] > 0 {
			longest = n
		}
	}
	if used := next[maxCodeLen+1]; left > 0 && (used > 1 || longest > 1) {
		return fmt.Errorf("%w: incomplete set of codes", ErrCorrupt)
	}
	// Symbols by length of their codes, in which order the codes count up; those
	// without one come last.
	var sorted [288]uint16
	next[0] = next[maxCodeLen+1]
	upper[0] = next[0]
	for i, n := range low {
		at := &next[n&15]
		sorted[*at] = uint16(i)
		*at++
		if i < len(high) {
			at = &upper[high[i]&15]
			sorted[*at] = uint16(half + i)
			*at++
		}
	}
	t.first = first
	t.enter(sorted[:], count[:], means)
	return nil
}

// enter fills the tables: the first one doubles with each bit of the codes.
func (t *huffTable) enter(sorted []uint16, count []int, means []entry) {
	entries, at := t.entries, 0
	entries[0] = invalidEntry
	code := uint(0)
	for n := uint(1); n <= t.first; n++ {
		half := 1 << (n - 1)
		copy(entries[half:2*half], entries[:half])
		code <<= 1
		for _, sym := range sorted[at : at+count[n]] {
			entries[reverse(code, n)] = means[sym].withCode(n)
			code++
		}
		at += count[n]
	}
	t.used = 1 << t.first
	longest := uint(maxCodeLen)
	for longest > t.first && count[longest] == 0 {
		longest--
	}
	for n := t.first + 1; n <= longest; n++ {
		code <<= 1
		for _, sym := range sorted[at : at+count[n]] {
			t.addLong(reverse(code, n), n, longest, means[sym].withCode(n))
			code++
		}
		at += count[n]
	}
}

// reverse puts the first bit of a code lowest.
func reverse(code, n uint) uint { return uint(bits.Reverse16(uint16(code))) >> ((16 - n) & 15) }

// addLong enters a code that is longer than the index of the first table, lowest bit
// first, wherever the bits behind it lead.
func (t *huffTable) addLong(code, n, longest uint, e entry) {
	head := &t.entries[code&(1<<t.first-1)]
	sub := longest - t.first
	if *head == invalidEntry {
		*head = entry(specialFlag | opTable<<kindShift | uint32(sub)<<8 | uint32(t.used)<<16)
		t.used += 1 << sub
	}
	table := t.entries[*head>>16:][:1<<sub]
	for i := code >> t.first; i < 1<<sub; i += 1 << (n - t.first) {
		table[i] = e
	}
}

// meanings are what the symbols of the three alphabets stand for, without their codes.
type meanings struct {
	lits  [288]entry
	dists [32]entry
	lens  [19]entry
}

func newMeanings() *meanings {
	m := new(meanings)
	for sym := range m.lits {
		m.lits[sym] = literalMeaning(sym)
	}
	for sym := range m.dists {
		m.dists[sym] = distanceMeaning(sym)
	}
	for sym := range m.lens {
		m.lens[sym] = lengthMeaning(sym)
	}
	return m
}

func literalMeaning(sym int) entry {
	switch {
	case sym < 256:
		return literalEntry(uint32(sym))
	case sym == 256:
		return endMeaning
	case sym < 265:
		return numberEntry(uint32(sym-254), 0)
	case sym < 285:
		extra := uint32(sym-261) / 4
		return numberEntry((4+uint32(sym-265)%4)<<extra+3, extra)
	case sym == 285:
		return numberEntry(maxMatch, 0)
	}
	return invalidMeaning
}

func distanceMeaning(sym int) entry {
	switch {
	case sym < 4:
		return numberEntry(uint32(sym+1), 0)
	case sym < 30:
		extra := uint32(sym-2) / 2
		return numberEntry((2+uint32(sym)%2)<<extra+1, extra)
	}
	return invalidMeaning
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
	_ = r.lit.build(litBits, lengths[:], r.means.lits[:])
	for i := range 32 {
		lengths[i] = 5
	}
	_ = r.dist.build(distBits, lengths[:32], r.means.dists[:])
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
	if err := r.dist.build(lenBits, lens[:], r.means.lens[:]); err != nil {
		return err
	}
	var lengths [286 + 30]uint8
	if err := r.readLengths(lengths[:nlit+ndist]); err != nil {
		return err
	}
	if lengths[256] == 0 {
		return fmt.Errorf("%w: no end of block", ErrCorrupt)
	}
	if err := r.lit.build(litBits, lengths[:nlit], r.means.lits[:]); err != nil {
		return err
	}
	if err := r.dist.build(distBits, lengths[nlit:nlit+ndist], r.means.dists[:]); err != nil {
		return err
	}
	r.state = (*Reader).codes
	return nil
}

func (r *Reader) readLengths(lengths []uint8) error {
	bits, nbits := r.bits, r.nbits
	for i := 0; i < len(lengths); {
		if nbits < 14 { // a code and what is behind it
			r.bits, r.nbits = bits, nbits
			if err := r.need(14); err != nil {
				return err
			}
			bits, nbits = r.bits, r.nbits
		}
		e, at := r.mem.dist[bits&(1<<lenBits-1)], bits
		bits >>= e & 63
		nbits -= e.bits()
		if nbits < r.padded {
			return io.ErrUnexpectedEOF
		}
		if e.literal() {
			lengths[i] = uint8(e >> 16)
			i++
			continue
		}
		if e.special() {
			return fmt.Errorf("%w: invalid code length", ErrCorrupt)
		}
		n, value := e.number(at), uint8(0)
		if n&repeatLast != 0 {
			if i == 0 {
				return fmt.Errorf("%w: nothing to repeat", ErrCorrupt)
			}
			n, value = n&^repeatLast, lengths[i-1]
		}
		if i+n > len(lengths) {
			return fmt.Errorf("%w: code lengths overflow", ErrCorrupt)
		}
		if value != 0 {
			for j := range n {
				lengths[i+j] = value
			}
		}
		i += n
	}
	r.bits, r.nbits = bits, nbits
	return nil
}

// repeatLast marks the number of times that the code length before is repeated.
const repeatLast = 1 << 15

// lengthMeaning: codes from 16 on repeat.
func lengthMeaning(sym int) entry {
	switch sym {
	case 16:
		return numberEntry(3|repeatLast, 2)
	case 17:
		return numberEntry(3, 3)
	case 18:
		return numberEntry(11, 7)
	}
	return literalEntry(uint32(sym))
}
