// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// corpus finds a real input made by others.
func corpus(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("HOSTCTL_CORPUS")
	if root == "" {
		t.Skip("HOSTCTL_CORPUS is not set")
	}
	path := filepath.Join(root, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPullOldRepository copies a signed repository of 2017, from disk and over
// HTTP, and lets the real
// tool check the result.
func TestPullOldRepository(t *testing.T) {
	t.Parallel()
	path := corpus(t, "ostree/ebassi-glarea-example/repo")
	srv := httptest.NewServer(http.FileServer(http.Dir(path)))
	t.Cleanup(srv.Close)
	for _, url := range []string{path, srv.URL} {
		dst := newRepo(t, ostree.ModeArchive)
		res, err := Pull(t.Context(), dst, Remote{Name: "o", URL: url, NoGPGVerify: true}, Request{Mirror: true})
		must(t, err)
		if len(res.Refs) < 2 {
			t.Errorf("refs: %v", res.Refs)
		}
		for ref, c := range res.Refs {
			meta, err := dst.CommitMeta(c)
			must(t, err)
			if _, ok := meta.ByteSlices("ostree.gpgsigs"); !ok {
				t.Errorf("%s: the signature was not kept", ref)
			}
		}
		run(t, tool(t, "ostree"), "fsck", "--repo="+dst.Dir().Path())
	}
}

// TestPullPathTraversal meets a directory entry that leaves its directory.
func TestPullPathTraversal(t *testing.T) {
	t.Parallel()
	archive := corpus(t, "ostree/ostreedev-tests/ostree-path-traverse.tar.gz")
	dir := t.TempDir()
	run(t, tool(t, "tar"), "-C", dir, "-xzf", archive)
	src := filepath.Join(dir, "ostree-path-traverse", "repo")
	dst := newRepo(t, ostree.ModeArchive)
	remote := Remote{Name: "o", URL: src, NoGPGVerify: true}
	_, err := Pull(t.Context(), dst, remote, Request{Mirror: true})
	if !errors.Is(err, ostree.ErrCorrupt) && !errors.Is(err, ostree.ErrInvalid) {
		t.Errorf("path traversal: %v", err)
	}
	refs, err := dst.Refs("")
	must(t, err)
	if len(refs) != 0 {
		t.Errorf("refs: %v", refs)
	}
}
