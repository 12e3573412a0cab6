// SPDX-License-Identifier: Apache-2.0

package ostreecli

import "context"

func resetVerb() *verb {
	return &verb{
		name: "reset", args: "REF COMMIT", summary: "Reset a REF to a previous COMMIT",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 2 {
				return c.usageError("A REF and COMMIT argument is required")
			}
			_, err := c.repo.Reset(ctx, c.args[0], c.args[1])
			return err
		},
	}
}
