// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// imageXattr is an attribute; offset is that in the shared area, or -1.
type imageXattr struct {
	Xattr
	offset int
}

func (n *erofsNode) setXattr(name, value string) {
	n.xattrs = append(n.xattrs, imageXattr{Xattr: Xattr{Name: name, Value: []byte(value)}, offset: -1})
}

// shareXattrs stores what several inodes have once, in descending order of name,
// length and value.
func (m *erofsImage) shareXattrs() {
	count := map[string]int{}
	key := func(x Xattr) string { return x.Name + "\x00" + string(x.Value) }
	for _, n := range m.nodes {
		for _, x := range n.xattrs {
			k := key(x.Xattr)
			if count[k]++; count[k] == 2 {
				m.attrs = append(m.attrs, x.Xattr)
			}
		}
	}
	slices.SortFunc(m.attrs, func(a, b Xattr) int {
		return cmp.Or(strings.Compare(b.Name, a.Name), len(b.Value)-len(a.Value), bytes.Compare(b.Value, a.Value))
	})
	offsets := map[string]int{}
	for _, x := range m.attrs {
		offsets[key(x)] = m.attrsSize
		m.attrsSize += xattrSize(x)
	}
	for _, n := range m.nodes {
		for i := range n.xattrs {
			if at, ok := offsets[key(n.xattrs[i].Xattr)]; ok && n.shared < maxSharedXattr {
				n.xattrs[i].offset = at
				n.shared++
			}
		}
	}
}

// xattrIndex splits a name into the number of its prefix and the rest.
func xattrIndex(name string) (index uint8, rest string) {
	for _, p := range []struct {
		prefix string
		index  uint8
	}{{"user.", 1}, {"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}, {"trusted.", 4}, {"security.", 6}} {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			return p.index, rest
		}
	}
	return 0, name
}

func xattrSize(x Xattr) int {
	_, rest := xattrIndex(x.Name)
	return int(roundUp(uint64(xattrEntry+len(rest)+len(x.Value)), 4))
}

func (n *erofsNode) appendXattrs(b []byte, m *erofsImage) []byte {
	if len(n.xattrs) == 0 {
		return b
	}
	le := binary.LittleEndian
	filter := uint32(0xFFFFFFFF) // a bit that is set says that the name is absent
	for _, x := range n.xattrs {
		index, rest := xattrIndex(x.Name)
		filter &^= 1 << (xxh32([]byte(rest), 0x25BBE08F+uint32(index)) % 32)
	}
	b = le.AppendUint32(b, filter)
	b = append(b, byte(n.shared), 0, 0, 0, 0, 0, 0, 0)
	for _, x := range n.xattrs {
		if x.offset >= 0 {
			b = le.AppendUint32(b, uint32((m.inodesEnd%erofsBlock+uint64(x.offset))/4))
		}
	}
	for _, x := range n.xattrs {
		if x.offset < 0 {
			b = appendXattr(b, x.Xattr)
		}
	}
	return b
}

func appendXattr(b []byte, x Xattr) []byte {
	index, rest := xattrIndex(x.Name)
	b = append(b, byte(len(rest)), index)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.Value)))
	b = append(append(b, rest...), x.Value...)
	return append(b, make([]byte, xattrSize(x)-xattrEntry-len(rest)-len(x.Value))...)
}

// xxh32 is the 32-bit xxHash with a seed.
func xxh32(p []byte, seed uint32) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	le := binary.LittleEndian
	h := seed + p5
	total := uint32(len(p))
	if len(p) >= 16 {
		lanes := [4]uint32{seed + p2, seed + p2, seed, seed - p1}
		lanes[0] += p1 // apart, as the sum of the constants has more than 32 bits
		for ; len(p) >= 16; p = p[16:] {
			for i := range lanes {
				lanes[i] = bits.RotateLeft32(lanes[i]+le.Uint32(p[4*i:])*p2, 13) * p1
			}
		}
		h = bits.RotateLeft32(lanes[0], 1) + bits.RotateLeft32(lanes[1], 7) + bits.RotateLeft32(lanes[2], 12) + bits.RotateLeft32(lanes[3], 18)
	}
	h += total
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+le.Uint32(p)*p3, 17) * p4
	}
	for _, c := range p {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
