// SPDX-License-Identifier: Apache-2.0

package ostreecli

import "context"

func revParseVerb() *verb {
	var single bool
	return &verb{
		name: "rev-parse", args: "REV", summary: "Output the target of a rev",
		opts: []option{{long: "single", short: 'S', dst: &single, help: "If the repository has exactly one commit, then print it; any other case will result in an error"}},
		run: func(ctx context.Context, c *call) error {
			if single {
				return c.onlyCommit(ctx)
			}
			if len(c.args) < 1 {
				return c.usageError("REV must be specified")
			}
			for _, rev := range c.args {
				sum, err := c.repo.Resolve(rev)
				if err != nil {
					return err
				}
				c.printf("%s\n", sum)
			}
			return nil
		},
	}
}

func (c *call) onlyCommit(ctx context.Context) error {
	if len(c.args) > 0 {
		return c.usageError("Cannot specify arguments with --single")
	}
	commits, err := c.repo.Commits(ctx)
	switch {
	case err != nil:
		return err
	case len(commits) > 1:
		return failf("Multiple commit objects found")
	case len(commits) == 0:
		return failf("No commit objects found")
	}
	c.printf("%s\n", commits[0])
	return nil
}
