// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) markGoodCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "mark-good",
		Short: "End the trial of the booted deployment: it is good",
		Long: `Record that the booted deployment works, as hostctl-boot-success.service does when
boot-complete.target is reached. Its boots are no longer counted, and its
version is not blocked any more.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.locked(ctx, func(l *deploy.Locked) error {
				d, err := l.MarkGood(ctx)
				if err == nil {
					a.Line("Good: %s %s", d.Version, d.Checksum)
				}
				return err
			})
		},
	}
}
