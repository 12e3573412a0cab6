// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// DefaultTries is how often a new deployment is booted before the one before it
// comes again, unless [hostctl] boot-tries in the repository's config says otherwise.
const DefaultTries = 3

// Trial is the default deployment while it has not proved good yet.
type Trial struct {
	Deployment string `json:"deployment"` // STATEROOT/CSUM.N
	Tries      int    `json:"tries"`      // how often it may be booted, all in all
	// Counting tells that the boot loader counts the boots and leaves the deployment
	// by itself; Left and Done are its numbers. Otherwise only a failed health
	// check leads back.
	Counting bool `json:"counting"`
	Left     int  `json:"left"`
	Done     int  `json:"done"`
	// Failure is why the last boot was not good, as far as it could say so.
	Failure string `json:"failure,omitempty"`
	// Problem tells why the boot loader's count cannot be read.
	Problem string `json:"problem,omitempty"`
}

// Blocked is a commit that failed its trial, or was blocked by hand: an upgrade does not take it again.
type Blocked struct {
	Checksum ostree.Checksum `json:"checksum"`
	Version  string          `json:"version,omitempty"`
	Reason   string          `json:"reason"`
	Time     time.Time       `json:"time"`
}

// ErrNotBlocked reports that a commit to be unblocked is not blocked.
var ErrNotBlocked = errors.New("no such blocked version")

// FullName returns STATEROOT/CSUM.N.
func (d Deployment) FullName() string { return d.Stateroot + "/" + d.Name() }

// OnTrial returns the default deployment if it is on trial.
func (st State) OnTrial() (Deployment, bool) {
	d, ok := st.Default()
	return d, ok && st.Trial != nil
}

// LastGood returns the deployment that booted well most recently, of those that
// are still there.
func (st State) LastGood(stateroot string) (Deployment, bool) {
	for _, name := range st.good {
		for _, d := range st.Deployments {
			if d.Stateroot == stateroot && d.FullName() == name {
				return d, true
			}
		}
	}
	return Deployment{}, false
}

// KnownGood tells whether a deployment of the commit booted well here.
func (st State) KnownGood(c ostree.Checksum) bool {
	return slices.ContainsFunc(st.good, func(name string) bool { return strings.Contains(name, "/"+c.String()+".") })
}

// BlockOf returns why a commit is blocked.
func (st State) BlockOf(c ostree.Checksum) (Blocked, bool) {
	i := slices.IndexFunc(st.Blocked, func(b Blocked) bool { return b.Checksum == c })
	if i < 0 {
		return Blocked{}, false
	}
	return st.Blocked[i], true
}

// loadTrial adds what is known about boots. A record that cannot be read is no
// reason to know nothing else.
func (s *Sysroot) loadTrial(ctx context.Context, st *State) error {
	rec, err := s.readBootRecord()
	if errors.Is(err, ErrInvalidStateFile) {
		s.log.Warn("record of boots is unusable", "error", err)
	} else if err != nil {
		return err
	}
	st.Blocked, st.good, st.begun = rec.blocked, rec.good, rec.trial
	for i, d := range st.Deployments {
		st.Deployments[i].BootedWell = slices.Contains(rec.good, d.FullName())
	}
	trier, err := s.trier(ctx)
	if err != nil {
		s.log.Warn("boot loader is unknown", "error", err)
	}
	st.counts, st.countsErr = trier != nil, err
	def, ok := st.Default()
	if !ok {
		return nil
	}
	var left, done int
	var counting bool
	if trier != nil {
		st.tryLimit = bootloader.TryLimit(trier)
		left, done, counting, err = trier.Tries(ctx, s.boot)
	}
	own := rec.trial != nil && rec.trial.Deployment == def.FullName()
	if !own && !counting && (trier == nil || err == nil) {
		return nil
	}
	t := Trial{Deployment: def.FullName(), Tries: left + done}
	if own {
		t = *rec.trial
	}
	t.Counting, t.Left, t.Done = counting, left, done
	if trier != nil && err != nil {
		// GRUB takes the entry before for the same reason.
		t.Counting, t.Problem = true, err.Error()
	}
	st.Trial = &t
	return nil
}

// trier is nil where the boot loader does not count.
func (s *Sysroot) trier(ctx context.Context) (bootloader.Trier, error) {
	_, backend, err := s.backend(ctx)
	if errors.Is(err, bootloader.ErrUnknownKind) {
		return nil, nil // whoever writes the menu reports it
	}
	if err != nil {
		return nil, err
	}
	t, _ := backend.(bootloader.Trier)
	return t, nil
}

// planTries returns Menu.Tries for order, and whether the menu must be written
// anew even if its entries would stay the same: a counter belongs to its menu.
func planTries(st State, order []Deployment) (tries int, fresh bool, err error) {
	if !st.counts || st.countsErr != nil {
		return 0, false, st.countsErr
	}
	fresh = st.Trial != nil && st.Trial.Counting
	if len(order) < 2 {
		return 0, fresh, nil
	}
	first := order[0].FullName()
	switch {
	case fresh && st.Trial.Deployment == first:
		// The try under way must not become the last word.
		return max(st.Trial.Left, 1), true, nil
	case st.begun != nil && st.begun.Deployment == first:
		return st.begun.Tries, true, nil
	}
	return 0, fresh, nil
}

// Tries resolves how often a deployment of commit is to be tried: want, or where
// that is 0 what is configured, but no more often than the boot loader can; a
// negative number means no trial. What booted well here before is on no trial, nor
// is what nothing could follow.
func (s *Sysroot) Tries(st State, commit ostree.Checksum, want int) (int, error) {
	if want == 0 {
		n, err := s.repo.Config().IntOr("hostctl", "boot-tries", DefaultTries)
		if err != nil {
			return 0, fmt.Errorf("read [hostctl] boot-tries: %w", err)
		}
		if n < 0 || n > bootloader.MaxTries {
			return 0, fmt.Errorf("read [hostctl] boot-tries: %d is not within 0 and %d", n, bootloader.MaxTries)
		}
		want = int(n)
	}
	if want < 0 || st.KnownGood(commit) || len(st.Written()) == 0 {
		return 0, nil
	}
	if st.tryLimit > 0 {
		want = min(want, st.tryLimit)
	}
	return min(want, bootloader.MaxTries), nil
}

// BeginTrial makes d, which the caller is about to make the default by Write, a
// deployment on trial. Until it is the default that means nothing, so a crash
// before the write needs no repair.
func (l *Locked) BeginTrial(_ context.Context, d Deployment, tries int) error {
	if tries <= 0 {
		return nil
	}
	return l.s.updateBootRecord(func(r *bootRecord) error {
		r.trial = &Trial{Deployment: d.FullName(), Tries: min(tries, bootloader.MaxTries)}
		return nil
	})
}

// MarkGood records that the booted deployment booted well: its trial is over, and
// it is blocked no more.
func (l *Locked) MarkGood(ctx context.Context) (Deployment, error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return Deployment{}, err
	}
	d, ok := st.Booted()
	if !ok {
		return d, ErrNotBooted
	}
	// The boot loader first: an entry that still counts would be left some day,
	// and the next boot does what is missing in the record.
	if def, ok := st.Default(); ok && def.Same(d) && st.Trial != nil && st.Trial.Counting {
		if err := l.bless(ctx); err != nil {
			return d, fmt.Errorf("end the trial of %s: %w", d.Name(), err)
		}
	}
	if err := failpoint.Hit("deploy.trial-blessed"); err != nil {
		return d, err
	}
	return d, l.s.updateBootRecord(func(r *bootRecord) error {
		r.markGood(d)
		return nil
	})
}

func (l *Locked) bless(ctx context.Context) error {
	t, err := l.s.trier(ctx)
	if t == nil || err != nil {
		return err
	}
	return t.Bless(ctx, l.s.boot)
}

// NoteFailure records why the boot under way is not good, if it is a trial.
func (l *Locked) NoteFailure(ctx context.Context, reason string) error {
	st, err := l.s.Load(ctx)
	if err != nil {
		return err
	}
	d, trial := st.OnTrial()
	if !trial || !d.Booted {
		return nil
	}
	return l.s.updateBootRecord(func(r *bootRecord) error {
		r.note(d, *st.Trial, reason)
		return nil
	})
}

// Unblock lets upgrades take a commit again. what is a version, a checksum or the
// beginning of one (eight digits at least); ErrNotBlocked where none matches.
func (l *Locked) Unblock(_ context.Context, what string) ([]Blocked, error) {
	var gone []Blocked
	err := l.s.updateBootRecord(func(r *bootRecord) error {
		r.blocked = slices.DeleteFunc(r.blocked, func(b Blocked) bool {
			hit := b.Version == what || len(what) >= 8 && strings.HasPrefix(b.Checksum.String(), what)
			if hit {
				gone = append(gone, b)
			}
			return hit
		})
		if len(gone) == 0 {
			return fmt.Errorf("%q: %w", what, ErrNotBlocked)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gone, l.s.bumpMtime()
}

// maxReason bounds in bytes what is kept of a failure.
const maxReason = 2 << 10

// cleanReason makes text of a program fit for a key file and a terminal.
func cleanReason(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if s = strings.TrimSpace(s); len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
