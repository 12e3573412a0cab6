// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
)

const (
	rollMin  = 2 << 10
	rollMax  = 32 << 10
	rollMask = 1<<13 - 1 // a boundary every 8 KiB on average
)

// gear maps bytes to the numbers of the rolling checksum.
type gear [256]uint64

// newGear fills the table with the numbers of a fixed sequence (SplitMix64).
func newGear() *gear {
	g := &gear{}
	var state uint64
	for i := range g {
		state += 0x9E3779B97F4A7C15
		z := state
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		g[i] = z ^ z>>31
	}
	return g
}

// cut gives the length of the first chunk of b. The boundary depends only on the
// bytes before it, so an insertion moves few of them.
func (g *gear) cut(b []byte) int {
	n := min(len(b), rollMax)
	var h uint64
	for i := min(rollMin, n); i < n; i++ {
		h = h<<1 + g[b[i]]
		if h>>(64-13)&rollMask == 0 {
			return i + 1
		}
	}
	return n
}

// chunks calls fn for each chunk of a file.
func (g *gear) chunks(ctx context.Context, r io.Reader, fn func(off int64, chunk []byte) error) error {
	br := bufio.NewReaderSize(r, 8*rollMax)
	var off int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := br.Peek(rollMax)
		if len(b) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		n := g.cut(b)
		if err := fn(off, b[:n]); err != nil {
			return err
		}
		off += int64(n)
		if _, err := br.Discard(n); err != nil {
			return err
		}
	}
}

// chunkKey finds equal chunks; their bytes are compared as well.
type chunkKey [16]byte

func keyOf(chunk []byte) chunkKey {
	sum := sha256.Sum256(chunk)
	k := chunkKey(sum[:16])
	binary.LittleEndian.PutUint32(k[12:], uint32(len(chunk)))
	return k
}

// encodeRolling describes a file too large for memory by the chunks that both
// files have.
func (e *encoder) encodeRolling(ctx context.Context, f *newFile) (out *encoded, err error) {
	old, err := openSource(e.repo, e.tmp, f.similar)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	g, known := newGear(), map[chunkKey]int64{}
	err = g.chunks(ctx, io.NewSectionReader(old, 0, old.size), func(off int64, chunk []byte) error {
		if k := keyOf(chunk); known[k] == 0 {
			known[k] = off + 1
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, _, fresh, err := e.repo.OpenFile(f.sum)
	if err != nil {
		return nil, err
	}
	out = &encoded{data: newSpool(e.tmp)}
	buf := make([]byte, rollMax)
	err = g.chunks(ctx, fresh, func(_ int64, chunk []byte) error {
		at := known[keyOf(chunk)] - 1
		if at < 0 {
			return out.addData(chunk)
		}
		if _, err := old.ReadAt(buf[:len(chunk)], at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(buf[:len(chunk)], chunk) {
			return out.addData(chunk)
		}
		out.addOld(at, int64(len(chunk)))
		return nil
	})
	if err = errors.Join(err, fresh.Close()); err != nil {
		return nil, errors.Join(err, out.data.Close())
	}
	if out.copied < f.size/2 {
		out.segments = nil
	}
	return out, nil
}
