// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestPlanBoot has every state that a boot can find.
func TestPlanBoot(t *testing.T) {
	t.Parallel()
	dep := func(n byte, booted bool) Deployment {
		return Deployment{Stateroot: "os", Checksum: ostree.Checksum{n}, Version: fmt.Sprint(n), Booted: booted}
	}
	counted := func(left, done int) *Trial { return &Trial{Tries: left + done, Counting: true, Left: left, Done: done} }
	for name, c := range map[string]struct {
		list   []Deployment
		trial  *Trial
		want   BootVerdict
		reason string
	}{
		"no trial":                    {[]Deployment{dep(2, true), dep(1, false)}, nil, BootOrdinary, ""},
		"pending":                     {[]Deployment{dep(2, false), dep(1, true)}, nil, BootOrdinary, ""},
		"not running":                 {[]Deployment{dep(2, false), dep(1, false)}, counted(0, 3), BootOrdinary, ""},
		"no deployments":              {nil, nil, BootOrdinary, ""},
		"first try":                   {[]Deployment{dep(2, true), dep(1, false)}, counted(2, 1), BootOnTrial, ""},
		"last try":                    {[]Deployment{dep(2, true), dep(1, false)}, counted(0, 3), BootOnTrial, ""},
		"not counted":                 {[]Deployment{dep(2, true), dep(1, false)}, &Trial{Tries: 3}, BootOnTrial, ""},
		"not tried yet":               {[]Deployment{dep(2, false), dep(1, true)}, counted(3, 0), BootOrdinary, ""},
		"other picked between":        {[]Deployment{dep(2, false), dep(1, true)}, counted(1, 2), BootOrdinary, ""},
		"other picked, not counted":   {[]Deployment{dep(2, false), dep(1, true)}, &Trial{Tries: 3}, BootOrdinary, ""},
		"given up":                    {[]Deployment{dep(2, false), dep(1, true)}, counted(0, 3), BootFellBack, "3 of 3 boots did not get as far as the health checks: kernel, initramfs or services are broken"},
		"given up, third runs":        {[]Deployment{dep(2, false), dep(3, false), dep(1, true)}, counted(0, 1), BootFellBack, "1 of 1 boots did not get as far as the health checks: kernel, initramfs or services are broken"},
		"given up with a reason":      {[]Deployment{dep(2, false), dep(1, true)}, &Trial{Tries: 1, Counting: true, Done: 1, Failure: "red"}, BootFellBack, "red"},
		"counter damaged":             {[]Deployment{dep(2, false), dep(1, true)}, &Trial{Tries: 1, Counting: true, Problem: "no header"}, BootFellBack, "the boots could not be counted: no header"},
		"counter damaged, but booted": {[]Deployment{dep(2, true), dep(1, false)}, &Trial{Tries: 1, Counting: true, Problem: "no header"}, BootOnTrial, ""},
	} {
		p := PlanBoot(State{Deployments: c.list, Trial: c.trial})
		if p.Verdict != c.want {
			t.Errorf("%s: %s, want %s", name, p.Verdict, c.want)
			continue
		}
		if c.want != BootFellBack {
			if p.Failed != nil || p.Order != nil || p.Blocked != nil {
				t.Errorf("%s: %+v", name, p)
			}
			continue
		}
		if p.Failed.Version != "2" || p.Blocked.Checksum != p.Failed.Checksum || p.Blocked.Reason != c.reason {
			t.Errorf("%s: %+v %+v", name, p.Failed, p.Blocked)
		}
		if len(p.Order) != len(c.list) || p.Order[0].Version != "1" {
			t.Errorf("%s: order %v", name, names(p.Order))
		}
	}
}

func TestBootRecord(t *testing.T) {
	t.Parallel()
	sum := ostree.Checksum{1}
	full := bootRecord{trial: &Trial{Deployment: "os/" + sum.String() + ".0", Tries: 3, Failure: "line one\nline [two]"},
		good:    []string{"os/" + ostree.Checksum{2}.String() + ".1"},
		blocked: []Blocked{{Checksum: sum, Version: "1.1", Reason: "red; really", Time: time.Unix(1700000000, 0).UTC()}, {Checksum: ostree.Checksum{3}, Reason: "x"}}}
	full.blocked[1].Time = full.blocked[0].Time
	for _, r := range []bootRecord{{}, full} {
		data, err := r.format()
		testutil.Must(t, err)
		got, err := parseBootRecord(data)
		if d := cmp.Diff(r, got, cmp.AllowUnexported(bootRecord{})); err != nil || d != "" {
			t.Errorf("%v %s\n%s", err, d, data)
		}
	}
	for _, bad := range []string{"x", "[trial]\ntries=1\n", "[trial]\ndeployment=os/x.0\ntries=1\n", "[trial]\ndeployment=../x/" + sum.String() + ".0\ntries=1\n",
		"[trial]\ndeployment=os/" + sum.String() + ".0\ntries=10\n", "[good]\ndeployments=a;\n", "[blocked abc]\nreason=x\n",
		"[blocked " + sum.String() + "]\ntime=yesterday\n"} {
		if r, err := parseBootRecord([]byte(bad)); err == nil {
			t.Errorf("accepted %q: %+v", bad, r)
		}
	}
	var r bootRecord
	for i := range 100 {
		d := Deployment{Stateroot: "os", Checksum: ostree.Checksum{byte(i)}}
		r.markGood(d)
		r.markGood(d)
		r.block(Blocked{Checksum: ostree.Checksum{byte(i)}, Reason: strings.Repeat("ä\x1b", 9999)})
	}
	if len(r.good) != maxGood || len(r.blocked) != maxBlocked || !strings.Contains(r.good[0], ostree.Checksum{99}.String()) {
		t.Error(len(r.good), len(r.blocked))
	}
	if data, err := r.format(); err != nil || len(data) > maxBootRecord {
		t.Error(len(data), err)
	}
}

func FuzzBootRecord(f *testing.F) {
	f.Add([]byte("[trial]\ndeployment=os/" + ostree.Checksum{}.String() + ".0\ntries=1\n\n[blocked " + ostree.Checksum{}.String() + "]\nreason=a\\nb\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseBootRecord(data)
		if err != nil {
			return
		}
		out, err := r.format()
		if err != nil {
			t.Fatalf("accepted and not written: %v", err)
		}
		again, err := parseBootRecord(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if len(again.blocked) != len(r.blocked) || len(again.good) != len(r.good) || (again.trial == nil) != (r.trial == nil) {
			t.Fatalf("%+v\n%+v", r, again)
		}
	})
}

// trialBox has versions 1 and 2 with GRUB, 1 booted and known as good.
func trialBox(t *testing.T) (b *box, one Deployment) {
	t.Helper()
	b = newBox(t, InitOptions{Bootloader: bootloader.GRUB2})
	b.o.DisableFsync = true
	testutil.Must(t, os.MkdirAll(b.path("boot/grub"), 0o755))
	testutil.Must(t, os.WriteFile(b.path("boot/grub/grub.cfg"), []byte("configfile /loader/grub.cfg\n"), 0o644))
	one = b.deploy(numbered(b, 1), Retention{})
	b.boot(one)
	b.locked(func(l *Locked) {
		_, err := l.MarkGood(t.Context())
		testutil.Must(t, err)
	})
	return b, one
}

// try makes version v the default, on trial.
func (b *box) try(v, tries int) Deployment {
	b.t.Helper()
	var d Deployment
	c := numbered(b, v)
	b.locked(func(l *Locked) {
		var err error
		d, err = tryCommit(b.t.Context(), l, c, tries)
		testutil.Must(b.t, err)
	})
	return d
}

func tryCommit(ctx context.Context, l *Locked, c ostree.Checksum, tries int) (Deployment, error) {
	st, err := l.s.Load(ctx)
	if err != nil {
		return Deployment{}, err
	}
	n, err := l.s.Tries(st, c, tries)
	if err != nil {
		return Deployment{}, err
	}
	var merge *Deployment
	if m, ok := st.Merge("testos"); ok {
		merge = &m
	}
	d, _, err := l.Deploy(ctx, Request{Stateroot: "testos", Commit: c, Origin: NewOrigin("testos/main")})
	if err != nil {
		return d, err
	}
	if err := l.BeginTrial(ctx, d, n); err != nil {
		return d, err
	}
	_, err = l.Write(ctx, Retention{}.Order(st, d, merge))
	return d, err
}

// counter plays GRUB: it sets boot_counter.
func (b *box) counter(n int) {
	b.t.Helper()
	name := b.path("boot/loader/grubenv")
	data, err := os.ReadFile(name)
	testutil.Must(b.t, err)
	line, rest, ok := bytes.Cut(data, []byte("boot_success"))
	i := bytes.Index(line, []byte("boot_counter="))
	if !ok || i < 0 {
		b.t.Fatalf("no counter in %q", data)
	}
	out := fmt.Sprintf("%sboot_counter=%d\nboot_success%s", line[:i], n, bytes.TrimRight(rest, "#"))
	testutil.Must(b.t, os.WriteFile(name, append([]byte(out), bytes.Repeat([]byte("#"), 1024-len(out))...), 0o644))
}

func (b *box) expectTrial(want *Trial) {
	b.t.Helper()
	if d := cmp.Diff(want, b.load().Trial); d != "" {
		b.t.Fatal(d)
	}
}

func TestTrialGood(t *testing.T) {
	t.Parallel()
	b, one := trialBox(t)
	two := b.try(2, 0)
	b.expectTrial(&Trial{Deployment: two.FullName(), Tries: 3, Counting: true, Left: 3})
	b.counter(2)
	b.boot(two)
	b.locked(func(l *Locked) {
		if p, err := l.SettleBoot(t.Context()); err != nil || p.Verdict != BootOnTrial {
			t.Fatal(p, err)
		}
		testutil.Must(t, l.NoteFailure(t.Context(), "not ended"))
		b.expectTrial(&Trial{Deployment: two.FullName(), Tries: 3, Counting: true, Left: 2, Done: 1, Failure: "not ended"})
		// A crash between the two halves leaves what the next boot completes.
		for range 2 {
			testutil.Must(t, l.bless(t.Context()))
			b.expectTrial(&Trial{Deployment: two.FullName(), Tries: 3, Failure: "not ended"})
		}
		for range 2 {
			d, err := l.MarkGood(t.Context())
			if err != nil || !d.Same(two) {
				t.Fatal(d, err)
			}
		}
	})
	st := b.load()
	if good, ok := st.LastGood("testos"); !ok || !good.Same(two) || st.Trial != nil || !st.Deployments[0].BootedWell || !st.KnownGood(one.Checksum) {
		t.Fatalf("%+v", st)
	}
	// Neither a rollback nor what is known as good is a trial.
	b.locked(func(l *Locked) {
		if d, err := l.Rollback(t.Context()); err != nil || !d.Same(one) {
			t.Fatal(d, err)
		}
	})
	b.expectTrial(nil)
	if n, err := b.sysroot().Tries(b.load(), two.Checksum, 5); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

func TestTrialFails(t *testing.T) {
	t.Parallel()
	b, one := trialBox(t)
	two := b.try(2, 1)
	b.counter(0)
	b.boot(two)
	next := numbered(b, 9)
	b.locked(func(l *Locked) {
		_, err := l.Stage(t.Context(), Request{Stateroot: "testos", Commit: next, Origin: NewOrigin("testos/main")}, StageOptions{})
		testutil.Must(t, err)
		res, err := l.FailBoot(t.Context(), "red")
		if _, staged := b.load().Staged(); staged {
			t.Error("a bad boot leaves a staged deployment")
		}
		if err != nil || !res.Reboot || res.Left != nil {
			t.Fatal(res, err)
		}
		testutil.Must(t, l.NoteFailure(t.Context(), "redder"))
		_, err = l.FailBoot(t.Context(), "unreached")
		testutil.Must(t, err)
	})
	b.counter(-1)
	b.boot(one)
	b.settle(two, "redder")
	// Told to, it is tried again.
	b.locked(func(l *Locked) {
		if _, err := l.Unblock(t.Context(), "1"); !errors.Is(err, ErrNotBlocked) {
			t.Fatal(err)
		}
		gone, err := l.Unblock(t.Context(), two.Checksum.String()[:8])
		if err != nil || len(gone) != 1 {
			t.Fatal(gone, err)
		}
	})
	three := b.try(2, 1)
	b.expectTrial(&Trial{Deployment: three.FullName(), Tries: 1, Counting: true, Left: 1})
	// Anything that writes the menu meanwhile keeps what is left of the trial.
	b.counter(0)
	b.boot(three)
	b.locked(func(l *Locked) {
		_, err := l.Write(t.Context(), b.load().Deployments)
		testutil.Must(t, err)
	})
	b.expectTrial(&Trial{Deployment: three.FullName(), Tries: 1, Counting: true, Left: 1})
}

// settle expects that this boot blocks failed.
func (b *box) settle(failed Deployment, reason string) {
	b.t.Helper()
	b.locked(func(l *Locked) {
		p, err := l.SettleBoot(b.t.Context())
		if err != nil || p.Verdict != BootFellBack {
			b.t.Fatal(p, err)
		}
		if p, err = l.SettleBoot(b.t.Context()); err != nil || p.Verdict != BootOrdinary {
			b.t.Fatal(p, err)
		}
	})
	b.settled(failed, reason)
}

func (b *box) settled(failed Deployment, reason string) {
	b.t.Helper()
	st := b.load()
	got, ok := st.BlockOf(failed.Checksum)
	if !ok || got.Reason != reason || got.Version != failed.Version || got.Time.IsZero() {
		b.t.Fatalf("blocked: %+v", st.Blocked)
	}
	if st.Trial != nil || !st.Deployments[0].Booted {
		b.t.Fatalf("%s, trial %+v", names(st.Deployments), st.Trial)
	}
	checkBootable(b.t, b, st)
}

// TestTrialCrash: a failed trial is settled, whatever step is the last one.
func TestTrialCrash(t *testing.T) {
	t.Parallel()
	b, one := trialBox(t)
	for i, point := range []string{"deploy.trial-blocked", "deploy.menu-written", "deploy.before-flip", "deploy.after-flip", "deploy.trial-left"} {
		two := b.try(i+2, 1)
		b.counter(-1)
		b.boot(one)
		out, err := b.child("settle", two.Checksum, point+"=kill")
		if !testutil.Killed(err) {
			t.Fatalf("%s: %v %s", point, err, out)
		}
		if st := b.load(); !st.Deployments[0].Booted && PlanBoot(st).Verdict != BootFellBack {
			t.Fatalf("%s: %s %+v", point, names(st.Deployments), st.Trial)
		}
		b.locked(func(l *Locked) {
			_, err := l.SettleBoot(t.Context())
			testutil.Must(t, err)
		})
		b.settled(two, "1 of 1 boots did not get as far as the health checks: kernel, initramfs or services are broken")
	}
}

// TestTrialBeginCrash: whatever step is the last one, the old default is not
// counted and the new one is.
func TestTrialBeginCrash(t *testing.T) {
	t.Parallel()
	b, one := trialBox(t)
	out, err := b.child("try", numbered(b, 2), "*=trace")
	testutil.Must(t, err)
	list := points(out)
	olds, news := 0, 0
	for i, point := range list {
		b.locked(func(l *Locked) {
			_, err := l.Write(t.Context(), []Deployment{one})
			testutil.Must(t, err)
			_, err = l.Cleanup(t.Context())
			testutil.Must(t, err)
		})
		b.expectTrial(nil)
		if out, err := b.child("try", numbered(b, 3+i), point); !testutil.Killed(err) {
			t.Fatalf("%s: not killed: %v\n%s", point, err, out)
		}
		st := b.load()
		if st.Deployments[0].Same(one) {
			olds++
			b.expectTrial(nil)
		} else {
			news++
			b.expectTrial(&Trial{Deployment: st.Deployments[0].FullName(), Tries: 3, Counting: true, Left: 3})
		}
		checkBootable(t, b, st)
	}
	if len(list) < 10 || olds == 0 || news == 0 {
		t.Errorf("%d points: %d old, %d new", len(list), olds, news)
	}
}

// TestTrialNotCounted: without a counter the running system goes back itself.
func TestTrialNotCounted(t *testing.T) {
	t.Parallel()
	b, one := trialBox(t)
	testutil.Must(t, os.WriteFile(b.path("boot/grub/grub.cfg"), []byte("blscfg\n"), 0o644))
	two := b.try(2, 0)
	b.expectTrial(&Trial{Deployment: two.FullName(), Tries: 3})
	b.boot(two)
	b.locked(func(l *Locked) {
		res, err := l.FailBoot(t.Context(), "red")
		if err != nil || !res.Reboot || res.Left == nil || !res.Left.Order[0].Same(one) {
			t.Fatal(res, err)
		}
	})
	b.boot(one)
	b.settled(two, "red")
}

// TestTrialStaged: the number of tries travels with the staged deployment, and a
// counter begins although the menu looks the same as before.
func TestTrialStaged(t *testing.T) {
	t.Parallel()
	b, _ := trialBox(t)
	for i := range 2 {
		// The same kernel and version: only links would change.
		c := b.commit("testos/main", "1", release("1", "1").with("usr/bin/tool", fmt.Sprint("new", i)))
		b.locked(func(l *Locked) {
			_, err := l.Stage(t.Context(), Request{Stateroot: "testos", Commit: c, Origin: NewOrigin("testos/main")}, StageOptions{Tries: 2})
			testutil.Must(t, err)
			testutil.Must(t, l.SetStagedLocked(t.Context(), false)) // writes the record anew
			res, err := l.FinalizeStaged(t.Context(), Retention{})
			if err != nil || !res.Write.BootConfigSwap {
				t.Fatal(res, err)
			}
		})
		st := b.load()
		want := Trial{Deployment: st.Deployments[0].FullName(), Tries: 2, Counting: true, Left: 2}
		if d := cmp.Diff(&want, st.Trial); d != "" || st.Deployments[0].Checksum != c {
			t.Fatal(d)
		}
	}
	// A damaged record or counter is no reason to show nothing.
	testutil.Must(t, os.WriteFile(b.path(bootRecordFile), []byte("x"), 0o644))
	testutil.Must(t, os.Truncate(filepath.Join(b.path("boot/loader"), "grubenv"), 10))
	if st := b.load(); st.Trial == nil || st.Trial.Problem == "" || PlanBoot(st).Verdict != BootFellBack {
		t.Fatalf("%+v", st.Trial)
	}
}

func TestTries(t *testing.T) {
	t.Parallel()
	b, one := trialBox(t)
	for _, c := range []struct {
		config string
		want   int
		tries  int
		bad    bool
	}{{"", 0, 3, false}, {"", 5, 5, false}, {"", 99, 9, false}, {"", -1, 0, false}, {"2", 0, 2, false}, {"0", 0, 0, false}, {"0", 1, 1, false}, {"10", 0, 0, true}, {"x", 0, 0, true}} {
		s := b.sysroot()
		cfg := s.Repo().Config()
		cfg.Remove("hostctl", "boot-tries")
		if c.config != "" {
			testutil.Must(t, cfg.Set("hostctl", "boot-tries", c.config))
		}
		testutil.Must(t, s.Repo().SetConfig(cfg))
		n, err := s.Tries(b.load(), ostree.Checksum{9}, c.want)
		if n != c.tries || (err != nil) != c.bad {
			t.Errorf("%+v: %d %v", c, n, err)
		}
	}
	if n, err := b.sysroot().Tries(State{}, one.Checksum, 3); n != 0 || err != nil {
		t.Error("a first deployment is on trial: there is nothing to go back to", n, err)
	}
}
