// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// OpCounts counts the operations of a part by kind.
type OpCounts struct{ Splice, Open, Write, SetSource, UnsetSource, Close, Patch int }

// PartInfo describes the inside of a part. Data and Ops are sizes in bytes.
type PartInfo struct {
	Modes, Xattrs int
	Data, Ops     int64
	Counts        OpCounts
}

// Inspect unpacks a part of a delta whose directory (or, for one stored as a single
// file, whose containing directory) is dir, verifies it, and describes it without
// executing anything. Temporary data go to the repository.
func Inspect(ctx context.Context, r *ostree.Repo, dir *fsx.Dir, d *Delta, i int) (info PartInfo, err error) {
	in, closer, err := openPartFile(dir, &d.Parts[i], PartName(i))
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	tmp, err := scratchDir(r)
	if err != nil {
		return info, err
	}
	a := newApplier(nil, tmp)
	defer func() { err = errors.Join(err, a.Close()) }()
	s, err := a.unpack(ctx, &d.Parts[i], in)
	if err != nil {
		return info, fmt.Errorf("inspect delta part %d: %w", i, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	data, err := openPart(s, s.size)
	if err != nil {
		return info, fmt.Errorf("inspect delta part %d: %w", i, err)
	}
	info = PartInfo{Modes: data.numModes(), Xattrs: len(data.xattrs), Data: data.data.Size(), Ops: data.ops.Size()}
	if info.Counts, err = countOps(&d.Parts[i], data); err != nil {
		return info, fmt.Errorf("inspect delta part %d: %w", i, err)
	}
	return info, nil
}

// openPartFile gives a part's file, which may be inside the superblock.
func openPartFile(dir *fsx.Dir, p *Part, name string) (io.Reader, io.Closer, error) {
	if data, ok := p.Inline(); ok {
		return bytes.NewReader(data), io.NopCloser(nil), nil
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f, nil
}

func countOps(p *Part, data *partData) (c OpCounts, err error) {
	if p.NumObjects() == 0 {
		return c, nil
	}
	counts := map[byte]*int{
		opSplice: &c.Splice, opOpen: &c.Open, opWrite: &c.Write, opSetSource: &c.SetSource,
		opUnsetSource: &c.UnsetSource, opClose: &c.Close, opPatch: &c.Patch,
	}
	ops, next := newOpReader(data.ops), 0
	for {
		meta := next < p.NumObjects() && p.Object(next).Type.IsMeta()
		o, err := ops.next(meta)
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		*counts[o.code]++
		if o.code == opSplice || o.code == opClose {
			next++
		}
	}
}
