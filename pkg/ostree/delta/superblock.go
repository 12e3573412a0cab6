// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// marshal gives the bytes of the superblock, without signatures. Metadata must
// hold everything already: endianness, inline parts, detached metadata.
func (d *Delta) marshal() ([]byte, error) {
	var from []byte
	if !d.Name.From.IsZero() {
		from = d.Name.From[:]
	}
	commit, err := gvariant.Parse("(a{sv}aya(say)sstayay)", d.Commit)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", d.Name.To, err)
	}
	parts := make([]gvariant.Value, len(d.Parts))
	for i, p := range d.Parts {
		parts[i] = gvariant.Tuple(d.uint32(p.version), gvariant.ByteSlice(p.Checksum[:]), d.uint64(p.Size),
			d.uint64(p.UncompressedSize), gvariant.ByteSlice(p.objects))
	}
	fallbacks := make([]gvariant.Value, len(d.Fallbacks))
	for i, f := range d.Fallbacks {
		fallbacks[i] = gvariant.Tuple(gvariant.Byte(byte(f.Object.Type)), gvariant.ByteSlice(f.Object.Checksum[:]),
			d.uint64(f.Size), d.uint64(f.UncompressedSize))
	}
	v := gvariant.Tuple(d.Metadata.Value(), gvariant.Uint64(bits.ReverseBytes64(d.Timestamp)), gvariant.ByteSlice(from),
		gvariant.ByteSlice(d.Name.To[:]), commit, gvariant.ByteSlice(d.recursion),
		gvariant.Array("(uayttay)", parts...), gvariant.Array("(yaytt)", fallbacks...))
	return v.Bytes(), v.Err()
}

func (d *Delta) uint32(n uint32) gvariant.Value {
	if d.Endianness == BigEndian {
		return gvariant.Uint32BE(n)
	}
	return gvariant.Uint32(n)
}

func (d *Delta) uint64(n uint64) gvariant.Value {
	if d.Endianness == BigEndian {
		return gvariant.Uint64BE(n)
	}
	return gvariant.Uint64(n)
}

// marshalSigned wraps a superblock and its signatures.
func marshalSigned(superblock []byte, signatures gvariant.Dict) ([]byte, error) {
	v := gvariant.Tuple(gvariant.Uint64(binary.LittleEndian.Uint64([]byte(signedMagic))),
		gvariant.ByteSlice(superblock), signatures.Value())
	return v.Bytes(), v.Err()
}
