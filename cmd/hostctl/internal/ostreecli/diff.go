// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

type diffOptions struct {
	stats, fsDiff, noXattrs bool
	owner                   owner
}

func diffVerb() *verb {
	o := diffOptions{owner: owner{-1, -1}}
	return &verb{
		name: "diff", args: "REV_OR_DIR REV_OR_DIR", summary: "Compare directory TARGETDIR against revision REV",
		opts: []option{
			{long: "stats", dst: &o.stats, help: "Print various statistics"},
			{long: "fs-diff", dst: &o.fsDiff, help: "Print filesystem diff"},
			{long: "no-xattrs", dst: &o.noXattrs, help: "Skip output of extended attributes"},
			{long: "owner-uid", arg: "UID", dst: &o.owner.uid, help: "Use file ownership user id for local files"},
			{long: "owner-gid", arg: "GID", dst: &o.owner.gid, help: "Use file ownership group id for local files"},
		},
		run: func(ctx context.Context, c *call) error { return c.diff(ctx, o) },
	}
}

func (c *call) diff(ctx context.Context, o diffOptions) error {
	if len(c.args) < 1 {
		return c.usageError("REV must be specified")
	}
	src, target := c.args[0]+"^", c.args[0]
	if len(c.args) > 1 {
		src, target = c.args[0], c.args[1]
	}
	if o.fsDiff || !o.stats {
		if err := c.diffTrees(ctx, src, target, o); err != nil {
			return err
		}
	}
	if o.stats {
		return c.diffStats(ctx, src, target)
	}
	return nil
}

// diffTrees prints what changed, then what was removed, then what was added.
func (c *call) diffTrees(ctx context.Context, src, target string, o diffOptions) error {
	noXattrs := o.noXattrs || c.repo.Mode() == ostree.ModeBareUserOnly
	if off, _ := c.repo.Config().BoolOr("core", "disable-xattrs", false); off {
		noXattrs = true
	}
	// The owner given stands for the target's files only.
	a, err := c.diffSide(src, noXattrs, owner{-1, -1})
	if err != nil {
		return err
	}
	defer a.close()
	b, err := c.diffSide(target, noXattrs, o.owner)
	if err != nil {
		return err
	}
	defer b.close()
	return c.printDiff(ctx, a, b)
}

// diffDirs compares two directories without their extended attributes.
func (c *call) diffDirs(ctx context.Context, src, target string) error {
	a, err := c.diffSide(src, true, owner{-1, -1})
	if err != nil {
		return err
	}
	defer a.close()
	b, err := c.diffSide(target, true, owner{-1, -1})
	if err != nil {
		return err
	}
	defer b.close()
	return c.printDiff(ctx, a, b)
}

func (c *call) printDiff(ctx context.Context, a, b diffTree) error {
	d := &treeDiff{ctx: ctx, a: a, b: b}
	if err := d.dirs(a.top(), b.top()); err != nil {
		return err
	}
	for i, list := range [][]string{d.modified, d.removed, d.added} {
		for _, p := range list {
			c.printf("%c    %s\n", "MDA"[i], p)
		}
	}
	return nil
}

// diffSide opens a directory, which is written with a leading / or ./, or a rev.
func (c *call) diffSide(arg string, noXattrs bool, o owner) (diffTree, error) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, "./") {
		d, err := fsx.OpenDir(arg)
		if err != nil {
			return nil, notFoundFile(arg, false)
		}
		return &localTree{dir: d, noXattrs: noXattrs, owner: o}, nil
	}
	sum, err := c.repo.Resolve(arg)
	if err != nil {
		return nil, err
	}
	n, err := c.repo.Lookup(sum, "/")
	return &commitTree{r: c.repo, root: n}, err
}

func (c *call) diffStats(ctx context.Context, src, target string) error {
	var sets [2]map[ostree.ObjectName]struct{}
	for i, rev := range []string{src, target} {
		sum, err := c.repo.Resolve(rev)
		if err != nil {
			return err
		}
		if sets[i], err = c.repo.Reachable(ctx, sum); err != nil {
			return err
		}
	}
	common, size := 0, int64(0)
	for n := range sets[0] {
		if _, ok := sets[1][n]; !ok {
			continue
		}
		bytes, err := c.repo.StorageSize(n)
		if err != nil {
			return err
		}
		common++
		size += bytes
	}
	c.printf("[A] Object Count: %d\n[B] Object Count: %d\n", len(sets[0]), len(sets[1]))
	c.printf("Common Object Count: %d\nCommon Object Size: %s\n", common, formatSize(uint64(size)))
	return nil
}
