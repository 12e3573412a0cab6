// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// fail has the host run from its default deployment and find it bad.
func (h *host) fail(reason string) {
	h.t.Helper()
	st, err := h.s.Load(h.t.Context())
	testutil.Must(h.t, err)
	dir := testutil.OpenDir(h.t, filepath.Join(h.root, "sysroot"))
	s, err := deploy.Open(dir, deploy.Options{Root: testutil.OpenDir(h.t, filepath.Join(h.root, "sysroot", st.Deployments[0].Dir())), DisableFsync: true})
	testutil.Must(h.t, err)
	defer s.Close()
	testutil.Must(h.t, s.WithLock(h.t.Context(), func(l *deploy.Locked) error {
		res, err := l.FailBoot(h.t.Context(), reason)
		if res.Left == nil {
			h.t.Errorf("nothing was left: %+v", res)
		}
		return err
	}))
}

func TestBlocked(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	c1 := srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	c2 := srv.commit(ref, "2", 2)
	upgrade := func(o Options, want ostree.Checksum, blocked bool) Result {
		t.Helper()
		res, err := Upgrade(t.Context(), h.s, o)
		testutil.Must(t, err)
		st, err := h.s.Load(t.Context())
		testutil.Must(t, err)
		if st.Deployments[0].Checksum != want || (res.Blocked != nil) != blocked {
			t.Fatalf("%s, blocked %+v", h.versions(), res.Blocked)
		}
		return res
	}
	upgrade(Options{}, c2, false)
	h.fail("red")
	res := upgrade(Options{}, c1, true)
	if !res.Unchanged || res.Blocked.Reason != "red" || res.New.Version != "2" || res.Pull.Content != 0 || res.Packages == nil {
		t.Fatalf("%+v", res)
	}
	if res, err := Check(t.Context(), h.s, Options{}); err != nil || res.Blocked == nil || !res.Unchanged {
		t.Fatal(res, err)
	}
	if res, err := Rebase(t.Context(), h.s, "r:"+ref, Options{}); err != nil || res.Blocked == nil {
		t.Fatal(res, err)
	}
	// Whoever names it, or says so, gets it, on trial again.
	upgrade(Options{AllowBlocked: true}, c2, false)
	h.fail("red again")
	upgrade(Options{}, c1, true)
	if _, err := DeployRevision(t.Context(), h.s, "2", Options{}); err != nil || h.versions() != "2 1" {
		t.Fatal(h.versions(), err)
	}
	h.fail("and again")
	upgrade(Options{}, c1, true)
	testutil.Must(t, h.s.WithLock(t.Context(), func(l *deploy.Locked) error {
		_, err := l.Unblock(t.Context(), "2")
		return err
	}))
	upgrade(Options{Tries: -1}, c2, false)
	if st, err := h.s.Load(t.Context()); err != nil || st.Trial != nil {
		t.Fatalf("%v %+v", err, st.Trial)
	}
	// A newer one is taken whatever happened to this.
	testutil.Must(t, h.s.WithLock(t.Context(), func(l *deploy.Locked) error { _, err := l.Rollback(t.Context()); return err }))
	c3 := srv.commit(ref, "3", 3)
	upgrade(Options{}, c3, false)
	h.fsck()
}

func TestTreeThatEndsNoTrial(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	srv.without = judge
	srv.commit(ref, "2", 2)
	res, err := Upgrade(t.Context(), h.s, Options{Tries: 2})
	testutil.Must(t, err)
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], judge) {
		t.Errorf("%q", res.Warnings)
	}
	if st, err := h.s.Load(t.Context()); err != nil || st.Trial != nil {
		t.Fatalf("%v %+v", err, st.Trial)
	}
}

func TestTriesLimited(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	srv.commit(ref, "2", 2)
	res, err := Upgrade(t.Context(), h.s, Options{Tries: bootloader.MaxTries + 1})
	testutil.Must(t, err)
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "tries: 9, not 10: ") {
		t.Errorf("%q", res.Warnings)
	}
}
