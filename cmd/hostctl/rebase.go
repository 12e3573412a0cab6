// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
)

func (a *app) rebaseCmd() *cobra.Command {
	var f upgradeFlags
	cmd := &cobra.Command{
		Use:   "rebase REFSPEC",
		Short: "Follow another branch and move to its newest tree",
		Long: `Follow another branch from now on and prepare its newest commit for the next
boot. REFSPEC is

  REMOTE:BRANCH  a branch of a remote
  BRANCH         another branch of the remote that the host follows
  REMOTE:        the same branch of another remote
  :BRANCH        a branch of this host's own repository

The deployment before stays, so "rollback" leads back to it and to its branch.
Remotes are added with "hostctl ostree remote add".`,
		Example: "  hostctl rebase os/x86_64/testing\n  hostctl rebase mirror:",
		Args:    cli.OneArg("a branch, REMOTE:BRANCH or REMOTE:"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), f, func(ctx context.Context, s *deploy.Sysroot, o upgrade.Options) (upgrade.Result, error) {
				return upgrade.Rebase(ctx, s, args[0], o)
			})
		},
	}
	f.add(cmd)
	return cmd
}
