// SPDX-License-Identifier: Apache-2.0

package composed

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// createRepo makes an empty repository.
func createRepo(t testing.TB, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	return openRepo(t, filepath.Join(t.TempDir(), "repo"), mode)
}

func openRepo(t testing.TB, path string, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := ostree.Create(testutil.OpenDir(t, path), mode, ostree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestPullThroughHandler moves a commit of the real tool through the handler
// into repositories of two modes, and lets the real tool pull it on from there.
func TestPullThroughHandler(t *testing.T) {
	t.Parallel()
	ostreeTool := testutil.Tool(t, "ostree")
	base := t.TempDir()
	src, tree := filepath.Join(base, "src"), filepath.Join(base, "tree")
	write(t, filepath.Join(tree, "usr/bin/x"), "text")
	write(t, filepath.Join(tree, "usr/lib/y"), "y")
	if err := os.Symlink("../bin/x", filepath.Join(tree, "usr/lib/link")); err != nil {
		t.Fatal(err)
	}
	testutil.Run(t, ostreeTool, "init", "--repo="+src, "--mode=archive")
	rev := testutil.Run(t, ostreeTool, "commit", "--repo="+src, "-b", "os/stable", "--tree=dir="+tree)
	srv := httptest.NewServer(Handler(testutil.OpenDir(t, src), nil))
	t.Cleanup(srv.Close)

	mirror := createRepo(t, ostree.ModeArchive)
	remote := pull.Remote{Name: "o", URL: srv.URL, NoGPGVerify: true}
	res, err := pull.Pull(t.Context(), mirror, remote, pull.Request{Refs: []string{"os/stable"}, Mirror: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Refs["os/stable"].String(); got != rev {
		t.Errorf("pulled %s, want %s", got, rev)
	}
	testutil.Run(t, ostreeTool, "fsck", "--repo="+mirror.Dir().Path())

	second := httptest.NewServer(Handler(testutil.OpenDir(t, mirror.Dir().Path()), nil))
	t.Cleanup(second.Close)
	dst := filepath.Join(base, "dst")
	testutil.Run(t, ostreeTool, "init", "--repo="+dst, "--mode=bare-user")
	testutil.Run(t, ostreeTool, "remote", "--repo="+dst, "add", "--no-gpg-verify", "o", second.URL)
	testutil.Run(t, ostreeTool, "pull", "--repo="+dst, "o", "os/stable")
	testutil.Run(t, ostreeTool, "fsck", "--repo="+dst)
}

// benchServer serves the archive HOSTCTL_BENCH_REPO and names the ref
// HOSTCTL_BENCH_REF in it.
func benchServer(b *testing.B) (url, ref string) {
	b.Helper()
	path, ref := os.Getenv("HOSTCTL_BENCH_REPO"), os.Getenv("HOSTCTL_BENCH_REF")
	if path == "" || ref == "" {
		b.Skip("HOSTCTL_BENCH_REPO and HOSTCTL_BENCH_REF name no archive repository")
	}
	srv := httptest.NewServer(Handler(testutil.OpenDir(b, path), nil))
	b.Cleanup(srv.Close)
	return srv.URL, ref
}

// BenchmarkPull pulls over loopback into a bare repository.
func BenchmarkPull(b *testing.B) {
	url, ref := benchServer(b)
	for b.Loop() {
		repo := createRepo(b, ostree.ModeBare)
		remote := pull.Remote{Name: "o", URL: url, NoGPGVerify: true}
		start := time.Now()
		var received time.Duration
		res, err := pull.Pull(b.Context(), repo, remote, pull.Request{Refs: []string{ref}, Progress: func(e progress.Event) {
			if e.Kind == progress.End {
				received = time.Since(start)
			}
		}})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(received.Seconds(), "s-receiving")
		b.ReportMetric((res.Duration - received).Seconds(), "s-landing")
		b.ReportMetric(float64(res.Content+res.Metadata), "objects")
		b.ReportMetric(float64(res.Bytes)/1e6, "MB")
		b.ReportMetric(float64(res.Requests), "requests")
	}
}

// BenchmarkOSTreePull is the same work done by the real tool.
func BenchmarkOSTreePull(b *testing.B) {
	ostreeTool := testutil.Tool(b, "ostree")
	url, ref := benchServer(b)
	for b.Loop() {
		dst := filepath.Join(b.TempDir(), "repo")
		testutil.Run(b, ostreeTool, "init", "--repo="+dst, "--mode=bare")
		testutil.Run(b, ostreeTool, "remote", "--repo="+dst, "add", "--no-gpg-verify", "o", url)
		testutil.Run(b, ostreeTool, "pull", "--repo="+dst, "o", ref)
	}
}
