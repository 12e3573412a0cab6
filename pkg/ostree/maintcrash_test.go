// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

const (
	maintRepoEnv = "OSTREE_TEST_MAINT_REPO"
	maintGoodEnv = "OSTREE_TEST_MAINT_GOOD"
	maintWorkEnv = "OSTREE_TEST_MAINT_WORK"
)

// maintWork is what the killed process does to a repository.
func maintWork(t *testing.T, work string, r, good *Repo) error {
	switch work {
	case "prune":
		_, err := r.Prune(t.Context(), PruneOptions{RefsOnly: true})
		return err
	case "delete":
		_, err := r.Fsck(t.Context(), FsckOptions{Delete: true})
		return err
	case "repair":
		_, err := r.Repair(t.Context(), RepairOptions{Repos: []*Repo{good}})
		return err
	}
	return fmt.Errorf("unknown work %q", work)
}

// TestMaintCrashChild is not a test: it is the process that the failpoints kill.
func TestMaintCrashChild(t *testing.T) {
	path := os.Getenv(maintRepoEnv)
	if path == "" {
		t.Skip("runs only as a child of TestMaintCrash")
	}
	open := func(path string) *Repo {
		r, err := Open(testutil.OpenDir(t, path), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := maintWork(t, os.Getenv(maintWorkEnv), open(path), open(os.Getenv(maintGoodEnv))); err != nil {
		t.Fatal(err)
	}
}

// A process killed at any point of prune, fsck --delete or repair leaves every ref on
// a commit that is whole or marked; nothing is worse than before, and the work
// completes when it is done again.
func TestMaintCrash(t *testing.T) {
	t.Parallel()
	for work, points := range map[string][]string{
		"prune":  {"ostree.prune.commit", "ostree.prune.swept", "ostree.prune.object"},
		"delete": {"ostree.fsck.marked", "ostree.fsck.deleted"},
		"repair": {
			"ostree.repair.fetched", "ostree.repair.synced", "ostree.repair.object", "ostree.repair.published", "ostree.repair.clear",
			"ostree.txn.begin", "ostree.txn.write", "ostree.txn.object", "ostree.txn.done",
		},
	} {
		for _, point := range points {
			for _, skip := range []int{0, 2} {
				t.Run(fmt.Sprintf("%s/%s+%d", work, point, skip), func(t *testing.T) {
					t.Parallel()
					maintCrashAt(t, work, point, skip)
				})
			}
		}
	}
}

// maintCrashRepo is damaged for repair and delete, and holds garbage for prune.
func maintCrashRepo(t *testing.T, work string) (r, good *Repo) {
	if work == "prune" {
		r = pruneHistory(t)
		return r, r
	}
	b := breakRepo(t, ModeArchive)
	if work == "repair" {
		if err := b.r.markFsckPartial(b.c); err != nil {
			t.Fatal(err)
		}
	}
	return b.r, b.good
}

func maintCrashAt(t *testing.T, work, point string, skip int) {
	r, good := maintCrashRepo(t, work)
	before := differing(t, r, good)
	cmd := exec.Command(os.Args[0], "-test.run=^TestMaintCrashChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), maintRepoEnv+"="+r.Dir().Path(), maintGoodEnv+"="+good.Dir().Path(), maintWorkEnv+"="+work,
		fmt.Sprintf("HOSTCTL_FAILPOINTS=%s=skip:%d:kill", point, skip))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil && skip == 0:
		t.Fatalf("the point was not met\n%s", out)
	case err != nil && !testutil.Killed(err):
		t.Fatalf("child: %v\n%s", err, out)
	}
	for n := range damageOf(t, r) {
		if _, had := before[n]; !had {
			t.Errorf("new damage: %s", n)
		}
	}
	if err := maintWork(t, work, r, good); err != nil {
		t.Fatal(err)
	}
	res, err := r.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(res.Findings) > 0 || work != "delete" && res.Partial > 0 {
		t.Errorf("fsck after the work was done again: %+v, %v", res, err)
	}
}

// differing lists the objects of good that r lacks or has damaged.
func differing(t *testing.T, r, good *Repo) map[ObjectName]struct{} {
	t.Helper()
	found := map[ObjectName]struct{}{}
	err := good.eachObject(t.Context(), func(n ObjectName) error {
		if r.verifyStored(n) != nil {
			found[n] = struct{}{}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// damageOf lists what refs and commits miss, marked or not.
func damageOf(t *testing.T, r *Repo) map[ObjectName]struct{} {
	t.Helper()
	f := newFsck(r, FsckOptions{})
	f.ignoreMarks = true
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := map[ObjectName]struct{}{}
	for _, x := range f.res.Findings {
		found[x.Object] = struct{}{}
	}
	return found
}
