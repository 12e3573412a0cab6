// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// keepRefs collects the closures of the commits that refs and options keep.
func (r *Repo) keepRefs(ctx context.Context, o PruneOptions) (map[ObjectName]struct{}, error) {
	for _, ref := range o.OnlyBranches {
		if _, err := r.Resolve(ref); err != nil {
			return nil, err
		}
	}
	k := newKeeper(ctx, r, o, map[ObjectName]struct{}{})
	refs, err := r.rootRefs()
	if err != nil {
		return nil, err
	}
	for _, p := range sortedKeys(refs) {
		if err := k.ref(refspecOf(p), refs[p]); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	for _, c := range o.Keep {
		if err := k.commit(c, 0); err != nil {
			return nil, err
		}
	}
	return k.sweep.seen, nil
}

// keepCommits adds the closures of all commits given.
func (r *Repo) keepCommits(ctx context.Context, o PruneOptions, commits []Checksum, keep map[ObjectName]struct{}) error {
	k := newKeeper(ctx, r, o, keep)
	for _, c := range commits {
		if err := k.commit(c, 0); err != nil {
			return err
		}
	}
	return nil
}

func newKeeper(ctx context.Context, r *Repo, o PruneOptions, keep map[ObjectName]struct{}) *keeper {
	return &keeper{r: r, o: o, sweep: &sweep{r: r, ctx: ctx, seen: keep}, depth: map[Checksum]int{}}
}

// refspecOf gives REF or REMOTE:REF for a ref's file, and the path itself for one
// of a mirrored collection.
func refspecOf(p string) string {
	if ref, ok := strings.CutPrefix(p, headsDir+"/"); ok {
		return ref
	}
	if spec, ok := strings.CutPrefix(p, remotesDir+"/"); ok {
		return strings.Replace(spec, "/", ":", 1)
	}
	return p
}

type keeper struct {
	r     *Repo
	o     PruneOptions
	sweep *sweep
	depth map[Checksum]int // generations already followed from a commit; -1 for all
}

// ref keeps what the options say of one ref's history.
func (k *keeper) ref(spec string, c Checksum) error {
	if depth, ok := k.o.BranchDepth[spec]; ok {
		return k.commit(c, depth)
	}
	if len(k.o.OnlyBranches) > 0 && !slices.Contains(k.o.OnlyBranches, spec) {
		return k.commit(c, -1)
	}
	if !k.o.KeepYoungerThan.IsZero() {
		return k.younger(c, k.o.KeepYoungerThan)
	}
	return k.commit(c, k.o.Depth)
}

// younger keeps a commit and its history back to the first one before a time.
func (k *keeper) younger(c Checksum, since time.Time) error {
	if err := k.commit(c, 0); err != nil {
		return err
	}
	for !c.IsZero() {
		commit, err := k.r.LoadCommit(c)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if commit.Timestamp < uint64(max(since.Unix(), 0)) {
			return nil
		}
		if err := k.commit(c, 0); err != nil {
			return err
		}
		c = commit.Parent
	}
	return nil
}

// commit keeps a commit and depth generations of its parents.
func (k *keeper) commit(c Checksum, depth int) error {
	for {
		if had, ok := k.depth[c]; ok && (had < 0 || depth >= 0 && had >= depth) {
			return nil
		}
		k.depth[c] = depth
		commit, err := k.r.LoadCommit(c)
		if errors.Is(err, ErrNotFound) {
			return nil // history ends here, or was never fetched
		}
		if err != nil {
			return err
		}
		if err := k.closure(c); err != nil {
			return err
		}
		if depth == 0 || commit.Parent.IsZero() {
			return nil
		}
		c = commit.Parent
		if depth > 0 {
			depth--
		}
	}
}

func (k *keeper) closure(c Checksum) error {
	k.sweep.add(ObjectName{c, TypeCommitMeta})
	if k.o.CommitOnly {
		k.sweep.add(ObjectName{c, TypeCommit})
		return nil
	}
	partial, err := k.r.CommitPartial(c)
	if err != nil {
		return err
	}
	k.sweep.missing = nil
	if partial {
		k.sweep.missing = func(_ ObjectName, err error) error {
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		}
	}
	return k.sweep.commit(c)
}

// Commits lists the commits that the repository itself stores, partial ones
// included, in order of their checksums.
func (r *Repo) Commits(ctx context.Context) ([]Checksum, error) {
	var list []Checksum
	err := r.eachObject(ctx, func(n ObjectName) error {
		if n.Type == TypeCommit {
			list = append(list, n.Checksum)
		}
		return nil
	})
	slices.SortFunc(list, Checksum.Compare)
	return list, err
}
