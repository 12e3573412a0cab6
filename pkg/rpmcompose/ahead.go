// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
)

// finishBeside is finish, and the labels, with the files that come from packages
// being stored meanwhile: to compress them is most of the work of a new tree, and
// what finishes the tree uses one processor for the most part. The caller closes the
// root of what it returns.
func (r *run) finishBeside(outer context.Context, txn *ostree.Txn, work *fsx.Dir, pkgs []localPackage, asm *assemble.Result) (composed, error) {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	stored := make(chan error, 1)
	go func() {
		err := r.storeAhead(ctx, txn, asm)
		if err != nil {
			cancel(err)
		}
		stored <- err
	}()
	c, err := r.finish(ctx, work, pkgs, asm)
	if err != nil {
		cancel(err)
	}
	start := time.Now()
	aheadErr := <-stored
	r.res.step("wait for packages' files", start, "compressed meanwhile")
	switch {
	case err == nil && aheadErr == nil:
		return c, nil
	case err == nil:
		return composed{}, errors.Join(aheadErr, c.root.Close())
	case outer.Err() == nil && aheadErr != nil && errors.Is(aheadErr, context.Cause(ctx)):
		return composed{}, aheadErr // which stopped the other side
	}
	return composed{}, err
}

// storesAhead is false for a tree with labels: they count in the objects' names and are
// known when the tree is finished. Only an archive repository compresses.
func (r *run) storesAhead() bool {
	return !r.plan.manifest.SELinux && r.env.Repo.Mode() == ostree.ModeArchive
}

func (r *run) storeAhead(ctx context.Context, txn *ostree.Txn, asm *assemble.Result) error {
	err := txn.WriteAhead(ctx, r.cache.repo, asm.Contents)
	if errors.Is(err, ostree.ErrCorrupt) {
		return fmt.Errorf("the package cache is damaged, remove %s/%s: %w", r.env.Cache.Path(), cacheRepoName, err)
	}
	if err != nil && ctx.Err() == nil { // not stopped by the other side
		return fmt.Errorf("commit %s: %w", r.plan.Ref, err)
	}
	return err
}
