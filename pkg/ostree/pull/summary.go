// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// ErrExpired: a summary says itself that it is no longer valid.
var ErrExpired = errors.New("summary has expired")

// ErrRollback: a signed summary is older than one seen before.
var ErrRollback = errors.New("summary is older than the one known")

// summary is the remote's summary and its signature file.
type summary struct {
	ostree.Summary
	data, sig        []byte // sig is nil if there is none
	version, sigVers validators
	cached           bool // came from the cache
}

// parseSummary reads a summary file, strictly.
func parseSummary(data, sig []byte) (*summary, error) {
	s, err := ostree.ParseSummary(data)
	if err != nil {
		return nil, fmt.Errorf("parse summary: %w", err)
	}
	return &summary{Summary: s, data: data, sig: sig}, nil
}

func (s *summary) collection() string {
	id, _ := s.Metadata.Str("ostree.summary.collection-id")
	return id
}

func (s *summary) indexed() bool {
	b, _ := s.Metadata.Bool("ostree.summary.indexed-deltas")
	return b
}

// stamp reads one of the summary's times; zero if it has none.
func (s *summary) stamp(key string) uint64 {
	v, _ := s.Metadata.Get("ostree.summary." + key)
	t, _ := v.Uint64BE()
	return t
}

// all lists every ref, those of other collections included.
func (s *summary) all() []want {
	var out []want
	for _, r := range s.Refs {
		out = append(out, want{ref: r.Name, collection: s.collection(), commit: r.Commit, size: r.CommitSize})
	}
	for id, refs := range s.Collections {
		for _, r := range refs {
			out = append(out, want{ref: r.Name, collection: id, commit: r.Commit, size: r.CommitSize})
		}
	}
	slices.SortFunc(out, func(a, b want) int {
		return strings.Compare(a.collection+"\x00"+a.ref, b.collection+"\x00"+b.ref)
	})
	return out
}

// resolve finds a ref, in the main collection unless the request names another.
func (s *summary) resolve(w *want) error {
	refs, asked := s.Refs, w.collection
	if asked == "" || asked == s.collection() {
		w.collection = s.collection()
	} else {
		refs = s.Collections[asked]
	}
	i, ok := slices.BinarySearchFunc(refs, w.ref, func(r ostree.SummaryRef, name string) int { return strings.Compare(r.Name, name) })
	if !ok && asked != "" {
		return sayf(ErrNotFound, "No such branch (%s, %s) in repository summary", clip(asked), w.ref)
	}
	if !ok {
		return sayf(ErrNotFound, "No such branch '%s' in repository summary", w.ref)
	}
	w.commit, w.size = refs[i].Commit, refs[i].CommitSize
	return nil
}

// deltas lists the static deltas and the checksums of their superblocks.
func (s *summary) deltas() (list gvariant.Dict, ok bool) {
	v, ok := s.Metadata.Get("ostree.static-deltas")
	if !ok {
		return list, false
	}
	return v.Dict()
}

// loadSummary gets the summary and checks its signatures. None is no error
// unless it has to be signed.
func (p *puller) loadSummary(ctx context.Context) error {
	if p.req.Summary != nil {
		s, err := parseSummary(p.req.Summary, p.req.SummarySig)
		if err == nil {
			err = p.verifySummary(s.data, s.sig)
		}
		if err == nil {
			p.sum = s
		}
		return err
	}
	cache := p.openCache()
	defer cache.close()
	s, err := p.fetchSummary(ctx, cache)
	if err != nil {
		return fmt.Errorf("read summary: %w", err)
	}
	if s == nil {
		return p.verifySummary(nil, nil)
	}
	if err := p.acceptSummary(ctx, cache, s); err != nil {
		return err
	}
	parsed, err := parseSummary(s.data, s.sig)
	if err != nil {
		return err
	}
	parsed.version, parsed.sigVers, parsed.cached = s.version, s.sigVers, s.cached
	if err := p.checkFresh(cache, parsed); err != nil {
		return err
	}
	if !s.cached && s.sig != nil {
		cache.store(s)
	}
	p.sum = parsed
	return nil
}

// fetchSummary gets the signature first: while that is the cached one, so is the
// summary.
func (p *puller) fetchSummary(ctx context.Context, cache *summaryCache) (*summary, error) {
	old := cache.load()
	s := &summary{}
	sig, err := p.fetchOptional(ctx, "summary.sig", old.sigValidators())
	if err != nil {
		return nil, err
	}
	if sig.unchanged {
		sig.data, sig.validators = old.sig, old.sigVers
	}
	s.sig, s.sigVers = sig.data, sig.validators
	if s.sig != nil && old.data != nil && bytes.Equal(s.sig, old.sig) {
		s.data, s.version, s.cached = old.data, old.version, true
		return s, nil
	}
	sum, err := p.fetchOptional(ctx, "summary", old.validators())
	if err != nil {
		return nil, err
	}
	if sum.unchanged {
		sum.data, sum.validators = old.data, old.version
	}
	if sum.data == nil {
		return nil, nil
	}
	s.data, s.version = sum.data, sum.validators
	return s, nil
}

// fetchOptional reads a file that the remote may lack: nil data then. An empty
// file counts as absent.
func (p *puller) fetchOptional(ctx context.Context, name string, have *validators) (fetched, error) {
	f, err := p.src.file(ctx, name, request{max: maxSummary, have: have})
	if absent(err) {
		return fetched{}, nil
	}
	if len(f.data) == 0 {
		f.data = nil
	}
	return f, err
}

// acceptSummary verifies. A cached summary that does not match its signature is
// fetched again: the server may have been asked between two files of an update.
func (p *puller) acceptSummary(ctx context.Context, cache *summaryCache, s *summary) error {
	err := p.verifySummary(s.data, s.sig)
	if err == nil || !s.cached || !errors.Is(err, ErrSignature) {
		return err
	}
	if p.req.FailInvalidCache {
		return sayf(err, "Remote %s cached summary invalid and OSTREE_REPO_TEST_ERROR_INVALID_CACHE specified", p.remote.Name)
	}
	p.log.Info("cached summary does not match its signature", "remote", p.remote.Name)
	f, ferr := p.fetchOptional(ctx, "summary", nil)
	if ferr != nil {
		return ferr
	}
	s.data, s.version, s.cached = f.data, f.validators, false
	return p.verifySummary(s.data, s.sig)
}

// verifySummary lets the verifiers judge; nil data means that there is none.
func (p *puller) verifySummary(data, sig []byte) error {
	for _, v := range []struct {
		on       bool
		verifier SummaryVerifier
		name     string
		key      string
	}{
		{p.remote.GPGVerifySummary, p.req.GPGSummary, "GPG verification", "gpg-verify-summary"},
		{p.remote.SignVerifySummary, p.req.SignSummary, "Signatures verification", "sign-verify-summary"},
	} {
		if !v.on {
			continue
		}
		if data == nil {
			return sayf(ErrSignature, "%s enabled, but no summary found (use %s=false in remote config to disable)", v.name, v.key)
		}
		if sig == nil {
			return sayf(ErrSignature, "%s enabled, but no summary.sig found (use %s=false in remote config to disable)", v.name, v.key)
		}
		if err := v.verifier.VerifySummary(data, sig); err != nil {
			return &condition{err.Error(), errors.Join(ErrSignature, err)}
		}
	}
	return nil
}

// checkFresh refuses, among signed summaries, one that has expired and one older
// than the last that was verified: both may be replayed.
func (p *puller) checkFresh(cache *summaryCache, s *summary) error {
	if !p.remote.GPGVerifySummary && !p.remote.SignVerifySummary {
		return nil
	}
	if end := s.stamp("expires"); end != 0 && end < uint64(time.Now().Unix()) {
		return fmt.Errorf("%w: valid until %s", ErrExpired, stamp(end))
	}
	old := cache.load()
	if s.cached || old.data == nil || old.sig == nil || p.verifySummary(old.data, old.sig) != nil {
		return nil
	}
	known, err := parseSummary(old.data, old.sig)
	if err != nil {
		return nil
	}
	if was, is := known.stamp("last-modified"), s.stamp("last-modified"); is < was {
		return fmt.Errorf("%w: it is of %s, the known one of %s", ErrRollback, stamp(is), stamp(was))
	}
	return nil
}

// copySummary makes a mirror of everything serve the summary that it mirrors.
func (p *puller) copySummary() error {
	if !p.req.Mirror || p.sum == nil || len(p.req.Refs)+len(p.req.CollectionRefs)+len(p.remote.Branches) > 0 {
		return nil
	}
	d := p.repo.Dir()
	if err := d.WriteFileAtomic("summary", p.sum.data, 0o644); err != nil {
		return fmt.Errorf("copy summary: %w", err)
	}
	if p.sum.sig == nil {
		return nil
	}
	if err := d.WriteFileAtomic("summary.sig", p.sum.sig, 0o644); err != nil {
		return fmt.Errorf("copy summary signature: %w", err)
	}
	return nil
}

// RemoteSummary is what FetchSummary found.
type RemoteSummary struct {
	Data, Sig []byte // as received; nil if the remote has none
	Summary   ostree.Summary
}

// FetchSummary reads the remote's summary, verified as a pull would. Of the request
// only the verifiers, Cache and Network count. ErrNotFound if there is none.
// Errors are of type *Error.
func FetchSummary(ctx context.Context, repo *ostree.Repo, remote Remote, req Request) (RemoteSummary, error) {
	// Commits are not looked at, so nobody needs to verify them.
	checked := remote
	checked.NoGPGVerify, checked.SignVerify = true, false
	// What forbids to pull does not forbid to look.
	checked.CustomBackend, checked.UnconfiguredState = "", ""
	p, err := newPuller(repo, checked, req)
	if err == nil {
		defer func() { p.close(err) }()
		err = p.open(ctx)
	}
	if err == nil {
		err = p.loadSummary(ctx)
	}
	if err == nil && p.sum == nil {
		err = sayf(ErrNotFound, "Remote server has no summary file")
	}
	if err != nil {
		return RemoteSummary{}, &Error{Remote: remote.describe(), Err: err}
	}
	return RemoteSummary{Data: p.sum.data, Sig: p.sum.sig, Summary: p.sum.Summary}, nil
}
