// SPDX-License-Identifier: Apache-2.0

// Package pull copies commits from another OSTree repository into a local one:
// over HTTP(S) from an archive repository, or from a directory.
//
// # Order
//
// The refs are resolved, each commit is received, its signature, its bindings
// and its time are checked, and it is stored marked as partial. Then static
// deltas are applied where there are any, and the walk receives what is missing,
// several objects at a time; every object is compared with its checksum before it
// is stored. When the closure is complete the marks go away and the refs move, in
// this order.
//
// # Interruption
//
// Objects land in the repository in batches (see batch.go), and a batch lands
// also when the pull is cancelled or fails. What has landed is never requested
// again: the next pull walks the partial commit and asks for the rest. A broken
// connection does not restart an object; its remainder is requested as a range.
// Big files are kept while they arrive (see parts.go), so that this holds for a
// killed process too.
package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Verifier checks a commit's signatures. commit holds the bytes of the commit
// object as received, meta its detached metadata. A nil error accepts the
// commit; any other is reported together with ErrSignature.
type Verifier interface {
	VerifyCommit(commit []byte, meta gvariant.Dict) error
}

// SummaryVerifier checks the signatures of a summary. sig is summary.sig as
// received. A nil error accepts it; any other is reported with ErrSignature.
type SummaryVerifier interface {
	VerifySummary(summary, sig []byte) error
}

// DeltaVerifier checks the signatures of a static delta: signed are the bytes of
// the superblock inside the signed file, sigs the dictionary beside it.
type DeltaVerifier interface {
	VerifyDelta(signed []byte, sigs gvariant.Dict) error
}

// DepthAll follows parents to the first commit.
const DepthAll = -1

// CollectionRef asks for a ref of a collection; a zero Commit means the newest.
type CollectionRef struct {
	ostree.CollectionRef
	Commit ostree.Checksum
	// GPG, if not nil, judges the commit instead of Request.GPG: a mirror may serve
	// refs of collections that trust other keys.
	GPG Verifier
}

// Request says what to pull. The zero value pulls the remote's configured
// branches, newest commit only.
type Request struct {
	// Refs are refs, commit checksums, or REF@CHECKSUM for a ref at a given
	// commit. Empty: the remote's branches, or with Mirror all refs.
	Refs []string
	// CollectionRefs are pulled too; without Refs they alone.
	CollectionRefs []CollectionRef
	// Mirror writes REF instead of REMOTE:REF, refs of a collection below
	// refs/mirrors, and copies the summary when all refs are pulled.
	Mirror bool
	// Depth is how many parents follow each commit; DepthAll for all. A parent
	// that the remote does not have ends the line without an error.
	Depth int
	// CommitMetadataOnly stores the commits without their trees; they stay partial.
	CommitMetadataOnly bool
	// Subpaths limit the trees to files and directories at these absolute paths, and
	// what leads to them; the commits stay partial.
	Subpaths []string

	GPG         Verifier        // for remotes with gpg-verify
	Sign        Verifier        // for remotes with sign-verify
	GPGSummary  SummaryVerifier // for remotes with gpg-verify-summary
	SignSummary SummaryVerifier // for remotes with sign-verify-summary
	SignDelta   DeltaVerifier   // for signed deltas; nil: their signatures are ignored

	// TimestampCheck refuses a commit older than the ref's current one
	// (ErrDowngrade).
	TimestampCheck bool
	// TimestampFrom is compared with, instead of or beside the ref's current commit.
	TimestampFrom ostree.Checksum
	// DisableVerifyBindings accepts commits that are bound to other refs.
	DisableVerifyBindings bool

	// Untrusted copies and verifies the files of a local repository instead of
	// linking and trusting them.
	Untrusted bool
	// Trusted stores the files of a mirrored archive as they come, unverified.
	Trusted bool
	// BareUserOnlyFiles refuses files with mode bits outside of 0775.
	BareUserOnlyFiles bool

	// NoDeltas fetches objects one by one even where a delta would do. So do pulls
	// into archives, of metadata only, of subpaths, and from a directory unless
	// RequireDeltas is set.
	NoDeltas bool
	// RequireDeltas is an error wrapping ErrNoDelta where no delta fits.
	RequireDeltas bool
	// DryRun stores nothing and stops when it is known what the pull would cost; see
	// Result.Delta and Result.Transfer.
	DryRun bool

	// LocalCaches are repositories whose objects spare a request.
	LocalCaches []*ostree.Repo
	// Cache is where verified summaries are kept, in its folder summaries; nil: the
	// repository's tmp/cache.
	Cache *fsx.Dir
	// NoCache neither reads nor writes that.
	NoCache bool
	// FailInvalidCache reports a cached summary that does not verify, for tests,
	// instead of getting it anew.
	FailInvalidCache bool
	// Summary and SummarySig are used instead of the remote's, if Summary is not nil.
	Summary, SummarySig []byte

	Network         Network
	Progress        progress.Func // task "Receiving objects"
	UpdateFrequency time.Duration // between two events; 0: 100 ms
	Logger          *slog.Logger  // nil: discard
}

// Network tunes transfers. The zero value takes what the remote's configuration
// says, and the defaults for the rest.
type Network struct {
	Outstanding int // requests at a time; 0: 8
	Retries     int // per file, after the first try; 0: 5; negative: none
	// FailOnNetworkErrors does not retry when a connection fails, only when the
	// server answers that it cannot serve now.
	FailOnNetworkErrors bool
	RetryDelay          time.Duration // before the third retry, doubled for each further one; 0: 100 ms
	ConnectTimeout      time.Duration // 0: 30 s
	LowSpeedBytes       int64         // bytes per second that count as stalled …
	LowSpeedTime        time.Duration // … when a transfer is slower for so long; 0 and 0: 1000 B/s for 30 s; either negative: never
	UserAgent           string        // "": hostctl and its version
	AppendUserAgent     string        // follows the user agent after a space
	Header              map[string]string
}

// Result tells what a pull did, also when it failed.
type Result struct {
	// Refs gives the commit of each refspec as written, refs below refs/mirrors as
	// "(COLLECTION, REF)"; nil unless the pull succeeded.
	Refs map[string]ostree.Checksum
	// Stats are what was written to the repository.
	Stats ostree.Stats
	// Metadata counts metadata files received; as in libostree's numbers, requests
	// for detached metadata and superblocks count even if there are none.
	Metadata         int
	Content          int   // content objects received
	ImportedMetadata int   // metadata objects taken from a local repository or cache
	ImportedContent  int   // the same for content objects
	DeltaParts       int   // parts of deltas applied
	Bytes            int64 // bytes received, as transferred
	Requests         int   // HTTP requests sent
	Local            bool  // the remote is a directory
	Delta            DeltaPlan
	Transfer         Transfer
	Duration         time.Duration
}

// Transfer is what a pull had still to receive when it began, beside the commits.
type Transfer struct {
	// Known is false where a commit neither lists the sizes of its objects nor has
	// a static delta: the numbers are then those of the other commits.
	Known   bool
	Objects int    // objects, parts of deltas and files beside those
	Bytes   uint64 // as transferred
}

// DeltaPlan sums up the static deltas of a pull.
type DeltaPlan struct {
	Parts, HaveParts         int    // HaveParts: all their objects are there already
	Fallbacks, HaveFallbacks int    // objects beside the parts
	Size, HaveSize           uint64 // bytes of parts and fallbacks, compressed
	UncompressedSize         uint64
}

// source is where objects come from.
type source interface {
	// file reads a file of the repository by its path.
	file(ctx context.Context, name string, r request) (fetched, error)
	// metadata reads an object's bytes; ErrNotFound if the remote lacks it.
	metadata(ctx context.Context, n ostree.ObjectName, max int64) ([]byte, error)
	// store stores a file object through t, verified, and tells how many bytes it
	// read.
	store(ctx context.Context, t *ostree.Txn, c ostree.Checksum) (int64, error)
	// open starts the transfer of a big file, which is known as key.
	open(ctx context.Context, name, key string) (stream, error)
	close()
}

// stream is a big file; err is what became of its content.
type stream interface {
	Read(p []byte) (int, error)
	finish(err error)
}

// Pull copies commits from a remote into repo and sets the refs. On error, and
// when ctx is cancelled, no ref has changed, received objects are kept for the
// next pull, and the Result still counts what was done. Errors are of type *Error.
func Pull(ctx context.Context, repo *ostree.Repo, remote Remote, req Request) (Result, error) {
	start := time.Now()
	p, err := newPuller(repo, remote, req)
	if err == nil {
		defer func() { p.close(err) }()
		err = p.open(ctx)
	}
	if err == nil {
		err = p.run(ctx)
	}
	res := p.result()
	res.Duration = time.Since(start)
	if err != nil {
		res.Refs = nil
		return res, &Error{Remote: remote.describe(), Err: err}
	}
	return res, nil
}

// puller is one running pull.
type puller struct {
	repo   *ostree.Repo
	remote Remote
	req    Request
	log    *slog.Logger
	src    source
	local  *localSource   // src, where that is a directory
	caches []*localSource // of Request.LocalCaches
	parts  *parts
	meter  *meter
	batch  *batches
	refSet map[string]ostree.Checksum

	sum    *summary // nil: the remote has none, or it is not needed
	config *remoteConfig
	deltas deltas
	plan   Transfer
}

func newPuller(repo *ostree.Repo, remote Remote, req Request) (*puller, error) {
	req.Network = req.Network.or(remote.network)
	p := &puller{repo: repo, remote: remote, req: req, log: req.Logger, meter: newMeter(req.Progress, req.UpdateFrequency)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if err := remote.check(); err != nil {
		return p, err
	}
	for _, v := range []struct {
		needed, there bool
		key           string
	}{
		{!remote.NoGPGVerify, req.GPG != nil, "gpg-verify"},
		{remote.SignVerify, req.Sign != nil, "sign-verify"},
		{remote.GPGVerifySummary, req.GPGSummary != nil, "gpg-verify-summary"},
		{remote.SignVerifySummary, req.SignSummary != nil, "sign-verify-summary"},
	} {
		if v.needed && !v.there {
			return p, fmt.Errorf("%w: %s is on for this remote", ErrNoVerifier, v.key)
		}
	}
	return p, p.checkRequest()
}

func (p *puller) checkRequest() error {
	req := &p.req
	if req.NoDeltas && req.RequireDeltas {
		return fmt.Errorf("%w: deltas are both refused and required", ostree.ErrInvalid)
	}
	for i, s := range req.Subpaths {
		clean, err := cleanSubpath(s)
		if err != nil {
			return err
		}
		req.Subpaths[i] = clean
	}
	if p.repo.Mode() == ostree.ModeArchive && req.RequireDeltas {
		return sayf(ErrNoDelta, "Can't use static deltas in an archive repo")
	}
	req.Trusted = req.Trusted && !req.Untrusted && !req.BareUserOnlyFiles && req.Mirror && p.repo.Mode() == ostree.ModeArchive
	return nil
}

// open connects the source.
func (p *puller) open(ctx context.Context) error {
	path, local, err := p.remote.local()
	if err != nil {
		return err
	}
	for _, repo := range p.req.LocalCaches {
		p.caches = append(p.caches, newLocal(repo, p.repo, p.localOptions()))
	}
	if local {
		p.local, err = openLocal(path, p.repo, p.localOptions())
		if err != nil {
			return err
		}
		p.src = p.local
		return nil
	}
	p.parts = openParts(p.repo, p.partExpiry(), p.log)
	o := httpOptions{net: p.req.Network, meter: p.meter, log: p.log, parts: p.parts, check: p.modeCheck(), trusted: p.req.Trusted}
	if p.remote.Name != "" {
		if o.cookies, err = Cookies(p.repo, p.remote.Name); err != nil {
			return err
		}
	}
	src, err := newHTTP(ctx, p.remote, o)
	if err != nil {
		return err
	}
	p.src = src
	return nil
}

func (p *puller) close(failure error) {
	if p.src != nil {
		p.src.close()
	}
	if p.parts != nil {
		p.parts.close(failure)
	}
}

// partExpiry is core.tmp-expiry-secs.
func (p *puller) partExpiry() time.Duration {
	const day = 86400
	secs, err := p.repo.Config().IntOr("core", "tmp-expiry-secs", day)
	if err != nil || secs > 365*day {
		secs = day
	}
	return time.Duration(secs) * time.Second
}

func (p *puller) run(ctx context.Context) error {
	wants, err := p.resolve(ctx)
	if err != nil {
		return err
	}
	p.batch = newBatches(ctx, p.repo)
	p.meter.begin()
	commits, err := p.receive(ctx, wants)
	p.meter.end()
	// Whatever was verified lands, also after an error.
	if lerr := p.batch.finish(); lerr != nil {
		err = errors.Join(err, fmt.Errorf("store received objects: %w", lerr))
	}
	if err != nil || p.req.DryRun {
		return err
	}
	if err := p.publish(ctx, wants, commits); err != nil {
		return err
	}
	return p.copySummary()
}

// receive gets the commits and their trees.
func (p *puller) receive(ctx context.Context, wants []want) ([]admitted, error) {
	commits, err := p.admitAll(ctx, wants)
	if err != nil || p.req.CommitMetadataOnly {
		return nil, err
	}
	if err := p.planTransfer(commits); err != nil || p.req.DryRun {
		return nil, err
	}
	w := newWalk(p)
	if err := p.applyDeltas(ctx, w); err != nil {
		return nil, err
	}
	for i := range commits {
		c := &commits[i]
		if c.complete {
			continue
		}
		old, err := p.findBase(c, wants)
		if err == nil {
			err = w.addRoot(*c, old)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := w.run(ctx, p.req.Network.Outstanding); err != nil || len(p.req.Subpaths) > 0 {
		return nil, err
	}
	return commits, nil
}

// publish clears the marks and moves the refs. All objects are durable by now;
// a crash in here leaves a complete commit marked partial, which costs the next
// pull one walk, or refs that have moved in part.
func (p *puller) publish(ctx context.Context, wants []want, complete []admitted) error {
	refs := map[string]ostree.Checksum{}
	stats, err := p.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error {
		for _, c := range complete {
			if c.complete {
				continue
			}
			if err := errors.Join(p.checkBase(c), t.ClearPartial(c.name)); err != nil {
				return err
			}
		}
		for _, w := range wants {
			if w.ref == "" {
				continue
			}
			name, err := p.setRef(t, w)
			if err != nil {
				return fmt.Errorf("set ref %s: %w", w.ref, err)
			}
			refs[name] = w.commit
		}
		return nil
	})
	p.batch.add(stats)
	if err != nil {
		return fmt.Errorf("publish refs: %w", err)
	}
	p.refSet = refs
	return nil
}

// setRef gives the name under which Result lists the ref.
func (p *puller) setRef(t *ostree.Txn, w want) (string, error) {
	if p.req.Mirror && w.collection != "" && w.collection != p.repo.CollectionID() {
		c := ostree.CollectionRef{Collection: w.collection, Ref: w.ref}
		return c.String(), t.SetCollectionRef(c, w.commit)
	}
	return p.refspec(w.ref), t.SetRef(p.refspec(w.ref), w.commit)
}

func (p *puller) refspec(ref string) string {
	if p.req.Mirror || p.remote.Name == "" {
		return ref
	}
	return p.remote.Name + ":" + ref
}

func (p *puller) result() Result {
	r := Result{Refs: p.refSet, Local: p.local != nil, Delta: p.deltas.plan, Transfer: p.plan}
	if p.batch != nil {
		r.Stats = p.batch.stats()
	}
	p.meter.fill(&r)
	return r
}
