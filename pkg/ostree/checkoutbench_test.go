// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
)

// BenchmarkCheckoutOstree checks the commit HOSTCTL_BENCH_REV of the repository
// HOSTCTL_BENCH_REPO out in turn with libostree and reports the medians and their
// ratio. HOSTCTL_BENCH_FLAGS are flags of ostree checkout: -U, -C, -H.
func BenchmarkCheckoutOstree(b *testing.B) {
	repo, rev := os.Getenv("HOSTCTL_BENCH_REPO"), os.Getenv("HOSTCTL_BENCH_REV")
	if repo == "" || rev == "" {
		b.Skip("HOSTCTL_BENCH_REPO and HOSTCTL_BENCH_REV are not set")
	}
	flags := strings.Fields(os.Getenv("HOSTCTL_BENCH_FLAGS"))
	o := CheckoutOptions{UserMode: slices.Contains(flags, "-U"), ForceCopy: slices.Contains(flags, "-C"), RequireHardlinks: slices.Contains(flags, "-H")}
	r, err := Open(testutil.OpenDir(b, repo), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	commit, err := r.ReadRef(rev)
	if err != nil {
		b.Fatal(err)
	}
	// Beside the repository: links need its filesystem.
	tmp, err := os.MkdirTemp(filepath.Dir(repo), "bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dst := testutil.OpenDir(b, tmp)
	var ours, theirs []float64
	for b.Loop() {
		ours = append(ours, timed(b, tmp, func() error { return r.Checkout(b.Context(), commit, dst, "out", o) }))
		args := append(append([]string{"--repo=" + repo, "checkout"}, flags...), rev, filepath.Join(tmp, "out"))
		theirs = append(theirs, timed(b, tmp, exec.Command("ostree", args...).Run))
	}
	b.ReportMetric(median(ours), "ours-s")
	b.ReportMetric(median(theirs), "ostree-s")
	b.ReportMetric(median(ours)/median(theirs), "ratio")
}

func timed(b *testing.B, tmp string, fn func() error) float64 {
	start := time.Now()
	err := fn()
	took := time.Since(start).Seconds()
	if err := errors.Join(err, os.RemoveAll(filepath.Join(tmp, "out"))); err != nil {
		b.Fatal(err)
	}
	return took
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
