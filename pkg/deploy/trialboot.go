// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// BootVerdict is what a boot says about the default deployment.
type BootVerdict string

// The verdicts of PlanBoot.
const (
	BootOrdinary BootVerdict = "ordinary"  // nothing is on trial, or something else was chosen
	BootOnTrial  BootVerdict = "on-trial"  // the booted deployment is being tried
	BootFellBack BootVerdict = "fell-back" // the boot loader has given the default up
)

// BootPlan is what is to be done about a trial.
type BootPlan struct {
	Verdict BootVerdict `json:"verdict"`
	// Failed is the deployment that is left, Blocked why, and Order the boot order
	// without it in front; for BootFellBack only.
	Failed  *Deployment  `json:"failed,omitempty"`
	Blocked *Blocked     `json:"blocked,omitempty"`
	Order   []Deployment `json:"-"`
}

// noReport is the reason where no boot of the failed deployment gave one.
const noReport = "%d of %d boots did not get as far as the health checks: kernel, initramfs or services are broken"

// PlanBoot judges the boot under way. That the default was given up shows by the
// boot loader's counter alone: a user may have picked the booted deployment.
func PlanBoot(st State) BootPlan {
	booted, isBooted := st.Booted()
	def, trial := st.OnTrial()
	switch {
	case !isBooted || !trial:
		return BootPlan{Verdict: BootOrdinary}
	case def.Same(booted):
		return BootPlan{Verdict: BootOnTrial}
	case !st.Trial.Counting || st.Trial.Left > 0:
		return BootPlan{Verdict: BootOrdinary}
	}
	return failTrial(st, def, booted)
}

// failTrial leaves the default deployment failed for next.
func failTrial(st State, failed, next Deployment) BootPlan {
	b := Blocked{Checksum: failed.Checksum, Version: failed.Version, Reason: st.Trial.Failure}
	switch {
	case b.Reason != "":
	case st.Trial.Problem != "":
		b.Reason = "the boots could not be counted: " + st.Trial.Problem
	default:
		b.Reason = fmt.Sprintf(noReport, st.Trial.Done, st.Trial.Tries)
	}
	return BootPlan{Verdict: BootFellBack, Failed: &failed, Blocked: &b, Order: toFront(slices.Clone(st.Written()), next)}
}

// SettleBoot is the first thing to do after a boot: where the boot loader has
// given the default up, the booted deployment becomes the default and the failed
// commit is blocked.
func (l *Locked) SettleBoot(ctx context.Context) (BootPlan, error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return BootPlan{}, err
	}
	if err := l.s.dropNext(st); err != nil {
		return BootPlan{}, err
	}
	p := PlanBoot(st)
	switch {
	case p.Verdict == BootFellBack:
		return p, l.leave(ctx, p)
	case p.Verdict == BootOrdinary && st.Trial != nil && st.Trial.Counting && st.Trial.Done == 0:
		// A crash right behind the flip may have kept the trial from beginning.
		return p, l.finishMenu(ctx, st.BootVersion)
	}
	return p, nil
}

func (l *Locked) finishMenu(ctx context.Context, version int) error {
	_, backend, err := l.s.backend(ctx)
	if err != nil {
		return err
	}
	return backend.Finish(ctx, l.s.boot, bootloader.Menu{Version: version})
}

// leave carries out a failed trial. Each step may be the last one before a crash:
// until the order is written, the next boot plans the same again.
func (l *Locked) leave(ctx context.Context, p BootPlan) error {
	p.Blocked.Time = time.Now().UTC().Truncate(time.Second)
	if err := l.s.updateBootRecord(func(r *bootRecord) error { r.block(*p.Blocked); return nil }); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.trial-blocked"); err != nil {
		return err
	}
	if _, err := l.Write(ctx, p.Order); err != nil {
		return err
	}
	if err := failpoint.Hit("deploy.trial-left"); err != nil {
		return err
	}
	return l.s.updateBootRecord(func(r *bootRecord) error {
		if r.trial != nil && r.trial.Deployment == p.Failed.FullName() {
			r.trial = nil
		}
		return nil
	})
}

// FailResult tells what follows a boot that is not good.
type FailResult struct {
	// Reboot is set where a restart leads on: to the next try, or back.
	Reboot bool
	// Left is what was left for good, where no boot loader does so.
	Left *BootPlan
}

// FailBoot reports that the boot under way is not good; reason is used where none
// was noted. For a trial that the boot loader counts a restart does the rest.
// Otherwise the deployment before becomes the default here and now.
func (l *Locked) FailBoot(ctx context.Context, reason string) (FailResult, error) {
	st, err := l.s.Load(ctx)
	if err != nil || PlanBoot(st).Verdict != BootOnTrial {
		return FailResult{}, err
	}
	d, _ := st.OnTrial()
	if st.Trial.Failure == "" {
		st.Trial.Failure = cleanReason(reason)
		if err := l.NoteFailure(ctx, reason); err != nil {
			return FailResult{}, err
		}
	}
	if st.Trial.Counting {
		// What this boot has staged would take the place of the trial at shutdown.
		if _, staged := st.Staged(); staged {
			err = l.s.unstage()
		}
		return FailResult{Reboot: true}, err
	}
	next := slices.IndexFunc(st.Written(), func(o Deployment) bool { return o.Stateroot == d.Stateroot && !o.Same(d) })
	if next < 0 {
		return FailResult{}, nil // nothing to go back to
	}
	p := failTrial(st, d, st.Written()[next])
	return FailResult{Reboot: true, Left: &p}, l.leave(ctx, p)
}
