// SPDX-License-Identifier: Apache-2.0

package deflate

import "fmt"

// fastInput is how much input fastCodes needs for one turn, which refills twice.
const fastInput = 16

// fastCodes is oneCode in a loop that keeps everything in registers, as long as there
// is input for every refill. Only the lowest six bits of nbits count, and bits above it
// are those of the input.
func (r *Reader) fastCodes() (done bool, err error) {
	m, in, end := r.mem, r.in, r.end
	bits, nbits, pos := addWord(r.bits&(1<<(r.nbits&63)-1), uint32(r.nbits), in, r.pos)
	last := len(in) - fastInput
	stop := uint32(0)
	// The entry of the next code is read early, to be there when it is needed.
	e := m.lit[bits&(1<<litBits-1)]
	for end < outSize-outSlack && pos <= last {
		// There are 56 bits, and e is looked up.
		at := bits
		bits >>= e & 63
		nbits -= uint32(e)
		if e.literal() {
			putByte(&m.out, end, byte(e>>16))
			end++
			e = m.lit[bits&(1<<litBits-1)]
			at = bits
			bits >>= e & 63
			nbits -= uint32(e)
			if e.literal() {
				putByte(&m.out, end, byte(e>>16))
				end++
				e = m.lit[bits&(1<<litBits-1)]
				at = bits
				bits >>= e & 63
				nbits -= uint32(e)
				if e.literal() {
					putByte(&m.out, end, byte(e>>16))
					end++
					e = m.lit[bits&(1<<litBits-1)]
					bits, nbits, pos = addWord(bits, nbits, in, pos)
					continue
				}
			}
		}
		if e.special() {
			if e.op() == opTable {
				e = second(m.lit[:], e, bits>>litBits)
				bits >>= e & 63
				nbits -= uint32(e)
			}
			if e.special() {
				stop = e.op()
				break
			}
			if e.literal() {
				putByte(&m.out, end, byte(e>>16))
				end++
				e = m.lit[bits&(1<<litBits-1)]
				bits, nbits, pos = addWord(bits, nbits, in, pos)
				continue
			}
		}
		length := e.number(at)
		// There are bits for the first table at least, before others come.
		e = m.dist[bits&(1<<distBits-1)]
		bits, nbits, pos = addWord(bits, nbits, in, pos)
		if e.special() {
			if e.op() == opTable {
				e = second(m.dist[:], e, bits>>distBits)
			}
			if e.special() {
				stop = badDistance
				break
			}
		}
		distance := e.number(bits)
		bits >>= e & 63
		nbits -= uint32(e)
		if distance > end {
			stop = badDistance
			break
		}
		e = m.lit[bits&(1<<litBits-1)]
		bits, nbits, pos = addWord(bits, nbits, in, pos)
		to := end + length
		switch {
		case distance >= 16:
			copyWords(&m.out, end, end-distance)
			copyWords(&m.out, end+16, end+16-distance)
			for end += 32; end < to; end += 16 {
				copyWords(&m.out, end, end-distance)
			}
		case distance >= 8:
			for ; end < to; end += 8 {
				copyWord(&m.out, end, end-distance)
			}
		default:
			unit := &m.units[distance&7]
			v := word(m.out[:], end-distance) & unit.mask * unit.times
			for ; end < to; end += int(unit.step) {
				putWord(&m.out, end, v)
			}
		}
		end = to
	}
	r.pos, r.bits, r.nbits, r.end = pos, bits, uint(nbits&63), end
	switch stop {
	case opEnd:
		r.state = (*Reader).blockHeader
		return true, nil
	case opInvalid:
		return false, fmt.Errorf("%w: invalid code", ErrCorrupt)
	case badDistance:
		return false, fmt.Errorf("%w: distance", ErrCorrupt)
	}
	return false, nil
}

// addWord adds whole bytes of in until there are 56 bits at least; eight must be there.
func addWord(bits uint64, nbits uint32, in []byte, pos int) (uint64, uint32, int) {
	return bits | word(in, pos)<<(nbits&63), nbits | 56, pos + int(^nbits>>3&7)
}

// unit makes of the bytes before the end a word that repeats them.
type unit struct {
	mask, times uint64
	step        uint64 // to where the word continues
}

// fill prepares for a distance of n bytes, n at most 7.
func (u *unit) fill(n uint) {
	u.mask = 1<<(8*n) - 1
	for i := uint(0); i < 64; i += 8 * n {
		u.times |= 1 << i
	}
	u.step = uint64(8 / n * n)
}
