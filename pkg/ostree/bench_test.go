// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// cpuTime tells more than the clock where other work shares the machine.
func cpuTime(b *testing.B) (stop func()) {
	before := testutil.CPUTime(b)
	return func() { b.ReportMetric((testutil.CPUTime(b) - before).Seconds(), "cpu-s") }
}

// BenchmarkTree commits, commits again and checks out the directory that
// HOSTCTL_BENCH_TREE names.
func BenchmarkTree(b *testing.B) {
	src := os.Getenv("HOSTCTL_BENCH_TREE")
	if src == "" {
		b.Skip("HOSTCTL_BENCH_TREE is not set")
	}
	for _, mode := range allModes {
		b.Run(mode.String(), func(b *testing.B) { benchTree(b, mode, src) })
	}
}

func benchTree(b *testing.B, mode Mode, src string) {
	for range b.N {
		root := filepath.Join(b.TempDir(), "repo")
		if err := os.Mkdir(root, 0o755); err != nil {
			b.Fatal(err)
		}
		d := testutil.OpenDir(b, root)
		r, err := Create(d, mode, Options{})
		if err != nil {
			b.Fatal(err)
		}
		var cache DevInoCache
		var c Checksum
		b.Run("commit", func(b *testing.B) { c = benchCommit(b, r, src, &cache) })
		b.Run("again", func(b *testing.B) { benchCommit(b, r, src, &cache) })
		b.Run("checkout", func(b *testing.B) {
			defer cpuTime(b)()
			o := CheckoutOptions{DevIno: &cache, UserMode: mode == ModeBareUser}
			if err := r.Checkout(b.Context(), c, testutil.OpenDir(b, filepath.Dir(root)), "out", o); err != nil {
				b.Fatal(err)
			}
		})
		b.Run("linked", func(b *testing.B) { benchCommit(b, r, filepath.Join(filepath.Dir(root), "out"), &cache) })
		b.Run("fsck", func(b *testing.B) {
			defer cpuTime(b)()
			if res, err := r.Fsck(b.Context(), FsckOptions{}); err != nil || len(res.Findings) > 0 {
				b.Fatal(res, err)
			}
		})
		_ = r.Close()
	}
}

func benchCommit(b *testing.B, r *Repo, src string, cache *DevInoCache) (c Checksum) {
	defer cpuTime(b)()
	s, err := r.Update(b.Context(), func(ctx context.Context, tx *Txn) error {
		m := NewMTree()
		if err := tx.WriteDir(ctx, testutil.OpenDir(b, src), m, CommitOptions{DevIno: cache, Last: true}); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		c, err = tx.WriteCommit(ctx, Commit{Timestamp: 1, RootTree: tree, RootMeta: meta})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.BytesWritten)/1e6, "MB-written")
	return c
}
