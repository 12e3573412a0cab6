// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
)

const crashDir, crashURL = "HOSTCTL_TEST_PULL_CRASH_DIR", "HOSTCTL_TEST_PULL_CRASH_URL"

// TestPullCrashChild is not a test: it pulls in the process that a failpoint kills.
func TestPullCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs only as a child of TestPullCrash")
	}
	remote := Remote{Name: "o", URL: os.Getenv(crashURL), NoGPGVerify: true}
	_, err := Pull(t.Context(), openRepo(t, dir, ostree.ModeBareUser), remote, Request{Refs: []string{ref}, Depth: 1})
	testutil.Must(t, err)
}

// TestPullCrash kills a pull at every failpoint it passes, with and without a
// delta. No ref may name an incomplete commit, no incomplete commit may pass for a
// complete one, and the next pull must finish the work.
func TestPullCrash(t *testing.T) {
	t.Parallel()
	points := []string{
		"ostree.txn.begin", "ostree.txn.write", "ostree.txn.staged", "ostree.txn.synced", "ostree.txn.marked",
		"ostree.txn.object", "ostree.txn.published", "ostree.txn.durable", "ostree.txn.commits-published",
		"ostree.txn.commits-durable", "ostree.txn.cleared", "ostree.txn.ref", "ostree.txn.done", "ostree.delta.part",
	}
	plain, packed := newDeltaSite(t, false, delta.GenerateOptions{}), newDeltaSite(t, false, delta.GenerateOptions{})
	testutil.Must(t, os.RemoveAll(filepath.Join(plain.src.Dir().Path(), "deltas")))
	testutil.Must(t, plain.src.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	for name, d := range map[string]deltaSite{"objects": plain, "delta": packed} {
		for _, point := range points {
			if name == "objects" && point == "ostree.delta.part" {
				continue
			}
			for _, skip := range []int{0, 7} {
				t.Run(fmt.Sprintf("%s/%s+%d", name, point, skip), func(t *testing.T) {
					t.Parallel()
					crashPull(t, d, point, skip)
				})
			}
		}
	}
}

func crashPull(t *testing.T, d deltaSite, point string, skip int) {
	dir := filepath.Join(t.TempDir(), "repo")
	dst := openRepo(t, dir, ostree.ModeBareUser)
	_, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref + "@" + d.first.String()}, NoDeltas: true})
	testutil.Must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestPullCrashChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashURL+"="+d.URL, fmt.Sprintf("HOSTCTL_FAILPOINTS=%s=skip:%d:kill", point, skip))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil && skip == 0:
		t.Fatalf("the point was not met\n%s", out)
	case err != nil && !testutil.Killed(err):
		t.Fatalf("child: %v\n%s", err, out)
	}
	again := openRepo(t, dir, ostree.ModeBareUser)
	wantWhole(t, again, d)
	_, err = Pull(t.Context(), again, d.remote(), Request{Refs: []string{ref}, Depth: 1})
	testutil.Must(t, err)
	if got, err := again.Resolve("o:" + ref); err != nil || got != d.second {
		t.Errorf("ref after the second pull: %v %v", got, err)
	}
	wantWhole(t, again, d)
	if diff := cmp.Diff(objects(t, d.src), objects(t, again)); diff != "" {
		t.Error(diff)
	}
}

// wantWhole checks that every commit is marked as partial or has all its objects,
// and that the ref's is not marked.
func wantWhole(t *testing.T, r *ostree.Repo, d deltaSite) {
	t.Helper()
	at, err := r.Resolve("o:" + ref)
	testutil.Must(t, err)
	for _, c := range []ostree.Checksum{d.first, d.second} {
		has, err := r.Has(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
		testutil.Must(t, err)
		partial, err := r.CommitPartial(c)
		testutil.Must(t, err)
		if at == c && (!has || partial) {
			t.Errorf("the ref names %s: stored %v, partial %v", c, has, partial)
		}
		if !has || partial {
			continue
		}
		all, err := r.Reachable(t.Context(), c)
		testutil.Must(t, err)
		for n := range all {
			if ok, err := r.Has(n); !ok || err != nil {
				t.Errorf("commit %s lacks %s: %v", c, n, err)
			}
		}
	}
}
