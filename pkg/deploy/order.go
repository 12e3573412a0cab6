// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// Retention says which deployments outlive the arrival of a new one. Always kept
// are the booted and the merged-from deployment, pinned ones, those of other
// stateroots and the one that last booted well. The zero value keeps nothing else: two deployments in all.
type Retention struct {
	Pending  bool // those of the stateroot before the booted one
	Rollback bool // those of the stateroot after the booted one
	// Older is how many further deployments of the stateroot to keep, newest in
	// boot order first.
	Older int
	// MaxAge lets go of those among them whose commit is older than that, compared with the
	// newest commit of all, or with Now if that is earlier; 0, or a zero Now: none.
	MaxAge time.Duration
	Now    time.Time
	// NotAsDefault puts the new deployment behind the booted (or merged-from) one.
	NotAsDefault bool
}

// Order returns the boot order with next added. merge is the deployment that
// next was merged from, nil for none. A staged deployment is dropped.
func (r Retention) Order(st State, next Deployment, merge *Deployment) []Deployment {
	now := st.Written()
	booted, isBooted := st.Booted()
	crossover := func(d Deployment) bool {
		if isBooted {
			return d.Same(booted)
		}
		return merge != nil && d.Same(*merge)
	}
	var out []Deployment
	if !r.NotAsDefault {
		out = append(out, next)
	}
	r = r.dated(now, next)
	passed, older := false, r.Older
	for _, d := range now {
		here := crossover(d)
		keep := here || d.Booted || d.Pinned || d.Stateroot != next.Stateroot ||
			(merge != nil && d.Same(*merge)) || (r.Pending && !passed) || (r.Rollback && passed) || r.isGood(st, d)
		if !keep && older > 0 && r.lasts(d) {
			older--
			keep = true
		}
		if keep {
			out = append(out, d)
		}
		if passed = passed || here; here && r.NotAsDefault {
			out = append(out, next)
		}
	}
	if !slices.ContainsFunc(out, next.Same) {
		out = append(out, next)
	}
	return out
}

// PlanRollback returns the order in which the deployment before the last change
// boots next. Where the booted one is not the default, that undoes what is
// pending: the booted one comes first again, and a staged one is dropped.
// Otherwise the next one of the booted stateroot comes first.
func PlanRollback(st State) ([]Deployment, error) {
	now := slices.Clone(st.Written())
	if len(now) == 0 {
		return nil, ErrNoRollback
	}
	booted, ok := st.Booted()
	if !ok {
		booted = now[0]
	}
	_, staged := st.Staged()
	if staged || !now[0].Same(booted) {
		return toFront(now, booted), nil
	}
	for _, d := range now[1:] {
		if d.Stateroot == booted.Stateroot {
			return toFront(now, d), nil
		}
	}
	return nil, ErrNoRollback
}

// PlanDefault returns the order with the deployment at index (of
// State.Deployments) first. A staged one is dropped unless it is the one meant.
func PlanDefault(st State, index int) ([]Deployment, error) {
	d, err := at(st, index)
	if err != nil {
		return nil, err
	}
	if d.Staged {
		return slices.Clone(st.Deployments), nil
	}
	return toFront(slices.Clone(st.Written()), d), nil
}

// PlanUndeploy returns the order without the deployment at index. The booted one
// is ErrBooted, a pinned one ErrPinned.
func PlanUndeploy(st State, index int) ([]Deployment, error) {
	d, err := at(st, index)
	switch {
	case err != nil:
		return nil, err
	case d.Booted:
		return nil, fmt.Errorf("undeploy %d: %w", index, ErrBooted)
	case d.Pinned:
		return nil, fmt.Errorf("undeploy %d: %w", index, ErrPinned)
	}
	return slices.DeleteFunc(slices.Clone(st.Deployments), d.Same), nil
}

func at(st State, index int) (Deployment, error) {
	if index < 0 || index >= len(st.Deployments) {
		return Deployment{}, fmt.Errorf("index %d of %d: %w", index, len(st.Deployments), ErrNoDeployment)
	}
	return st.Deployments[index], nil
}

func (l *Locked) at(ctx context.Context, index int) (Deployment, error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return Deployment{}, err
	}
	return at(st, index)
}

func toFront(list []Deployment, d Deployment) []Deployment {
	return append([]Deployment{d}, slices.DeleteFunc(list, d.Same)...)
}

// SetPinned pins the deployment at index, so that no retention rule and no
// undeploy drops it, or lets it go again.
func (l *Locked) SetPinned(ctx context.Context, index int, pinned bool) error {
	d, err := l.at(ctx, index)
	if err != nil {
		return err
	}
	if d.Staged {
		return fmt.Errorf("pin %d: a staged deployment cannot be pinned", index)
	}
	d.Origin = d.Origin.WithPinned(pinned)
	return errors.Join(l.s.writeOrigin(d), l.s.bumpMtime())
}

// SetOrigin replaces the origin of the deployment at index: what it follows
// from the next upgrade on.
func (l *Locked) SetOrigin(ctx context.Context, index int, o Origin) error {
	d, err := l.at(ctx, index)
	if err != nil {
		return err
	}
	d.Origin = o
	return errors.Join(l.s.writeOrigin(d), l.s.bumpMtime())
}

// Rollback is PlanRollback and Write.
func (l *Locked) Rollback(ctx context.Context) (Deployment, error) {
	to, _, err := l.rollback(ctx, func(Deployment, Deployment) error { return nil })
	return to, err
}

// rollback goes from one deployment to another; before is called when both are known
// and nothing is changed.
func (l *Locked) rollback(ctx context.Context, before func(to, left Deployment) error) (to, left Deployment, err error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return Deployment{}, Deployment{}, err
	}
	order, err := PlanRollback(st)
	if err != nil {
		return Deployment{}, Deployment{}, err
	}
	to, left = order[0], st.Deployments[0]
	if err := before(to, left); err != nil {
		return Deployment{}, Deployment{}, err
	}
	if _, err := l.Write(ctx, order); err != nil {
		return Deployment{}, Deployment{}, err
	}
	return to, left, failpoint.Hit("deploy.rolled-back")
}

// WithKargs returns order with the kernel arguments of the deployment at i
// replaced, in place: the tree and its /etc stay the same.
func WithKargs(order []Deployment, i int, k bls.Kargs) []Deployment {
	out := slices.Clone(order)
	out[i].Kargs = k
	return out
}
