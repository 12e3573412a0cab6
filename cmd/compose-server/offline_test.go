// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

// A compose without network names what the cache lacks, and with all of it makes the
// commit that it makes online.
func TestOfflineTree(t *testing.T) {
	t.Parallel()
	rpmtest.Needs(t, "bwrap", "createrepo_c")
	ostree := testutil.Tool(t, "ostree")
	dir := t.TempDir()
	rpms := filepath.Join(dir, "rpms")
	testutil.Must(t, os.Mkdir(rpms, 0o755))
	demo := rpmtest.Spec{Name: "demo", Install: "mkdir -p %{buildroot}/usr/lib; printf 'NAME=D\nID=d\n' > %{buildroot}/usr/lib/os-release", Files: "/usr/lib/os-release"}
	for _, s := range []rpmtest.Spec{rpmtest.HostPrograms(t), demo} {
		file := rpmtest.BuildFile(t, s)
		testutil.Must(t, os.Rename(file, filepath.Join(rpms, filepath.Base(file))))
	}
	testutil.Run(t, "createrepo_c", rpms)
	server := httptest.NewServer(http.FileServer(http.Dir(rpms)))
	defer server.Close()
	tree := treeDir(t, map[string]string{
		"demo.repo": "[demo]\nname=demo\nbaseurl=" + server.URL + "\ngpgcheck=0\n",
		"t.toml":    "ref = 'demo'\nrepos = ['demo']\npackages = ['base', 'demo']\ncontainer = true\nselinux = false\n",
	})
	repo := filepath.Join(dir, "repo")
	compose := func(want int, more ...string) (stdout, stderr string) {
		t.Helper()
		args := append([]string{"tree", filepath.Join(tree, "t.toml"), "--repo", repo, "--cachedir", filepath.Join(dir, "cache")}, more...)
		code, stdout, stderr := program(t, args...)
		if code != want {
			t.Fatalf("%v: exit %d\n%s%s", more, code, stdout, stderr)
		}
		return stdout, stderr
	}
	lacks := func(what ...string) {
		t.Helper()
		_, stderr := compose(1, "--offline")
		for _, w := range append(what, "not in the cache", "run once without --offline") {
			if !strings.Contains(stderr, w) {
				t.Errorf("no %q in %s", w, stderr)
			}
		}
	}
	lacks(server.URL + "/repodata/repomd.xml")
	compose(0, "--dry-run")
	compose(0, "--dry-run", "--offline")
	lacks("base-1.0-1.x86_64, demo-1.0-1.noarch")
	compose(0)
	online := testutil.Run(t, ostree, "--repo="+repo, "rev-parse", "demo")
	server.Close()
	compose(0, "--offline", "--force-nocache", "--no-parent")
	if offline := testutil.Run(t, ostree, "--repo="+repo, "rev-parse", "demo"); offline != online {
		t.Errorf("offline %s, online %s", offline, online)
	}
}
