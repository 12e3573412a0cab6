// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) cleanupCmd() *cobra.Command {
	var pending, rollback, asJSON bool
	var keep, keepDays int
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what no deployment needs and say how much that freed",
		Long: `Remove directories of deployments, kernels and objects that nothing refers to,
for example after an interrupted upgrade. With --pending also a staged
deployment, with --rollback also the one to go back to; pinned ones stay.

With --keep or --keep-days the deployments are thinned out first: the default, the
booted one, the one to go back to and pinned ones stay, of the others as many as asked
for and no older. What is mounted in a tree that goes is never touched.`,
		Example: "  hostctl cleanup\n  hostctl cleanup --keep 3 --keep-days 30",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := checkKeep(keep, keepDays); err != nil {
				return err
			}
			return a.withSysroot(true, func(s *deploy.Sysroot) error {
				return s.WithLock(ctx, func(l *deploy.Locked) error {
					if err := drop(cmd, l, pending, rollback); err != nil {
						return err
					}
					out := cleanupReport{Dropped: []deploy.Deployment{}}
					if keep > 0 || keepDays > 0 {
						var err error
						if out.Dropped, err = a.thinOut(ctx, l, keep, keepDays); err != nil {
							return err
						}
					}
					var err error
					if out.CleanupResult, err = l.Cleanup(ctx); err != nil {
						return err
					}
					if asJSON {
						return a.PrintJSON(out)
					}
					for _, d := range out.Dropped {
						a.Line("Dropped: %s %s", d.Version, d.Checksum)
					}
					a.printFreed(out.CleanupResult)
					return nil
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&pending, "pending", "p", false, "also drop the staged deployment")
	cmd.Flags().BoolVarP(&rollback, "rollback", "r", false, "also drop the rollback deployment")
	cmd.Flags().IntVar(&keep, "keep", 0, "also drop deployments until `N` are left, 2 or more")
	cmd.Flags().IntVar(&keepDays, "keep-days", 0, "also drop those beyond the first two whose commit is older than `N` days")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was removed as JSON")
	return cmd
}

// cleanupReport is what --json prints.
type cleanupReport struct {
	Dropped []deploy.Deployment `json:"dropped"`
	deploy.CleanupResult
}

func checkKeep(keep, days int) error {
	if keep != 0 && keep < 2 || days < 0 {
		return ui.UsageError{Err: errors.New("--keep takes a number from 2, --keep-days one from 1")}
	}
	return nil
}

// thinOut drops deployments by count and age; what is not given is as the settings say,
// except that an age alone leaves any number.
func (a *app) thinOut(ctx context.Context, l *deploy.Locked, keep, days int) ([]deploy.Deployment, error) {
	set, err := l.Sysroot().Settings()
	if err != nil {
		return nil, err
	}
	if days > 0 {
		set.KeepDays = days
		if keep == 0 {
			keep = math.MaxInt32
		}
	}
	set.Keep = keep
	gone, err := l.Prune(ctx, set.Retention(time.Now()))
	if gone == nil {
		gone = []deploy.Deployment{}
	}
	return gone, err
}

func (a *app) printFreed(res deploy.CleanupResult) {
	n := len(res.Plan.Paths) + len(res.Plan.BootPaths)
	a.Line("Freed %s: %d objects, %d deployments and boot files", ui.Bytes(res.FreedBytes), res.Prune.Deleted, n)
	for _, p := range res.Mounted {
		a.Warn("something is mounted in /%s, which is not needed any more; it goes with a later cleanup", p)
	}
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
