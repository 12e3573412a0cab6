// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// admitted is a commit that passed all checks and is stored.
type admitted struct {
	name       ostree.Checksum
	tree, meta ostree.Checksum
	complete   bool // its whole closure was stored before this pull
	commit     ostree.Commit
	base       ostree.Checksum // a complete commit that the walk compared with; zero for none
}

// admitAll receives, checks and stores the wanted commits and their parents.
func (p *puller) admitAll(ctx context.Context, wants []want) ([]admitted, error) {
	h := history{p: p, commits: map[ostree.Checksum]ostree.Commit{}}
	for _, w := range wants {
		c, err := h.commit(ctx, w)
		if err != nil {
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

// commit admits and stores one commit, once, and checks that it may be known
// under each ref that it is wanted for.
func (h *history) commit(ctx context.Context, w want) (ostree.Commit, error) {
	if c, ok := h.commits[w.commit]; ok {
		return c, h.p.checkWant(w, c)
	}
	a, c, err := h.p.admit(ctx, w)
	if err != nil {
		return c, err
	}
	if err := h.p.checkWant(w, c); err != nil {
		return c, err
	}
	h.commits[w.commit] = c
	if !h.p.req.DryRun {
		if err := h.p.keep(ctx, a); err != nil {
			return c, err
		}
	}
	h.list = append(h.list, a.admitted)
	return c, nil
}

// parents follows a commit's parents as far as the request wants. Remotes may
// have dropped old commits.
func (h *history) parents(ctx context.Context, c ostree.Commit) error {
	for depth := h.p.req.Depth; depth != 0 && !c.Parent.IsZero(); depth-- {
		name := c.Parent
		var err error
		c, err = h.commit(ctx, want{commit: name})
		if errors.Is(err, ErrNotFound) {
			h.p.log.Info("history ends", "commit", name.String())
			return h.p.buried(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// buried takes over the mark of a commit that the remote deleted on purpose.
func (p *puller) buried(ctx context.Context, c ostree.Checksum) error {
	if p.req.DryRun || !p.hasTombstones() {
		return nil
	}
	n := ostree.ObjectName{Checksum: c, Type: ostree.TypeTombstone}
	f, err := p.src.file(ctx, ostree.LoosePath(n), request{max: maxRefFile})
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := gvariant.ParseDict(f.data); err != nil {
		return fmt.Errorf("read object %s: %w: %w", n, ostree.ErrCorrupt, err)
	}
	return p.repo.WriteTombstone(c)
}

// candidate is a received commit before it is stored.
type candidate struct {
	admitted
	raw    []byte
	stored bool
	sigs   gvariant.Dict // detached metadata
	known  gvariant.Dict // the same as stored now
}

// admit reads a commit, from the repository if it is there, and verifies its
// signatures. A stored commit is verified too: it may have come from another
// remote that asks for none.
func (p *puller) admit(ctx context.Context, w want) (candidate, ostree.Commit, error) {
	name := ostree.ObjectName{Checksum: w.commit, Type: ostree.TypeCommit}
	a := candidate{admitted: admitted{name: w.commit}}
	var err error
	if a.stored, err = p.repo.Has(name); err != nil {
		return a, ostree.Commit{}, err
	}
	if a.stored {
		err = p.readStored(&a)
	}
	if err != nil {
		return a, ostree.Commit{}, err
	}
	byDelta, err := p.tryDelta(ctx, w, &a)
	if err != nil {
		return a, ostree.Commit{}, err
	}
	if a.raw == nil {
		if a.raw, err = p.fetchCommit(ctx, name, w.size); err != nil {
			return a, ostree.Commit{}, err
		}
	}
	commit, err := ostree.ParseCommit(a.raw)
	if err != nil {
		return a, commit, fmt.Errorf("read object %s: %w", name, err)
	}
	a.tree, a.meta = commit.RootTree, commit.RootMeta
	a.commit = commit
	if !byDelta && !(a.complete && p.req.RequireDeltas) {
		if err := p.fetchDetached(ctx, &a); err != nil {
			return a, commit, err
		}
	}
	if err := p.verify(w, &a); err != nil {
		return a, commit, err
	}
	return a, commit, nil
}

func (p *puller) readStored(a *candidate) (err error) {
	if a.raw, err = p.repo.LoadRaw(ostree.ObjectName{Checksum: a.name, Type: ostree.TypeCommit}); err != nil {
		return err
	}
	partial, err := p.repo.CommitPartial(a.name)
	if err != nil {
		return err
	}
	a.complete = !partial
	a.known, err = p.repo.CommitMeta(a.name)
	a.sigs = a.known
	return err
}

// trusts tells whether objects are taken over as they are, which is so for a
// local repository unless Request.Untrusted is set.
func (p *puller) trusts() bool { return p.local != nil && !p.req.Untrusted }

// trustsCommits tells whether a commit may have bytes that do not match its name. A
// signature covers the bytes, so with one asked for the name has to fit, too.
func (p *puller) trustsCommits() bool { return p.trusts() && !p.verifiesCommits() }

// maxUnannounced bounds a commit of which no summary says how large it is: so
// much a server may make this process hold. Only commits that list the sizes of
// very many objects are larger.
const maxUnannounced = 10 << 20

// fetchCommit gets the commit object, from a cache if there is one. size is what
// the summary says of it, 0 if nothing.
func (p *puller) fetchCommit(ctx context.Context, name ostree.ObjectName, size uint64) ([]byte, error) {
	p.meter.expect()
	limit := int64(maxUnannounced)
	if size > 0 {
		limit = int64(min(size, ostree.MaxMetadataSize))
	}
	raw, imported, err := p.metadata(ctx, name, limit)
	if err != nil {
		return nil, fmt.Errorf("receive object %s: %w", name, err)
	}
	if sum := ostree.Checksum(sha256.Sum256(raw)); sum != name.Checksum && !p.trustsCommits() {
		return nil, sayf(ostree.ErrCorrupt, "Corrupted commit object; checksum expected='%s' actual='%s'", name.Checksum, sum)
	}
	p.meter.object(name.Type, imported)
	return raw, nil
}

// metadata reads an object from a cache or else from the remote.
func (p *puller) metadata(ctx context.Context, n ostree.ObjectName, max int64) (raw []byte, imported bool, err error) {
	for _, c := range p.caches {
		found, err := c.has(n)
		if err != nil {
			return nil, false, err
		}
		if found {
			raw, err := c.metadata(ctx, n, max)
			return raw, true, err
		}
	}
	raw, err = p.src.metadata(ctx, n, max)
	return raw, p.local != nil, err
}

// verify lets the verifiers judge.
func (p *puller) verify(w want, a *candidate) error {
	gpg := p.req.GPG
	if w.gpg != nil {
		gpg = w.gpg
	}
	for _, v := range []struct {
		on bool
		Verifier
	}{{!p.remote.NoGPGVerify, gpg}, {p.remote.SignVerify, p.req.Sign}} {
		if !v.on {
			continue
		}
		if err := v.VerifyCommit(a.raw, a.sigs); err != nil {
			return &condition{fmt.Sprintf("Commit %s: %v", a.name, err), errors.Join(ErrSignature, err)}
		}
	}
	return nil
}

// fetchDetached reads the commit's detached metadata, also for a stored commit:
// signatures are added later. Many commits have none, and an empty file is legal.
func (p *puller) fetchDetached(ctx context.Context, a *candidate) error {
	name := ostree.ObjectName{Checksum: a.name, Type: ostree.TypeCommitMeta}
	raw, err := p.src.metadata(ctx, name, maxObject)
	if p.local == nil && (err == nil || absent(err)) {
		p.meter.asked()
	}
	if absent(err) {
		return nil
	}
	if err == nil && len(raw) == 0 { // what there was has been taken back
		a.sigs = gvariant.Dict{}
		return nil
	}
	if err != nil {
		return err
	}
	sigs, err := gvariant.ParseDict(raw)
	if err != nil && !p.verifiesCommits() {
		p.log.Warn("ignoring detached metadata that cannot be read", "object", name.String(), "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read object %s: %w", name, err)
	}
	a.sigs = sigs
	return nil
}

// verifiesCommits tells whether commits must be signed.
func (p *puller) verifiesCommits() bool { return !p.remote.NoGPGVerify || p.remote.SignVerify }

// checkWant applies the checks that concern how a commit was found.
func (p *puller) checkWant(w want, c ostree.Commit) error {
	if !p.req.DisableVerifyBindings {
		if err := c.VerifyBindings(p.boundCollection(), w.ref); err != nil {
			return &condition{fmt.Sprintf("Commit %s: %v", w.commit, err), errors.Join(ErrBinding, err)}
		}
	}
	return p.checkTime(w, c)
}

// boundCollection is the collection that the remote claims to be; "" for none.
func (p *puller) boundCollection() string {
	if p.local != nil {
		return p.local.repo.CollectionID()
	}
	return p.remote.CollectionID
}

func (p *puller) checkTime(w want, c ostree.Commit) error {
	if p.req.TimestampCheck && w.ref != "" {
		cur, err := p.repo.Resolve(p.refspec(w.ref))
		if err == nil {
			err = p.compareTimes(w, c, cur)
		} else if errors.Is(err, ostree.ErrNotFound) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if p.req.TimestampFrom.IsZero() {
		return nil
	}
	return p.compareTimes(w, c, p.req.TimestampFrom)
}

// CheckTimestamps is ErrDowngrade where commit next is older than from; both are in
// the repository.
func CheckTimestamps(repo *ostree.Repo, next, from ostree.Checksum) error {
	c, err := repo.LoadCommit(next)
	if err != nil {
		return fmt.Errorf("compare times: %w", err)
	}
	return compareTimes(repo, next, c, from)
}

func (p *puller) compareTimes(w want, c ostree.Commit, from ostree.Checksum) error {
	return compareTimes(p.repo, w.commit, c, from)
}

func compareTimes(repo *ostree.Repo, next ostree.Checksum, c ostree.Commit, from ostree.Checksum) error {
	old, err := repo.LoadCommit(from)
	if err != nil {
		return fmt.Errorf("compare times: %w", err)
	}
	if c.Timestamp < old.Timestamp {
		return sayf(ErrDowngrade, "Upgrade target revision '%s' with timestamp '%s' is chronologically older than current revision '%s' with timestamp '%s'; use --allow-downgrade to permit",
			next, stamp(c.Timestamp), from, stamp(old.Timestamp))
	}
	return nil
}

// stamp prints a time that may be any 64-bit number.
func stamp(secs uint64) string {
	if secs > 1<<40 {
		return fmt.Sprintf("second %d", secs)
	}
	// As GLib does: a day of one digit has a figure space before it.
	return strings.Replace(time.Unix(int64(secs), 0).UTC().Format(time.ANSIC), "  ", " \u2007", 1)
}

// keep stores a commit. The mark comes first: a commit object without it means
// that its closure is complete.
func (p *puller) keep(ctx context.Context, a candidate) error {
	fresh := !sameDict(a.sigs, a.known)
	if a.complete && !fresh {
		return nil
	}
	return p.batch.write(func(t *ostree.Txn) (int64, error) {
		size := int64(len(a.raw))
		if !a.complete {
			if err := t.MarkPartial(a.name); err != nil {
				return 0, fmt.Errorf("mark commit %s as partial: %w", a.name, err)
			}
		}
		if !a.stored {
			name := ostree.ObjectName{Checksum: a.name, Type: ostree.TypeCommit}
			if err := p.storeMeta(ctx, t, name, a.raw); err != nil {
				return 0, fmt.Errorf("store object %s: %w", name, err)
			}
		}
		if fresh {
			return size, t.SetCommitMeta(ctx, a.name, a.sigs)
		}
		return size, nil
	})
}

func sameDict(a, b gvariant.Dict) bool {
	x, err := a.Marshal()
	if err != nil {
		return false
	}
	y, err := b.Marshal()
	return err == nil && bytes.Equal(x, y)
}
