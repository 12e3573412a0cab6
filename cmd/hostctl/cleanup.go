// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) cleanupCmd() *cobra.Command {
	var pending, rollback bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what no deployment needs and say how much that freed",
		Long: `Remove directories of deployments, kernels and objects that nothing refers to,
for example after an interrupted upgrade. With --pending also a staged
deployment, with --rollback also the one to go back to; pinned ones stay.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withSysroot(true, func(s *deploy.Sysroot) error {
				return s.WithLock(ctx, func(l *deploy.Locked) error {
					if err := drop(cmd, l, pending, rollback); err != nil {
						return err
					}
					res, err := l.Cleanup(ctx)
					if err != nil {
						return err
					}
					a.printFreed(res)
					return nil
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&pending, "pending", "p", false, "also drop the staged deployment")
	cmd.Flags().BoolVarP(&rollback, "rollback", "r", false, "also drop the rollback deployment")
	return cmd
}

func (a *app) printFreed(res deploy.CleanupResult) {
	n := len(res.Plan.Paths) + len(res.Plan.BootPaths)
	fmt.Fprintf(a.Out, "Freed %s: %d objects, %d deployments and boot files\n", ui.Bytes(res.FreedBytes), res.Prune.Deleted, n)
}

func drop(cmd *cobra.Command, l *deploy.Locked, pending, rollback bool) error {
	ctx := cmd.Context()
	if pending {
		if err := l.Unstage(ctx); err != nil {
			return err
		}
	}
	if !rollback {
		return nil
	}
	st, err := l.Sysroot().Load(ctx)
	if err != nil {
		return err
	}
	for _, d := range st.Deployments {
		if !isRollback(st, d) || d.Booted {
			continue
		}
		order, err := deploy.PlanUndeploy(st, d.Index)
		if err != nil {
			return err
		}
		_, err = l.Write(ctx, order)
		return err
	}
	return nil
}
