// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) rollbackCmd() *cobra.Command {
	var reboot, block bool
	var reason, soft string
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Make the previous deployment the default for the next boot",
		Long: `Make the deployment before the booted one the default for the next boot. Done
again before a restart, it is undone. Nothing is downloaded and no file of
either deployment changes; each keeps its own /etc.

The next upgrade takes the newest version again. With --block it does not take the
one that is left, until there is a newer one or "hostctl unblock" allows it.`,
		Example: "  hostctl rollback --reboot\n  hostctl rollback --block --reason=\"no network\"",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("reason") && !block {
				return ui.UsageError{Err: errors.New("--reason needs --block")}
			}
			if err := a.checkSoft(soft); err != nil {
				return err
			}
			if err := a.rollback(cmd.Context(), block, reason); err != nil {
				return err
			}
			if soft != "" {
				return a.softOrReboot(cmd.Context(), soft == softRequired)
			}
			return a.rebootIf(cmd.Context(), reboot)
		},
	}
	cmd.Flags().BoolVarP(&reboot, "reboot", "r", false, "restart the machine at once")
	cmd.Flags().BoolVar(&block, "block", false, "keep upgrades from taking the version that is left again")
	cmd.Flags().StringVar(&reason, "reason", "rolled back by hand", "why, for status and upgrade to say")
	addSoft(cmd.Flags(), &soft)
	return cmd
}

func (a *app) rollback(ctx context.Context, block bool, reason string) error {
	return a.locked(ctx, func(l *deploy.Locked) (err error) {
		var to, left deploy.Deployment
		if block {
			to, left, err = l.RollbackAndBlock(ctx, reason)
		} else {
			to, err = l.Rollback(ctx)
		}
		if err != nil {
			return err
		}
		a.Line("Default for the next boot: %s %s", to.Version, to.Checksum)
		if block {
			a.Line("Blocked: %s %s", left.Version, left.Checksum)
		}
		return nil
	})
}

// rebootIf restarts the running system through its service manager, which runs
// the staged deployment's last step on the way down.
func (a *app) rebootIf(ctx context.Context, reboot bool) error {
	if !reboot {
		if a.onHost() {
			a.Line(`Run "systemctl reboot" to start it.`)
		}
		return nil
	}
	if !a.onHost() {
		return ui.UsageError{Err: fmt.Errorf("--reboot works on the running system only, not with --sysroot")}
	}
	out, err := exec.CommandContext(ctx, "systemctl", "reboot").CombinedOutput()
	if err != nil {
		return fmt.Errorf("restart: %w: %s", err, out)
	}
	return nil
}
