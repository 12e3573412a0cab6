// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
	"github.com/hostctl/hostctl/pkg/ostree"
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
