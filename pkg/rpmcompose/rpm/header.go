// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// ErrFormat is wrapped by every error about bytes that are not what the package format allows.
var ErrFormat = errors.New("malformed package data")

// ErrTruncated is wrapped, beside [ErrFormat], where the input ends too early.
var ErrTruncated = fmt.Errorf("%w: unexpected end", ErrFormat)

// Bounds of a header; rpm itself refuses more.
const (
	maxHeaderEntries = 0xffff
	maxHeaderData    = 256 << 20
	maxSignatureData = 64 << 20
	entrySize        = 16
)

var headerMagic = [8]byte{0x8e, 0xad, 0xe8, 0x01}

// Type is the type of a header entry's data.
type Type uint32

// Data types of header entries.
const (
	TypeNull Type = iota
	TypeChar
	TypeInt8
	TypeInt16
	TypeInt32
	TypeInt64
	TypeString
	TypeBin
	TypeStringArray
	TypeI18NString
)

// Entry is one tag of a header. Data is big-endian as stored; strings keep their closing NULs.
type Entry struct {
	Tag   Tag
	Type  Type
	Count uint32
	Data  []byte
}

// Header is a parsed header: an index of typed tags over a data area. It is immutable and safe for
// concurrent use.
type Header struct {
	index   []byte // entries as stored
	data    []byte // data area as stored
	entries []Entry
	// regionEntries and regionData measure the immutable region, which digests and signatures cover;
	// both are 0 in a header without one.
	regionEntries int
	regionData    int
}

// headerKind says which bounds and region rules apply.
type headerKind struct {
	name      string
	regionTag Tag
	maxData   int
	// exact demands that the region covers the whole header, so that nothing unsigned can hide behind it.
	exact bool
}

var (
	signatureHeader = headerKind{name: "signature header", regionTag: TagHeaderSignatures, maxData: maxSignatureData}
	mainHeader      = headerKind{name: "header", regionTag: TagHeaderImmutable, maxData: maxHeaderData, exact: true}
	databaseHeader  = headerKind{name: "header", regionTag: TagHeaderImmutable, maxData: maxHeaderData}
)

// ParseHeader reads a header blob without the leading magic, as the RPM database stores it.
//
// An error wraps [ErrFormat].
func ParseHeader(blob []byte) (*Header, error) {
	if len(blob) < 8 {
		return nil, fmt.Errorf("read header: %d bytes: %w", len(blob), ErrTruncated)
	}
	il, dl, err := headerSizes(blob, databaseHeader)
	if err != nil {
		return nil, err
	}
	if want := 8 + il*entrySize + dl; len(blob) != want {
		return nil, fmt.Errorf("read header: %d bytes where its counts ask for %d: %w", len(blob), want, ErrFormat)
	}
	return parseHeader(blob[8:8+il*entrySize], blob[8+il*entrySize:], databaseHeader)
}

// headerSizes reads the entry count and the data size from the 8 bytes after the magic.
func headerSizes(b []byte, kind headerKind) (il, dl int, err error) {
	n, size := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if n == 0 || n > maxHeaderEntries {
		return 0, 0, fmt.Errorf("read %s: %d entries: %w", kind.name, n, ErrFormat)
	}
	if size > uint32(kind.maxData) {
		return 0, 0, fmt.Errorf("read %s: %d bytes of data: %w", kind.name, size, ErrFormat)
	}
	return int(n), int(size), nil
}

// readHeader reads magic, counts, index and data from r, which stands at offset. It gives the parsed
// header and the bytes read, magic included.
func readHeader(r io.Reader, offset int64, kind headerKind) (*Header, []byte, error) {
	intro := make([]byte, 16)
	if n, err := io.ReadFull(r, intro); err != nil {
		return nil, nil, readError(kind.name, offset+int64(n), err)
	}
	if !bytes.Equal(intro[:8], headerMagic[:]) {
		return nil, nil, fmt.Errorf("read %s at offset %d: no header magic: %w", kind.name, offset, ErrFormat)
	}
	il, dl, err := headerSizes(intro[8:], kind)
	if err != nil {
		return nil, nil, fmt.Errorf("offset %d: %w", offset, err)
	}
	// The buffer grows with what arrives: counts alone must not make a short file cost much memory.
	size := int64(il*entrySize + dl)
	buf := bytes.NewBuffer(make([]byte, 0, 16+min(size, 1<<20)))
	buf.Write(intro)
	if n, err := io.CopyN(buf, r, size); err != nil {
		return nil, nil, readError(kind.name, offset+16+n, err)
	}
	raw := buf.Bytes()
	h, err := parseHeader(raw[16:16+il*entrySize], raw[16+il*entrySize:], kind)
	if err != nil {
		return nil, nil, fmt.Errorf("offset %d: %w", offset, err)
	}
	return h, raw, nil
}

// readError turns an early end of the input into ErrTruncated and keeps other read errors as they are.
func readError(what string, offset int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %s: offset %d: %w", what, offset, ErrTruncated)
	}
	return fmt.Errorf("read %s: offset %d: %w", what, offset, err)
}

func parseHeader(index, data []byte, kind headerKind) (*Header, error) {
	h := &Header{index: index, data: data}
	if err := h.parseRegion(kind); err != nil {
		return nil, fmt.Errorf("read %s: %w", kind.name, err)
	}
	n := len(index) / entrySize
	h.entries = make([]Entry, 0, n)
	end := uint32(0)
	for i := range n {
		e, err := h.parseEntry(i, end)
		if err != nil {
			return nil, fmt.Errorf("read %s: entry %d: %w", kind.name, i, err)
		}
		h.entries = append(h.entries, e)
		if i > 0 || h.regionEntries == 0 { // the region entry points at the end of its data
			end = h.offset(i) + uint32(len(e.Data))
		}
	}
	return h, h.sortEntries(kind)
}

// sortEntries orders the entries by tag. A tag may stand once in the region; an entry behind the region
// replaces it, as rpm does for headers that were changed on installation.
func (h *Header) sortEntries(kind headerKind) error {
	order := make([]int, len(h.entries))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return h.entries[order[a]].Tag < h.entries[order[b]].Tag })
	sorted := make([]Entry, 0, len(order))
	last := -1
	for _, i := range order {
		e := h.entries[i]
		if len(sorted) == 0 || sorted[len(sorted)-1].Tag != e.Tag {
			sorted = append(sorted, e)
			last = i
			continue
		}
		if kind.exact || last >= h.regionEntries || i < h.regionEntries {
			return fmt.Errorf("read %s: tag %d stands twice: %w", kind.name, e.Tag, ErrFormat)
		}
		sorted[len(sorted)-1] = e
		last = i
	}
	h.entries = sorted
	return nil
}

// parseRegion checks the region entry, which comes first, and its trailer in the data area. The trailer
// repeats the entry with the region's index size as a negative offset.
func (h *Header) parseRegion(kind headerKind) error {
	tag := Tag(binary.BigEndian.Uint32(h.index))
	if tag != TagHeaderImmutable && tag != TagHeaderSignatures {
		return nil // format 3 and older have none
	}
	if tag != kind.regionTag {
		return fmt.Errorf("region tag %d: %w", tag, ErrFormat)
	}
	typ, offset, count := binary.BigEndian.Uint32(h.index[4:]), binary.BigEndian.Uint32(h.index[8:]), binary.BigEndian.Uint32(h.index[12:])
	if Type(typ) != TypeBin || count != entrySize || uint64(offset)+entrySize > uint64(len(h.data)) {
		return fmt.Errorf("region entry: type %d, count %d, offset %d: %w", typ, count, offset, ErrFormat)
	}
	trailer := h.data[offset : offset+entrySize]
	ttag, ttyp := Tag(binary.BigEndian.Uint32(trailer)), Type(binary.BigEndian.Uint32(trailer[4:]))
	toff, tcount := int32(binary.BigEndian.Uint32(trailer[8:])), binary.BigEndian.Uint32(trailer[12:])
	// Old rpm versions left the number of an earlier region tag in the trailer of signature headers.
	legacy := kind.regionTag == TagHeaderSignatures && ttag == tagHeaderImage
	if ttag != tag && !legacy || ttyp != TypeBin || tcount != entrySize {
		return fmt.Errorf("region trailer: tag %d, type %d, count %d: %w", ttag, ttyp, tcount, ErrFormat)
	}
	size := -int64(toff)
	if size <= 0 || size%entrySize != 0 || size > int64(len(h.index)) {
		return fmt.Errorf("region trailer: index of %d bytes: %w", size, ErrFormat)
	}
	h.regionEntries, h.regionData = int(size/entrySize), int(offset)+entrySize
	if kind.exact && (size != int64(len(h.index)) || h.regionData != len(h.data)) {
		return fmt.Errorf("data outside the immutable region: %w", ErrFormat)
	}
	return nil
}

func (h *Header) offset(i int) uint32 { return binary.BigEndian.Uint32(h.index[i*entrySize+8:]) }

// parseEntry reads one entry, whose data must not start before end: entries that share bytes would make the
// work of reading them grow with the square of the file.
func (h *Header) parseEntry(i int, end uint32) (Entry, error) {
	raw := h.index[i*entrySize:]
	e := Entry{Tag: Tag(binary.BigEndian.Uint32(raw)), Type: Type(binary.BigEndian.Uint32(raw[4:])), Count: binary.BigEndian.Uint32(raw[12:])}
	offset := h.offset(i)
	if e.Tag < TagHeaderSignatures || e.Tag == TagHeaderSignatures && i > 0 || e.Tag == TagHeaderImmutable && i > 0 {
		return Entry{}, fmt.Errorf("tag %d: %w", e.Tag, ErrFormat)
	}
	if offset < end {
		return Entry{}, fmt.Errorf("tag %d: offset %d inside the data of the entry before: %w", e.Tag, offset, ErrFormat)
	}
	if uint64(offset) > uint64(len(h.data)) {
		return Entry{}, fmt.Errorf("tag %d: offset %d beyond %d bytes of data: %w", e.Tag, offset, len(h.data), ErrFormat)
	}
	size, err := entryLength(e.Type, e.Count, offset, h.data[offset:])
	if err != nil {
		return Entry{}, fmt.Errorf("tag %d: %w", e.Tag, err)
	}
	e.Data = h.data[offset : int(offset)+size : int(offset)+size]
	return e, nil
}

// entryLength measures the data of an entry that starts at data, and checks alignment and strings.
func entryLength(t Type, count, offset uint32, data []byte) (int, error) {
	if count == 0 && t != TypeNull {
		return 0, fmt.Errorf("no values: %w", ErrFormat)
	}
	if uint64(count) > uint64(len(data)) {
		return 0, fmt.Errorf("%d values in %d bytes: %w", count, len(data), ErrFormat)
	}
	width := typeWidth(t)
	switch t {
	case TypeNull:
		return 0, nil
	case TypeString, TypeStringArray, TypeI18NString:
		if t == TypeString && count != 1 {
			return 0, fmt.Errorf("%d values in a single string: %w", count, ErrFormat)
		}
		return stringsLength(count, data)
	}
	if width == 0 {
		return 0, fmt.Errorf("type %d: %w", t, ErrFormat)
	}
	if offset%uint32(width) != 0 {
		return 0, fmt.Errorf("offset %d is not aligned to %d: %w", offset, width, ErrFormat)
	}
	size := int(count) * width
	if size > len(data) {
		return 0, fmt.Errorf("%d values of %d bytes in %d bytes: %w", count, width, len(data), ErrFormat)
	}
	return size, nil
}

// typeWidth gives the size of one value, which is also its alignment; 0 for strings and unknown types.
func typeWidth(t Type) int {
	switch t {
	case TypeChar, TypeInt8, TypeBin:
		return 1
	case TypeInt16:
		return 2
	case TypeInt32:
		return 4
	case TypeInt64:
		return 8
	}
	return 0
}

func stringsLength(count uint32, data []byte) (int, error) {
	size := 0
	for range count {
		i := bytes.IndexByte(data[size:], 0)
		if i < 0 {
			return 0, fmt.Errorf("string without end: %w", ErrFormat)
		}
		size += i + 1
	}
	return size, nil
}

// Entries lists the entries by ascending tag, the region entry included. The data must not be changed.
func (h *Header) Entries() []Entry { return slices.Clone(h.entries) }

// Blob gives the header as the database stores it: counts, index and data without magic.
func (h *Header) Blob() []byte {
	out := make([]byte, 0, 8+len(h.index)+len(h.data))
	out = binary.BigEndian.AppendUint32(out, uint32(len(h.index)/entrySize))
	out = binary.BigEndian.AppendUint32(out, uint32(len(h.data)))
	out = append(out, h.index...)
	return append(out, h.data...)
}

// HasRegion says whether the header carries an immutable region; packages of format 3 do not.
func (h *Header) HasRegion() bool { return h.regionEntries > 0 }

// signedBytes gives what header digests and signatures cover: magic, counts, index and data of the
// immutable region, or of the whole header where there is none.
func (h *Header) signedBytes() []byte {
	il, dl := h.regionEntries, h.regionData
	if il == 0 {
		il, dl = len(h.index)/entrySize, len(h.data)
	}
	out := make([]byte, 0, 16+il*entrySize+dl)
	out = append(out, headerMagic[:]...)
	out = binary.BigEndian.AppendUint32(out, uint32(il))
	out = binary.BigEndian.AppendUint32(out, uint32(dl))
	out = append(out, h.index[:il*entrySize]...)
	return append(out, h.data[:dl]...)
}
