// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// PruneOptions say what Prune keeps. The zero value keeps every commit that is
// stored, with its closure.
type PruneOptions struct {
	// RefsOnly keeps only commits that a ref names, local, remote or mirrored, and
	// Depth of their parents.
	RefsOnly bool
	// Depth is the number of generations above a ref's commit; -1 for all that are
	// stored.
	Depth int
	// Keep names further commits to keep.
	Keep []Checksum
	// DryRun only counts.
	DryRun bool
}

// PruneResult counts objects; FreedBytes leaves out files that have other links.
type PruneResult struct {
	Objects, Deleted int
	FreedBytes       int64
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
	keep, err := r.keepSet(ctx, o)
	if err != nil {
		return PruneResult{}, err
	}
	p := &pruner{r: r, o: o, ctx: ctx, keep: keep}
	r.opts.progress.Emit(progress.Event{Task: "Pruning objects", Kind: progress.Begin})
	// Commits first, durably, then what they needed.
	for _, commits := range []bool{true, false} {
		if err := p.sweep(commits); err != nil {
			return p.res, err
		}
		if err := failpoint.Hit("ostree.prune.swept"); err != nil {
			return p.res, err
		}
	}
	if !o.DryRun {
		if err := r.pruneDeltas(keep); err != nil {
			return p.res, err
		}
		r.dropExpired()
	}
	r.opts.progress.Emit(progress.Event{Task: "Pruning objects", Kind: progress.End, Done: int64(p.res.Deleted), Bytes: p.res.FreedBytes})
	return p.res, nil
}

// keepSet collects the closures of all kept commits.
func (r *Repo) keepSet(ctx context.Context, o PruneOptions) (map[ObjectName]struct{}, error) {
	k := &keeper{r: r, sweep: &sweep{r: r, ctx: ctx, seen: map[ObjectName]struct{}{}}, depth: map[Checksum]int{}}
	refs, err := r.rootRefs()
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(refs) {
		if err := k.commit(refs[name], o.Depth); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, c := range o.Keep {
		if err := k.commit(c, 0); err != nil {
			return nil, err
		}
	}
	if o.RefsOnly {
		return k.sweep.seen, nil
	}
	err = r.eachObject(ctx, func(n ObjectName) error {
		if n.Type != TypeCommit {
			return nil
		}
		return k.commit(n.Checksum, 0)
	})
	return k.sweep.seen, err
}

type keeper struct {
	r     *Repo
	sweep *sweep
	depth map[Checksum]int // generations already followed from a commit; -1 for all
}

// commit keeps a commit and depth generations of its parents.
func (k *keeper) commit(c Checksum, depth int) error {
	for {
		if had, ok := k.depth[c]; ok && (had < 0 || depth >= 0 && had >= depth) {
			return nil
		}
		k.depth[c] = depth
		found, err := k.r.Has(ObjectName{c, TypeCommit})
		if err != nil || !found {
			return err // history ends here, or was never fetched
		}
		commit, err := k.r.LoadCommit(c)
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
	k.sweep.add(ObjectName{c, TypeCommitMeta})
	return k.sweep.commit(c)
}

// eachObject calls fn for every object on disk, in order of the names. Files
// that are no objects are passed over.
func (r *Repo) eachObject(ctx context.Context, fn func(n ObjectName) error) error {
	return r.eachObjectFile(ctx, func(_ *fsx.Dir, _ string, n ObjectName) error { return fn(n) })
}

// eachObjectFile also gives the directory and the name in it.
func (r *Repo) eachObjectFile(ctx context.Context, fn func(d *fsx.Dir, name string, n ObjectName) error) error {
	tops, err := r.objects.ReadDir(".")
	if err != nil {
		return err
	}
	for _, top := range tops {
		if !top.IsDir() || len(top.Name) != 2 {
			continue
		}
		if err := r.eachInDir(ctx, top.Name, fn); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) eachInDir(ctx context.Context, top string, fn func(d *fsx.Dir, name string, n ObjectName) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := r.objects.OpenDir(top)
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		n, ok := r.parseObjectName(top, e.Name)
		if !ok {
			continue
		}
		if err := fn(d, e.Name, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) parseObjectName(top, name string) (ObjectName, bool) {
	if r.mode == ModeArchive {
		plain, isContent := strings.CutSuffix(name, ".filez")
		if isContent {
			name = plain + ".file"
		} else if strings.HasSuffix(name, ".file") {
			return ObjectName{}, false
		}
	}
	return parseStagedName(top + name)
}

type pruner struct {
	r    *Repo
	o    PruneOptions
	ctx  context.Context
	keep map[ObjectName]struct{}
	res  PruneResult
}

// sweep deletes either the commits or everything else.
func (p *pruner) sweep(commits bool) error {
	dirty := map[string]bool{}
	err := p.r.eachObjectFile(p.ctx, func(d *fsx.Dir, name string, n ObjectName) error {
		if (n.Type == TypeCommit) != commits || n.Type == TypeTombstone {
			return nil
		}
		p.res.Objects++
		if _, ok := p.keep[n]; ok {
			return nil
		}
		st, err := d.Lstat(name)
		if err != nil {
			return err
		}
		p.res.Deleted++
		if st.Nlink == 1 {
			p.res.FreedBytes += st.Size
		}
		if p.o.DryRun {
			return nil
		}
		dirty[path.Base(d.Path())] = true
		return p.delete(d, name, n)
	})
	if err != nil || !commits || !p.r.opts.fsync {
		return err
	}
	for dir := range dirty {
		if err := p.r.objects.FsyncName(dir); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) delete(d *fsx.Dir, name string, n ObjectName) error {
	if n.Type == TypeCommit && p.r.opts.tombstones {
		if err := p.r.writeTombstone(n.Checksum); err != nil {
			return err
		}
	}
	if err := d.Remove(name); err != nil {
		return err
	}
	if n.Type != TypeCommit {
		return nil
	}
	return p.r.removeIfThere(p.r.dir, partialName(n.Checksum))
}

// writeTombstone records that a commit was deleted on purpose.
func (r *Repo) writeTombstone(c Checksum) error {
	var d gvariant.Dict
	d.Set("commit", gvariant.ByteSlice([]byte(c.String())))
	data, err := d.Marshal()
	if err != nil {
		return err
	}
	return r.replaceFile("objects/"+ObjectName{c, TypeTombstone}.loosePath(r.mode), data, 0o644)
}

// pruneDeltas removes deltas to commits that are not kept.
func (r *Repo) pruneDeltas(keep map[ObjectName]struct{}) error {
	names, err := r.Deltas()
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, ok := keep[ObjectName{n.To, TypeCommit}]; ok {
			continue
		}
		// Without its superblock a delta does not exist; the parts follow.
		if err := r.dir.Remove(n.Path() + "/superblock"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := r.dir.RemoveAll(n.Path()); err != nil {
			return err
		}
	}
	return nil
}
