// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hostctl/hostctl/internal/sys"
)

const (
	xzMagic      = "\xfd7zXZ\x00"
	maxChunk     = 1 << 16
	minRing      = 4 << 10
	chunkEnd     = 0x00
	chunkStored  = 0x01 // with a new dictionary; the next without
	chunkLZMA    = 0x80
	chunkNoReset = 0xa0 // below: nothing is reset
	chunkProps   = 0xc0 // from here on: new properties
	chunkDict    = 0xe0 // from here on: a new dictionary
)

// xzReader unpacks xz streams whose blocks have no other filter than LZMA2, as all
// writers of deltas make them. Their checks are passed over: the SHA-256 of the
// whole file is compared before anything is done with the result. Close it at the end.
type xzReader struct {
	lzma
	in    [maxChunk + rangeSlack]byte
	props bool // properties are set
	dict  bool // a dictionary has begun
}

// onlyLZMA2 tells from the beginning of a stream whether xzReader can read it.
func onlyLZMA2(head []byte) bool {
	const flags = xzStreamHeader + 1
	return bytes.HasPrefix(head, []byte(xzMagic)) && len(head) > flags && head[flags]&3 == 0 // the last is LZMA2
}

// unpack writes what br holds to w. limit is the most that it may come to, which
// bounds memory; w has to enforce it.
func (z *xzReader) unpack(w io.Writer, br *bufio.Reader, limit int64) error {
	var h [xzStreamHeader]byte
	if _, err := io.ReadFull(br, h[:]); err != nil {
		return inputError(err)
	}
	flags := h[6:8]
	if string(h[:6]) != xzMagic || flags[0] != 0 || flags[1] > 0x0f || crc32.ChecksumIEEE(flags) != binary.LittleEndian.Uint32(h[8:]) {
		return fmt.Errorf("%w: header", errLZMA)
	}
	check := 0
	if k := int(flags[1]); k > 0 {
		check = 4 << ((k - 1) / 3)
	}
	for {
		dict, more, err := blockHeader(br)
		if err != nil || !more {
			return err
		}
		size := int(min(dict, (limit+minRing)&^(minRing-1)))
		if len(z.ring) < size {
			if err := z.grow(size); err != nil {
				return err
			}
		}
		if err := z.block(w, br, check); err != nil {
			return err
		}
	}
}

// grow replaces the ring. Both are never there.
func (z *xzReader) grow(size int) (err error) {
	if err := z.close(); err != nil {
		return err
	}
	z.ring, err = sys.Memory(size)
	return err
}

// close gives the ring back.
func (z *xzReader) close() error {
	ring := z.ring
	z.ring = nil
	return sys.FreeMemory(ring)
}

// blockHeader reads the header of a block and gives the size of its dictionary; no
// more where the index stands instead, which ends the stream.
func blockHeader(br *bufio.Reader) (dict int64, more bool, err error) {
	n, err := br.ReadByte()
	if err != nil {
		return 0, false, inputError(err)
	}
	if n == 0 {
		return 0, false, nil
	}
	h := make([]byte, 4*(int(n)+1))
	h[0] = n
	if _, err := io.ReadFull(br, h[1:]); err != nil {
		return 0, false, inputError(err)
	}
	end := len(h) - 4
	if crc32.ChecksumIEEE(h[:end]) != binary.LittleEndian.Uint32(h[end:]) {
		return 0, false, fmt.Errorf("%w: header of a block", errLZMA)
	}
	b := h[2:end]
	for _, bit := range []byte{0x40, 0x80} {
		if h[1]&bit == 0 {
			continue
		}
		_, k := binary.Uvarint(b)
		if k <= 0 {
			return 0, false, fmt.Errorf("%w: header of a block", errLZMA)
		}
		b = b[k:]
	}
	if h[1]&0x3f != 0 || len(b) < 3 || b[0] != xzLZMA2 || b[1] != 1 || b[2] > 40 {
		return 0, false, fmt.Errorf("%w: filters of a block", errLZMA)
	}
	return xzDictFromProps(b[2]), true, nil
}

// block reads the chunks of a block, its padding and its check.
func (z *xzReader) block(w io.Writer, br *bufio.Reader, check int) error {
	z.props, z.dict = false, false
	read := 0 // modulo 4
	for {
		control, err := br.ReadByte()
		if err != nil {
			return inputError(err)
		}
		read++
		if control == chunkEnd {
			break
		}
		n, err := z.chunk(w, br, control)
		if err != nil {
			return err
		}
		read += n
	}
	if _, err := br.Discard(-read&3 + check); err != nil {
		return inputError(err)
	}
	return nil
}

// chunk gives the number of bytes that it read.
func (z *xzReader) chunk(w io.Writer, br *bufio.Reader, control byte) (int, error) {
	if control == chunkStored || control >= chunkDict {
		z.resetDict()
		z.dict, z.props = true, false
	}
	if !z.dict || control > chunkStored+1 && control < chunkLZMA {
		return 0, errLZMA
	}
	var h [5]byte
	head := h[:2]
	switch {
	case control >= chunkProps:
		head = h[:5]
	case control >= chunkLZMA:
		head = h[:4]
	}
	if _, err := io.ReadFull(br, head); err != nil {
		return 0, inputError(err)
	}
	size := int(binary.BigEndian.Uint16(h[:])) + 1
	if control < chunkLZMA {
		return len(head) + size, z.stored(w, br, size)
	}
	size += int(control&0x1f) << 16
	if control >= chunkProps {
		if err := z.setProps(h[4]); err != nil {
			return 0, err
		}
		z.props = true
	}
	if !z.props {
		return 0, errLZMA
	}
	if control >= chunkNoReset {
		z.resetState()
	}
	packed := int(binary.BigEndian.Uint16(h[2:])) + 1
	if _, err := io.ReadFull(br, z.in[:packed]); err != nil {
		return 0, inputError(err)
	}
	if err := z.begin(z.in[:], packed); err != nil {
		return 0, err
	}
	if err := z.write(w, size); err != nil {
		return 0, err
	}
	return len(head) + packed, z.finish()
}
