// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
)

const (
	// deltaWorkers is how many parts are received and applied at a time.
	deltaWorkers = 2
	// fallbackWorkers is how many files beside the parts are received meanwhile.
	fallbackWorkers = 2
)

// deltas is what a pull knows about static deltas.
type deltas struct {
	indexed bool // the remote has an index for each commit
	loaded  bool // known holds what the summary lists
	known   map[ostree.DeltaName]ostree.Checksum
	use     []*delta.Delta
	plan    DeltaPlan
}

func isDelta(name string) bool {
	return strings.HasPrefix(name, "deltas/") || strings.HasPrefix(name, "delta-indexes/")
}

// wantDeltas tells whether deltas come into question at all.
func (p *puller) wantDeltas() bool {
	if p.req.RequireDeltas {
		return true
	}
	return !p.req.NoDeltas && p.local == nil && p.repo.Mode() != ostree.ModeArchive &&
		!p.req.CommitMetadataOnly && len(p.req.Subpaths) == 0
}

// tryDelta looks for a delta to the commit and takes the commit from it. With
// RequireDeltas there must be one, unless the commit is complete already.
func (p *puller) tryDelta(ctx context.Context, w want, a *candidate) (found bool, err error) {
	if a.complete || !p.wantDeltas() {
		return false, nil
	}
	name, digest, err := p.findDelta(ctx, w)
	if err == nil && name != nil {
		err = p.takeDelta(ctx, *name, digest, a)
		found = err == nil
	}
	switch {
	case found:
		return true, nil
	case p.req.RequireDeltas && (err == nil || absent(err)):
		return false, sayf(ErrNoDelta, "Static deltas required, but none found for %s to %s", w.ref, w.commit)
	case err == nil, absent(err):
		return false, nil
	case p.req.RequireDeltas, errors.Is(err, ErrSignature), ctx.Err() != nil:
		return false, err
	}
	p.log.Warn("go without the static delta", "commit", w.commit.String(), "error", err)
	return false, nil
}

// findDelta chooses the delta to use; nil if there is none. digest is the
// superblock's checksum where the remote lists it.
func (p *puller) findDelta(ctx context.Context, w want) (name *ostree.DeltaName, digest *ostree.Checksum, err error) {
	current, err := p.current(w)
	if err != nil {
		return nil, nil, err
	}
	listed, err := p.listDeltas(ctx, w.commit)
	if err != nil {
		return nil, nil, err
	}
	if !listed {
		// Only a try tells.
		return &ostree.DeltaName{From: current, To: w.commit}, nil, nil
	}
	best, found, err := p.newestSource(w.commit)
	if err != nil {
		return nil, nil, err
	}
	if !found {
		// From nothing is for those who have nothing: with an earlier commit at hand
		// single objects are less to receive. Who requires a delta takes it anyway.
		best = ostree.DeltaName{To: w.commit}
		_, scratch := p.deltas.known[best]
		if !scratch || !current.IsZero() && !p.req.RequireDeltas {
			return nil, nil, nil
		}
	}
	sum := p.deltas.known[best]
	return &best, &sum, nil
}

// current gives the complete commit that the wanted ref has now; zero for none.
func (p *puller) current(w want) (ostree.Checksum, error) {
	if w.ref == "" {
		return ostree.Checksum{}, nil
	}
	c, err := p.repo.Resolve(p.refspec(w.ref))
	if errors.Is(err, ostree.ErrNotFound) {
		return ostree.Checksum{}, nil
	}
	if err != nil {
		return c, err
	}
	has, err := p.complete(c)
	if err != nil || !has {
		return ostree.Checksum{}, err
	}
	return c, nil
}

// complete tells whether the repository has the whole of a commit.
func (p *puller) complete(c ostree.Checksum) (bool, error) {
	has, err := p.repo.Has(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	if !has || err != nil {
		return false, err
	}
	partial, err := p.repo.CommitPartial(c)
	return !partial, err
}

// listDeltas collects what leads to a commit; false where the remote says nothing
// about its deltas.
func (p *puller) listDeltas(ctx context.Context, to ostree.Checksum) (bool, error) {
	d := &p.deltas
	if !d.loaded {
		d.loaded, d.known = true, map[ostree.DeltaName]ostree.Checksum{}
		if err := p.summaryDeltas(); err != nil {
			return false, err
		}
	}
	if d.indexed {
		found, err := p.readIndex(ctx, to)
		if found || err != nil || p.sum != nil {
			return true, err
		}
		// The index promises nothing: some writers list deltas in the summary alone.
		if err := p.loadSummary(ctx); err != nil {
			return true, err
		}
		return true, p.summaryDeltas()
	}
	if p.sum == nil {
		return false, nil
	}
	_, ok := p.sum.deltas()
	return ok || p.remote.GPGVerifySummary || p.remote.SignVerifySummary, nil
}

func (p *puller) summaryDeltas() error {
	if p.sum == nil {
		return nil
	}
	list, _ := p.sum.deltas()
	for _, e := range list.Entries() {
		n, err := delta.ParseName(e.Key)
		if err != nil {
			return fmt.Errorf("read summary: %w", err)
		}
		raw, _ := e.Value.ByteSlice()
		c, err := ostree.ChecksumFromBytes(raw)
		if err != nil {
			return fmt.Errorf("read summary: delta %s: %w", n, err)
		}
		p.deltas.known[n] = c
	}
	return nil
}

func (p *puller) readIndex(ctx context.Context, to ostree.Checksum) (found bool, err error) {
	f, err := p.src.file(ctx, delta.IndexPath(to), request{max: delta.MaxIndexSize})
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p.meter.asked()
	list, err := delta.ParseIndex(f.data, to)
	for _, e := range list {
		// What a signed summary lists stands.
		if _, ok := p.deltas.known[e.Name]; !ok {
			p.deltas.known[e.Name] = e.Superblock
		}
	}
	return true, err
}

// newestSource chooses among the deltas whose source is here the one from the
// newest commit.
func (p *puller) newestSource(to ostree.Checksum) (best ostree.DeltaName, found bool, err error) {
	var newest uint64
	for n := range p.deltas.known {
		if n.To != to || n.From.IsZero() {
			continue
		}
		has, err := p.complete(n.From)
		if err != nil {
			return best, false, err
		}
		if !has {
			continue
		}
		c, err := p.repo.LoadCommit(n.From)
		if err != nil {
			return best, false, err
		}
		if !found || c.Timestamp > newest {
			best, found, newest = n, true, c.Timestamp
		}
	}
	return best, found, nil
}

// takeDelta gets a superblock and remembers it for applyDeltas.
func (p *puller) takeDelta(ctx context.Context, name ostree.DeltaName, digest *ostree.Checksum, a *candidate) error {
	p.meter.asked()
	f, err := p.src.file(ctx, name.Path()+"/"+delta.SuperblockName, request{max: delta.MaxSuperblockSize})
	if err != nil {
		return err
	}
	if digest != nil && ostree.Checksum(sha256.Sum256(f.data)) != *digest {
		return fmt.Errorf("%w: Invalid checksum for static delta %s", ostree.ErrCorrupt, name)
	}
	d, err := delta.Parse(f.data)
	if err != nil {
		return err
	}
	if d.Name != name {
		return fmt.Errorf("%w: delta %s is stored as %s", ostree.ErrCorrupt, d.Name, name)
	}
	if d.Parents > 0 {
		return fmt.Errorf("delta %s: %w: it needs others", name, ErrUnsupported)
	}
	if err := p.verifyDelta(d); err != nil {
		return err
	}
	if err := p.planDelta(d); err != nil {
		return err
	}
	a.raw = d.Commit
	if meta, ok := d.CommitMeta(); ok {
		a.sigs = meta
	}
	p.deltas.use = append(p.deltas.use, d)
	return nil
}

// verifyDelta checks a signed superblock, and that it is signed where the
// repository's core.sign-verify-deltas wants that.
func (p *puller) verifyDelta(d *delta.Delta) error {
	must, err := p.repo.Config().BoolOr("core", "sign-verify-deltas", false)
	if err != nil {
		return err
	}
	if must && (!d.Signed || p.req.SignDelta == nil) {
		return fmt.Errorf("delta %s: %w: %w", d.Name, ErrSignature, delta.ErrUnsigned)
	}
	if !d.Signed || p.req.SignDelta == nil {
		return nil
	}
	if err := p.req.SignDelta.VerifyDelta(d.SignedData, d.Signatures); err != nil {
		return fmt.Errorf("delta %s: %w: %w", d.Name, ErrSignature, err)
	}
	return nil
}

// planDelta adds up what a delta costs.
func (p *puller) planDelta(d *delta.Delta) error {
	plan := &p.deltas.plan
	for _, f := range d.Fallbacks {
		if f.Object.Type != ostree.TypeFile {
			return fmt.Errorf("%w: Found metadata object as fallback: %s", ostree.ErrCorrupt, f.Object)
		}
		has, err := p.repo.Has(f.Object)
		if err != nil {
			return err
		}
		plan.Fallbacks++
		plan.Size += f.Size
		plan.UncompressedSize += f.UncompressedSize
		if has {
			plan.HaveFallbacks++
			plan.HaveSize += f.Size
		}
	}
	for i := range d.Parts {
		part := &d.Parts[i]
		need, err := p.partNeeded(part)
		if err != nil {
			return err
		}
		plan.Parts++
		plan.Size += part.Size
		plan.UncompressedSize += part.UncompressedSize
		if !need {
			plan.HaveParts++
			plan.HaveSize += part.Size
		}
	}
	return nil
}

func (p *puller) partNeeded(part *delta.Part) (bool, error) {
	for i := range part.NumObjects() {
		if has, err := p.repo.Has(part.Object(i)); !has || err != nil {
			return true, err
		}
	}
	return false, nil
}

// applyDeltas receives and executes the parts, and w the files that the deltas leave out.
// It returns when all that is in the repository, where the walk looks for it: a later
// transaction does not know what another one has staged.
func (p *puller) applyDeltas(ctx context.Context, w *walk) error {
	if len(p.deltas.use) == 0 {
		return nil
	}
	for _, d := range p.deltas.use {
		for _, f := range d.Fallbacks {
			if err := w.add(job{ObjectName: f.Object}); err != nil {
				return err
			}
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.run(gctx, fallbackWorkers) })
	g.Go(func() error { return p.applyParts(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := p.batch.finish(); err != nil {
		return fmt.Errorf("store received objects: %w", err)
	}
	return nil
}

// applyParts goes through the deltas. Where a part turns out to be damaged, or an object
// that it builds on is, the walk fetches what is missing then, unless deltas are required.
func (p *puller) applyParts(ctx context.Context) error {
	for _, d := range p.deltas.use {
		err := p.batch.write(func(t *ostree.Txn) (int64, error) {
			return int64(p.deltas.plan.UncompressedSize), p.applyDelta(ctx, t, d)
		})
		if err == nil {
			continue
		}
		fit := errors.Is(err, ostree.ErrCorrupt) || errors.Is(err, ostree.ErrNotFound) || absent(err)
		if p.req.RequireDeltas || !fit || ctx.Err() != nil {
			return fmt.Errorf("apply delta %s: %w", d.Name, err)
		}
		p.log.Warn("fetch objects instead of the static delta", "delta", d.Name.String(), "error", err)
	}
	return nil
}

func (p *puller) applyDelta(ctx context.Context, t *ostree.Txn, d *delta.Delta) (err error) {
	a, err := delta.NewApplier(t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deltaWorkers)
	for i := range d.Parts {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := p.applyPart(ctx, a, d, i); err != nil {
				return fmt.Errorf("part %d: %w", i, err)
			}
			p.meter.part()
			return nil
		})
	}
	return g.Wait()
}

func (p *puller) applyPart(ctx context.Context, a *delta.Applier, d *delta.Delta, i int) error {
	part := &d.Parts[i]
	need, err := a.Needed(part)
	if !need || err != nil {
		return err
	}
	if data, ok := part.Inline(); ok {
		return a.ApplyPart(ctx, part, bytes.NewReader(data))
	}
	s, err := p.src.open(ctx, d.PartPath(i), part.Checksum.String()+".delta")
	if err != nil {
		return err
	}
	err = a.ApplyPart(ctx, part, io.Reader(s))
	s.finish(err)
	return err
}
