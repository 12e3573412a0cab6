// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/bits"

	"github.com/therootcompany/xz"
	"golang.org/x/sync/semaphore"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

const (
	// dictBudget is the memory for xz dictionaries of parts that are unpacked at the
	// same time. A part that needs more gets it all.
	dictBudget = 36 << 20
	// maxDict is that of "xz -9".
	maxDict = 64 << 20
)

// Applier executes parts of deltas inside a transaction. It is safe for concurrent
// use: several parts may be applied at once, and its memory stays bounded.
type Applier struct {
	txn  *ostree.Txn
	tmp  *fsx.Dir
	dict *semaphore.Weighted
	free chan *xzReader // decoders to be used again, with their dictionaries
	mem  *chunkPool
}

// NewApplier prepares to apply parts into a transaction. Close it before the
// transaction ends.
func NewApplier(txn *ostree.Txn) (*Applier, error) {
	tmp, err := scratchDir(txn.Repo())
	if err != nil {
		return nil, err
	}
	return newApplier(txn, tmp), nil
}

func newApplier(txn *ostree.Txn, tmp *fsx.Dir) *Applier {
	return &Applier{txn: txn, tmp: tmp, dict: semaphore.NewWeighted(dictBudget), free: make(chan *xzReader, 2), mem: newChunkPool()}
}

// scratchDir opens the directory for temporary files of a repository.
func scratchDir(r *ostree.Repo) (*fsx.Dir, error) {
	if err := r.Dir().MkdirAll("tmp", 0o755); err != nil {
		return nil, err
	}
	return r.Dir().OpenDir("tmp")
}

// Close releases what the Applier holds.
func (a *Applier) Close() error {
	return errors.Join(a.freeMemory(), a.tmp.Close())
}

func (a *Applier) freeMemory() error {
	for {
		select {
		case z := <-a.free:
			if err := z.close(); err != nil {
				return err
			}
		default:
			return a.mem.close()
		}
	}
}

// Needed reports whether the transaction lacks any object that the part makes.
func (a *Applier) Needed(p *Part) (bool, error) {
	for i := range p.NumObjects() {
		found, err := a.txn.Has(p.Object(i))
		if !found || err != nil {
			return true, err
		}
	}
	return false, nil
}

// WriteCommit stores the delta's commit object and the detached metadata that come
// with it. The commit is not marked partial or complete; the caller does that.
func (a *Applier) WriteCommit(ctx context.Context, d *Delta) error {
	if meta, ok := d.CommitMeta(); ok {
		if err := a.txn.SetCommitMeta(ctx, d.Name.To, meta); err != nil {
			return err
		}
	}
	return a.txn.WriteMetadataExpected(ctx, ostree.ObjectName{Checksum: d.Name.To, Type: ostree.TypeCommit}, d.Commit)
}

// ApplyPart unpacks and executes one part, whose file r gives (Part.Inline where
// the delta carries it). Nothing is executed before the whole has been read and
// its SHA-256 verified; more than Part.Size bytes are not read. Objects that are
// present are kept. Errors wrap ErrCorrupt where the data are at fault and
// ostree.ErrNotFound where a source is missing; objects written until then stay
// in the transaction.
func (a *Applier) ApplyPart(ctx context.Context, p *Part, r io.Reader) error {
	s, err := a.unpack(ctx, p, r)
	if err != nil {
		return fmt.Errorf("unpack delta part: %w", err)
	}
	err = a.execute(ctx, p, s)
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("apply delta part: %w", err)
	}
	return nil
}

func (a *Applier) execute(ctx context.Context, p *Part, s *partSpool) error {
	if err := failpoint.Hit("ostree.delta.part"); err != nil {
		return err
	}
	// Such a part may hold anything, or nothing.
	if p.NumObjects() == 0 {
		return nil
	}
	data, err := openPart(s, s.size)
	if err != nil {
		return err
	}
	s.drain()
	return runPart(ctx, a.txn, a.tmp, p, data)
}

// maxUnpacked bounds what a part may unpack to. Beside the content of its objects
// it holds tables and operations, and with patches their controls: a useful one
// stands for at least eight bytes of content.
func maxUnpacked(p *Part) int64 {
	const perObject, rest = 8 << 10, maxTables
	hi, n := bits.Mul64(p.UncompressedSize, 4)
	if hi > 0 || n > 1<<60 {
		return 1 << 60
	}
	return int64(n) + int64(p.NumObjects())*perObject + rest
}

// unpack verifies the part file while it is unpacked to a spool.
func (a *Applier) unpack(ctx context.Context, p *Part, r io.Reader) (*partSpool, error) {
	in := &checkedReader{ctx: ctx, r: r, left: p.Size, hash: sha256.New()}
	s := &partSpool{dir: a.tmp, pool: a.mem}
	if err := a.unpackTo(ctx, s, in, maxUnpacked(p)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := in.verify(p.Checksum); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (a *Applier) unpackTo(ctx context.Context, s *partSpool, in *checkedReader, limit int64) error {
	br := bufio.NewReaderSize(in, 64<<10)
	kind, err := br.ReadByte()
	if err != nil {
		return cut(err)
	}
	switch kind {
	case 0:
		return copyLimited(s, br, limit)
	case 'x':
		return a.unxz(ctx, s, br, limit)
	}
	return fmt.Errorf("%w: compression type %#02x", ErrCorrupt, kind)
}

func (a *Applier) unxz(ctx context.Context, s *partSpool, br *bufio.Reader, limit int64) error {
	head, err := br.Peek(xzPeek)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	need := min(xzDictSize(head), dictBudget)
	if err := a.dict.Acquire(ctx, need); err != nil {
		return err
	}
	defer a.dict.Release(need)
	if !onlyLZMA2(head) {
		return unxzFiltered(s, br, limit)
	}
	z := a.decoder()
	err = z.unpack(&limited{s, limit, limit}, br, limit)
	select {
	case a.free <- z:
		return err
	default:
		return errors.Join(err, z.close())
	}
}

func (a *Applier) decoder() *xzReader {
	select {
	case z := <-a.free:
		return z
	default:
		return new(xzReader)
	}
}

// unxzFiltered unpacks what no known writer of deltas makes: with filters for
// programs of some processor.
func unxzFiltered(s *partSpool, br *bufio.Reader, limit int64) error {
	z, err := xz.NewReader(br, maxDict)
	if err == nil {
		err = copyLimited(s, z, limit)
	}
	return xzError(err)
}

// limited refuses more than a number of bytes.
type limited struct {
	s           *partSpool
	left, limit int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("%w: unpacks to more than %d bytes", ErrCorrupt, l.limit)
	}
	return l.s.Write(p)
}

// copyLimited copies at most limit bytes.
func copyLimited(s *partSpool, r io.Reader, limit int64) error {
	_, err := io.CopyBuffer(&limited{s, limit, limit}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
	return err
}

// xzError marks the errors of the decoder as the data's fault.
func xzError(err error) error {
	for _, e := range []error{xz.ErrBuf, xz.ErrData, xz.ErrFormat, xz.ErrMemlimit, xz.ErrOptions, xz.ErrUnsupportedCheck} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return err
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: part is empty", ErrCorrupt)
	}
	return err
}

// checkedReader hashes a part file and refuses more than its size.
type checkedReader struct {
	ctx  context.Context
	r    io.Reader
	left uint64
	hash hash.Hash
}

func (c *checkedReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	if c.left == 0 {
		return c.atEnd()
	}
	n, err := c.r.Read(p[:min(uint64(len(p)), c.left)])
	c.hash.Write(p[:n])
	c.left -= uint64(n)
	return n, err
}

func (c *checkedReader) atEnd() (int, error) {
	var one [1]byte
	n, err := io.ReadFull(c.r, one[:])
	if n > 0 {
		return 0, fmt.Errorf("%w: part is longer than its superblock says", ErrCorrupt)
	}
	return 0, err
}

func (c *checkedReader) verify(want ostree.Checksum) error {
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	if c.left > 0 {
		return fmt.Errorf("%w: part is %d bytes shorter than its superblock says", ErrCorrupt, c.left)
	}
	if got := ostree.Checksum(c.hash.Sum(nil)); got != want {
		return fmt.Errorf("%w: part has checksum %s instead of %s", ErrCorrupt, got, want)
	}
	return nil
}
