// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

// consumeTxn commits a directory, a tar made of nothing and an earlier commit, and
// consumes the directory.
func consumeTxn(ctx context.Context, r *Repo, src *fsx.Dir) error {
	_, err := r.Update(ctx, func(ctx context.Context, tx *Txn) error {
		m := NewMTree()
		if err := tx.WriteDir(ctx, src, m, CommitOptions{Consume: true, Last: true}); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		c, err := tx.WriteCommit(ctx, Commit{Subject: "new", Timestamp: 1, RootTree: tree, RootMeta: meta})
		if err != nil {
			return err
		}
		return errors.Join(tx.SetRef("main", c), tx.SetRef("deep/er/ref", c))
	})
	return err
}

const crashSourceEnv = "OSTREE_TEST_CRASH_SOURCE"

// TestConsumeCrashChild is not a test: it runs in the process that the failpoints
// kill.
func TestConsumeCrashChild(t *testing.T) {
	path := os.Getenv(crashSourceEnv)
	if path == "" {
		t.Skip("runs only as a child of TestConsumeCrash")
	}
	r, err := Open(testutil.OpenDir(t, filepath.Join(path, "repo")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := consumeTxn(t.Context(), r, testutil.OpenDir(t, filepath.Join(path, "src"))); err != nil {
		t.Fatal(err)
	}
}

// A process killed at any point while it consumes a directory leaves the directory
// whole or the commit of it complete, and what the user then does to the directory
// does not reach what the next transaction takes over.
func TestConsumeCrash(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, point := range append([]string{"ostree.txn.consume"}, txnPoints...) {
		if point == "ostree.txn.marked" {
			continue // nothing is marked here
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			consumeCrashAt(t, point)
		})
	}
}

func consumeCrashAt(t *testing.T, point string) {
	top := t.TempDir()
	r := createRepo(t, filepath.Join(top, "repo"), ModeBare)
	if err := crashTxn(t.Context(), r, "old"); err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(top, "src")
	fillSource(t, src)
	cmd := exec.Command(os.Args[0], "-test.run=^TestConsumeCrashChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), crashSourceEnv+"="+top, "HOSTCTL_FAILPOINTS="+point+"=kill")
	out, err := cmd.CombinedOutput()
	if !testutil.Killed(err) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	checkWhole(t, r, "old", "new")
	for i := range 8 {
		name := filepath.Join(src, fmt.Sprintf("f%d", i))
		if data, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(data), "consumed") {
			t.Fatalf("%s: %q, %v", name, data, err)
		}
	}
	if point == "ostree.txn.write" || point == "ostree.txn.staged" {
		// The user changes a file in place: nothing staged may follow.
		if err := os.WriteFile(filepath.Join(src, "f0"), []byte("consumed after all"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(r.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := consumeTxn(t.Context(), again, testutil.OpenDir(t, src)); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, again, "new")
	if list, err := os.ReadDir(src); err != nil || len(list) > 0 {
		t.Errorf("left over: %v, %v", list, err)
	}
}

func fillSource(t *testing.T, src string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(src, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("f%d", i)), fmt.Appendf(nil, "consumed %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// After a failure the source is whole and its files are in no staging directory.
func TestConsumeFailure(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, mode := range []Mode{ModeBare, ModeBareUserOnly, ModeArchive} {
		r := newTestRepo(t, mode)
		src := filepath.Join(filepath.Dir(r.Dir().Path()), "src")
		fillSource(t, src)
		stop := errors.New("stop")
		_, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
			if err := tx.WriteDir(ctx, testutil.OpenDir(t, src), m, CommitOptions{Consume: true}); err != nil {
				return err
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		list, err := os.ReadDir(src)
		if err != nil || len(list) != 9 {
			t.Errorf("%s: source: %v, %v", mode, list, err)
		}
		st, err := testutil.OpenDir(t, src).Lstat("f3")
		if err != nil || st.Nlink != 1 {
			t.Errorf("%s: %d links, %v", mode, st.Nlink, err)
		}
	}
}
