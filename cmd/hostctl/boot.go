// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// bootGoodStamp tells units of this boot that it was found good.
const bootGoodStamp = "/run/hostctl/boot-good"

// bootCmds are what the units of a boot call, in this order.
func (a *app) bootCmds() []*cobra.Command {
	var limit time.Duration
	check := &cobra.Command{Use: "boot-check", Short: "Run the health checks of this boot", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bootCheck(cmd.Context(), limit) }}
	success := &cobra.Command{Use: "boot-success", Short: "Record that this boot is good", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bootSuccess(cmd.Context(), limit) }}
	var reason string
	var stay bool
	failed := &cobra.Command{Use: "boot-failed", Short: "Leave a deployment that does not boot well", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bootFailed(cmd.Context(), limit, reason, stay) }}
	failed.Flags().StringVar(&reason, "reason", "boot-complete.target was not reached", "why, where nothing else is known")
	failed.Flags().BoolVar(&stay, "no-reboot", false, "only record it")
	all := []*cobra.Command{check, success, failed}
	for _, c := range all {
		c.PreRun = func(*cobra.Command, []string) { a.lockWait = bootLockWait }
		c.Flags().DurationVar(&limit, "timeout", 5*time.Minute, "time limit of one script")
	}
	return all
}

// bootLockWait is how long a boot waits for an upgrade that began before it was
// judged. It is less than hostctl-boot-deadline.timer allows.
const bootLockWait = 15 * time.Minute

// locked runs fn under the sysroot's lock.
func (a *app) locked(ctx context.Context, fn func(*deploy.Locked) error) error {
	return a.withSysroot(true, func(s *deploy.Sysroot) error { return s.WithLock(ctx, fn) })
}

func (a *app) bootCheck(ctx context.Context, limit time.Duration) error {
	var plan deploy.BootPlan
	err := a.locked(ctx, func(l *deploy.Locked) (err error) {
		if err := l.Settle(ctx); err != nil {
			a.Log().Error("finish the last boot switch", "error", err) // no reason to leave this boot
		}
		if err := endSoftReboot(ctx, l.Sysroot()); err != nil {
			return err
		}
		if plan, err = l.SettleBoot(ctx); err != nil || plan.Verdict != deploy.BootOnTrial {
			return err
		}
		// Holds if the machine dies in the middle of the checks.
		return l.NoteFailure(ctx, "the health checks did not end")
	})
	if err != nil {
		return err
	}
	if plan.Verdict == deploy.BootFellBack {
		a.Line("Version %s failed its trial and is blocked: %s", plan.Failed.Version, plan.Blocked.Reason)
	}
	failed, err := a.healthChecks(ctx, limit)
	if err != nil || failed == nil {
		return err
	}
	if plan.Verdict == deploy.BootOnTrial {
		note := a.locked(ctx, func(l *deploy.Locked) error { return l.NoteFailure(ctx, failed.Error()) })
		return errors.Join(failed, note)
	}
	return failed
}

// healthChecks returns the first failure that counts.
func (a *app) healthChecks(ctx context.Context, limit time.Duration) (failed, err error) {
	o := deploy.CheckOptions{Timeout: limit, Output: a.Out}
	required, err := deploy.RunScripts(ctx, deploy.ScriptsRequired, o)
	if err != nil {
		return nil, err
	}
	wanted, err := deploy.RunScripts(ctx, deploy.ScriptsWanted, o)
	if err != nil {
		return nil, err
	}
	for _, w := range wanted {
		a.Line("warning: wanted %v", w)
	}
	if len(required) == 0 {
		return nil, nil
	}
	for _, r := range required[1:] {
		a.Line("also: %v", r)
	}
	return required[0], nil
}

func (a *app) bootSuccess(ctx context.Context, limit time.Duration) error {
	err := a.locked(ctx, func(l *deploy.Locked) error {
		d, err := l.MarkGood(ctx)
		if err == nil {
			a.Line("This boot is good: %s %s", d.Version, d.Checksum)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/run/hostctl", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(bootGoodStamp, nil, 0o644); err != nil {
		return err
	}
	return a.runAfter(ctx, deploy.ScriptsGreen, limit)
}

// runAfter runs scripts whose failure changes nothing.
func (a *app) runAfter(ctx context.Context, folder string, limit time.Duration) error {
	failed, err := deploy.RunScripts(ctx, folder, deploy.CheckOptions{Timeout: limit, Output: a.Out})
	for _, f := range failed {
		a.Line("warning: %v", f)
	}
	return err
}

func (a *app) bootFailed(ctx context.Context, limit time.Duration, reason string, stay bool) error {
	var res deploy.FailResult
	err := a.locked(ctx, func(l *deploy.Locked) (err error) {
		res, err = l.FailBoot(ctx, reason)
		return err
	})
	if err != nil || stay {
		return err
	}
	// A script that cannot be run must not keep a trial from ending.
	scripts := a.runAfter(ctx, deploy.ScriptsRed, limit)
	if res.Left != nil {
		a.Line("Going back to %s", res.Left.Order[0].Version)
	}
	if !res.Reboot {
		a.Line("This boot is not good; it is not on trial, so the machine stays as it is.")
		return scripts
	}
	return errors.Join(scripts, a.rebootIf(ctx, true))
}
