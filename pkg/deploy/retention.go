// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"slices"
	"time"
)

// maxKeep bounds how many deployments a setting may ask to keep.
const maxKeep = 100

// dated returns r with a Now that is not after the newest commit of list: a clock that
// runs decades ahead must not make every deployment old, nor a commit from the future.
func (r Retention) dated(list []Deployment, more ...Deployment) Retention {
	var newest time.Time
	for _, d := range slices.Concat(list, more) {
		if d.Time.After(newest) {
			newest = d.Time
		}
	}
	if r.Now.After(newest) {
		r.Now = newest
	}
	return r
}

// lasts reports whether a deployment may stay for as long as there is room. r is dated.
func (r Retention) lasts(d Deployment) bool {
	return r.MaxAge == 0 || r.Now.IsZero() || r.Now.Sub(d.Time) <= r.MaxAge
}

// isGood reports whether a deployment stays because it last booted well.
func (r Retention) isGood(st State, d Deployment) bool {
	good, ok := st.LastGood(d.Stateroot)
	return ok && d.Same(good)
}

// Prune returns the boot order without the deployments that r lets go. Beside what
// Order keeps always, these stay: a staged one, the default, those in keep, and what a
// rollback would take. Pending and Rollback do not matter here.
func (r Retention) Prune(st State, keep ...Deployment) []Deployment {
	now := st.Written()
	if len(now) == 0 {
		return slices.Clone(st.Deployments)
	}
	if order, err := PlanRollback(st); err == nil {
		keep = append(slices.Clone(keep), order[0])
	}
	own, ok := st.Booted()
	if !ok {
		own = now[0]
	}
	r = r.dated(st.Deployments)
	var out []Deployment
	older := r.Older
	for _, d := range st.Deployments {
		always := d.Staged || d.Booted || d.Pinned || d.Stateroot != own.Stateroot || d.Same(now[0]) ||
			r.isGood(st, d) || slices.ContainsFunc(keep, d.Same)
		if !always {
			if older <= 0 || !r.lasts(d) {
				continue
			}
			older--
		}
		out = append(out, d)
	}
	return out
}

// Prune drops the deployments that r lets go from the boot order and returns them.
func (l *Locked) Prune(ctx context.Context, r Retention) ([]Deployment, error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return nil, err
	}
	var keep []Deployment
	if rec, err := l.s.readStaged(); err != nil {
		return nil, err
	} else if rec != nil && rec.merge != nil {
		keep = append(keep, *rec.merge) // its /etc is needed at shutdown
	}
	order := r.Prune(st, keep...)
	if len(order) == len(st.Deployments) {
		return nil, nil
	}
	gone := slices.DeleteFunc(slices.Clone(st.Deployments), func(d Deployment) bool { return slices.ContainsFunc(order, d.Same) })
	_, err = l.Write(ctx, order)
	return gone, err
}

// OrderFor is r.Order for a deployment that is checked out, with fewer of the older
// ones where their kernels would not leave room in /boot for the new one.
func (s *Sysroot) OrderFor(st State, next Deployment, merge *Deployment, r Retention) ([]Deployment, error) {
	sizes, err := s.kernelSizes([]Deployment{next})
	if err != nil {
		return nil, err
	}
	order, _, err := s.fitOrder(st, next, sizes[next.bootDir()], merge, r)
	return order, err
}

func (s *Sysroot) fitOrder(st State, next Deployment, size int64, merge *Deployment, r Retention) ([]Deployment, BootSpace, error) {
	r.Older = min(r.Older, len(st.Deployments))
	for {
		order := r.Order(st, next, merge)
		sizes, err := s.kernelSizes(slices.DeleteFunc(slices.Clone(order), next.Same))
		if err != nil {
			return nil, BootSpace{}, err
		}
		sizes[next.bootDir()] = size
		space, err := s.bootSpace(st, order, sizes)
		if err != nil || space.FitsInSteps() || r.Older <= 0 {
			return order, space, err
		}
		r.Older--
	}
}

// Retention is what the settings of the sysroot ask for. now is the time to which
// ages are compared.
func (c Settings) Retention(now time.Time) Retention {
	return Retention{Older: max(c.Keep-2, 0), MaxAge: time.Duration(c.KeepDays) * 24 * time.Hour, Now: now}
}
