// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

const (
	// minCopy is the shortest range that is copied rather than repeated.
	minCopy = 64
	// copyWholeSize is the size from which a file that hardly changed is copied in
	// ranges: the patch would be a long run of zeros to be unpacked and added.
	copyWholeSize = 1 << 20
	copyRunSize   = 64 << 10
)

// segment is a range of a new file: from the old one, or from the data.
type segment struct {
	old    bool
	off, n int64
}

// encoded is a new file in terms of an old one. Neither a patch nor segments: it
// is better packed whole.
type encoded struct {
	data     *spool
	patch    bool
	segments []segment // offsets of those from the data are relative to it
	copied   int64     // bytes in segments of the old file
}

func (e *encoded) useful() bool { return e.patch || len(e.segments) > 0 }

// encoder makes the patches of a delta.
type encoder struct {
	repo      *ostree.Repo
	tmp       *fsx.Dir
	maxBsdiff int64
	bsdiff    bool
}

func (e *encoder) encode(ctx context.Context, f *newFile) (*encoded, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.size+f.oldSize > DefaultMaxBsdiffSize {
		return e.encodeRolling(ctx, f)
	}
	old, err := e.load(f.similar, f.oldSize)
	if err != nil {
		return nil, err
	}
	fresh, err := e.load(f.sum, f.size)
	if err != nil {
		return nil, err
	}
	blocks := match(old, fresh)
	cost := measure(old, fresh, blocks)
	out := &encoded{data: newSpool(e.tmp)}
	bsdiff := e.bsdiff && f.size+f.oldSize <= e.maxBsdiff
	switch {
	case bsdiff && cost.likeCopy(len(fresh)), !bsdiff:
		err = out.copyRanges(old, fresh, blocks)
	case cost.patch() < len(fresh)/10*9:
		err = out.writePatch(old, fresh, blocks)
	}
	if err != nil {
		return nil, errors.Join(err, out.data.Close())
	}
	return out, nil
}

func (e *encoder) load(c ostree.Checksum, size int64) ([]byte, error) {
	_, _, rc, err := e.repo.OpenFile(c)
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	_, err = io.ReadFull(rc, data)
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", c, err)
	}
	return data, nil
}

// patchCost tells how good a match is.
type patchCost struct{ blocks, extra, differing, runs int }

func measure(old, fresh []byte, blocks []block) patchCost {
	c := patchCost{blocks: len(blocks)}
	at := 0
	for _, b := range blocks {
		c.extra += b.extra
		o, n := old[b.oldPos:b.oldPos+b.diff], fresh[at:at+b.diff]
		for i := matchLen(o, n); i < len(n); {
			j := i
			for j < len(n) && o[j] != n[j] {
				j++
			}
			c.differing += j - i
			c.runs++
			i = j + matchLen(o[j:], n[j:])
		}
		at += b.diff + b.extra
	}
	return c
}

// patch estimates the size of a patch before compression, zeros not counted.
func (c patchCost) patch() int { return c.extra + c.differing + 8*c.blocks }

// likeCopy tells that ranges describe a large file as well as a patch does.
func (c patchCost) likeCopy(size int) bool {
	return size >= copyWholeSize && (c.runs+c.blocks)*copyRunSize < size
}

// writePatch writes a bsdiff patch.
func (e *encoded) writePatch(old, fresh []byte, blocks []block) error {
	e.patch = true
	var c [controlSize]byte
	buf := make([]byte, copyBuffer)
	for i, b := range blocks {
		seek := 0
		if i+1 < len(blocks) {
			seek = blocks[i+1].oldPos - b.oldPos - b.diff
		}
		putSignMagnitude(c[:], int64(b.diff))
		putSignMagnitude(c[8:], int64(b.extra))
		putSignMagnitude(c[16:], int64(seek))
		if _, err := e.data.Write(c[:]); err != nil {
			return err
		}
		for o := b.oldPos; o < b.oldPos+b.diff; {
			n := min(len(buf), b.oldPos+b.diff-o)
			subBytes(buf[:n], fresh, old[o:o+n])
			if _, err := e.data.Write(buf[:n]); err != nil {
				return err
			}
			fresh, o = fresh[n:], o+n
		}
		if _, err := e.data.Write(fresh[:b.extra]); err != nil {
			return err
		}
		fresh = fresh[b.extra:]
	}
	return nil
}

// subBytes sets dst to a minus b, byte by byte; no borrow crosses a byte.
func subBytes(dst, a, b []byte) {
	const high = 0x8080808080808080
	i := 0
	for ; i+8 <= len(dst); i += 8 {
		x, y := binary.LittleEndian.Uint64(a[i:]), binary.LittleEndian.Uint64(b[i:])
		binary.LittleEndian.PutUint64(dst[i:], (x|high-y&^high)^(x^^y)&high)
	}
	for ; i < len(dst); i++ {
		dst[i] = a[i] - b[i]
	}
}

// copyRanges writes what has to be repeated and keeps the rest as ranges of the
// old file. Nothing comes out where too little can be copied.
func (e *encoded) copyRanges(old, fresh []byte, blocks []block) error {
	at := 0
	for _, b := range blocks {
		o, n := old[b.oldPos:b.oldPos+b.diff], fresh[at:at+b.diff]
		for i := 0; i < len(n); {
			run := matchLen(o[i:], n[i:])
			if run >= minCopy {
				e.addOld(int64(b.oldPos+i), int64(run))
				i += run
				continue
			}
			end := min(i+run+1, len(n))
			if err := e.addData(n[i:end]); err != nil {
				return err
			}
			i = end
		}
		at += b.diff
		if err := e.addData(fresh[at : at+b.extra]); err != nil {
			return err
		}
		at += b.extra
	}
	if e.copied < int64(len(fresh)/2) {
		e.segments, e.copied = nil, 0
	}
	return nil
}

func (e *encoded) addOld(off, n int64) {
	e.copied += n
	if k := len(e.segments) - 1; k >= 0 && e.segments[k].old && e.segments[k].off+e.segments[k].n == off {
		e.segments[k].n += n
		return
	}
	e.segments = append(e.segments, segment{true, off, n})
}

func (e *encoded) addData(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	k := len(e.segments) - 1
	if k >= 0 && !e.segments[k].old {
		e.segments[k].n += int64(len(p))
	} else {
		e.segments = append(e.segments, segment{false, e.data.size, int64(len(p))})
	}
	_, err := e.data.Write(p)
	return err
}
