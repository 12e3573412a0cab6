// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

const (
	sectorSize = 512
	gptEntries = 128
	entrySize  = 128
	headerSize = 92
	// tableSectors are the partition entries.
	tableSectors = gptEntries * entrySize / sectorSize
)

// GUID is stored in the order in which it is printed.
type GUID [16]byte

// Partition types.
var (
	typeESP      = mustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	typeBIOSBoot = mustGUID("21686148-6449-6e6f-744e-656564454649")
	typeXBOOTLDR = mustGUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
	typeRootAMD  = mustGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
)

// String prints 8-4-4-4-12 lower-case digits.
func (g GUID) String() string {
	h := hex.EncodeToString(g[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func mustGUID(s string) GUID {
	var g GUID
	n, err := hex.Decode(g[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
	if err != nil || n != len(g) {
		panic("GUID " + s)
	}
	return g
}

// onDisk has the first three fields little-endian, as UEFI stores them.
func (g GUID) onDisk() []byte {
	return []byte{
		g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6],
		g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15],
	}
}

// ids are all identifiers of an image.
type ids struct{ disk, bios, bootPart, rootPart, boot, root, bootHash, rootHash, espPart, esp GUID }

// newIDs derives the identifiers from seed, or draws them if it is empty.
func newIDs(seed string) (ids, error) {
	var i ids
	// New ones at the end: the others' values depend on their places.
	for n, g := range []*GUID{&i.disk, &i.bios, &i.bootPart, &i.rootPart, &i.boot, &i.root, &i.bootHash, &i.rootHash, &i.espPart, &i.esp} {
		if seed == "" {
			if _, err := rand.Read(g[:]); err != nil {
				return ids{}, fmt.Errorf("draw identifier: %w", err)
			}
		} else {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", seed, n))
			copy(g[:], sum[:])
		}
		g[6] = g[6]&0x0f | 0x40 // version 4
		g[8] = g[8]&0x3f | 0x80 // variant of RFC 9562
	}
	return i, nil
}

// Partition is one entry of the table; Start and Size are in bytes.
type Partition struct {
	Name  string
	Type  GUID
	ID    GUID
	Start int64
	Size  int64
}

// gpt encodes a GUID partition table for a disk of size bytes: the sectors from
// the start of the disk on and those up to its end.
func gpt(size int64, disk GUID, parts []Partition) (primary, backup []byte) {
	last := uint64(size/sectorSize) - 1
	entries := make([]byte, gptEntries*entrySize)
	for i, p := range parts {
		putEntry(entries[i*entrySize:], p)
	}
	sum := crc32.ChecksumIEEE(entries)
	primary = make([]byte, (2+tableSectors)*sectorSize)
	putProtective(primary, last)
	putHeader(primary[sectorSize:], disk, 1, last, 2, sum)
	copy(primary[2*sectorSize:], entries)
	backup = make([]byte, (tableSectors+1)*sectorSize)
	copy(backup, entries)
	putHeader(backup[tableSectors*sectorSize:], disk, last, 1, last-tableSectors, sum)
	for _, h := range [][]byte{primary[sectorSize:], backup[tableSectors*sectorSize:]} {
		last := binary.LittleEndian.Uint64(h[32:])
		if self := binary.LittleEndian.Uint64(h[24:]); self > last {
			last = self
		}
		binary.LittleEndian.PutUint64(h[40:], 2+tableSectors)
		binary.LittleEndian.PutUint64(h[48:], last-tableSectors-1)
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	}
	return primary, backup
}

func putHeader(h []byte, disk GUID, self, other, table uint64, sum uint32) {
	le := binary.LittleEndian
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x00010000)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], self)
	le.PutUint64(h[32:], other)
	copy(h[56:], disk.onDisk())
	le.PutUint64(h[72:], table)
	le.PutUint32(h[80:], gptEntries)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], sum)
}

func putEntry(e []byte, p Partition) {
	copy(e, p.Type.onDisk())
	copy(e[16:], p.ID.onDisk())
	binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/sectorSize))
	binary.LittleEndian.PutUint64(e[40:], uint64((p.Start+p.Size)/sectorSize)-1)
	for i, c := range utf16.Encode([]rune(p.Name)) {
		if i == 36 {
			break
		}
		binary.LittleEndian.PutUint16(e[56+2*i:], c)
	}
}

// putProtective writes the MBR that keeps older programs off the disk.
func putProtective(mbr []byte, last uint64) {
	e := mbr[446:]
	copy(e, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
}
