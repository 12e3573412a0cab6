// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// admitted is a commit that passed all checks and is stored.
type admitted struct {
	name       ostree.Checksum
	tree, meta ostree.Checksum
	complete   bool // its whole closure was stored before this pull
}

// admitAll receives, checks and stores the wanted commits and their parents.
func (p *puller) admitAll(ctx context.Context, wants []want) ([]admitted, error) {
	h := history{p: p, commits: map[ostree.Checksum]ostree.Commit{}}
	for _, w := range wants {
		c, err := h.commit(ctx, w.commit)
		if err != nil {
			return nil, err
		}
		if err := p.checkWant(w, c); err != nil {
			return nil, err
		}
		if err := h.parents(ctx, c); err != nil {
			return nil, err
		}
	}
	return h.list, nil
}

// history is what admitAll has met so far.
type history struct {
	p       *puller
	commits map[ostree.Checksum]ostree.Commit
	list    []admitted
}

// commit admits and stores one commit, once.
func (h *history) commit(ctx context.Context, name ostree.Checksum) (ostree.Commit, error) {
	if c, ok := h.commits[name]; ok {
		return c, nil
	}
	a, c, err := h.p.admit(ctx, name)
	if err != nil {
		return c, err
	}
	if err := h.p.keep(ctx, a); err != nil {
		return c, err
	}
	h.commits[name] = c
	h.list = append(h.list, a.admitted)
	return c, nil
}

// parents follows a commit's parents as far as the request wants. Remotes may
// have dropped old commits.
func (h *history) parents(ctx context.Context, c ostree.Commit) error {
	for depth := h.p.req.Depth; depth != 0 && !c.Parent.IsZero(); depth-- {
		name := c.Parent
		var err error
		c, err = h.commit(ctx, name)
		if errors.Is(err, ErrNotFound) {
			h.p.log.Info("history ends", "commit", name.String())
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// candidate is a received commit before it is stored.
type candidate struct {
	admitted
	raw    []byte
	stored bool
	sigs   gvariant.Dict // detached metadata
}

// admit reads a commit, from the repository if it is there, and verifies its
// signatures. A stored commit is verified too: it may have come from another
// remote that asks for none.
func (p *puller) admit(ctx context.Context, c ostree.Checksum) (candidate, ostree.Commit, error) {
	name := ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit}
	a := candidate{admitted: admitted{name: c}}
	var err error
	if a.stored, err = p.repo.Has(name); err != nil {
		return a, ostree.Commit{}, err
	}
	if a.stored {
		a.raw, err = p.repo.LoadRaw(name)
	} else {
		a.raw, err = p.fetchCommit(ctx, name)
	}
	if err != nil {
		return a, ostree.Commit{}, err
	}
	commit, err := ostree.ParseCommit(a.raw)
	if err != nil {
		return a, commit, fmt.Errorf("read object %s: %w", name, err)
	}
	a.tree, a.meta = commit.RootTree, commit.RootMeta
	if a.stored {
		partial, err := p.repo.CommitPartial(c)
		if err != nil {
			return a, commit, err
		}
		a.complete = !partial
	}
	if err := p.verify(ctx, &a); err != nil {
		return a, commit, fmt.Errorf("commit %s: %w", c, err)
	}
	return a, commit, nil
}

func (p *puller) fetchCommit(ctx context.Context, name ostree.ObjectName) ([]byte, error) {
	p.meter.expect()
	raw, err := p.src.metadata(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("receive object %s: %w", name, err)
	}
	if ostree.Checksum(sha256.Sum256(raw)) != name.Checksum {
		return nil, fmt.Errorf("object %s: %w: the received bytes have another checksum", name, ostree.ErrCorrupt)
	}
	p.meter.object(name.Type)
	return raw, nil
}

// verify reads the detached metadata and lets the verifiers judge.
func (p *puller) verify(ctx context.Context, a *candidate) error {
	needed := !p.remote.NoGPGVerify || p.remote.SignVerify
	if a.complete && !needed {
		return nil
	}
	if err := p.fetchDetached(ctx, a); err != nil {
		return err
	}
	if !p.remote.NoGPGVerify {
		if err := p.req.GPG.VerifyCommit(a.raw, a.sigs); err != nil {
			return fmt.Errorf("%w: gpg: %w", ErrSignature, err)
		}
	}
	if p.remote.SignVerify {
		if err := p.req.Sign.VerifyCommit(a.raw, a.sigs); err != nil {
			return fmt.Errorf("%w: sign: %w", ErrSignature, err)
		}
	}
	return nil
}

// fetchDetached reads the commit's detached metadata. Many commits have none,
// and an empty file is legal.
func (p *puller) fetchDetached(ctx context.Context, a *candidate) error {
	name := ostree.ObjectName{Checksum: a.name, Type: ostree.TypeCommitMeta}
	raw, err := p.src.metadata(ctx, name)
	if errors.Is(err, ErrNotFound) || err == nil && len(raw) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if a.sigs, err = gvariant.ParseDict(raw); err != nil {
		return fmt.Errorf("read object %s: %w", name, err)
	}
	return nil
}

// checkWant applies the checks that concern the ref of a commit.
func (p *puller) checkWant(w want, c ostree.Commit) error {
	if err := p.checkBindings(w, c); err != nil {
		return err
	}
	return p.checkTime(w, c)
}

func (p *puller) checkBindings(w want, c ostree.Commit) error {
	if p.req.DisableVerifyBindings || w.ref == "" {
		return nil
	}
	if bound, ok := c.Metadata.Strings("ostree.ref-binding"); ok && !slices.Contains(bound, w.ref) {
		return fmt.Errorf("commit %s: %w %s, only to %q", w.commit, ErrBinding, w.ref, bound)
	}
	if id := p.remote.CollectionID; id != "" {
		if got, _ := c.Metadata.Str("ostree.collection-binding"); got != id {
			return fmt.Errorf("commit %s: %w: it belongs to collection %q, the remote to %q", w.commit, ErrBinding, clip(got), id)
		}
	}
	return nil
}

func (p *puller) checkTime(w want, c ostree.Commit) error {
	from := p.req.TimestampFrom
	if from.IsZero() {
		if !p.req.TimestampCheck || w.ref == "" {
			return nil
		}
		cur, err := p.repo.Resolve(p.refspec(w.ref))
		if errors.Is(err, ostree.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		from = cur
	}
	old, err := p.repo.LoadCommit(from)
	if err != nil {
		return fmt.Errorf("compare times: %w", err)
	}
	if c.Timestamp < old.Timestamp {
		return fmt.Errorf("commit %s of %s: %w: %s is of %s", w.commit, stamp(c.Timestamp), ErrDowngrade, from, stamp(old.Timestamp))
	}
	return nil
}

// stamp prints a time that may be any 64-bit number.
func stamp(secs uint64) string {
	if secs > 1<<40 {
		return fmt.Sprintf("second %d", secs)
	}
	return time.Unix(int64(secs), 0).UTC().Format(time.RFC3339)
}

// keep stores a commit. The mark comes first: a commit object without it means
// that its closure is complete.
func (p *puller) keep(ctx context.Context, a candidate) error {
	return p.batch.write(func(t *ostree.Txn) (int64, error) {
		size := int64(len(a.raw))
		if !a.complete {
			if err := t.MarkPartial(a.name); err != nil {
				return 0, fmt.Errorf("mark commit %s as partial: %w", a.name, err)
			}
		}
		if !a.stored {
			name := ostree.ObjectName{Checksum: a.name, Type: ostree.TypeCommit}
			if err := t.WriteMetadataExpected(ctx, name, a.raw); err != nil {
				return 0, fmt.Errorf("store object %s: %w", name, err)
			}
		}
		if a.sigs.Len() > 0 {
			return size, t.SetCommitMeta(ctx, a.name, a.sigs)
		}
		return size, nil
	})
}
