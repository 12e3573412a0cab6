// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func generate(ctx context.Context, r *ostree.Repo, name ostree.DeltaName, o GenerateOptions) (res GenerateResult, err error) {
	p, err := makePlan(ctx, r, o.From, o.To)
	if err != nil {
		return res, err
	}
	tmp, err := scratchDir(r)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	dir, file := o.Dir, o.Filename
	if dir == nil {
		if dir, err = openDeltaDir(r, name); err != nil {
			return res, err
		}
		defer func() { err = errors.Join(err, dir.Close()) }()
		file = SuperblockName
	}
	a := &assembler{
		repo: r, opts: o, dir: dir, tmp: tmp, compress: newCompressor(o.DisableXZ),
		maxChunk: sizeOr(o.MaxChunkSize, DefaultMaxChunkSize),
	}
	defer a.cancel()
	if err := a.pack(ctx, p); err != nil {
		return res, err
	}
	d, err := a.describe(name, p.commit)
	if err != nil {
		return res, err
	}
	if err := a.publish(ctx, d, file); err != nil {
		return res, err
	}
	return GenerateResult{Delta: d, Stats: a.stats}, nil
}

func openDeltaDir(r *ostree.Repo, n ostree.DeltaName) (*fsx.Dir, error) {
	if err := r.Dir().MkdirAll(n.Path(), 0o755); err != nil {
		return nil, err
	}
	return r.Dir().OpenDir(n.Path())
}

// describe makes the superblock. User metadata stand first: programs look there
// to tell the kind of the file.
func (a *assembler) describe(name ostree.DeltaName, commit []byte) (*Delta, error) {
	d := &Delta{
		Name: name, Timestamp: uint64(a.opts.Timestamp.Unix()), Metadata: a.opts.Metadata, Commit: commit,
		Fallbacks: a.fallbacks, Endianness: a.opts.Endianness,
	}
	d.Metadata.Set(endiannessKey, gvariant.Byte(byte(a.opts.Endianness)))
	for i, p := range a.parts {
		if a.opts.Inline {
			data, err := p.inline()
			if err != nil {
				return nil, err
			}
			d.Metadata.Set(d.PartPath(i), gvariant.Tuple(gvariant.Byte(data[0]), gvariant.ByteSlice(data[1:])))
			p.info.inline = data
		}
		d.Parts = append(d.Parts, p.info)
		a.stats.Compressed += p.size
		a.stats.Uncompressed += int64(p.info.UncompressedSize)
	}
	meta, err := a.repo.CommitMeta(name.To)
	if err != nil {
		return nil, err
	}
	if meta.Len() > 0 {
		d.Metadata.Set(name.Path()+"/commitmeta", meta.Value())
	}
	return d, nil
}

// publish gives the parts their names, then the superblock. An old superblock goes
// first: its parts are about to be replaced.
func (a *assembler) publish(ctx context.Context, d *Delta, file string) error {
	data, err := d.marshal()
	if err == nil && a.opts.Sign != nil {
		d.Signed, d.SignedData = true, data
		if d.Signatures, err = a.opts.Sign(ctx, data); err == nil {
			data, err = marshalSigned(data, d.Signatures)
		}
	}
	if err == nil && len(data) > MaxSuperblockSize {
		err = fmt.Errorf("%w: superblock of %d bytes", ostree.ErrInvalid, len(data))
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if !a.opts.Inline {
		if err := a.replaceParts(file); err != nil {
			return err
		}
	}
	if err := failpoint.Hit("ostree.delta.superblock"); err != nil {
		return err
	}
	if err := a.dir.WriteFileAtomic(file, data, 0o644); err != nil {
		return err
	}
	if a.opts.Dir != nil {
		return nil
	}
	if err := a.dropOldParts(len(d.Parts)); err != nil {
		return err
	}
	return syncParents(a.repo.Dir(), d.Name.Path())
}

func (a *assembler) replaceParts(file string) error {
	if err := a.dir.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Were the removal lost in a crash, the old superblock would name the new parts.
	if err := a.dir.Fsync(); err != nil {
		return err
	}
	for _, p := range a.parts {
		if err := failpoint.Hit("ostree.delta.publish"); err != nil {
			return err
		}
		if err := p.file.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// dropOldParts removes parts that an earlier delta of this name left.
func (a *assembler) dropOldParts(n int) error {
	if a.opts.Inline {
		n = 0
	}
	for ; ; n++ {
		err := a.dir.Remove(PartName(n))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// syncParents makes the directories above a delta durable.
func syncParents(root *fsx.Dir, name string) error {
	for up := path.Dir(name); up != "."; up = path.Dir(up) {
		if err := root.FsyncName(up); err != nil {
			return err
		}
	}
	return root.Fsync()
}
