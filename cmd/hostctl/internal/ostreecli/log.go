// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/pkg/ostree"
)

func logVerb() *verb {
	var raw bool
	return &verb{
		name: "log", args: "REV", summary: "Show log starting at commit or ref",
		opts: []option{{long: "raw", dst: &raw, help: "Show raw variant data"}},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 {
				return c.usageError("A rev argument is required")
			}
			sum, err := c.repo.Resolve(c.args[0])
			if err != nil {
				return err
			}
			return c.log(ctx, sum, raw)
		},
	}
}

func (c *call) log(ctx context.Context, sum ostree.Checksum, raw bool) error {
	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}
		data, err := c.repo.LoadRaw(n)
		if errors.Is(err, ostree.ErrNotFound) && !first {
			c.printf("<< History beyond this commit not fetched >>\n")
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.dumpObject(n, data, dumpFlags{raw: raw}); err != nil {
			return err
		}
		commit, err := ostree.ParseCommit(data)
		if err != nil || commit.Parent.IsZero() {
			return err
		}
		sum = commit.Parent
	}
}
