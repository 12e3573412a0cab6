// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

// testComposefs: the commit records its image where the tree's prepare-root.conf wants
// one, and the digest is that of the image that a host makes.
func testComposefs(t *testing.T, b *bench) {
	digest := func(res Result) []byte {
		c, err := b.repo.LoadCommit(res.Commit)
		testutil.Must(t, err)
		d, _ := c.Metadata.ByteSlice(prepareroot.DigestKey)
		return d
	}
	keys := "add-files = [['conf', '/usr/lib/ostree/prepare-root.conf']]\n"
	conf := func(enabled string) map[string]string {
		return map[string]string{"conf": "[composefs]\nenabled = " + enabled + "\n"}
	}
	for name, want := range map[string]bool{"signed": true, "yes": true, "no": false} {
		res := b.mustCompose("cfs/"+name, keys, conf(name))
		image, err := b.repo.WriteComposefs(t.Context(), res.Commit, io.Discard, ostree.ComposefsOptions{})
		testutil.Must(t, err)
		if got := digest(res); (got != nil) != want || want && !bytes.Equal(got, image[:]) {
			t.Errorf("enabled = %s: digest %x, image %s", name, got, image)
		}
	}
	if _, err := b.compose("cfs/bad", keys, conf("perhaps")); err == nil || !strings.Contains(err.Error(), "prepare-root.conf") {
		t.Errorf("tree that would not boot: %v", err)
	}
	plain := Env{}
	asked := Env{Composefs: true}
	if p := (&Plan{InputHash: "x"}); plain.inputHash(p) == asked.inputHash(p) {
		t.Error("asking for the digest is no change")
	}
}

// testAhead: what was compressed before the tree was finished and is not in it does
// not stay in the repository, whether the compose works or not.
func testAhead(t *testing.T, b *bench) {
	objects := func() int {
		res, err := b.repo.Prune(t.Context(), ostree.PruneOptions{RefsOnly: true, Depth: -1, DryRun: true})
		testutil.Must(t, err)
		return res.Deleted
	}
	before := objects() // of other tests, which share the repository
	b.mustCompose("ahead/a", "remove-from-packages = [['demo', '/usr/bin/demo-tool', '/etc/.*']]\n"+
		"postprocess = ['''#!/bin/sh\necho other > /usr/share/demo/same\n''']\n", nil)
	if n := objects() - before; n != 0 {
		t.Errorf("%d objects that no commit has", n)
	}
	if _, err := b.compose("ahead/b", "postprocess = ['''#!/bin/sh\nexit 3\n''']\n", nil); err == nil || strings.Contains(err.Error(), "canceled") {
		t.Errorf("script fails: %v", err)
	}
	if n := objects() - before; n != 0 {
		t.Errorf("%d objects after a compose that failed", n)
	}
}

// testModes: a compose gives the same commit whatever the mode of the repository.
func testModes(t *testing.T, b *bench) {
	var commits []ostree.Checksum
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBare, ostree.ModeBareUser} {
		repo, err := ostree.Create(rpmtest.Dir(t, t.TempDir(), "repo"), mode, ostree.Options{DisableFsync: true})
		testutil.Must(t, err)
		defer repo.Close()
		own := *b
		own.repo = repo
		commits = append(commits, own.mustCompose("modes/x", "", nil).Commit)
	}
	if commits[0] != commits[1] || commits[0] != commits[2] {
		t.Errorf("commits %v", commits)
	}
}

// testSizes: a commit tells the sizes of all its objects as they are on disk, those
// that were stored ahead or before too, and a pull then knows its end in advance.
func testSizes(t *testing.T, b *bench) {
	real := testutil.Tool(t, "ostree")
	repo, err := ostree.Create(rpmtest.Dir(t, t.TempDir(), "repo"), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	defer repo.Close()
	own := *b
	own.repo, own.env.Sizes = repo, true
	path := repo.Dir().Path()
	for _, ref := range []string{"sizes/a", "sizes/b"} { // for the second all objects are there
		commit := own.mustCompose(ref, "", nil).Commit
		c, err := repo.LoadCommit(commit)
		testutil.Must(t, err)
		list, err := c.Sizes()
		testutil.Must(t, err)
		var sum uint64
		for _, s := range list {
			st, err := repo.Dir().Lstat(ostree.LoosePath(s.Object))
			if err != nil || uint64(st.Size) != s.Archived {
				t.Errorf("%s: %+v, on disk %d (%v)", ref, s, st.Size, err)
			}
			sum += s.Archived
		}
		if n := strings.Count(testutil.Run(t, real, "ls", "--repo="+path, "-R", ref), "\n"); len(list) < n/2 {
			t.Errorf("%s: %d entries for %d paths", ref, len(list), n)
		}
		out := testutil.Run(t, real, "show", "--repo="+path, "--print-sizes", ref)
		if !strings.Contains(out, fmt.Sprintf("0/%d", len(list))) {
			t.Errorf("%s: %d objects of %d bytes, libostree says\n%s", ref, len(list), sum, out)
		}
		wantForetold(t, path, ref, len(list), sum)
	}
	own.env.Sizes = false
	c, err := repo.LoadCommit(own.mustCompose("sizes/none", "", nil).Commit)
	testutil.Must(t, err)
	if _, err := c.Sizes(); !errors.Is(err, ostree.ErrNotFound) {
		t.Errorf("without sizes: %v", err)
	}
	if p := (&Plan{InputHash: "x"}); (&Env{Sizes: true}).inputHash(p) == own.env.inputHash(p) {
		t.Error("sizes are no change")
	}
}

// wantForetold pulls ref and compares the totals of every progress event with objects
// and bytes; the commit itself comes before them.
func wantForetold(t *testing.T, path, ref string, objects int, bytes uint64) {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(path)))
	defer server.Close()
	dst, err := ostree.Create(rpmtest.Dir(t, t.TempDir(), "dst"), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	defer dst.Close()
	var mu sync.Mutex
	totals := map[[2]int64]int{}
	remote := pull.Remote{URL: server.URL, NoGPGVerify: true}
	res, err := pull.Pull(t.Context(), dst, remote, pull.Request{Refs: []string{ref}, UpdateFrequency: time.Nanosecond, Progress: func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.TotalBytes > 0 {
			totals[[2]int64{e.Total, e.TotalBytes}]++
		}
	}})
	testutil.Must(t, err)
	if want := (pull.Transfer{Known: true, Objects: objects, Bytes: bytes}); res.Transfer != want {
		t.Errorf("%s: transfer %+v, want %+v", ref, res.Transfer, want)
	}
	if len(totals) != 1 {
		t.Errorf("%s: the totals change: %v", ref, totals)
	}
}
