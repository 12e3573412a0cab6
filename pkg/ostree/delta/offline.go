// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// applyWorkers is how many parts are applied at once.
const applyWorkers = 2

// OfflineOptions configure ApplyOffline; the zero value is ready for use.
type OfflineOptions struct {
	// Superblock is the name of the superblock in the directory, "superblock" if
	// empty. Parts that are not inside it are the files 0, 1, … beside it.
	Superblock string
	// Verify is called once the superblock has been parsed and before anything is
	// written; its error stops the work. Nil verifies no signature.
	Verify func(*Delta) error
}

// ApplyOffline applies a delta from local files in one transaction: afterwards the
// repository has the target commit and, proved by a walk, all of its objects. No
// ref is set. Errors wrap ErrNoSource, ErrFallback or ErrCorrupt.
func ApplyOffline(ctx context.Context, r *ostree.Repo, dir *fsx.Dir, o OfflineOptions) (*Delta, error) {
	if o.Superblock == "" {
		o.Superblock = SuperblockName
	}
	d, err := LoadFile(dir, o.Superblock)
	if err != nil {
		return nil, fmt.Errorf("apply delta: %w", err)
	}
	if o.Verify != nil {
		if err := o.Verify(d); err != nil {
			return d, err
		}
	}
	if err := checkOffline(r, d); err != nil {
		return d, fmt.Errorf("apply delta %s: %w", d.Name, err)
	}
	_, err = r.Update(ctx, func(ctx context.Context, txn *ostree.Txn) error {
		return applyAll(ctx, txn, d, dir)
	})
	if err != nil {
		return d, fmt.Errorf("apply delta %s: %w", d.Name, err)
	}
	return d, nil
}

func checkOffline(r *ostree.Repo, d *Delta) error {
	if !d.Name.From.IsZero() {
		found, err := r.Has(ostree.ObjectName{Checksum: d.Name.From, Type: ostree.TypeCommit})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("commit %s: %w", d.Name.From, ErrNoSource)
		}
	}
	if len(d.Fallbacks) > 0 {
		return fmt.Errorf("%w: %d", ErrFallback, len(d.Fallbacks))
	}
	return nil
}

func applyAll(ctx context.Context, txn *ostree.Txn, d *Delta, dir *fsx.Dir) (err error) {
	a, err := NewApplier(txn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.WriteCommit(ctx, d); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(applyWorkers)
	for i := range d.Parts {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := a.applyLocal(gctx, &d.Parts[i], dir, PartName(i)); err != nil {
				return fmt.Errorf("part %d: %w", i, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := checkClosure(ctx, txn, d.Name.To); err != nil {
		return err
	}
	return txn.ClearPartial(d.Name.To)
}

func (a *Applier) applyLocal(ctx context.Context, p *Part, dir *fsx.Dir, name string) error {
	needed, err := a.Needed(p)
	if !needed || err != nil {
		return err
	}
	in, closer, err := openPartFile(dir, p, name)
	if err != nil {
		return err
	}
	return errors.Join(a.ApplyPart(ctx, p, in), closer.Close())
}

// checkClosure walks a commit of the transaction and finds every object present.
func checkClosure(ctx context.Context, txn *ostree.Txn, commit ostree.Checksum) error {
	data, err := txn.LoadRaw(ostree.ObjectName{Checksum: commit, Type: ostree.TypeCommit})
	if err != nil {
		return err
	}
	c, err := ostree.ParseCommit(data)
	if err != nil {
		return err
	}
	w := &closure{ctx: ctx, txn: txn, seen: map[ostree.ObjectName]struct{}{}}
	return errors.Join(w.need(c.RootMeta, ostree.TypeDirMeta), w.tree(c.RootTree))
}

type closure struct {
	ctx  context.Context
	txn  *ostree.Txn
	seen map[ostree.ObjectName]struct{}
}

// first tells whether the object has not been met yet.
func (w *closure) first(n ostree.ObjectName) bool {
	_, seen := w.seen[n]
	w.seen[n] = struct{}{}
	return !seen
}

func (w *closure) need(c ostree.Checksum, t ostree.ObjectType) error {
	n := ostree.ObjectName{Checksum: c, Type: t}
	if !w.first(n) {
		return nil
	}
	found, err := w.txn.Has(n)
	if err == nil && !found {
		err = fmt.Errorf("object %s: %w", n, ostree.ErrNotFound)
	}
	return err
}

// tree visits each distinct dirtree once, so a tree cannot make it run for ever.
func (w *closure) tree(c ostree.Checksum) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	n := ostree.ObjectName{Checksum: c, Type: ostree.TypeDirTree}
	if !w.first(n) {
		return nil
	}
	data, err := w.txn.LoadRaw(n)
	if err != nil {
		return err
	}
	t, err := ostree.ParseDirTree(data)
	if err != nil {
		return fmt.Errorf("object %s: %w", n, err)
	}
	for _, f := range t.Files {
		if err := w.need(f.Checksum, ostree.TypeFile); err != nil {
			return err
		}
	}
	for _, d := range t.Dirs {
		if err := errors.Join(w.need(d.Meta, ostree.TypeDirMeta), w.tree(d.Tree)); err != nil {
			return err
		}
	}
	return nil
}
