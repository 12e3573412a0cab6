// SPDX-License-Identifier: Apache-2.0

package deflate

import "math/bits"

const (
	numLits  = 288 // 286 are used
	numDists = 32  // 30 are used
	numLens  = 19
	endBlock = 256
	firstLen = 257
)

// lenCode gives the code of a length-3, less firstLen; its extra bits and lowest
// length-3 are in lenExtra and lenBase.
var lenCode, lenExtra, lenBase = lengthTables()

func lengthTables() (code [256]uint8, extra [29]uint8, base [29]uint8) {
	n := 0
	for c := range 28 {
		if c >= 8 {
			extra[c] = uint8(c/4 - 1)
		}
		base[c] = uint8(n)
		for range 1 << extra[c] {
			code[n] = uint8(c)
			n++
		}
	}
	code[255], base[28] = 28, 255
	return code, extra, base
}

// distCode gives the code of a distance-1.
func distCode(d uint32) uint32 {
	if d < 4 {
		return d
	}
	n := uint32(bits.Len32(d)) - 1
	return 2*n + d>>(n-1)&1
}

// distExtra gives the number of extra bits of a code; they are the low bits of the
// distance-1.
func distExtra(code uint32) uint32 {
	if code < 4 {
		return 0
	}
	return code/2 - 1
}

// code is a Huffman code: its bits, reversed as they are written, and their number.
type code struct {
	bits uint16
	len  uint8
}

// lengths computes code lengths of at most limit bits for the symbols that occur. At
// least one code, of one bit, comes out.
func lengths(freq []uint32, limit int, out []code) {
	var sorted [numLits]uint64
	n := 0
	for s, f := range freq {
		out[s] = code{}
		if f > 0 {
			sorted[n] = uint64(f)<<16 | uint64(s)
			n++
		}
	}
	syms := sorted[:n]
	switch n {
	case 0:
		out[0].len = 1
		return
	case 1:
		out[syms[0]&0xffff].len = 1
		return
	}
	sortSyms(syms)
	var count [32]int
	depths(syms, &count)
	limitDepth(&count, limit)
	at := n
	for l := 1; l <= limit; l++ {
		for range count[l] {
			at--
			out[syms[at]&0xffff].len = uint8(l)
		}
	}
}

// sortSyms orders symbols, each with its frequency above 16 bits, by frequency; it finds
// them in their own order.
func sortSyms(syms []uint64) {
	if len(syms) < 32 {
		for i, v := range syms {
			for ; i > 0 && syms[i-1] > v; i-- {
				syms[i] = syms[i-1]
			}
			syms[i] = v
		}
		return
	}
	var room [numLits]uint64
	from, to := syms, room[:len(syms)]
	all := uint64(0)
	for _, v := range syms {
		all |= v
	}
	for shift := 16; all>>shift > 0; shift += 8 {
		var at [256]int
		for _, v := range from {
			at[v>>shift&255]++
		}
		sum := 0
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, v := range from {
			i := &at[v>>shift&255]
			to[*i] = v
			*i++
		}
		from, to = to, from
	}
	copy(syms, from)
}

// depths counts the leaves of the Huffman tree by depth; deeper than 31 count as 31.
func depths(syms []uint64, count *[32]int) {
	n := len(syms)
	var weight [numLits]uint64 // of the inner nodes, in the order of their making
	var parent [2 * numLits]int16
	leaf, inner := 0, 0
	for made := range n - 1 {
		sum := uint64(0)
		for range 2 {
			if leaf < n && (inner == made || syms[leaf]>>16 <= weight[inner]) {
				sum += syms[leaf] >> 16
				parent[leaf] = int16(made)
				leaf++
			} else {
				sum += weight[inner]
				parent[n+inner] = int16(made)
				inner++
			}
		}
		weight[made] = sum
	}
	var depth [numLits]uint8
	for i := n - 3; i >= 0; i-- {
		depth[i] = min(depth[parent[n+i]]+1, 30)
	}
	for i := range n {
		count[depth[parent[i]]+1]++
	}
}

// limitDepth moves leaves up to the limit and makes room for them by moving others
// down, until the code is complete.
func limitDepth(count *[32]int, limit int) {
	for l := limit + 1; l < len(count); l++ {
		count[limit] += count[l]
		count[l] = 0
	}
	total := 0
	for l := 1; l <= limit; l++ {
		total += count[l] << (limit - l)
	}
	for ; total > 1<<limit; total-- {
		l := limit - 1
		for count[l] == 0 {
			l--
		}
		count[limit]--
		count[l]--
		count[l+1] += 2
	}
}

// assign gives codes of known lengths their bits.
func assign(codes []code) {
	var count, next [16]uint16
	for _, c := range codes {
		count[c.len]++
	}
	count[0] = 0
	for l := 1; l < 16; l++ {
		next[l] = (next[l-1] + count[l-1]) << 1
	}
	for i, c := range codes {
		if c.len > 0 {
			codes[i].bits = bits.Reverse16(next[c.len]) >> (16 - c.len)
			next[c.len]++
		}
	}
}

// fixedCodes are the codes that a decoder knows.
func fixedCodes() (lits [numLits]code, dists [numDists]code) {
	for i := range lits {
		switch {
		case i < 144:
			lits[i].len = 8
		case i < 256:
			lits[i].len = 9
		case i < 280:
			lits[i].len = 7
		default:
			lits[i].len = 8
		}
	}
	for i := range dists {
		dists[i].len = 5
	}
	assign(lits[:])
	assign(dists[:])
	return lits, dists
}

var fixedLits, fixedDists = fixedCodes()
