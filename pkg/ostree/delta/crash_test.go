// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

const (
	crashWork  = "DELTA_TEST_CRASH_WORK" // "generate" or "apply"
	crashRepo  = "DELTA_TEST_CRASH_REPO"
	crashDelta = "DELTA_TEST_CRASH_DELTA" // FROM-TO, or the directory to apply
)

// TestCrashChild is not a test: it works in the process that failpoints kill.
func TestCrashChild(t *testing.T) {
	work := os.Getenv(crashWork)
	if work == "" {
		t.Skip("runs only as a child")
	}
	r := openRepo(t, os.Getenv(crashRepo))
	var err error
	if work == "apply" {
		_, err = ApplyOffline(t.Context(), r, testutil.OpenDir(t, os.Getenv(crashDelta)), OfflineOptions{})
	} else {
		var n ostree.DeltaName
		if n, err = ParseName(os.Getenv(crashDelta)); err != nil {
			t.Fatal(err)
		}
		_, err = Generate(t.Context(), r, GenerateOptions{From: n.From, To: n.To, MaxChunkSize: size(50_000), Workers: 2})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// runChild reports whether the child was killed.
func runChild(t *testing.T, work, repo, delta, point string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashWork+"="+work, crashRepo+"="+repo, crashDelta+"="+delta, "HOSTCTL_FAILPOINTS="+point)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return true
		}
	}
	if err != nil {
		t.Fatalf("%s at %s: %v\n%s", work, point, err, out)
	}
	return false
}

// TestGenerateKilled: at every point a superblock, if there is one, has its parts,
// also where an older delta is being replaced; the next try succeeds.
func TestGenerateKilled(t *testing.T) {
	t.Parallel()
	r, path, from, to := pair(t, ostree.ModeArchive)
	n := ostree.DeltaName{From: from, To: to}
	for _, replace := range []bool{false, true} {
		kills := 0
		for i := 0; ; i++ {
			if replace {
				if _, err := Generate(t.Context(), r, GenerateOptions{From: from, To: to, Workers: 1, MaxChunkSize: size(40_000)}); err != nil {
					t.Fatal(err)
				}
			}
			if !runChild(t, "generate", path, n.String(), fmt.Sprintf("ostree.delta.*=skip:%d:kill", i)) {
				break
			}
			kills++
			checkWhole(t, r, path, n)
			if !replace {
				if err := os.RemoveAll(path + "/deltas"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if kills < 3 {
			t.Errorf("killed %d times", kills)
		}
		checkWhole(t, r, path, n)
		if found, err := Exists(r, n); !found || err != nil {
			t.Errorf("no delta in the end: %v", err)
		}
	}
}

// checkWhole applies the delta if it exists.
func checkWhole(t *testing.T, r *ostree.Repo, path string, n ostree.DeltaName) {
	t.Helper()
	found, err := Exists(r, n)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return
	}
	target, _ := copyCommit(t, r, n.From, ostree.ModeBareUser)
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, path+"/"+n.Path()), OfflineOptions{}); err != nil {
		t.Fatalf("delta is incomplete: %v", err)
	}
}

// TestApplyKilled: the commit is there with everything or not at all.
func TestApplyKilled(t *testing.T) {
	t.Parallel()
	r, path, from, to := pair(t, ostree.ModeArchive)
	res, err := Generate(t.Context(), r, GenerateOptions{From: from, To: to, MaxChunkSize: size(50_000)})
	if err != nil {
		t.Fatal(err)
	}
	target, dir := copyCommit(t, r, from, ostree.ModeBareUser)
	delta := path + "/" + res.Delta.Name.Path()
	points := []string{
		"ostree.delta.part=kill", "ostree.delta.part=skip:1:kill", "ostree.txn.write=skip:3:kill", "ostree.txn.staged=kill",
		"ostree.txn.object=skip:2:kill", "ostree.txn.published=kill", "ostree.txn.commits-published=kill", "ostree.txn.done=kill",
	}
	for _, p := range points {
		if !runChild(t, "apply", dir, delta, p) {
			t.Fatalf("not killed at %s", p)
		}
		found, err := target.Has(ostree.ObjectName{Checksum: to, Type: ostree.TypeCommit})
		if err != nil {
			t.Fatal(err)
		}
		if found {
			same(t, r, target, to)
			break
		}
	}
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, delta), OfflineOptions{}); err != nil {
		t.Fatal(err)
	}
	same(t, r, target, to)
}
