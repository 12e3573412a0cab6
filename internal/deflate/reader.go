// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt reports a stream that is no DEFLATE.
var ErrCorrupt = errors.New("corrupt deflate stream")

// Reader unpacks a raw DEFLATE stream.
type Reader struct {
	br     *bufio.Reader
	in     []byte // what br has buffered
	pos    int    // of the next byte of in
	bits   uint64 // taken from in, next one lowest; what lies above nbits means nothing
	nbits  uint
	padded uint // zero bits that stand for input after its end

	mem        *memory
	start, end int // of what Read has still to give

	state  func(*Reader) error
	final  bool
	stored int // bytes left of a stored block
	lit    huffTable
	dist   huffTable
	means  *meanings
	err    error
}

// memory is in one piece: fastCodes reaches all of it from one register.
type memory struct {
	lit  [litSize]entry
	dist [distSize]entry
	out  [outSize]byte // window, then what was unpacked
	// units are for matches of short distances.
	units [8]unit
}

const (
	outSize  = 4 * windowSize
	outSlack = maxMatch + 32 // a match may write this much at the end, some words at a time
	litBits  = 11
	distBits = 9
	lenBits  = 7 // of the codes of code lengths, in place of dist
)

// NewReader unpacks from br, which it may have read a few bytes too far: Extra tells.
func NewReader(br *bufio.Reader) *Reader {
	r := &Reader{mem: new(memory), means: newMeanings()}
	r.lit.entries, r.dist.entries = r.mem.lit[:], r.mem.dist[:]
	for n := range uint(7) {
		r.mem.units[n+1].fill(n + 1)
	}
	r.Reset(br)
	return r
}

// Reset begins another stream and keeps the memory.
func (r *Reader) Reset(br *bufio.Reader) {
	*r = Reader{br: br, mem: r.mem, lit: r.lit, dist: r.dist, means: r.means, state: (*Reader).blockHeader}
}

// Extra gives the number of bytes after the end of the stream that were taken from
// the input; it is valid after io.EOF.
func (r *Reader) Extra() int { return int(r.nbits-r.padded) / 8 }

// Read gives the content; errors wrap ErrCorrupt, or are io.ErrUnexpectedEOF or what
// the input gave.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.start == r.end {
		if r.err != nil {
			return 0, r.err
		}
		r.slide()
		r.err = r.fill()
	}
	n := copy(p, r.mem.out[r.start:r.end])
	r.start += n
	return n, nil
}

// slide keeps the window and makes room behind it.
func (r *Reader) slide() {
	if r.end < outSize/2 {
		return
	}
	copy(r.mem.out[:], r.mem.out[r.end-windowSize:r.end])
	r.start, r.end = windowSize, windowSize
}

// fill unpacks until the room is used up. What was unpacked before an error counts.
func (r *Reader) fill() error {
	for r.state != nil && r.end < outSize-outSlack {
		if err := r.state(r); err != nil {
			return err
		}
	}
	if r.state == nil {
		r.giveBack()
		return io.EOF
	}
	return nil
}

// need makes sure of n bits, n at most 56. Behind the end of the input they are
// zero; use complains about those that count.
func (r *Reader) need(n uint) error {
	for r.nbits < n {
		if len(r.in)-r.pos >= 8 && r.padded == 0 {
			bits, nbits, pos := addWord(r.bits&(1<<r.nbits-1), uint32(r.nbits), r.in, r.pos)
			r.bits, r.nbits, r.pos = bits, uint(nbits), pos
			return nil
		}
		if r.pos == len(r.in) {
			if err := r.refill(); err != nil {
				return err
			}
			if len(r.in) == 0 {
				r.bits &= 1<<r.nbits - 1
				r.nbits += 8
				r.padded += 8
				continue
			}
		}
		r.bits = r.bits&(1<<r.nbits-1) | uint64(r.in[r.pos])<<r.nbits
		r.pos++
		r.nbits += 8
	}
	return nil
}

// refill replaces in; empty means the end of the input.
func (r *Reader) refill() error {
	if _, err := r.br.Discard(r.pos); err != nil {
		return err
	}
	r.in, r.pos = nil, 0
	if r.padded > 0 {
		return nil
	}
	if _, err := r.br.Peek(1); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	var err error
	r.in, err = r.br.Peek(r.br.Buffered())
	return err
}

// giveBack leaves to br what lies behind the stream, as far as it is in its buffer.
func (r *Reader) giveBack() {
	n := min(r.Extra(), r.pos)
	r.pos -= n
	r.nbits -= uint(n) * 8
	_, _ = r.br.Discard(r.pos)
	r.in, r.pos = nil, 0
}

// use drops bits that need has provided.
func (r *Reader) use(n uint) error {
	r.bits >>= n & 63
	r.nbits -= n
	if r.nbits < r.padded {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// take gives the next n bits, n at most 32.
func (r *Reader) take(n uint) (uint, error) {
	if err := r.need(n); err != nil {
		return 0, err
	}
	v := uint(r.bits & (1<<n - 1))
	return v, r.use(n)
}

func (r *Reader) blockHeader() error {
	if r.final {
		r.state = nil
		return nil
	}
	h, err := r.take(3)
	if err != nil {
		return err
	}
	r.final = h&1 == 1
	switch h >> 1 {
	case 0:
		return r.storedHeader()
	case 1:
		r.fixed()
		return nil
	case 2:
		return r.dynamic()
	}
	return fmt.Errorf("%w: block type 3", ErrCorrupt)
}

func (r *Reader) storedHeader() error {
	if err := r.use(r.nbits & 7); err != nil {
		return err
	}
	v, err := r.take(32)
	if err != nil {
		return err
	}
	if v>>16 != ^v&0xffff {
		return fmt.Errorf("%w: length of a stored block", ErrCorrupt)
	}
	r.stored = int(v & 0xffff)
	r.state = (*Reader).copyStored
	return nil
}

func (r *Reader) copyStored() error {
	for r.stored > 0 && r.end < outSize-outSlack {
		if r.nbits >= 8 {
			v, err := r.take(8)
			if err != nil {
				return err
			}
			r.mem.out[r.end] = byte(v)
			r.end++
			r.stored--
			continue
		}
		r.bits, r.nbits = 0, 0
		if r.pos == len(r.in) {
			if err := r.refill(); err != nil {
				return err
			}
			if len(r.in) == 0 {
				return io.ErrUnexpectedEOF
			}
		}
		n := copy(r.mem.out[r.end:min(r.end+r.stored, outSize-outSlack)], r.in[r.pos:])
		r.end += n
		r.pos += n
		r.stored -= n
	}
	if r.stored == 0 {
		r.state = (*Reader).blockHeader
	}
	return nil
}

// codes unpacks symbols until the room or the block ends.
func (r *Reader) codes() error {
	for r.end < outSize-outSlack {
		if len(r.in)-r.pos >= fastInput && r.padded == 0 {
			if done, err := r.fastCodes(); done || err != nil {
				return err
			}
			continue
		}
		// A pair of length and distance has at most 48 bits.
		if err := r.need(48); err != nil {
			return err
		}
		done, err := r.oneCode()
		if done || err != nil {
			return err
		}
	}
	return nil
}

// oneCode unpacks one symbol and watches the end of the input.
func (r *Reader) oneCode() (done bool, err error) {
	at := r.bits
	e := r.lit.find(at)
	if err := r.use(e.bits()); err != nil {
		return false, err
	}
	switch {
	case e.literal():
		r.mem.out[r.end] = byte(e >> 16)
		r.end++
		return false, nil
	case e.special() && e.op() == opEnd:
		r.state = (*Reader).blockHeader
		return true, nil
	case e.special():
		return false, fmt.Errorf("%w: invalid code", ErrCorrupt)
	}
	length := e.number(at)
	d := r.dist.find(r.bits)
	if d.special() {
		return false, fmt.Errorf("%w: invalid distance code", ErrCorrupt)
	}
	distance := d.number(r.bits)
	if err := r.use(d.bits()); err != nil {
		return false, err
	}
	if distance > r.end {
		return false, fmt.Errorf("%w: distance %d before the start", ErrCorrupt, distance)
	}
	for range length {
		r.mem.out[r.end] = r.mem.out[r.end-distance]
		r.end++
	}
	return false, nil
}
