// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

func lockedRepo(t *testing.T) *Repo {
	t.Helper()
	r := newTestRepo(t, ModeArchive)
	if err := r.SetConfigValue("core", "lock-timeout-secs", "1"); err != nil {
		t.Fatal(err)
	}
	return reopen(t, r)
}

// ostree waits for our locks, and we for those of ostree.
func TestInteropLock(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := lockedRepo(t)
	ctx := t.Context()
	for _, shared := range []bool{true, false} {
		_, unlock, err := r.Lock(ctx, shared)
		if err != nil {
			t.Fatal(err)
		}
		out, err := runFails(t, "ostree", repoPath(r), "prune")
		if err == nil || !strings.Contains(out, "Locking repo exclusive failed") {
			t.Errorf("prune of ostree while locked: %v\n%s", err, out)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
		run(t, "ostree", repoPath(r), "prune")
	}

	// A commit of a stream that does not come holds the shared lock.
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ostree", repoPath(r), "commit", "-b", "x", "--tree=tar=/dev/stdin")
	cmd.Stdin = pr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = pr.Close()
	defer func() { _ = cmd.Wait() }()
	defer pw.Close()
	busy := func() bool {
		_, unlock, err := r.Lock(ctx, false)
		if err == nil {
			err = errors.Join(unlock(), errNotBusy)
		}
		if !errors.Is(err, fsx.ErrLocked) && !errors.Is(err, errNotBusy) {
			t.Fatal(err)
		}
		return errors.Is(err, fsx.ErrLocked)
	}
	for deadline := time.Now().Add(20 * time.Second); !busy(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lock of ostree is not seen")
		}
	}
	_, unlock, err := r.Lock(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}

var errNotBusy = errors.New("not busy")

// Operations inside of a lock rely on it; one that needs more waits for others.
func TestLockNesting(t *testing.T) {
	t.Parallel()
	r := lockedRepo(t)
	other := reopen(t, r)
	commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1"})
	for _, shared := range []bool{true, false} {
		ctx, unlock, err := r.Lock(t.Context(), shared)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Prune(ctx, PruneOptions{}); err != nil {
			t.Errorf("prune inside of a lock: %v", err)
		}
		if err := r.WriteSummary(ctx, SummaryOptions{}); err != nil {
			t.Errorf("summary inside of a lock: %v", err)
		}
		// The way back from exclusive to what was held before.
		_, unlockOther, err := other.Lock(t.Context(), true)
		if held := errors.Is(err, fsx.ErrLocked); held == shared {
			t.Errorf("shared lock of another while shared is %t: %v", shared, err)
		}
		if err == nil {
			if _, err := r.Prune(ctx, PruneOptions{}); !errors.Is(err, fsx.ErrLocked) {
				t.Errorf("prune while another holds a lock: %v", err)
			}
			if err := unlockOther(); err != nil {
				t.Fatal(err)
			}
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
	}
	_, unlock, err := r.Lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := other.Lock(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLockingOff(t *testing.T) {
	t.Parallel()
	r := lockedRepo(t)
	_, unlock, err := r.Lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := r.SetConfigValue("core", "locking", "false"); err != nil {
		t.Fatal(err)
	}
	if _, err := reopen(t, r).Prune(t.Context(), PruneOptions{}); err != nil {
		t.Error(err)
	}
}
