// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// A limit on free space ends a commit in libostree's words.
func TestInteropFreeSpace(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	src := filepath.Join(t.TempDir(), "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "f"), make([]byte, 1234567), 0o644); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"min-free-space-percent": "99", "min-free-space-size": "900TB"} {
		r := newTestRepo(t, ModeArchive)
		run(t, "ostree", repoPath(r), "config", "set", "core."+key, value)
		again, err := Open(r.Dir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		_, _, err = commitWith(t, again, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
			return tx.WriteDir(ctx, testutil.OpenDir(t, src), m, CommitOptions{})
		})
		if !errors.Is(err, ErrNoSpace) {
			t.Fatalf("%s: %v", key, err)
		}
		out, _ := exec.Command("ostree", repoPath(r), "commit", "-b", "x", src).CombinedOutput()
		_, want, ok := strings.Cut(strings.TrimSpace(string(out)), "content object: ")
		if !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, of libostree %q", key, err, out)
		}
	}
}

func TestSizeWords(t *testing.T) {
	t.Parallel()
	for blocks, want := range map[int64]string{1: "512\u00a0bytes", 2: "1.0\u00a0kB", 4000: "2.0\u00a0MB", 1 << 40: "562.9\u00a0TB"} {
		if got := sizeWords(blocks, 512); got != want {
			t.Errorf("%d: %q, want %q", blocks, got, want)
		}
	}
}
