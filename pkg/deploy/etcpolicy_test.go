// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func clashes(list []etcmerge.Clash) string {
	var out []etcmerge.Change
	for _, c := range list {
		out = append(out, c.Change)
	}
	return strings.Join(etcmerge.Lines(out), "; ")
}

// etcBox has deployment 1 booted, in which app.conf and d/x.conf are edited, and
// commit 2 with new defaults for both.
func etcBox(t *testing.T) (*box, Deployment, Request) {
	t.Helper()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.boot(d1)
	b.edit(d1, "app.conf", "mine\n")
	b.edit(d1, "d/x.conf", "mine, too\n")
	return b, d1, Request{Stateroot: "testos", Commit: b.commit("m", "2", release("2", "2").with("usr/etc/late.conf", "default")), Origin: NewOrigin("m")}
}

func (b *box) edit(d Deployment, name, text string) {
	b.t.Helper()
	testutil.Must(b.t, os.WriteFile(b.path(d.Dir(), "etc", name), []byte(text), 0o644))
}

func (b *box) stageRequest(req Request) (res StageResult, err error) {
	b.t.Helper()
	b.locked(func(l *Locked) { res, err = l.Stage(b.t.Context(), req, StageOptions{}) })
	return res, err
}

// What is staged with a policy is finalised with it, and the preview says so before.
func TestStagedPolicy(t *testing.T) {
	t.Parallel()
	b, d1, req := etcBox(t)
	req.Etc = etcmerge.Policy{SaveNew: true, Replace: []string{"d"}}
	res, err := b.stageRequest(req)
	testutil.Must(t, err)
	const want = "M    app.conf [both-modified], new default in app.conf.rpmnew; M    d/x.conf [both-modified], local one in d/x.conf.rpmsave"
	if got := clashes(res.Preview.Etc.Clashes); got != want || res.Preview.Etc.Counts.Conflicts != 1 {
		t.Fatalf("%s", got)
	}
	if got := res.Preview.Etc.Clashes[0].Diff; !strings.Contains(got, "-mine\n+app 2\n") {
		t.Errorf("%q", got)
	}
	st := b.load()
	if d := cmp.Diff(&req.Etc, st.Deployments[0].EtcPolicy); d != "" {
		t.Fatal(d)
	}
	b.locked(func(l *Locked) { testutil.Must(t, l.SetStagedKargs(t.Context(), []string{"quiet"})) })
	now, err := b.sysroot().StagedEtc(t.Context())
	testutil.Must(t, err)
	if d := cmp.Diff(res.Preview.Etc, now); d != "" {
		t.Errorf("before staging and after: %s", d)
	}
	// What is added until shutdown follows the same policy and is told afterwards.
	b.edit(d1, "late.conf", "late\n")
	var log bytes.Buffer
	b.o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	fin, err := b.finalize()
	testutil.Must(t, err)
	if got := clashes(fin.Etc.Clashes); got != strings.Replace(want, "; M    d", "; M    d", 1)+"; A    late.conf [both-added], new default in late.conf.rpmnew" {
		t.Errorf("%s", got)
	}
	if !strings.Contains(log.String(), "/etc/late.conf") || strings.Contains(log.String(), "d/x.conf") {
		t.Errorf("the log says\n%s", log.String())
	}
	for name, text := range map[string]string{"app.conf": "mine\n", "app.conf.rpmnew": "app 2", "d/x.conf": "x 2", "d/x.conf.rpmsave": "mine, too\n", "late.conf": "late\n", "late.conf.rpmnew": "default"} {
		if got := b.read(fin.Deployment.Dir(), "etc", name); got != text {
			t.Errorf("%s: %q", name, got)
		}
	}
	b.boot(fin.Deployment)
	left := func() string {
		list, err := b.sysroot().EtcConflicts(t.Context(), b.load().Deployments[0])
		testutil.Must(t, err)
		return clashes(list)
	}
	if got := left(); !strings.Contains(got, "app.conf [") || !strings.Contains(got, "late.conf [") || strings.Contains(got, "d/x.conf") {
		t.Errorf("%s", got)
	}
	// A conflict is dealt with when the new default is taken or thrown away.
	b.edit(fin.Deployment, "app.conf", "app 2")
	testutil.Must(t, os.Remove(b.path(fin.Deployment.Dir(), "etc/late.conf.rpmnew")))
	if got := left(); got != "" {
		t.Errorf("%s", got)
	}
	// The note goes with its deployment.
	b.locked(func(l *Locked) {
		_, err := l.Rollback(t.Context())
		testutil.Must(t, err)
	})
	b.boot(d1)
	b.locked(func(l *Locked) {
		_, err := l.Prune(t.Context(), Retention{Now: time.Now()})
		testutil.Must(t, err)
		order, err := PlanUndeploy(b.load(), 1)
		testutil.Must(t, err)
		_, err = l.Write(t.Context(), order)
		testutil.Must(t, err)
		_, err = l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if _, err := os.Stat(b.path(conflictNote(fin.Deployment))); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A conflict that the policy settles is no reason to refuse.
func TestRefusalKnowsPolicy(t *testing.T) {
	t.Parallel()
	b, _, req := etcBox(t)
	req.FailOnConflict = true
	req.Etc = etcmerge.Policy{SaveNew: true, Replace: []string{"app.conf"}}
	res, err := b.stageRequest(req)
	if !errors.Is(err, ErrEtcConflict) || strings.Contains(err.Error(), "app.conf") || len(res.Preview.Etc.Clashes) != 2 {
		t.Fatalf("%v %+v", err, res.Preview.Etc.Clashes)
	}
	if st := b.load(); names(st.Deployments) != "1.0*" {
		t.Fatal(names(st.Deployments))
	}
	req.Etc.Replace = []string{"app.conf", "d/x.conf"}
	_, err = b.stageRequest(req)
	testutil.Must(t, err)
}

func TestStagedRecordPolicy(t *testing.T) {
	t.Parallel()
	d := Deployment{Stateroot: "os", BootChecksum: strings.Repeat("0", 64)}
	full := stagedRecord{target: d, etc: etcmerge.Policy{SaveNew: true, Replace: []string{"a", "b/c"}}, retention: &Retention{Older: 3, MaxAge: time.Hour}}
	for _, r := range []stagedRecord{{target: d}, {target: d, retention: &Retention{}}, full} {
		data, err := encodeStaged(r)
		testutil.Must(t, err)
		back, err := decodeStaged(data)
		testutil.Must(t, err)
		if d := cmp.Diff(r.etc, back.etc) + cmp.Diff(r.retention, back.retention); d != "" {
			t.Error(d)
		}
	}
	now := Retention{Older: 1, Pending: true}
	if got := (stagedRecord{}).retain(now); got != now {
		t.Errorf("%+v", got)
	}
	if got := full.retain(now); got != (Retention{Older: 3, MaxAge: time.Hour, Pending: true}) {
		t.Errorf("%+v", got)
	}
	for name, v := range map[string]gvariant.Value{
		keySaveNew: gvariant.String("yes"),
		keyReplace: gvariant.Strings([]string{"../shadow"}),
		keyOlder:   gvariant.Uint64(1 << 40),
	} {
		g := gvariant.Dict{}
		g.Set("target", encodeDeployment(d))
		g.Set(name, v)
		data, err := g.Marshal()
		testutil.Must(t, err)
		if _, err := decodeStaged(data); !errors.Is(err, ErrInvalidStateFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPreviewAgrees: whatever is in the three trees, shutdown does what was announced,
// and nothing that was written locally is lost.
func TestPreviewAgrees(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "b.rpmnew", "c/x", "c/y", "k", "k/z", "e/f/g"}
	clashed, moved := 0, 0
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		tree := func(o osTree) osTree {
			for _, n := range names {
				// k is a file or a directory.
				if v := r.IntN(4); v > 0 && (n != "k/z" || o["usr/etc/k"] == "") {
					o = o.with("usr/etc/"+n, []string{"1\n", "2\n", "3\n"}[v-1])
				}
			}
			return o
		}
		b := newBox(t, InitOptions{})
		d1 := b.deploy(b.commit("m", "1", tree(release("1", "1"))), Retention{})
		b.boot(d1)
		local := map[string]string{}
		for _, n := range names {
			name := b.path(d1.Dir(), "etc", n)
			switch r.IntN(4) {
			case 0:
				_ = os.RemoveAll(name) // an error: a file is above it
			case 1:
				if st, err := os.Stat(filepath.Dir(name)); err == nil && st.IsDir() {
					testutil.Must(t, os.RemoveAll(name))
					b.edit(d1, n, "local "+n)
					local[n] = "local " + n
				}
			}
		}
		for n := range local {
			if data, err := os.ReadFile(b.path(d1.Dir(), "etc", n)); err != nil || string(data) != local[n] {
				delete(local, n) // removed again with what is above it
			}
		}
		req := Request{Stateroot: "testos", Commit: b.commit("m", "2", tree(release("2", "2"))), Origin: NewOrigin("m")}
		req.Etc = etcmerge.Policy{SaveNew: r.IntN(2) == 0, Replace: []string{names[r.IntN(len(names))], "c"}}
		res, err := b.stageRequest(req)
		testutil.Must(t, err)
		fin, err := b.finalize()
		testutil.Must(t, err)
		if d := cmp.Diff(res.Preview.Etc, fin.Etc); d != "" {
			t.Errorf("seed %d: announced and done differ: %s", seed, d)
		}
		at := map[string]string{}
		for _, c := range fin.Etc.Changes {
			if at[c.Path] = c.Path; c.Dest != "" {
				at[c.Path] = c.Dest
				moved++
			}
		}
		clashed += len(fin.Etc.Clashes)
		for n, text := range local {
			if at[n] == "" || b.read(fin.Deployment.Dir(), "etc", at[n]) != text {
				t.Errorf("seed %d: %s is lost", seed, n)
			}
		}
	}
	if clashed == 0 || moved == 0 {
		t.Errorf("%d conflicts, %d names moved: too tame", clashed, moved)
	}
}
