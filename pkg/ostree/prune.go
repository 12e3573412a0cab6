// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/progress"
)

// PruneOptions say what Prune keeps. The zero value keeps every commit that is
// stored, with its closure.
type PruneOptions struct {
	// RefsOnly keeps only commits that a ref names, local, remote or mirrored, and
	// Depth of their parents. Any of the options by branch below implies it.
	RefsOnly bool
	// Depth is the number of generations above a ref's commit; -1 for all that are
	// stored.
	Depth int
	// BranchDepth overrides Depth, and the next two, for refs by refspec.
	BranchDepth map[string]int
	// OnlyBranches, if not empty, prunes the history of these refs only: all others
	// keep what is stored of theirs. Each must exist (ErrNotFound).
	OnlyBranches []string
	// KeepYoungerThan, if not zero, keeps of each ref the commit it names and, going
	// back from there, those not older than this, whatever Depth says.
	KeepYoungerThan time.Time
	// Keep names further commits to keep.
	Keep []Checksum
	// CommitOnly looks at and deletes commit objects only.
	CommitOnly bool
	// DryRun only counts.
	DryRun bool
}

func (o PruneOptions) refsOnly() bool {
	return o.RefsOnly || len(o.BranchDepth) > 0 || len(o.OnlyBranches) > 0 || !o.KeepYoungerThan.IsZero()
}

// PruneResult counts what Prune found and deleted. Detached metadata and tombstones,
// which go with their commits, are not counted as objects.
type PruneResult struct {
	Objects, Deleted int
	// DeletedBytes is the size of the deleted objects; FreedBytes of those among them
	// that have no other links, so that the space became free.
	DeletedBytes, FreedBytes int64
	Deltas                   int // static deltas deleted
}

// Prune deletes the objects that no kept commit needs, and static deltas to
// commits that are gone. It waits for running transactions, as they for it.
// Commits go first: a crash leaves no commit without its closure. A kept commit
// with a missing or damaged directory is an error before anything is
// deleted, unless the commit is marked partial.
func (r *Repo) Prune(ctx context.Context, o PruneOptions) (PruneResult, error) {
	unlock, err := r.lock(ctx, false)
	if err != nil {
		return PruneResult{}, err
	}
	res, err := r.pruneLocked(ctx, o)
	if err = errors.Join(err, unlock()); err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	return res, nil
}

func (r *Repo) pruneLocked(ctx context.Context, o PruneOptions) (PruneResult, error) {
	p := &pruner{r: r, o: o}
	var err error
	// Two readers of different parts of the disk, side by side.
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.list(gctx) })
	g.Go(func() (err error) {
		p.keep, err = r.keepRefs(gctx, o)
		return err
	})
	if err = g.Wait(); err == nil && !o.refsOnly() {
		err = r.keepCommits(ctx, o, p.commits(), p.keep)
	}
	if err != nil {
		return PruneResult{}, err
	}
	r.opts.progress.Emit(progress.Event{Task: "Pruning objects", Kind: progress.Begin})
	if err := p.run(ctx); err != nil {
		return p.res, err
	}
	if !o.DryRun {
		if p.res.Deltas, err = r.pruneDeltas(func(n DeltaName) (bool, error) {
			ok, err := r.Has(ObjectName{n.To, TypeCommit})
			return !ok, err
		}); err != nil {
			return p.res, err
		}
		r.dropExpired()
	}
	r.opts.progress.Emit(progress.Event{Task: "Pruning objects", Kind: progress.End, Done: int64(p.res.Deleted), Bytes: p.res.DeletedBytes})
	return p.res, nil
}

// DeleteCommit deletes a commit, with its detached metadata, that no ref names;
// what only it needed is left to Prune. From then on the repository keeps tombstones
// (core.tombstone-commits), so that clients know the commit as deleted. A commit that a
// ref names is an error wrapping ErrExists, an absent one ErrNotFound.
func (r *Repo) DeleteCommit(ctx context.Context, c Checksum) error {
	unlock, err := r.lock(ctx, false)
	if err != nil {
		return err
	}
	return errors.Join(r.deleteCommitLocked(c), unlock())
}

func (r *Repo) deleteCommitLocked(c Checksum) error {
	if err := r.checkUnreferenced(c); err != nil {
		return err
	}
	found, err := r.HasLocal(ObjectName{c, TypeCommit})
	if err == nil && !found {
		err = ErrNotFound
	}
	if err == nil {
		err = r.EnableTombstones()
	}
	if err == nil {
		err = r.dropCommits([]Checksum{c})
	}
	if err != nil {
		return fmt.Errorf("delete commit %s: %w", c, err)
	}
	return nil
}

func (r *Repo) checkUnreferenced(c Checksum) error {
	refs, err := r.ListRefs(RefListOptions{})
	if err != nil {
		return err
	}
	for _, e := range refs {
		if e.Commit == c {
			return worded(ErrExists, "Commit '%s' is referenced by '%s'", c, e.Name)
		}
	}
	mirrored, err := r.CollectionRefs(CollectionListOptions{NoRemotes: true})
	if err != nil {
		return err
	}
	for ref, sum := range mirrored {
		if sum == c {
			return worded(ErrExists, "Commit '%s' is referenced by %s", c, ref)
		}
	}
	return nil
}

// dropCommits deletes commit objects durably, then their marks and detached
// metadata; tombstones, if the repository keeps them, are there before.
func (r *Repo) dropCommits(list []Checksum) error {
	if r.opts.tombstones {
		for _, c := range list {
			if err := r.writeTombstone(c); err != nil {
				return err
			}
		}
	}
	dirs := map[string]bool{}
	for _, c := range list {
		if err := r.objects.Remove(ObjectName{c, TypeCommit}.loosePath(r.mode)); err != nil {
			return err
		}
		dirs[c.String()[:2]] = true
		if err := failpoint.Hit("ostree.prune.commit"); err != nil {
			return err
		}
	}
	if r.opts.fsync {
		for dir := range dirs {
			if err := r.objects.FsyncName(dir); err != nil {
				return err
			}
		}
	}
	for _, c := range list {
		err := errors.Join(r.removeIfThere(r.dir, partialName(c)),
			r.removeIfThere(r.objects, ObjectName{c, TypeCommitMeta}.loosePath(r.mode)))
		if err != nil {
			return err
		}
	}
	return nil
}

// PruneDeltas deletes the static deltas to a commit; for the zero Checksum those to
// commits that are not stored. It gives their number.
func (r *Repo) PruneDeltas(ctx context.Context, to Checksum) (int, error) {
	unlock, err := r.lock(ctx, false)
	if err != nil {
		return 0, err
	}
	n, err := r.pruneDeltas(func(d DeltaName) (bool, error) {
		if !to.IsZero() {
			return d.To == to, nil
		}
		ok, err := r.Has(ObjectName{d.To, TypeCommit})
		return !ok, err
	})
	if err = errors.Join(err, unlock()); err != nil {
		return n, fmt.Errorf("prune static deltas: %w", err)
	}
	return n, nil
}

func (r *Repo) pruneDeltas(drop func(DeltaName) (bool, error)) (int, error) {
	names, err := r.Deltas()
	if err != nil {
		return 0, err
	}
	deleted := 0
	for _, n := range names {
		gone, err := drop(n)
		if err != nil {
			return deleted, err
		}
		if !gone {
			continue
		}
		// Without its superblock a delta does not exist; the parts follow.
		if err := r.dir.Remove(n.Path() + "/superblock"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return deleted, err
		}
		if err := r.dir.RemoveAll(n.Path()); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, nil
}
