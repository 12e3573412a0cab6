// SPDX-License-Identifier: Apache-2.0

package deflate

import "fmt"

// fastInput is how much input fastCodes needs for one symbol, which it refills for twice.
const fastInput = 16

// fastCodes is oneCode in a loop that keeps everything in registers, as long as there
// is input for every refill. Bits above nbits are those of the input, or zero.
func (r *Reader) fastCodes() (done bool, err error) {
	in, pos, bits, nbits := r.in, r.pos, r.bits&(1<<(r.nbits&63)-1), r.nbits
	out, end := r.out, r.end
	lit, dist := r.lit.entries, r.dist.entries
	last := len(in) - fastInput
	for end < outSize-outSlack && pos <= last {
		bits |= word(in, pos) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56
		e := lit[bits&(1<<litBits-1)]
		if e.literal() {
			bits >>= e & 31
			nbits -= uint(e & 31)
			out[end] = byte(e >> 16)
			end++
			e = lit[bits&(1<<litBits-1)]
			if e.literal() {
				bits >>= e & 31
				nbits -= uint(e & 31)
				out[end] = byte(e >> 16)
				end++
				e = lit[bits&(1<<litBits-1)]
				if e.literal() {
					bits >>= e & 31
					nbits -= uint(e & 31)
					out[end] = byte(e >> 16)
					end++
					continue
				}
			}
		}
		if e.special() {
			e = lit.second(e, bits>>litBits)
			if e.literal() {
				bits >>= e & 31
				nbits -= uint(e & 31)
				out[end] = byte(e >> 16)
				end++
				continue
			}
			if e.special() {
				bits >>= e & 31
				nbits -= uint(e & 31)
				if e.op() != opEnd {
					err = fmt.Errorf("%w: invalid code", ErrCorrupt)
					break
				}
				r.state = (*Reader).blockHeader
				done = true
				break
			}
		}
		length := e.number(bits)
		bits >>= e & 31
		nbits -= uint(e & 31)
		if nbits < maxDistBits {
			bits |= word(in, pos) << (nbits & 63)
			pos += int((63 - nbits) >> 3)
			nbits |= 56
		}
		d := dist[bits&(1<<distBits-1)]
		if d.special() {
			d = dist.second(d, bits>>distBits)
		}
		distance := d.number(bits)
		bits >>= d & 31
		nbits -= uint(d & 31)
		if d.special() || distance > end {
			err = fmt.Errorf("%w: distance", ErrCorrupt)
			break
		}
		end = copyMatch(out, end, distance, length)
	}
	r.pos, r.bits, r.nbits, r.end = pos, bits, nbits, end
	return done, err
}

// copyMatch repeats what lies distance before end. It may write up to fifteen bytes
// behind the match.
func copyMatch(out *[outSize]byte, end, distance, length int) int {
	from, to := end-distance, end+length
	switch {
	case distance >= 8:
		for {
			copyWord(out, end, from)
			copyWord(out, end+8, from+8)
			end += 16
			from += 16
			if end >= to {
				return to
			}
		}
	case distance == 1:
		v := uint64(out[from]) * 0x0101010101010101
		for ; end < to; end += 8 {
			putWord(out, end, v)
		}
		return to
	}
	// Each word repeats what is there already; its rest is overwritten by the next.
	for end < to {
		copyWord(out, end, from)
		end += distance
		from += distance
	}
	return to
}
