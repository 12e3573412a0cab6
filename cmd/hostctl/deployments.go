// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// byIndex makes a verb that changes the deployment with an index, under the lock.
func (a *app) byIndex(cmd *cobra.Command, fn func(context.Context, *deploy.Locked, deploy.State, deploy.Deployment) error) *cobra.Command {
	cmd.Use += " INDEX"
	cmd.Args = cli.OneArg("the index of a deployment, counted from 0 in the order of status")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		i, err := parseIndex(args[0])
		if err != nil {
			return err
		}
		return a.withSysroot(true, func(s *deploy.Sysroot) error {
			return s.WithLock(ctx, func(l *deploy.Locked) error {
				st, err := s.Load(ctx)
				if err != nil {
					return err
				}
				if i < 0 || i >= len(st.Deployments) {
					return fmt.Errorf("index %d of %d: %w", i, len(st.Deployments), deploy.ErrNoDeployment)
				}
				return fn(ctx, l, st, st.Deployments[i])
			})
		})
	}
	return cmd
}

// parseIndex reads an INDEX; whether there is such a deployment is for others to say.
func parseIndex(s string) (int, error) {
	i, err := strconv.Atoi(s)
	if err != nil {
		return 0, ui.UsageError{Err: fmt.Errorf("INDEX %q is no number", s)}
	}
	return i, nil
}

func (a *app) pinCmd() *cobra.Command {
	var undo bool
	cmd := a.byIndex(&cobra.Command{
		Use:   "pin",
		Short: "Keep a deployment: no upgrade and no cleanup drops it",
	}, func(ctx context.Context, l *deploy.Locked, _ deploy.State, d deploy.Deployment) error {
		if err := l.SetPinned(ctx, d.Index, !undo); err != nil {
			return err
		}
		what := "Pinned"
		if undo {
			what = "No longer pinned"
		}
		a.Line("%s: %s %s", what, d.Version, d.Checksum)
		return nil
	})
	cmd.Flags().BoolVarP(&undo, "undo", "u", false, "let it go again")
	return cmd
}

func (a *app) undeployCmd() *cobra.Command {
	return a.byIndex(&cobra.Command{
		Use:   "undeploy",
		Short: "Drop a deployment, and what only it needs",
	}, func(ctx context.Context, l *deploy.Locked, st deploy.State, d deploy.Deployment) error {
		order, err := deploy.PlanUndeploy(st, d.Index)
		if err != nil {
			return err
		}
		if _, err := l.Write(ctx, order); err != nil {
			return err
		}
		res, err := l.Cleanup(ctx)
		if err != nil {
			return err
		}
		a.Line("Dropped: %s %s", d.Version, d.Checksum)
		a.printFreed(res)
		return nil
	})
}

func (a *app) setDefaultCmd() *cobra.Command {
	return a.byIndex(&cobra.Command{
		Use:   "set-default",
		Short: "Make a deployment the default for the next boot",
	}, func(ctx context.Context, l *deploy.Locked, st deploy.State, d deploy.Deployment) error {
		order, err := deploy.PlanDefault(st, d.Index)
		if err != nil {
			return err
		}
		if _, err := l.Write(ctx, order); err != nil {
			return err
		}
		a.Line("Default for the next boot: %s %s", d.Version, d.Checksum)
		return nil
	})
}

func (a *app) unlockCmd() *cobra.Command {
	var hotfix, transient bool
	cmd := &cobra.Command{
		Use:   "unlock",
		Short: "Make /usr of the running system writable",
		Long: `Mount an overlay on /usr that takes changes until the next boot. With --hotfix they
stay until the next upgrade, and a clean clone of the deployment is kept for a rollback;
with --transient the overlay is read-only except in mounts of one's own.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			mode := deploy.UnlockDevelopment
			if hotfix {
				mode = deploy.UnlockHotfix
			} else if transient {
				mode = deploy.UnlockTransient
			}
			return a.withSysroot(true, func(s *deploy.Sysroot) error {
				return s.WithLock(ctx, func(l *deploy.Locked) error {
					if err := l.Unlock(ctx, mode); err != nil {
						return err
					}
					a.Line("/usr is unlocked (%s).", mode)
					return nil
				})
			})
		},
	}
	cmd.Flags().BoolVar(&hotfix, "hotfix", false, "keep the changes until the next upgrade")
	cmd.Flags().BoolVar(&transient, "transient", false, "mount the overlay read-only")
	cmd.MarkFlagsMutuallyExclusive("hotfix", "transient")
	return cmd
}
