// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
)

type pruneOptions struct {
	noPrune, refsOnly, deltasOnly, commitOnly bool
	depth                                     int
	deleteCommit, youngerThan                 text
	branchDepth, onlyBranches                 []string
}

func pruneVerb() *verb {
	o := pruneOptions{depth: -1}
	return &verb{
		name: "prune", summary: "Search for unreachable objects",
		opts: []option{
			{long: "no-prune", dst: &o.noPrune, help: "Only display unreachable objects; don't delete"},
			{long: "refs-only", dst: &o.refsOnly, help: "Only compute reachability via refs"},
			{long: "depth", arg: "DEPTH", dst: &o.depth, help: "Only traverse DEPTH parents for each commit (default: -1=infinite)"},
			{long: "delete-commit", arg: "COMMIT", dst: &o.deleteCommit, help: "Specify a commit to delete"},
			{long: "keep-younger-than", arg: "DATE", dst: &o.youngerThan, help: "Prune all commits older than the specified date"},
			{long: "static-deltas-only", dst: &o.deltasOnly, help: "Change the behavior of delete-commit and keep-younger-than to prune only static deltas"},
			{long: "retain-branch-depth", arg: "BRANCH=DEPTH", dst: &o.branchDepth, help: "Additionally retain BRANCH=DEPTH commits"},
			{long: "only-branch", arg: "BRANCH", dst: &o.onlyBranches, help: "Only prune BRANCH (may be specified multiple times)"},
			{long: "commit-only", dst: &o.commitOnly, help: "Only traverse and delete commit objects."},
		},
		run: func(ctx context.Context, c *call) error { return c.prune(ctx, &o) },
	}
}

func (c *call) prune(ctx context.Context, o *pruneOptions) error {
	lib, err := o.library()
	if err != nil {
		return err
	}
	if o.deleteCommit.set {
		if o.noPrune {
			return c.usageError("Cannot specify both --delete-commit and --no-prune")
		}
		if err := c.deleteCommit(ctx, o); err != nil {
			return err
		}
	} else if o.deltasOnly {
		return failf("--static-deltas-only requires --delete-commit")
	}
	for _, ref := range o.onlyBranches {
		if _, err := c.repo.Resolve(ref); err != nil {
			return err
		}
	}
	res, err := c.repo.Prune(ctx, lib)
	if err != nil {
		return err
	}
	if err := c.pruneCache(o.noPrune); err != nil {
		return err
	}
	what := "Total objects"
	if o.commitOnly {
		what = "Total (commit only) objects"
	}
	c.printf("%s: %d\n", what, res.Objects)
	size := formatSize(uint64(res.DeletedBytes))
	switch {
	case res.Deleted == 0:
		c.printf("No unreachable objects\n")
	case o.noPrune:
		c.printf("Would delete: %d objects, freeing %s\n", res.Deleted, size)
	default:
		c.printf("Deleted %d objects, %s freed\n", res.Deleted, size)
	}
	return nil
}

func (c *call) deleteCommit(ctx context.Context, o *pruneOptions) error {
	sum, err := ostree.ParseChecksum(o.deleteCommit.value)
	if err != nil {
		return failf("Invalid rev '%s'", o.deleteCommit.value)
	}
	if o.deltasOnly {
		_, err := c.repo.PruneDeltas(ctx, sum)
		return err
	}
	err = c.repo.DeleteCommit(ctx, sum)
	if errors.Is(err, ostree.ErrNotFound) {
		hex := sum.String()
		return failf("Deleting object %s.commit: unlinkat(%s/%s.commit): %w", hex, hex[:2], hex[2:], syscall.ENOENT)
	}
	return err
}

// library translates the options.
func (o *pruneOptions) library() (ostree.PruneOptions, error) {
	lib := ostree.PruneOptions{RefsOnly: o.refsOnly, Depth: o.depth, OnlyBranches: o.onlyBranches, CommitOnly: o.commitOnly, DryRun: o.noPrune}
	for _, bd := range o.branchDepth {
		branch, depth, ok := strings.Cut(bd, "=")
		if !ok {
			return lib, failf("Invalid value %s, must specify BRANCH=DEPTH", bd)
		}
		n, err := strconv.ParseInt(depth, 10, 32)
		if errors.Is(err, strconv.ErrRange) {
			return lib, failf("Out of range depth %s", depth)
		}
		if err != nil {
			return lib, failf("Invalid depth %s", depth)
		}
		if lib.BranchDepth == nil {
			lib.BranchDepth = map[string]int{}
		}
		lib.BranchDepth[branch] = int(n)
	}
	if o.youngerThan.set {
		t, err := parseDate(o.youngerThan.value, time.Now())
		if err != nil {
			return lib, failf("Could not parse '%s'", o.youngerThan.value)
		}
		lib.KeepYoungerThan = t
	}
	return lib, nil
}
