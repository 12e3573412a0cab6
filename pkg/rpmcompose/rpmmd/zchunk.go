// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A zchunk file is a header with a digest of its own, an index of chunks, and the chunks, each compressed by
// itself so that two versions of a list share most of them. docs/formats/repository-metadata.md describes it.
const (
	zchunkMagic   = "\x00ZCK1"
	maxZchunks    = 1 << 20
	maxZchunkDict = 16 << 20

	zchunkStreams      = 1 << 0
	zchunkOptional     = 1 << 1
	zchunkUncompressed = 1 << 2

	zchunkPlain = 0
	zchunkZstd  = 2
)

// zchunkSums are the digest functions by their number in the file.
func zchunkSum(kind uint64, data []byte) ([]byte, bool) {
	switch kind {
	case 0:
		s := sha1.Sum(data)
		return s[:], true
	case 1:
		s := sha256.Sum256(data)
		return s[:], true
	case 2:
		s := sha512.Sum512(data)
		return s[:], true
	case 3:
		s := sha512.Sum512(data)
		return s[:16], true
	}
	return nil, false
}

type zchunkReader struct {
	b   []byte
	pos int
}

func (r *zchunkReader) fail(what string) error {
	return fmt.Errorf("zchunk offset %d: %s: %w", r.pos, what, ErrSyntax)
}

// number reads seven bits at a time, lowest first; the last byte has the top bit.
func (r *zchunkReader) number() (uint64, error) {
	var n uint64
	for shift := 0; shift < 56; shift += 7 {
		if r.pos >= len(r.b) {
			return 0, r.fail("number is cut off")
		}
		c := r.b[r.pos]
		r.pos++
		n |= uint64(c&0x7f) << shift
		if c&0x80 != 0 {
			return n, nil
		}
	}
	return 0, r.fail("number is too large")
}

func (r *zchunkReader) numbers(dst ...*uint64) error {
	for _, p := range dst {
		n, err := r.number()
		if err != nil {
			return err
		}
		*p = n
	}
	return nil
}

func (r *zchunkReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.b)-r.pos) {
		return nil, r.fail(fmt.Sprintf("%d bytes are missing", n))
	}
	out := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return out, nil
}

type zchunk struct {
	sum          []byte
	size, plain  uint64
	offset       uint64
	uncompressed []byte
}

type zchunkHeader struct {
	compression, chunkKind uint64
	chunks                 []zchunk // the first is the dictionary
	data                   []byte
}

// readZchunk verifies a zchunk file and gives its text, at most limit bytes.
func readZchunk(b []byte, limit int64) ([]byte, error) {
	h, err := parseZchunk(b)
	if err != nil {
		return nil, err
	}
	var total uint64
	for _, c := range h.chunks[1:] {
		if total += c.plain; total > uint64(limit) {
			return nil, fmt.Errorf("zchunk promises more than %d bytes: %w", limit, ErrSyntax)
		}
	}
	dict, err := h.dictionary()
	if err != nil {
		return nil, err
	}
	open, err := h.opener(dict, limit)
	if err != nil {
		return nil, err
	}
	// Decoding may not run ahead of what small chunks really hold.
	out := make([]byte, 0, min(total, 64*uint64(len(b))+1024))
	for i, c := range h.chunks[1:] {
		if out, err = h.append(out, c, open); err != nil {
			return nil, fmt.Errorf("zchunk: chunk %d: %w", i+1, err)
		}
	}
	return out, nil
}

func parseZchunk(b []byte) (*zchunkHeader, error) {
	r := &zchunkReader{b: b, pos: len(zchunkMagic)}
	var kind, size uint64
	if err := r.numbers(&kind, &size); err != nil {
		return nil, err
	}
	lead := r.pos
	probe, ok := zchunkSum(kind, nil)
	if !ok {
		return nil, r.fail(fmt.Sprintf("digest function %d is not known", kind))
	}
	want, err := r.take(uint64(len(probe)))
	if err != nil {
		return nil, err
	}
	header, err := r.take(size)
	if err != nil {
		return nil, err
	}
	got, _ := zchunkSum(kind, append(bytes.Clone(b[:lead]), header...))
	if !bytes.Equal(got, want) {
		return nil, fmt.Errorf("zchunk header does not match its digest: %w", ErrSyntax)
	}
	h := &zchunkHeader{data: b[r.pos:]}
	if err := h.parse(&zchunkReader{b: header}, len(probe)); err != nil {
		return nil, err
	}
	// The digest of the whole data stands first in the header.
	if sum, _ := zchunkSum(kind, h.data); !bytes.Equal(sum, header[:len(probe)]) {
		return nil, fmt.Errorf("zchunk data does not match its digest: %w", ErrSyntax)
	}
	return h, nil
}

func (h *zchunkHeader) parse(r *zchunkReader, digest int) error {
	if _, err := r.take(uint64(digest)); err != nil {
		return err
	}
	var flags, indexSize, count uint64
	if err := r.numbers(&flags, &h.compression); err != nil {
		return err
	}
	if flags&^(zchunkStreams|zchunkOptional|zchunkUncompressed) != 0 {
		return r.fail(fmt.Sprintf("flags %#x are not known", flags))
	}
	if flags&zchunkOptional != 0 {
		if err := r.skipOptional(); err != nil {
			return err
		}
	}
	if err := r.numbers(&indexSize, &h.chunkKind, &count); err != nil {
		return err
	}
	if count < 1 || count > maxZchunks {
		return r.fail(fmt.Sprintf("%d chunks", count))
	}
	probe, ok := zchunkSum(h.chunkKind, nil)
	if !ok {
		return r.fail(fmt.Sprintf("digest function %d is not known", h.chunkKind))
	}
	var offset uint64
	for range count {
		c, err := r.chunk(flags, uint64(len(probe)))
		if err != nil {
			return err
		}
		c.offset = offset
		if offset += c.size; offset > uint64(len(h.data)) {
			return r.fail("chunks are longer than the file")
		}
		h.chunks = append(h.chunks, c)
	}
	if offset != uint64(len(h.data)) {
		return r.fail("bytes behind the last chunk")
	}
	return nil
}

func (r *zchunkReader) skipOptional() error {
	count, err := r.number()
	if err != nil || count > maxZchunks {
		return r.fail("optional elements")
	}
	for range count {
		var id, size uint64
		if err := r.numbers(&id, &size); err != nil {
			return err
		}
		if _, err := r.take(size); err != nil {
			return err
		}
	}
	return nil
}

func (r *zchunkReader) chunk(flags, digest uint64) (c zchunk, err error) {
	if flags&zchunkStreams != 0 {
		if _, err = r.number(); err != nil {
			return c, err
		}
	}
	if c.sum, err = r.take(digest); err != nil {
		return c, err
	}
	if flags&zchunkUncompressed != 0 {
		if c.uncompressed, err = r.take(digest); err != nil {
			return c, err
		}
	}
	return c, r.numbers(&c.size, &c.plain)
}

// raw gives the bytes of a chunk as they stand in the file.
func (h *zchunkHeader) raw(c zchunk) ([]byte, error) {
	b := h.data[c.offset : c.offset+c.size]
	if sum, _ := zchunkSum(h.chunkKind, b); c.size > 0 && !bytes.Equal(sum, c.sum) {
		return nil, fmt.Errorf("content does not match its digest: %w", ErrSyntax)
	}
	return b, nil
}

func (h *zchunkHeader) dictionary() ([]byte, error) {
	c := h.chunks[0]
	if c.size == 0 {
		return nil, nil
	}
	if c.plain > maxZchunkDict {
		return nil, fmt.Errorf("zchunk dictionary of %d bytes: %w", c.plain, ErrSyntax)
	}
	open, err := h.opener(nil, maxZchunkDict)
	if err != nil {
		return nil, err
	}
	dict, err := h.append(nil, c, open)
	if err != nil {
		return nil, fmt.Errorf("zchunk: dictionary: %w", err)
	}
	return dict, nil
}

// opener gives the function that decompresses one chunk.
func (h *zchunkHeader) opener(dict []byte, limit int64) (func(dst, src []byte) ([]byte, error), error) {
	switch h.compression {
	case zchunkPlain:
		return func(dst, src []byte) ([]byte, error) { return append(dst, src...), nil }, nil
	case zchunkZstd:
		o := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(limit, 1<<10)) * 2)}
		if len(dict) > 0 {
			o = append(o, zstdDict(dict))
		}
		z, err := zstd.NewReader(nil, o...)
		if err != nil {
			return nil, fmt.Errorf("zchunk dictionary: %w: %w", ErrSyntax, err)
		}
		return func(dst, src []byte) ([]byte, error) { return z.DecodeAll(src, dst) }, nil
	}
	return nil, fmt.Errorf("zchunk compression %d is not known: %w", h.compression, ErrSyntax)
}

// zstdDict tells a trained dictionary from one that is only text.
func zstdDict(dict []byte) zstd.DOption {
	if bytes.HasPrefix(dict, []byte{0x37, 0xa4, 0x30, 0xec}) {
		return zstd.WithDecoderDicts(dict)
	}
	return zstd.WithDecoderDictRaw(0, dict)
}

func (h *zchunkHeader) append(out []byte, c zchunk, open func(dst, src []byte) ([]byte, error)) ([]byte, error) {
	b, err := h.raw(c)
	if err != nil {
		return nil, err
	}
	from := len(out)
	if c.size > 0 {
		if out, err = open(out, b); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
	}
	if got := uint64(len(out) - from); got != c.plain {
		return nil, fmt.Errorf("%d bytes where the index promises %d: %w", got, c.plain, ErrSyntax)
	}
	return out, nil
}
