// SPDX-License-Identifier: Apache-2.0

// Package pull copies commits from another OSTree repository into a local one:
// over HTTP(S) from an archive repository, or from a directory.
//
// # Order
//
// The refs are resolved, each commit is received, its signature, its bindings
// and its time are checked, and it is stored marked as partial. Then the walk
// receives what is missing, several objects at a time; every object is compared
// with its checksum before it is stored. When the closure is complete the marks
// go away and the refs move, in this order.
//
// # Interruption
//
// Objects land in the repository in batches (see batch.go), and a batch lands
// also when the pull is cancelled or fails. What has landed is never requested
// again: the next pull walks the partial commit and asks for the rest. A broken
// connection does not restart an object; its remainder is requested as a range.
package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Conditions that callers test for with errors.Is.
var (
	// ErrNotFound: the server has no such file, or no such ref. A *StatusError in
	// the chain names the URL.
	ErrNotFound = errors.New("not found on the remote")
	// ErrNoVerifier: the remote wants signatures and the caller gave no means to
	// check them.
	ErrNoVerifier = errors.New("signature verification is required but not available")
	// ErrSignature: a commit has no signature that the Verifier accepts.
	ErrSignature = errors.New("signature verification failed")
	// ErrBinding: a commit belongs to other refs than the one it was pulled through.
	ErrBinding = errors.New("commit is not bound to the ref")
	// ErrDowngrade: the commit is older than what the ref holds now.
	ErrDowngrade = errors.New("commit is older than the current one")
	// ErrUnsupported: the remote is configured in a way that is not handled.
	ErrUnsupported = errors.New("not supported")
)

// Verifier checks a commit's signatures. commit holds the bytes of the commit
// object as received, meta its detached metadata. A nil error accepts the
// commit; any other is reported together with ErrSignature.
type Verifier interface {
	VerifyCommit(commit []byte, meta gvariant.Dict) error
}

// DepthAll follows parents to the first commit.
const DepthAll = -1

// Request says what to pull. The zero value pulls the remote's configured
// branches, newest commit only.
type Request struct {
	// Refs are refs, commit checksums, or REF@CHECKSUM for a ref at a given
	// commit. Empty: the remote's branches, or with Mirror all refs.
	Refs []string
	// Mirror writes REF instead of REMOTE:REF.
	Mirror bool
	// Depth is how many parents follow each commit; DepthAll for all. A parent
	// that the remote does not have ends the line without an error.
	Depth int
	// CommitMetadataOnly stores the commits without their trees; they stay partial.
	CommitMetadataOnly bool

	GPG  Verifier // for remotes with gpg-verify
	Sign Verifier // for remotes with sign-verify

	// TimestampCheck refuses a commit older than the ref's current one
	// (ErrDowngrade).
	TimestampCheck bool
	// TimestampFrom is compared with instead of the ref's current commit; it
	// implies TimestampCheck.
	TimestampFrom ostree.Checksum
	// DisableVerifyBindings accepts commits that are bound to other refs.
	DisableVerifyBindings bool

	// Untrusted copies and verifies the files of a local repository of the same
	// mode instead of linking them.
	Untrusted bool

	Network  Network
	Progress progress.Func // task "Receiving objects"
	Logger   *slog.Logger  // nil: discard
}

// Network tunes transfers. The zero value has the defaults.
type Network struct {
	Outstanding    int           // requests at a time; 0: 8
	Retries        int           // per file, after the first try; 0: 5; negative: none
	RetryDelay     time.Duration // before the first retry, doubled for each further one; 0: 500 ms
	ConnectTimeout time.Duration // 0: 30 s
	LowSpeedBytes  int64         // bytes per second that count as stalled …
	LowSpeedTime   time.Duration // … when a transfer is slower for so long; 0 and 0: 1000 B/s for 30 s
	UserAgent      string        // "": hostctl and its version
	Header         map[string]string
}

// Result tells what a pull did, also when it failed.
type Result struct {
	Refs     map[string]ostree.Checksum // refspec to commit, as written; nil unless the pull succeeded
	Stats    ostree.Stats               // what was written to the repository
	Metadata int                        // metadata objects received
	Content  int                        // content objects received
	Bytes    int64                      // bytes received, as transferred
	Requests int                        // HTTP requests sent
	Duration time.Duration
}

// source is where objects come from.
type source interface {
	// refs resolves the wanted refs, or with nil lists all of them.
	refs(ctx context.Context, want []string) (map[string]ostree.Checksum, error)
	// metadata reads an object's bytes; ErrNotFound if the remote lacks it.
	metadata(ctx context.Context, n ostree.ObjectName) ([]byte, error)
	// content stores a file object through t, verified, and tells how many bytes
	// it read.
	content(ctx context.Context, t *ostree.Txn, c ostree.Checksum) (int64, error)
}

// Pull copies commits from a remote into repo and sets the refs. On error, and
// when ctx is cancelled, no ref has changed, received objects are kept for the
// next pull, and the Result still counts what was done.
func Pull(ctx context.Context, repo *ostree.Repo, remote Remote, req Request) (Result, error) {
	start := time.Now()
	p, err := newPuller(repo, remote, req)
	if err != nil {
		return Result{}, fmt.Errorf("pull from %s: %w", remote.describe(), err)
	}
	defer p.close()
	err = p.open(ctx)
	if err == nil {
		err = p.run(ctx)
	}
	res := p.result()
	res.Duration = time.Since(start)
	if err != nil {
		res.Refs = nil
		return res, fmt.Errorf("pull from %s: %w", remote.describe(), err)
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
	meter  *meter
	batch  *batches
	close  func()
	refSet map[string]ostree.Checksum
}

func newPuller(repo *ostree.Repo, remote Remote, req Request) (*puller, error) {
	if err := remote.check(); err != nil {
		return nil, err
	}
	if !remote.NoGPGVerify && req.GPG == nil {
		return nil, fmt.Errorf("%w: gpg-verify is on for this remote", ErrNoVerifier)
	}
	if remote.SignVerify && req.Sign == nil {
		return nil, fmt.Errorf("%w: sign-verify is on for this remote", ErrNoVerifier)
	}
	if remote.GPGVerifySummary || remote.SignVerifySummary {
		return nil, fmt.Errorf("%w: this remote wants a signed summary", ErrNoVerifier)
	}
	if !req.Mirror && remote.Name == "" && needsRefs(req.Refs) {
		return nil, fmt.Errorf("%w: refs of a remote without a name need Mirror", ErrUnsupported)
	}
	log := req.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &puller{
		repo: repo, remote: remote, req: req, log: log, close: func() {},
		meter: newMeter(req.Progress),
	}, nil
}

// needsRefs tells whether a request writes refs.
func needsRefs(refs []string) bool {
	for _, r := range refs {
		if _, err := ostree.ParseChecksum(r); err != nil {
			return true
		}
	}
	return len(refs) == 0
}

// open connects the source.
func (p *puller) open(ctx context.Context) error {
	path, local, err := p.remote.localPath()
	if err != nil {
		return err
	}
	if local {
		src, err := openLocal(path, p.repo, p.req.Untrusted, p.meter)
		if err != nil {
			return err
		}
		p.src, p.close = src, src.close
		return nil
	}
	src, err := newHTTP(p.remote, p.req.Network, p.meter, p.log)
	if err != nil {
		return err
	}
	p.src, p.close = src, src.close
	return src.checkMode(ctx)
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
	if err != nil {
		return err
	}
	return p.publish(ctx, wants, commits)
}

// receive gets the commits and their trees.
func (p *puller) receive(ctx context.Context, wants []want) ([]admitted, error) {
	commits, err := p.admitAll(ctx, wants)
	if err != nil || p.req.CommitMetadataOnly {
		return nil, err
	}
	w := newWalk(p)
	for _, c := range commits {
		if c.complete {
			continue
		}
		if err := w.addDir(c.tree, c.meta); err != nil {
			return nil, err
		}
	}
	return commits, w.run(ctx)
}

// publish clears the marks and moves the refs. All objects are durable by now;
// a crash in here leaves a complete commit marked partial, which costs the next
// pull one walk, or refs that have moved in part.
func (p *puller) publish(ctx context.Context, wants []want, commits []admitted) error {
	stats, err := p.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error {
		for _, c := range commits {
			if c.complete {
				continue
			}
			if err := t.ClearPartial(c.name); err != nil {
				return err
			}
		}
		for _, w := range wants {
			if w.ref == "" {
				continue
			}
			if err := t.SetRef(p.refspec(w.ref), w.commit); err != nil {
				return fmt.Errorf("set ref %s: %w", p.refspec(w.ref), err)
			}
		}
		return nil
	})
	p.batch.add(stats)
	if err != nil {
		return fmt.Errorf("publish refs: %w", err)
	}
	p.refSet = map[string]ostree.Checksum{}
	for _, w := range wants {
		if w.ref != "" {
			p.refSet[p.refspec(w.ref)] = w.commit
		}
	}
	return nil
}

func (p *puller) refspec(ref string) string {
	if p.req.Mirror {
		return ref
	}
	return p.remote.Name + ":" + ref
}

func (p *puller) result() Result {
	r := Result{Refs: p.refSet}
	if p.batch != nil {
		r.Stats = p.batch.stats()
	}
	p.meter.fill(&r)
	return r
}
