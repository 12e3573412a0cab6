// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// The values of --soft-reboot.
const (
	softAuto     = "auto"
	softRequired = "required"
)

func (a *app) softRebootCmd() *cobra.Command {
	var prepare, reset bool
	cmd := &cobra.Command{
		Use:   "soft-reboot [INDEX]",
		Short: "Restart into another deployment with the running kernel",
		Long: `Restart everything but the kernel into the deployment at INDEX of "hostctl status",
by default the first. It has to have the kernel, the initramfs and the kernel
arguments that are running, and systemd has to be 254 or later. The boot menu
is written as for a full restart before, a staged deployment finished; so a full
restart at any time goes there, too.`,
		Example: "  hostctl soft-reboot\n  hostctl soft-reboot 1\n  hostctl soft-reboot --prepare && systemctl soft-reboot",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !a.onHost() {
				return ui.UsageError{Err: errors.New("a soft reboot works on the running system only, not with --sysroot")}
			}
			if reset {
				if len(args) > 0 {
					return ui.UsageError{Err: errors.New("--reset takes no INDEX")}
				}
				return a.locked(cmd.Context(), func(l *deploy.Locked) error { return l.ResetSoftReboot(cmd.Context()) })
			}
			index, err := softIndex(args)
			if err != nil {
				return err
			}
			return a.softReboot(cmd.Context(), index, prepare)
		},
	}
	cmd.Flags().BoolVar(&prepare, "prepare", false, `only mount the new root as /run/nextroot; "systemctl soft-reboot" goes there`)
	cmd.Flags().BoolVar(&reset, "reset", false, "take back what --prepare mounted")
	cmd.MarkFlagsMutuallyExclusive("prepare", "reset")
	return cmd
}

func softIndex(args []string) (int, error) {
	if len(args) == 0 {
		return 0, nil
	}
	if len(args) > 1 {
		return 0, ui.UsageError{Err: errors.New("only one INDEX can be given")}
	}
	return parseIndex(args[0])
}

func (a *app) softReboot(ctx context.Context, index int, prepareOnly bool) error {
	err := a.locked(ctx, func(l *deploy.Locked) error {
		set, err := l.Sysroot().Settings()
		if err != nil {
			return err
		}
		d, err := l.PrepareSoftReboot(ctx, index, set.Retention(time.Now()))
		if err != nil {
			return err
		}
		a.Line("Prepared for a soft reboot: %s %s", d.Version, d.Checksum)
		return nil
	})
	if err != nil || prepareOnly {
		return err
	}
	out, err := exec.CommandContext(ctx, "systemctl", "soft-reboot").CombinedOutput()
	if err == nil {
		return nil
	}
	reset := a.locked(ctx, func(l *deploy.Locked) error { return l.ResetSoftReboot(ctx) })
	return errors.Join(fmt.Errorf("soft reboot: %w: %s", err, out), reset)
}

// endSoftReboot is for units: whichever runs first. What the system before found of
// itself says nothing of this one, but /run is still there, and a forced soft reboot stops
// no unit.
func endSoftReboot(ctx context.Context, s *deploy.Sysroot) error {
	done, err := s.CompleteSoftReboot(ctx)
	if err != nil || !done {
		return err
	}
	if err := os.Remove(bootGoodStamp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// addSoft adds --soft-reboot.
func addSoft(fl *pflag.FlagSet, value *string) {
	fl.StringVar(value, "soft-reboot", "", "restart without the kernel when it is done: `auto` restarts the machine where that is not possible, required fails then")
}

// checkSoft checks a value of --soft-reboot.
func (a *app) checkSoft(value string) error {
	switch {
	case value == "":
		return nil
	case value != softAuto && value != softRequired:
		return ui.UsageError{Err: fmt.Errorf("--soft-reboot %q is neither %q nor %q", value, softAuto, softRequired)}
	case !a.onHost():
		return ui.UsageError{Err: errors.New("--soft-reboot works on the running system only, not with --sysroot")}
	}
	return nil
}

// softOrReboot goes to the default deployment, the whole way round where it has to.
func (a *app) softOrReboot(ctx context.Context, required bool) error {
	err := a.softReboot(ctx, 0, false)
	if !errors.Is(err, deploy.ErrNoSoftReboot) {
		return err
	}
	if required {
		return fmt.Errorf(`%w; run "systemctl reboot" to start what was prepared`, err)
	}
	a.Line("Restarting the machine: %v", err)
	return a.rebootIf(ctx, true)
}

// softReport tells whether a deployment can be reached by a soft reboot.
type softReport struct {
	Possible bool   `json:"possible"`
	Prepared bool   `json:"prepared,omitempty"` // it is mounted for the next one
	Problem  string `json:"problem,omitempty"`
}

func describeSoft(s *deploy.Sysroot, st deploy.State, d deploy.Deployment, prepared bool) softReport {
	err := s.CanSoftReboot(st, d)
	if err == nil {
		return softReport{Possible: true, Prepared: prepared}
	}
	return softReport{Prepared: prepared, Problem: strings.TrimPrefix(err.Error(), deploy.ErrNoSoftReboot.Error()+": ")}
}

// words says what is of use to know without being asked for.
func (r softReport) words() string {
	switch {
	case r.Prepared:
		return "prepared"
	case r.Possible:
		return "possible"
	}
	return ""
}
