// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"os"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// BenchmarkPullURL pulls the ref $HOSTCTL_BENCH_REF from $HOSTCTL_BENCH_URL into a
// new bare repository below $HOSTCTL_BENCH_DIR, durably, as a real pull does. With
// HOSTCTL_BENCH_FROM the repository has that commit already, so that the update
// alone is measured.
func BenchmarkPullURL(b *testing.B) {
	url, ref, dir := os.Getenv("HOSTCTL_BENCH_URL"), os.Getenv("HOSTCTL_BENCH_REF"), os.Getenv("HOSTCTL_BENCH_DIR")
	if url == "" || ref == "" || dir == "" {
		b.Skip("HOSTCTL_BENCH_URL, HOSTCTL_BENCH_REF and HOSTCTL_BENCH_DIR are not set")
	}
	remote := Remote{Name: "o", URL: url, NoGPGVerify: true}
	for b.Loop() {
		b.StopTimer()
		// Removed at the end: some filesystems are slow to create files right after
		// many were deleted.
		where, err := os.MkdirTemp(dir, "bench-repo-")
		testutil.Must(b, err)
		b.Cleanup(func() { _ = os.RemoveAll(where) })
		d, err := fsx.OpenDir(where)
		testutil.Must(b, err)
		repo, err := ostree.Create(d, bareMode(), ostree.Options{})
		testutil.Must(b, err)
		req := Request{Refs: []string{ref}, NoDeltas: os.Getenv("HOSTCTL_BENCH_DELTAS") == ""}
		if from := os.Getenv("HOSTCTL_BENCH_FROM"); from != "" {
			first := req
			first.Refs = []string{ref + "@" + from}
			first.NoDeltas = true
			_, err := Pull(b.Context(), repo, remote, first)
			testutil.Must(b, err)
		}
		b.StartTimer()
		res, err := Pull(b.Context(), repo, remote, req)
		testutil.Must(b, err)
		b.StopTimer()
		b.ReportMetric(float64(res.Metadata+res.Content), "objects")
		b.ReportMetric(float64(res.Bytes), "received-bytes")
		testutil.Must(b, repo.Close())
		testutil.Must(b, d.Close())
		b.StartTimer()
	}
}
