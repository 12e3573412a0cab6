// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
)

const (
	// encodeMemory bounds what patches in the making take together, in bytes; a
	// single one may take more and is then alone.
	encodeMemory = 160 << 20
	taskEncode   = "Encoding files"
)

// finishedPart is a compressed part under a temporary name.
type finishedPart struct {
	file *fsx.AtomicFile
	size int64
	hash hash.Hash
	info Part
}

func (f *finishedPart) Write(p []byte) (int, error) {
	f.hash.Write(p)
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

// assembler packs a plan into parts. Files are encoded ahead of the packing and
// parts are compressed behind it, at most workers of both at a time; packing
// itself goes through the plan in order, so that the result is always the same.
type assembler struct {
	repo     *ostree.Repo
	opts     GenerateOptions
	dir      *fsx.Dir // where parts go
	tmp      *fsx.Dir
	group    *errgroup.Group
	cpu      *semaphore.Weighted
	backlog  *semaphore.Weighted // parts that wait for compression or undergo it
	compress compressor
	maxChunk int64

	cur       *partWriter
	parts     []*finishedPart
	fallbacks []Fallback
	stats     GenerateStats
}

// pack runs the whole pipeline.
func (a *assembler) pack(ctx context.Context, p *plan) (err error) {
	a.group, ctx = errgroup.WithContext(ctx)
	a.cpu = semaphore.NewWeighted(int64(a.opts.Workers))
	a.backlog = semaphore.NewWeighted(int64(a.opts.Workers) + 1)
	a.cur = newPartWriter(a.tmp)
	jobs := a.startEncoding(ctx, p)
	err = a.packAll(ctx, p, jobs)
	if err == nil {
		err = a.finishPart(ctx)
	}
	// An error of ours must stop the group; one of the group has stopped us.
	a.group.Go(func() error { return err })
	werr := a.group.Wait()
	for _, j := range jobs {
		err = errors.Join(err, j.drop())
	}
	err = errors.Join(err, a.cur.data.Close())
	if werr != nil {
		return werr
	}
	return err
}

func (a *assembler) packAll(ctx context.Context, p *plan, jobs map[*newFile]*job) error {
	for _, n := range p.meta {
		if err := a.packMeta(ctx, n); err != nil {
			return err
		}
	}
	a.stats.Metadata, a.stats.Regular, a.stats.Symlinks = len(p.meta), len(p.files), len(p.links)
	a.emit(progress.Begin, 0, len(p.files))
	// What has no old file compresses slowest: its part is begun first.
	done := 0
	for _, similar := range []bool{false, true} {
		for _, f := range p.files {
			if f.hasSimilar != similar {
				continue
			}
			if err := a.packFile(ctx, f, jobs[f]); err != nil {
				return fmt.Errorf("pack %s: %w", f.paths[0], err)
			}
			done++
			a.emit(progress.Update, done, len(p.files))
		}
	}
	a.emit(progress.End, done, len(p.files))
	for _, f := range p.links {
		if err := a.packWhole(ctx, f); err != nil {
			return fmt.Errorf("pack %s: %w", f.paths[0], err)
		}
	}
	return nil
}

func (a *assembler) emit(kind progress.Kind, done, total int) {
	a.opts.Progress.Emit(progress.Event{Task: taskEncode, Kind: kind, Done: int64(done), Total: int64(total)})
}

// job is a file being encoded.
type job struct {
	done   chan struct{}
	result *encoded
	memory int64
	held   *semaphore.Weighted
}

// wait gives the result, nil where the context ended first.
func (j *job) wait(ctx context.Context) (*encoded, error) {
	select {
	case <-j.done:
		return j.result, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// drop frees the result and the memory that was set aside for it.
func (j *job) drop() error {
	if j.result == nil {
		return nil
	}
	e := j.result
	j.result = nil
	j.held.Release(j.memory)
	return e.data.Close()
}

// startEncoding begins the encoding of all files that have an old one, in the
// order in which they will be packed and as far ahead as memory allows.
func (a *assembler) startEncoding(ctx context.Context, p *plan) map[*newFile]*job {
	jobs, memory := map[*newFile]*job{}, semaphore.NewWeighted(encodeMemory)
	var order []*newFile
	for _, f := range p.files {
		if f.hasSimilar {
			jobs[f] = &job{done: make(chan struct{}), memory: encodeCost(f), held: memory}
			order = append(order, f)
		}
	}
	a.stats.Modified = len(order)
	enc := &encoder{repo: a.repo, tmp: a.tmp, maxBsdiff: sizeOr(a.opts.MaxBsdiffSize, DefaultMaxBsdiffSize), bsdiff: !a.opts.DisableBsdiff}
	a.group.Go(func() error {
		for _, f := range order {
			j := jobs[f]
			if err := errors.Join(memory.Acquire(ctx, j.memory), a.cpu.Acquire(ctx, 1)); err != nil {
				return err
			}
			a.group.Go(func() error {
				defer a.cpu.Release(1)
				e, err := enc.encode(ctx, f)
				if err != nil {
					return fmt.Errorf("encode %s: %w", f.paths[0], err)
				}
				j.result = e
				close(j.done)
				return nil
			})
		}
		return nil
	})
	return jobs
}

// encodeCost is the memory that encoding a file takes.
func encodeCost(f *newFile) int64 {
	if f.size+f.oldSize > DefaultMaxBsdiffSize {
		return encodeMemory / 4
	}
	return min(f.size+f.oldSize+8*min(f.oldSize, maxSeeds)+2*copyBuffer, encodeMemory)
}

func (a *assembler) packMeta(ctx context.Context, n ostree.ObjectName) error {
	raw, err := a.repo.LoadRaw(n)
	if err != nil {
		return err
	}
	if err := a.room(ctx, int64(len(raw))); err != nil {
		return err
	}
	a.stats.LooseBytes += a.storedSize(n, int64(len(raw)))
	return a.cur.addMeta(n, raw)
}

func (a *assembler) packFile(ctx context.Context, f *newFile, j *job) error {
	if j == nil {
		return a.packUnlike(ctx, f)
	}
	e, err := j.wait(ctx)
	if err != nil {
		return err
	}
	if !e.useful() {
		return errors.Join(j.drop(), a.packUnlike(ctx, f))
	}
	if err := a.room(ctx, e.data.size); err != nil {
		return err
	}
	if e.patch {
		a.stats.Bsdiff++
	} else {
		a.stats.Rollsum++
		a.stats.RollsumSize += e.copied
	}
	return errors.Join(a.cur.addEncoded(f, e), j.drop())
}

// packUnlike packs a file that no old one helps with, or leaves it to be fetched.
func (a *assembler) packUnlike(ctx context.Context, f *newFile) error {
	limit := sizeOr(a.opts.MinFallbackSize, DefaultMinFallbackSize)
	if limit <= 0 || f.size <= limit {
		return a.packWhole(ctx, f)
	}
	n := ostree.ObjectName{Checksum: f.sum, Type: ostree.TypeFile}
	a.fallbacks = append(a.fallbacks, Fallback{n, uint64(a.storedSize(n, f.size)), uint64(f.size)})
	a.stats.Fallback++
	return nil
}

func (a *assembler) packWhole(ctx context.Context, f *newFile) error {
	if err := a.room(ctx, f.size); err != nil {
		return err
	}
	a.stats.LooseBytes += a.storedSize(ostree.ObjectName{Checksum: f.sum, Type: ostree.TypeFile}, f.size)
	if f.header.IsSymlink() {
		return a.cur.addWhole(f, strings.NewReader(f.header.Target))
	}
	_, _, rc, err := a.repo.OpenFile(f.sum)
	if err != nil {
		return err
	}
	return errors.Join(a.cur.addWhole(f, contextReader{ctx, rc}), rc.Close())
}

// storedSize is what an object takes on disk; where that cannot be told, as for
// one of a parent repository, what it unpacks to.
func (a *assembler) storedSize(n ostree.ObjectName, size int64) int64 {
	name := ostree.LoosePath(n)
	if a.repo.Mode() != ostree.ModeArchive {
		name = strings.TrimSuffix(name, "z")
	}
	st, err := a.repo.Dir().Lstat(name)
	if err != nil {
		return size
	}
	return st.Size
}

// room begins a new part where the present one would become too large.
func (a *assembler) room(ctx context.Context, n int64) error {
	if len(a.cur.objects) == 0 || a.cur.data.size+int64(len(a.cur.ops))+n <= a.maxChunk {
		return nil
	}
	return a.finishPart(ctx)
}

// finishPart hands the present part to compression and begins another.
func (a *assembler) finishPart(ctx context.Context) error {
	if err := a.backlog.Acquire(ctx, 1); err != nil {
		return err
	}
	w, part := a.cur, &finishedPart{hash: sha256.New()}
	a.cur = newPartWriter(a.tmp)
	a.parts = append(a.parts, part)
	name := PartName(len(a.parts) - 1)
	a.group.Go(func() error {
		defer a.backlog.Release(1)
		err := a.compressPart(ctx, w, part, name)
		if err = errors.Join(err, w.data.Close()); err != nil {
			return fmt.Errorf("write part %s: %w", name, err)
		}
		return nil
	})
	return nil
}

func (a *assembler) compressPart(ctx context.Context, w *partWriter, part *finishedPart, name string) error {
	if err := a.cpu.Acquire(ctx, 1); err != nil {
		return err
	}
	defer a.cpu.Release(1)
	var err error
	if part.file, err = a.dir.CreateAtomic(name, 0o644); err != nil {
		return err
	}
	r, err := w.reader()
	if err != nil {
		return err
	}
	if _, err := part.Write([]byte{'x'}); err != nil {
		return err
	}
	if err := a.compress.compress(ctx, part, r); err != nil {
		return err
	}
	part.info = Part{
		Checksum: ostree.Checksum(part.hash.Sum(nil)), Size: uint64(part.size), UncompressedSize: w.usize, objects: w.objects,
	}
	return nil
}

// cancel drops what was written, unless it has been given its name.
func (a *assembler) cancel() {
	for _, p := range a.parts {
		if p.file != nil {
			p.file.Cancel()
		}
	}
}

// inline reads a finished part back.
func (f *finishedPart) inline() ([]byte, error) {
	data := make([]byte, f.size)
	_, err := io.ReadFull(io.NewSectionReader(f.file, 0, f.size), data)
	return data, err
}
