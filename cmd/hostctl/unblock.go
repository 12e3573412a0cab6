// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) unblockCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "unblock VERSION|CHECKSUM",
		Short: "Let upgrades take a version again that failed its trial or was blocked",
		Long: `Forget that a version failed its trial, or that a rollback blocked it. The next upgrade takes it again, on trial
as before. "status" lists what is blocked, and why.`,
		Example: "  hostctl unblock 1.1\n  hostctl unblock 8c21909b",
		Args:    cli.OneArg("a version, or a checksum of which eight digits are enough"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.locked(ctx, func(l *deploy.Locked) error {
				gone, err := l.Unblock(ctx, args[0])
				for _, b := range gone {
					a.Line("No longer blocked: %s %s", b.Version, b.Checksum)
				}
				return err
			})
		},
	}
}
