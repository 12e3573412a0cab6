// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"math/bits"
)

const (
	seedSize = 8 // bytes that a match must begin with
	// maxSeeds bounds the index of the old file: two words of four bytes each.
	maxSeeds = 8 << 20
	maxChain = 12 // candidates looked at for one position
	// minGain is how many bytes more than the present alignment another one must
	// match: about what a control costs once compressed.
	minGain = 8
	// nearWindow and nearMisses: an alignment that differs so little ahead is kept
	// without a search, which could hardly gain minGain.
	nearWindow = 32
	nearMisses = 6
	// goodLength ends the search for a better candidate.
	goodLength = 512
	// After strangers places of the new file in a row of which the old one has no seed,
	// every second place is looked at, after as many more every third: compressed files
	// of two versions have nothing in common. What is met late is extended backward.
	strangers = 4096
	maxStride = 64
)

// block says: the next diff bytes of the new file are like those of the old file
// at oldPos, the extra bytes after them are new.
type block struct{ oldPos, diff, extra int }

// seedIndex finds places of the old file by the bytes that stand there. Of a large
// file only every step-th place is entered, which longer matches still meet.
type seedIndex struct {
	old   []byte
	step  int
	shift uint
	head  []uint32 // last entry of a chain, plus one
	prev  []uint32 // the entry before it
}

func newSeedIndex(old []byte) *seedIndex {
	x := &seedIndex{old: old, step: 1}
	for len(old)/x.step > maxSeeds {
		x.step++
	}
	n := 0
	if len(old) >= seedSize {
		n = (len(old)-seedSize)/x.step + 1
	}
	width := max(bits.Len(uint(n))-1, 4)
	x.shift = uint(64 - width)
	x.head = make([]uint32, 1<<width)
	x.prev = make([]uint32, n)
	for i := range n {
		h := x.hash(old[i*x.step:])
		x.prev[i] = x.head[h]
		x.head[h] = uint32(i) + 1
	}
	return x
}

func (x *seedIndex) hash(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) * 0x9E3779B97F4A7C15 >> x.shift
}

// longest finds a long match for the beginning of b. Of several the one whose
// place is nearest to hint wins, since that makes small seeks.
func (x *seedIndex) longest(b []byte, hint int) (pos, length int) {
	if len(b) < seedSize {
		return 0, 0
	}
	seed := binary.LittleEndian.Uint64(b)
	tries := maxChain
	for e := x.head[x.hash(b)]; e != 0 && tries > 0; e = x.prev[e-1] {
		tries--
		p := int(e-1) * x.step
		if binary.LittleEndian.Uint64(x.old[p:]) != seed {
			continue
		}
		// A candidate that differs where the best one ends cannot be longer.
		if length > 0 && (p+length > len(x.old) || x.old[p+length-1] != b[length-1]) {
			continue
		}
		n := seedSize + matchLen(x.old[p+seedSize:], b[seedSize:])
		if n > length || n == length && abs(p-hint) < abs(pos-hint) {
			pos, length = p, n
		}
		if length >= goodLength {
			break
		}
	}
	return pos, length
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// matchLen counts equal leading bytes.
func matchLen(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// matcher walks over the new file and keeps the present alignment with the old.
type matcher struct {
	index    *seedIndex // made at the first search
	old, new []byte
	blocks   []block
	newPos   int // where the present alignment was taken up
	oldPos   int
}

// match describes the new file as pieces that resemble the old one and the rest
// between them, as bsdiff does: an alignment is kept while it is not clearly worse
// than another, so that code whose addresses moved stays in one piece.
func match(old, new []byte) []block {
	m := &matcher{old: old, new: new}
	for scan := 0; scan < len(new); {
		pos, at, ok := m.search(scan)
		if !ok {
			break
		}
		m.take(pos, at)
		// What matches from here on needs no search.
		scan = at + matchLen(old[pos:], new[at:])
	}
	m.take(len(old), len(new))
	return m.blocks
}

// search finds the next place at of the new file, from scan on, where another
// alignment is better.
func (m *matcher) search(scan int) (pos, at int, ok bool) {
	shift := m.oldPos - m.newPos
	unknown := 0
	for scan+seedSize <= len(m.new) {
		if here := scan + shift; here >= 0 && here+seedSize <= len(m.old) {
			n := matchLen(m.old[here:], m.new[scan:])
			if n >= seedSize {
				scan, unknown = scan+n, 0
				continue
			}
			if m.near(here, scan) {
				scan, unknown = scan+n+1, 0
				continue
			}
		}
		if m.index == nil {
			m.index = newSeedIndex(m.old)
		}
		p, n := m.index.longest(m.new[scan:], scan+shift)
		if n > 0 && p != scan+shift && n > m.score(scan, n, shift)+minGain {
			return p, scan, true
		}
		if n > 0 {
			unknown = 0
		} else {
			unknown++
		}
		scan += min(1+unknown/strangers, maxStride)
	}
	return 0, 0, false
}

// near tells that old at here and new at scan go on almost alike.
func (m *matcher) near(here, scan int) bool {
	if here+nearWindow > len(m.old) || scan+nearWindow > len(m.new) {
		return false
	}
	misses := 0
	for i := 0; i < nearWindow; i += 8 {
		x := binary.LittleEndian.Uint64(m.old[here+i:]) ^ binary.LittleEndian.Uint64(m.new[scan+i:])
		// The top bit of each byte that is not zero.
		x = (x&0x7f7f7f7f7f7f7f7f + 0x7f7f7f7f7f7f7f7f | x) & 0x8080808080808080
		misses += bits.OnesCount64(x)
	}
	return misses <= nearMisses
}

// score counts the bytes that the present alignment matches in a range.
func (m *matcher) score(at, n, shift int) int {
	lo, hi := max(at, -shift), min(at+n, len(m.old)-shift)
	same := 0
	for i := lo; i < hi; i++ {
		if m.new[i] == m.old[i+shift] {
			same++
		}
	}
	return same
}

// take ends the present alignment before at and takes up the one with pos there:
// the old one is carried forward and the new one backward as long as more than
// half of the bytes match.
func (m *matcher) take(pos, at int) {
	forward := m.forward(at)
	backward := 0
	if at < len(m.new) {
		backward = m.backward(pos, at)
	}
	if over := m.newPos + forward - (at - backward); over > 0 {
		keep := m.split(pos, at, forward, backward, over)
		forward -= over - keep
		backward -= keep
	}
	m.blocks = append(m.blocks, block{m.oldPos, forward, at - backward - m.newPos - forward})
	m.newPos, m.oldPos = at-backward, pos-backward
}

func (m *matcher) forward(at int) int {
	score, best, length := 0, 0, 0
	n := min(at-m.newPos, len(m.old)-m.oldPos)
	a, b := m.old[m.oldPos:], m.new[m.newPos:]
	for i := 0; i < n; {
		if run := matchLen(a[i:n], b[i:n]); run > 0 {
			score += run
			i += run
			if score > best {
				best, length = score, i
			}
			continue
		}
		score--
		i++
	}
	return length
}

func (m *matcher) backward(pos, at int) int {
	score, best, length := 0, 0, 0
	for i := 1; i <= min(at-m.newPos, pos); i++ {
		if m.old[pos-i] == m.new[at-i] {
			score++
		} else {
			score--
		}
		if score > best {
			best, length = score, i
		}
	}
	return length
}

// split divides a range that both alignments cover where together they match
// most; it gives how much of it stays with the present one.
func (m *matcher) split(pos, at, forward, backward, over int) int {
	score, best, keep := 0, 0, 0
	for i := range over {
		c := m.new[m.newPos+forward-over+i]
		if c == m.old[m.oldPos+forward-over+i] {
			score++
		}
		if c == m.old[pos-backward+i] {
			score--
		}
		if score > best {
			best, keep = score, i+1
		}
	}
	return keep
}
