// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestPullOldRepository copies a signed repository of 2017, from disk and over
// HTTP, and lets the real
// tool check the result.
func TestPullOldRepository(t *testing.T) {
	t.Parallel()
	path := testutil.Corpus(t, "ostree/ebassi-glarea-example/repo")
	srv := httptest.NewServer(http.FileServer(http.Dir(path)))
	t.Cleanup(srv.Close)
	for _, url := range []string{path, srv.URL} {
		dst := newRepo(t, ostree.ModeArchive)
		res, err := Pull(t.Context(), dst, Remote{Name: "o", URL: url, NoGPGVerify: true}, Request{Mirror: true})
		testutil.Must(t, err)
		if len(res.Refs) < 2 {
			t.Errorf("refs: %v", res.Refs)
		}
		for ref, c := range res.Refs {
			meta, err := dst.CommitMeta(c)
			testutil.Must(t, err)
			if _, ok := meta.ByteSlices("ostree.gpgsigs"); !ok {
				t.Errorf("%s: the signature was not kept", ref)
			}
		}
		testutil.Run(t, testutil.Tool(t, "ostree"), "fsck", "--repo="+dst.Dir().Path())
	}
}

// TestPullPathTraversal meets a directory entry that leaves its directory.
func TestPullPathTraversal(t *testing.T) {
	t.Parallel()
	archive := testutil.Corpus(t, "ostree/ostreedev-tests/ostree-path-traverse.tar.gz")
	dir := t.TempDir()
	testutil.Run(t, testutil.Tool(t, "tar"), "-C", dir, "-xzf", archive)
	src := filepath.Join(dir, "ostree-path-traverse", "repo")
	dst := newRepo(t, ostree.ModeArchive)
	remote := Remote{Name: "o", URL: src, NoGPGVerify: true}
	_, err := Pull(t.Context(), dst, remote, Request{Mirror: true})
	if !errors.Is(err, ostree.ErrCorrupt) && !errors.Is(err, ostree.ErrInvalid) {
		t.Errorf("path traversal: %v", err)
	}
	refs, err := dst.Refs("")
	testutil.Must(t, err)
	if len(refs) != 0 {
		t.Errorf("refs: %v", refs)
	}
}
