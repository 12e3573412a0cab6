// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/etcmerge"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	got, err := b.sysroot().Settings()
	testutil.Must(t, err)
	if d := cmp.Diff(Settings{EtcConflicts: KeepLocal, Keep: 2}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(etcmerge.Policy{SaveNew: true}, got.EtcPolicy()); d != "" {
		t.Error(d)
	}
	set := func(key, value string) {
		s := b.sysroot()
		cfg := s.Repo().Config()
		testutil.Must(t, cfg.Set(settingsGroup, key, value))
		testutil.Must(t, s.Repo().SetConfig(cfg))
	}
	for key, value := range map[string]string{"etc-conflicts": "fail", "etc-replace": "/etc/a;/etc/b/c;", "keep": "4", "keep-days": "30"} {
		set(key, value)
	}
	got, err = b.sysroot().Settings()
	testutil.Must(t, err)
	want := Settings{EtcConflicts: FailOnConflict, EtcReplace: []string{"a", "b/c"}, Keep: 4, KeepDays: 30}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Retention{Older: 2, MaxAge: 720 * time.Hour, Now: today}, got.Retention(today)); d != "" {
		t.Error(d)
	}
	for _, c := range [][2]string{{"etc-conflicts", "ask"}, {"etc-replace", "/usr/etc/a"}, {"etc-replace", "/etc/../a"}, {"keep", "1"}, {"keep", "x"}, {"keep-days", "-1"}} {
		old, _ := b.sysroot().Repo().Config().Get(settingsGroup, c[0])
		set(c[0], c[1])
		if _, err := b.sysroot().Settings(); err == nil || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%q: %v", c, err)
		}
		set(c[0], old)
	}
}

// TestKeepFits: what is kept beyond two deployments gives way where /boot is small.
func TestKeepFits(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.mountBoot("-t", "tmpfs", "-o", "size=9m", "tmpfs")
	keep := Retention{Older: 5}
	b.boot(b.deploy(b.commit("m", "1", big("1", 1500)), keep))
	for _, v := range []string{"2", "3"} {
		b.deploy(b.commit("m", v, big(v, 1500)), keep)
	}
	if got := names(b.load().Deployments); got != "3.0 2.0 1.0*" {
		t.Fatal(got)
	}
	c := b.commit("m", "4", big("4", 4000))
	p, err := b.sysroot().Preview(t.Context(), Request{Stateroot: "testos", Commit: c, Retention: keep})
	testutil.Must(t, err)
	if !p.Boot.FitsInSteps() {
		t.Fatalf("%+v", p.Boot)
	}
	res, err := b.stageRequest(Request{Stateroot: "testos", Commit: c, Origin: NewOrigin("m"), Retention: keep})
	testutil.Must(t, err)
	if _, err := b.finalize(); err != nil {
		t.Fatal(err)
	}
	st := b.load()
	if got := names(st.Deployments); got != "4.0 3.0 1.0*" || !st.Deployments[0].Same(res.Deployment) {
		t.Fatal(got)
	}
	checkBootable(t, b, st)
}
