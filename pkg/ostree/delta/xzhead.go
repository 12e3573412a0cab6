// SPDX-License-Identifier: Apache-2.0

package delta

const (
	xzStreamHeader = 12
	xzPeek         = xzStreamHeader + 64
	xzLZMA2        = 0x21
)

// xzDictSize reads the dictionary size of an xz stream's first block from the
// beginning of the stream, so that memory can be set aside; where it cannot be
// told it is assumed to be large.
func xzDictSize(head []byte) int64 {
	if len(head) < xzStreamHeader+4 {
		return maxDict
	}
	// Block header: size, flags, then optional sizes, then the filters; each filter is
	// its id, the size of its properties, and these. LZMA2 stands last.
	flags, b := head[xzStreamHeader+1], head[xzStreamHeader+2:]
	for _, bit := range []byte{0x40, 0x80} {
		if flags&bit == 0 {
			continue
		}
		for len(b) > 0 && b[0]&0x80 != 0 {
			b = b[1:]
		}
		if len(b) > 0 {
			b = b[1:]
		}
	}
	for range int(flags&3) + 1 {
		if len(b) < 3 {
			return maxDict
		}
		if b[0] == xzLZMA2 {
			return xzDictFromProps(b[2])
		}
		n := 2 + int(b[1])
		if n > len(b) {
			return maxDict
		}
		b = b[n:]
	}
	return maxDict
}

func xzDictFromProps(p byte) int64 {
	if p > 37 { // beyond 1 GiB
		return maxDict
	}
	return min((2|int64(p&1))<<(p/2+11), maxDict)
}
