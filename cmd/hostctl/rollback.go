// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) rollbackCmd() *cobra.Command {
	var reboot bool
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Make the previous deployment the default for the next boot",
		Long: `Make the deployment before the booted one the default for the next boot. Done
again before a restart, it is undone. Nothing is downloaded and no file of
either deployment changes; each keeps its own /etc.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.rollback(cmd.Context()); err != nil {
				return err
			}
			return a.rebootIf(cmd.Context(), reboot)
		},
	}
	cmd.Flags().BoolVarP(&reboot, "reboot", "r", false, "restart the machine at once")
	return cmd
}

func (a *app) rollback(ctx context.Context) error {
	return a.withSysroot(true, func(s *deploy.Sysroot) error {
		return s.WithLock(ctx, func(l *deploy.Locked) error {
			d, err := l.Rollback(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "Default for the next boot: %s %s\n", d.Version, d.Checksum)
			return nil
		})
	})
}

// rebootIf restarts the running system through its service manager, which runs
// the staged deployment's last step on the way down.
func (a *app) rebootIf(ctx context.Context, reboot bool) error {
	if !reboot {
		if a.onHost() {
			fmt.Fprintln(a.Out, `Run "systemctl reboot" to start it.`)
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
