// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// signLock keeps those apart who add to the same detached metadata.
const signLock = "tmp/.sign-lock"

// SignCommit adds one signature by each signer to a commit's detached metadata.
// The signatures cover the commit object's bytes; those that are there stay.
// After a crash the old metadata or the new is there.
func (r *Repo) SignCommit(ctx context.Context, c Checksum, signers ...sign.Signer) error {
	raw, err := r.LoadRaw(ObjectName{c, TypeCommit})
	if err != nil {
		return fmt.Errorf("sign commit: %w", err)
	}
	err = r.EditCommitMeta(ctx, c, func(d *gvariant.Dict) error { return sign.Sign(ctx, d, raw, signers...) })
	if err != nil {
		return fmt.Errorf("sign commit %s: %w", c, err)
	}
	return nil
}

// EditCommitMeta changes a commit's detached metadata: edit gets what is there,
// or an empty dictionary. No other caller of EditCommitMeta runs meanwhile. An
// error of edit is returned as it is and leaves everything as it was.
func (r *Repo) EditCommitMeta(ctx context.Context, c Checksum, edit func(*gvariant.Dict) error) error {
	lock, err := r.dir.Lock(ctx, signLock, false, r.opts.lockTimeout)
	if err != nil {
		return fmt.Errorf("edit detached metadata of %s: %w", c, err)
	}
	defer lock.Unlock()
	d, err := r.CommitMeta(c)
	if err != nil {
		return fmt.Errorf("edit detached metadata of %s: %w", c, err)
	}
	if err := edit(&d); err != nil {
		return err
	}
	_, err = r.Update(ctx, func(ctx context.Context, t *Txn) error { return t.SetCommitMeta(ctx, c, d) })
	return err
}

// DeleteSignatures drops those signatures of a commit under a key of the
// dictionary (sign.GPGKey, sign.MetadataKey) for which drop is true, and tells how
// many those were.
func (r *Repo) DeleteSignatures(ctx context.Context, c Checksum, key string, drop func(signature []byte) bool) (int, error) {
	n := 0
	err := r.EditCommitMeta(ctx, c, func(d *gvariant.Dict) error {
		if n = sign.Remove(d, key, drop); n == 0 {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return n, err
}

// errNothing stops an edit that changes nothing.
var errNothing = errors.New("nothing to change")

// SignSummary adds one signature by each signer to summary.sig, for the summary
// as it is on disk. To replace a summary together with its signature use
// WriteSummary with SummaryOptions.Sign.
func (r *Repo) SignSummary(ctx context.Context, signers ...sign.Signer) error {
	lock, err := r.dir.Lock(ctx, summaryLock, false, r.opts.lockTimeout)
	if err != nil {
		return fmt.Errorf("sign summary: %w", err)
	}
	defer lock.Unlock()
	data, err := r.dir.ReadFile(summaryName, MaxMetadataSize)
	if err != nil {
		return fmt.Errorf("sign summary: %w", err)
	}
	d, err := r.summarySignatures()
	if err != nil {
		return fmt.Errorf("sign summary: %w", err)
	}
	if err := sign.Sign(ctx, &d, data, signers...); err != nil {
		return fmt.Errorf("sign summary: %w", err)
	}
	sig, err := d.Marshal()
	if err != nil {
		return fmt.Errorf("sign summary: %w", err)
	}
	return r.dir.WriteFileAtomic(summarySig, sig, 0o644)
}

// summarySignatures reads summary.sig; an absent or empty file has none.
func (r *Repo) summarySignatures() (gvariant.Dict, error) {
	raw, err := r.dir.ReadFile(summarySig, MaxMetadataSize)
	if errors.Is(err, fs.ErrNotExist) {
		return gvariant.Dict{}, nil
	}
	if err != nil {
		return gvariant.Dict{}, err
	}
	d, err := gvariant.ParseDict(raw)
	if err != nil {
		return d, fmt.Errorf("%w: summary.sig: %w", ErrCorrupt, err)
	}
	return d, nil
}
