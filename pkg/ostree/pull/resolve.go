// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// want is a commit to pull, and the ref to set, "" for none.
type want struct {
	ref        string
	collection string
	commit     ostree.Checksum // zero until it is resolved
	size       uint64          // of the commit object in bytes; 0: unknown
	gpg        Verifier        // nil: that of the request
}

// remoteConfig is what a pull needs of the remote's config.
type remoteConfig struct {
	mode       string
	tombstones bool
	indexed    bool
}

// resolve turns the request into commits, and learns about the remote what the
// rest of the pull needs.
func (p *puller) resolve(ctx context.Context) ([]want, error) {
	wants, all, err := p.wanted()
	if err != nil {
		return nil, err
	}
	open := slices.ContainsFunc(wants, func(w want) bool { return w.commit.IsZero() })
	if err := p.learn(ctx, all || open); err != nil {
		return nil, err
	}
	if all {
		if wants, err = p.allRefs(wants); err != nil {
			return nil, err
		}
	}
	for i := range wants {
		if err := p.resolveOne(ctx, &wants[i]); err != nil {
			return nil, err
		}
	}
	return compactWants(wants), nil
}

// compactWants drops what is asked for twice. The last word about a ref counts.
func compactWants(wants []want) []want {
	type key struct{ collection, ref string }
	seen := map[key]int{}
	var out []want
	for _, w := range wants {
		k := key{w.collection, w.ref}
		if w.ref == "" {
			k.ref = ":" + w.commit.String()
		}
		if i, ok := seen[k]; ok {
			out[i] = w
			continue
		}
		seen[k] = len(out)
		out = append(out, w)
	}
	return out
}

// wanted reads the request; all means that every ref of the remote is wanted.
func (p *puller) wanted() (wants []want, all bool, err error) {
	for _, c := range p.req.CollectionRefs {
		if err := ostree.CheckRef(c.Ref); err != nil {
			return nil, false, err
		}
		wants = append(wants, want{ref: c.Ref, collection: c.Collection, commit: c.Commit, gpg: c.GPG})
	}
	names := p.req.Refs
	if len(names)+len(wants) == 0 {
		names, all = p.remote.Branches, p.req.Mirror
		if len(names) == 0 && !all {
			return nil, false, sayf(ostree.ErrInvalid, "No configured branches for remote %s", p.remote.Name)
		}
	}
	for _, name := range names {
		w, err := parseWant(name)
		if err != nil {
			return nil, false, err
		}
		wants = append(wants, w)
	}
	return wants, all, nil
}

// parseWant reads REF, CHECKSUM or REF@CHECKSUM.
func parseWant(s string) (w want, err error) {
	if c, err := ostree.ParseChecksum(s); err == nil {
		return want{commit: c}, nil
	}
	ref, sum, at := strings.Cut(s, "@")
	if err := ostree.CheckRef(ref); err != nil {
		return w, sayf(err, "Invalid ref name %s", clip(ref))
	}
	if !at {
		return want{ref: ref}, nil
	}
	c, err := ostree.ParseChecksum(sum)
	return want{ref: ref, commit: c}, err
}

// learn reads the remote's summary, if refs or deltas need it, and else its config.
func (p *puller) learn(ctx context.Context, needed bool) error {
	wantDeltas := p.wantDeltas()
	if !needed && wantDeltas {
		if err := p.readConfig(ctx); err != nil {
			return err
		}
	}
	if needed || p.req.Summary != nil || wantDeltas && !p.config.indexed || p.remote.GPGVerifySummary || p.remote.SignVerifySummary {
		err := p.loadSummary(ctx)
		switch {
		case err == nil:
		case needed || errors.Is(err, ErrSignature) || ctx.Err() != nil:
			return err
		default:
			p.log.Warn("go without a summary", "error", err)
		}
	}
	p.deltas.indexed = p.sum != nil && p.sum.indexed()
	if p.local == nil {
		if err := p.checkMode(ctx); err != nil {
			return err
		}
	}
	p.deltas.indexed = p.deltas.indexed || p.config != nil && p.config.indexed
	return nil
}

// checkMode makes sure that the remote is an archive: only its files are what
// this package can receive. The summary tells the mode; else the config does.
func (p *puller) checkMode(ctx context.Context) error {
	mode := ""
	if p.sum != nil {
		mode, _ = p.sum.Metadata.Str("ostree.summary.mode")
	}
	if mode == "" {
		if err := p.readConfig(ctx); err != nil {
			return err
		}
		mode = p.config.mode
	}
	if m, err := ostree.ParseMode(mode); err != nil || m != ostree.ModeArchive {
		return sayf(ErrUnsupported, "Can't pull from archives with mode \"%s\"", clip(mode))
	}
	return nil
}

func (p *puller) readConfig(ctx context.Context) error {
	if p.config != nil {
		return nil
	}
	f, err := p.src.file(ctx, "config", request{max: keyfile.MaxSize})
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	cfg, err := keyfile.Parse(f.data)
	if err != nil {
		return fmt.Errorf("read config of the remote: %w", err)
	}
	c := remoteConfig{}
	var errs [3]error
	c.mode, errs[0] = cfg.StringOr("core", "mode", "bare")
	c.tombstones, errs[1] = cfg.BoolOr("core", "tombstone-commits", false)
	c.indexed, errs[2] = cfg.BoolOr("core", "indexed-deltas", false)
	p.config = &c
	return errors.Join(errs[:]...)
}

// hasTombstones tells whether the remote marks deleted commits.
func (p *puller) hasTombstones() bool {
	if p.sum != nil {
		if b, ok := p.sum.Metadata.Bool("ostree.summary.tombstone-commits"); ok {
			return b
		}
	}
	return p.config != nil && p.config.tombstones
}

// allRefs adds every ref of the remote to the configured branches.
func (p *puller) allRefs(wants []want) ([]want, error) {
	if p.sum != nil {
		return append(p.sum.all(), wants...), nil
	}
	if p.local == nil {
		if len(wants) > 0 {
			return wants, nil
		}
		return nil, sayf(ErrNotFound, "Fetching all refs was requested in mirror mode, but remote repository does not have a summary")
	}
	refs, err := p.local.refs()
	if err != nil {
		return nil, err
	}
	for ref, c := range refs {
		wants = append(wants, want{ref: ref, collection: p.local.repo.CollectionID(), commit: c})
	}
	slices.SortFunc(wants, func(a, b want) int { return strings.Compare(a.ref, b.ref) })
	return wants, nil
}

func (p *puller) resolveOne(ctx context.Context, w *want) error {
	switch {
	case !w.commit.IsZero():
		return nil
	case p.sum != nil:
		return p.sum.resolve(w)
	case p.local != nil:
		return p.local.resolve(w)
	}
	path := "refs/heads/" + w.ref
	if w.collection != "" {
		path = "refs/mirrors/" + w.collection + "/" + w.ref
	}
	f, err := p.src.file(ctx, path, request{max: maxRefFile})
	if err != nil {
		return fmt.Errorf("resolve ref %s: %w", w.ref, err)
	}
	text := strings.TrimRight(string(f.data), " \t\r\n")
	if w.commit, err = ostree.ParseChecksum(text); err != nil {
		collection := w.collection
		if collection == "" {
			collection = "(empty)"
		}
		return sayf(err, "Fetching checksum for ref (%s, %s): Invalid rev %s", collection, w.ref, quash(text))
	}
	return nil
}

// quash makes a page that came instead of a checksum fit for a message.
func quash(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s[:min(len(s), 64)])
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
