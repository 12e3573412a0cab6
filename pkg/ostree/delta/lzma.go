// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"fmt"
	"io"
)

// The LZMA decoder as xz streams use it. Parts of deltas are long runs of matches in
// little input, where a decoder that goes byte by byte takes longer than all that is
// done with its output.

const (
	lzmaStates    = 12
	lzmaPosStates = 16
	lzmaLitSize   = 0x300
	lzmaMaxLit    = 4     // lc+lp
	litMask       = 0x3ff // covers lzmaLitSize
	probInit      = 1 << 10
	probBits      = 11
	probMove      = 5
	rangeTop      = 1 << 24
	minMatch      = 2
	distModelEnd  = 14 // slots from here on have direct bits
	distSpecial   = 1 + 128 - distModelEnd
	// rangeSlack is how far behind the end of a chunk one symbol can read.
	rangeSlack = 32
)

var errLZMA = fmt.Errorf("%w: xz stream", ErrCorrupt)

// lenProbs are the probabilities of match lengths.
type lenProbs struct {
	choice, choice2 uint16
	low, mid        [lzmaPosStates][8]uint16
	high            [256]uint16
}

type lzmaProbs struct {
	isMatch, isRep0Long       [lzmaStates * lzmaPosStates]uint16
	isRep, isRep0, isRep1, is [lzmaStates]uint16 // is: rep2 or rep3
	slot                      [4][64]uint16
	special                   [distSpecial]uint16
	align                     [16]uint16
	matchLen, repLen          lenProbs
	lit                       [lzmaLitSize<<lzmaMaxLit + litMask + 1 - lzmaLitSize]uint16
}

func (l *lenProbs) reset() {
	l.choice, l.choice2 = probInit, probInit
	for i := range l.low {
		fillProbs(l.low[i][:])
		fillProbs(l.mid[i][:])
	}
	fillProbs(l.high[:])
}

func (p *lzmaProbs) reset(lits int) {
	for _, s := range [][]uint16{
		p.isMatch[:], p.isRep0Long[:], p.isRep[:], p.isRep0[:], p.isRep1[:], p.is[:],
		p.slot[0][:], p.slot[1][:], p.slot[2][:], p.slot[3][:], p.special[:], p.align[:], p.lit[:lits],
	} {
		fillProbs(s)
	}
	p.matchLen.reset()
	p.repLen.reset()
}

func fillProbs(s []uint16) {
	for i := range s {
		s[i] = probInit
	}
}

// rangeDecoder reads bits of a chunk, behind whose end there are rangeSlack bytes.
type rangeDecoder struct {
	rng, code uint32
	in        []byte
	pos       int
}

func (r *rangeDecoder) bit(p *uint16) uint32 {
	if r.rng < rangeTop {
		r.rng <<= 8
		r.code = r.code<<8 | uint32(r.in[r.pos])
		r.pos++
	}
	v := uint32(*p)
	bound := r.rng >> probBits * v
	if r.code < bound {
		r.rng = bound
		*p = uint16(v + (1<<probBits-v)>>probMove)
		return 0
	}
	r.rng -= bound
	r.code -= bound
	*p = uint16(v - v>>probMove)
	return 1
}

// The bits of symbols can rarely be foreseen, and a branch taken wrongly costs more than
// the rest of a bit. So the loops over them have none: below gives all ones for a 0, with
// which the changes for both are combined.
func below(code, bound uint32) uint32 { return uint32((int64(code) - int64(bound)) >> 63) }

// moved gives the probability v after a bit: (1<<probBits - v) >> probMove is added
// where it was 0, v >> probMove subtracted where it was 1.
func moved(v, is uint32) uint16 {
	const down = 1<<probBits - 1<<probMove + 1
	return uint16(int32(v) - int32(v-is&down)>>probMove)
}

// tree reads a symbol, most significant bit first; len(p) is the number of symbols. It
// and reverse are bit in a loop that keeps everything in registers.
func (r *rangeDecoder) tree(p []uint16) uint32 {
	n := uint32(len(p))
	rng, code, pos := r.rng, r.code, r.pos
	m := uint32(1)
	for m < n {
		if rng < rangeTop {
			rng <<= 8
			code = code<<8 | uint32(r.in[pos])
			pos++
		}
		v := uint32(p[m])
		bound := rng >> probBits * v
		is := below(code, bound)
		p[m] = moved(v, is)
		rng = rng - bound + is&(bound+bound-rng)
		code -= bound &^ is
		m = m<<1 + 1 + is
	}
	r.rng, r.code, r.pos = rng, code, pos
	return m - n
}

// reverse reads bits, least significant first; p begins at the second node.
func (r *rangeDecoder) reverse(p []uint16, bits uint32) (sym uint32) {
	rng, code, pos := r.rng, r.code, r.pos
	m := uint32(1)
	for i := range bits {
		if rng < rangeTop {
			rng <<= 8
			code = code<<8 | uint32(r.in[pos])
			pos++
		}
		v := uint32(p[m-1])
		bound := rng >> probBits * v
		is := below(code, bound)
		p[m-1] = moved(v, is)
		rng = rng - bound + is&(bound+bound-rng)
		code -= bound &^ is
		m = m<<1 + 1 + is
		sym |= (1 + is) << i
	}
	r.rng, r.code, r.pos = rng, code, pos
	return sym
}

// direct reads bits of equal probability.
func (r *rangeDecoder) direct(bits uint32) (sym uint32) {
	rng, code, pos := r.rng, r.code, r.pos
	for range bits {
		if rng < rangeTop {
			rng <<= 8
			code = code<<8 | uint32(r.in[pos])
			pos++
		}
		rng >>= 1
		is := below(code, rng)
		code -= rng &^ is
		sym = sym<<1 + 1 + is
	}
	r.rng, r.code, r.pos = rng, code, pos
	return sym
}

func (r *rangeDecoder) length(l *lenProbs, posState uint32) int {
	switch {
	case r.bit(&l.choice) == 0:
		return minMatch + int(r.tree(l.low[posState][:]))
	case r.bit(&l.choice2) == 0:
		return minMatch + 8 + int(r.tree(l.mid[posState][:]))
	}
	return minMatch + 16 + int(r.tree(l.high[:]))
}

// lzma unpacks chunks into a ring, out of which they are written.
type lzma struct {
	rangeDecoder
	probs  lzmaProbs
	lc     uint
	lpMask uint32
	pbMask uint32
	state  uint32
	rep    [4]uint32 // distances less one
	ring   []byte
	at     int // where the next byte goes
	full   int // bytes of history, at most those of the ring
	match  int // bytes left of a match that met the end of the ring
	end    int // of the input
}

func (z *lzma) resetDict() { z.at, z.full = 0, 0 }

func (z *lzma) setProps(b byte) error {
	if b >= 9*5*5 {
		return errLZMA
	}
	lc, lp, pb := uint(b%9), uint(b/9%5), uint(b/45)
	if lc+lp > lzmaMaxLit {
		return errLZMA
	}
	z.lc, z.lpMask, z.pbMask = lc, 1<<lp-1, 1<<pb-1
	return nil
}

func (z *lzma) resetState() {
	z.state, z.rep = 0, [4]uint32{}
	z.probs.reset(lzmaLitSize << lzmaMaxLit)
}

// begin starts a chunk of compressed data; in has rangeSlack bytes behind its end.
func (z *lzma) begin(in []byte, size int) error {
	const header = 5
	if size < header || in[0] != 0 {
		return errLZMA
	}
	z.rangeDecoder = rangeDecoder{rng: 0xffffffff, in: in[:size+rangeSlack], pos: header}
	z.code = uint32(in[1])<<24 | uint32(in[2])<<16 | uint32(in[3])<<8 | uint32(in[4])
	z.end, z.match = size, 0
	return nil
}

// finish checks that a chunk ends where it should.
func (z *lzma) finish() error {
	if z.rng < rangeTop {
		z.code = z.code<<8 | uint32(z.in[z.pos])
		z.pos++
	}
	if z.match != 0 || z.code != 0 || z.pos != z.end {
		return errLZMA
	}
	return nil
}

// write produces left bytes and writes them.
func (z *lzma) write(w io.Writer, left int) error {
	for left > 0 {
		if z.at == len(z.ring) {
			z.at = 0
		}
		from := z.at
		if err := z.run(min(len(z.ring), from+left)); err != nil {
			return err
		}
		left -= z.at - from
		if _, err := w.Write(z.ring[from:z.at]); err != nil {
			return err
		}
	}
	return nil
}

// stored takes bytes that are not compressed.
func (z *lzma) stored(w io.Writer, r io.Reader, left int) error {
	for left > 0 {
		if z.at == len(z.ring) {
			z.at = 0
		}
		b := z.ring[z.at:min(len(z.ring), z.at+left)]
		if _, err := io.ReadFull(r, b); err != nil {
			return inputError(err)
		}
		z.at += len(b)
		z.full = min(z.full+len(b), len(z.ring))
		left -= len(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func inputError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", errLZMA, io.ErrUnexpectedEOF)
	}
	return err
}

// run produces bytes up to limit in the ring. What a literal needs is kept in
// registers; it makes most of the bits.
func (z *lzma) run(limit int) error {
	from := z.at
	if z.match > 0 {
		z.repeat(limit)
	}
	for z.at < limit {
		if z.pos > z.end {
			return errLZMA
		}
		posState := uint32(z.at) & z.pbMask
		if z.bit(&z.probs.isMatch[z.state*lzmaPosStates+posState]) == 0 {
			z.literal(from)
			continue
		}
		length, err := z.matched(posState, from, limit)
		if err != nil {
			return err
		}
		z.match = length
		if int64(z.rep[0]) >= int64(z.history(from)) {
			return errLZMA
		}
		z.repeat(limit)
	}
	z.full = min(z.full+z.at-from, len(z.ring))
	return nil
}

// history is how far back a match may reach, where run began at from.
func (z *lzma) history(from int) int { return min(z.full+z.at-from, len(z.ring)) }

// matched reads which match comes: its length, and its distance into rep[0].
func (z *lzma) matched(posState uint32, from, limit int) (int, error) {
	p, s := &z.probs, z.state
	if z.bit(&p.isRep[s]) == 0 {
		z.state = pick(s, 7, 10)
		n := z.length(&p.matchLen, posState)
		d := z.distance(n)
		z.rep = [4]uint32{d, z.rep[0], z.rep[1], z.rep[2]}
		return n, nil
	}
	if z.bit(&p.isRep0[s]) == 0 {
		if z.bit(&p.isRep0Long[s*lzmaPosStates+posState]) == 0 {
			z.state = pick(s, 9, 11)
			return 1, nil
		}
	} else if z.bit(&p.isRep1[s]) == 0 {
		z.rep[0], z.rep[1] = z.rep[1], z.rep[0]
	} else if z.bit(&p.is[s]) == 0 {
		z.rep = [4]uint32{z.rep[2], z.rep[0], z.rep[1], z.rep[3]}
	} else {
		z.rep = [4]uint32{z.rep[3], z.rep[0], z.rep[1], z.rep[2]}
	}
	z.state = pick(s, 8, 11)
	return z.length(&p.repLen, posState), nil
}

// pick gives the state after a match.
func pick(state, afterLiteral, afterMatch uint32) uint32 {
	if state < 7 {
		return afterLiteral
	}
	return afterMatch
}

func (z *lzma) distance(length int) uint32 {
	slot := z.tree(z.probs.slot[min(length-minMatch, 3)][:])
	if slot < 4 {
		return slot
	}
	bits := slot>>1 - 1
	d := (2 | slot&1) << bits
	if slot < distModelEnd {
		return d + z.reverse(z.probs.special[d-slot+1:], bits)
	}
	d += z.direct(bits-4) << 4
	return d + z.reverse(z.probs.align[1:], 4)
}

// literal reads one byte.
func (z *lzma) literal(from int) {
	at := z.at
	prev := byte(0)
	if at > 0 {
		prev = z.ring[at-1]
	} else if z.history(from) > 0 {
		prev = z.ring[len(z.ring)-1]
	}
	ctx := (uint32(at)&z.lpMask)<<z.lc + uint32(prev)>>(8-z.lc)
	probs := (*[litMask + 1]uint16)(z.probs.lit[ctx*lzmaLitSize:])
	rng, code, in, pos := z.rng, z.code, z.in, z.pos
	sym := uint32(1)
	if z.state >= 7 {
		back := at - int(z.rep[0]) - 1
		if back < 0 {
			back += len(z.ring)
		}
		other, offset := uint32(z.ring[back]), uint32(0x100)
		for sym < 0x100 {
			other <<= 1
			same := other & offset
			p := &probs[(offset+same+sym)&litMask]
			if rng < rangeTop {
				rng <<= 8
				code = code<<8 | uint32(in[pos])
				pos++
			}
			v := uint32(*p)
			bound := rng >> probBits * v
			is := below(code, bound)
			*p = moved(v, is)
			rng = rng - bound + is&(bound+bound-rng)
			code -= bound &^ is
			sym = sym<<1 + 1 + is
			offset = same ^ offset&is
		}
	} else {
		for sym < 0x100 {
			p := &probs[sym&litMask]
			if rng < rangeTop {
				rng <<= 8
				code = code<<8 | uint32(in[pos])
				pos++
			}
			v := uint32(*p)
			bound := rng >> probBits * v
			is := below(code, bound)
			*p = moved(v, is)
			rng = rng - bound + is&(bound+bound-rng)
			code -= bound &^ is
			sym = sym<<1 + 1 + is
		}
	}
	z.rng, z.code, z.pos = rng, code, pos
	z.ring[at] = byte(sym)
	z.at++
	switch {
	case z.state < 4:
		z.state = 0
	case z.state < 10:
		z.state -= 3
	default:
		z.state -= 6
	}
}

// repeat copies what it can of the present match.
func (z *lzma) repeat(limit int) {
	n := min(z.match, limit-z.at)
	z.match -= n
	ring, at := z.ring, z.at
	src := at - int(z.rep[0]) - 1
	if src < 0 {
		// Around the end of the ring: what is read lies ahead of what is written.
		src += len(ring)
		m := copy(ring[at:at+n], ring[src:])
		at, n, src = at+m, n-m, 0
	}
	for n > 0 {
		m := copy(ring[at:at+n], ring[src:at])
		at, n = at+m, n-m
	}
	z.at = at
}
