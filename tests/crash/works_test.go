// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// work is something that a repository must survive. setUp prepares the repository
// "repo" in dir and says what is run on it.
type work struct {
	name  string
	setUp func(t *testing.T, bin, dir string) scenario
}

// works are all of them; each failpoint of the repository is passed by one.
func works() []work {
	list := []work{
		{"pull of a delta", setUpDelta},
		{"pull-local", setUpLocal},
		{"commit and consume", setUpConsume},
		{"repair of a file", func(t *testing.T, bin, dir string) scenario { return setUpRepair(t, bin, dir, "filez", false) }},
		{"repair of a directory", func(t *testing.T, bin, dir string) scenario { return setUpRepair(t, bin, dir, "dirtree", false) }},
		{"repair of a marked commit", func(t *testing.T, bin, dir string) scenario { return setUpRepair(t, bin, dir, "filez", true) }},
		{"deletion of what is corrupt", setUpDelete},
		{"delta", setUpGenerate},
		{"signed summary", setUpSummary},
	}
	for _, mode := range []string{"archive", "bare-user"} {
		list = append(list,
			work{"commit to " + mode, func(t *testing.T, bin, dir string) scenario { return setUpCommit(t, bin, dir, mode) }},
			work{"pull into " + mode, func(t *testing.T, bin, dir string) scenario { return setUpPull(t, bin, dir, mode) }},
			work{"prune of " + mode, func(t *testing.T, bin, dir string) scenario { return setUpPrune(t, bin, dir, mode) }})
	}
	return list
}

func setUpCommit(t *testing.T, bin, dir, mode string) scenario {
	v1, v2 := trees(t, dir)
	root := filepath.Join(dir, "repo")
	a := newRepo(t, root, mode, v1)
	newRepo(t, filepath.Join(dir, "other"), mode, v1)
	argv := []string{bin, "commit", "--repo=" + filepath.Join(dir, "other"), "--branch=main", "--parent=none", "--timestamp=2024-01-01T00:00:00Z", "--tree=dir=" + v2, "--no-xattrs"}
	b := testutil.Run(t, argv...)
	argv[2] = "--repo=" + root
	return scenario{argv: argv, allowed: map[string][]string{"main": {a, b}}, final: map[string]string{"main": b}, again: true}
}

// setUpConsume commits a directory that is emptied in the end.
func setUpConsume(t *testing.T, bin, dir string) scenario {
	v1, v2 := trees(t, dir)
	root, other := filepath.Join(dir, "repo"), filepath.Join(dir, "other")
	a := newRepo(t, root, "bare-user-only", v1)
	newRepo(t, other, "bare-user-only", v1)
	argv := []string{bin, "commit", "--repo=" + other, "--branch=main", "--parent=none", "--timestamp=2024-01-01T00:00:00Z", "--tree=dir=" + v2}
	b := testutil.Run(t, argv...)
	argv[2] = "--repo=" + root
	return scenario{argv: append(argv, "--consume"), allowed: map[string][]string{"main": {a, b}}, final: map[string]string{"main": b}, onlyKilled: true}
}

// serve starts a web server of a repository.
func serve(t *testing.T, repo string) string {
	t.Helper()
	web := httptest.NewServer(http.FileServer(http.Dir(repo)))
	t.Cleanup(web.Close)
	return web.URL
}

func addRemote(t *testing.T, root, url string) {
	t.Helper()
	testutil.Run(t, "ostree", "remote", "add", "--repo="+root, "--no-gpg-verify", "origin", url)
}

func setUpPull(t *testing.T, bin, dir, mode string) scenario {
	v1, v2 := trees(t, dir)
	root, server := filepath.Join(dir, "repo"), filepath.Join(dir, "server")
	a := newRepo(t, server, "archive", v1)
	newRepo(t, root, mode, "")
	addRemote(t, root, serve(t, server))
	argv := []string{bin, "pull", "--repo=" + root, "origin", "main"}
	testutil.Run(t, argv...)
	b := testutil.Run(t, "ostree", "commit", "--repo="+server, "--branch=main", "--tree=dir="+v2, "--no-xattrs")
	return scenario{argv: argv, allowed: map[string][]string{"origin:main": {a, b}}, final: map[string]string{"origin:main": b}, again: true}
}

func setUpDelta(t *testing.T, bin, dir string) scenario {
	v1, v2 := trees(t, dir)
	root, server := filepath.Join(dir, "repo"), filepath.Join(dir, "server")
	a := newRepo(t, server, "archive", v1)
	newRepo(t, root, "bare-user", "")
	addRemote(t, root, serve(t, server))
	argv := []string{bin, "pull", "--repo=" + root, "origin", "main"}
	testutil.Run(t, argv...)
	b := testutil.Run(t, "ostree", "commit", "--repo="+server, "--branch=main", "--tree=dir="+v2, "--no-xattrs")
	testutil.Run(t, "ostree", "static-delta", "generate", "--repo="+server, "main")
	testutil.Run(t, "ostree", "summary", "--repo="+server, "--update")
	return scenario{argv: append(argv, "--require-static-deltas"), again: true,
		allowed: map[string][]string{"origin:main": {a, b}}, final: map[string]string{"origin:main": b}}
}

func setUpLocal(t *testing.T, bin, dir string) scenario {
	v1, v2 := trees(t, dir)
	root, source := filepath.Join(dir, "repo"), filepath.Join(dir, "source")
	a := newRepo(t, root, "bare-user", v1)
	testutil.Run(t, "cp", "-a", root, source)
	b := testutil.Run(t, "ostree", "commit", "--repo="+source, "--branch=main", "--tree=dir="+v2, "--no-xattrs")
	// Copied, as a recording cannot follow a link from outside of the folder.
	return scenario{argv: []string{bin, "pull-local", "--repo=" + root, "--untrusted", "--bareuseronly-files", source, "main"}, again: true,
		allowed: map[string][]string{"main": {a, b}}, final: map[string]string{"main": b}, onlyKilled: true}
}

func setUpPrune(t *testing.T, bin, dir, mode string) scenario {
	v1, v2 := trees(t, dir)
	root := filepath.Join(dir, "repo")
	newRepo(t, root, mode, v1)
	b := testutil.Run(t, "ostree", "commit", "--repo="+root, "--branch=main", "--parent=none", "--tree=dir="+v2, "--no-xattrs")
	argv := []string{bin, "prune", "--repo=" + root, "--refs-only"}
	return scenario{argv: argv, allowed: map[string][]string{"main": {b}}, final: map[string]string{"main": b}, again: true}
}

// damageOne damages an object and gives its checksum.
func damageOne(t *testing.T, root, typ string) string {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(root, "objects/*/*."+typ))
	if err != nil || len(objects) == 0 {
		t.Fatalf("no %s: %v", typ, err)
	}
	testutil.Must(t, os.WriteFile(objects[0], []byte("damaged"), 0o644))
	return filepath.Base(filepath.Dir(objects[0])) + strings.TrimSuffix(filepath.Base(objects[0]), "."+typ)
}

// setUpRepair damages an object, and with marked has fsck delete it, which marks
// the commit.
func setUpRepair(t *testing.T, bin, dir, typ string, marked bool) scenario {
	v1, _ := trees(t, dir)
	root, good := filepath.Join(dir, "repo"), filepath.Join(dir, "good")
	a := newRepo(t, good, "archive", v1)
	testutil.Run(t, "cp", "-a", good, root)
	s := scenario{argv: []string{bin, "fsck", "--repo=" + root, "--repair=" + good}, again: true, partial: marked,
		allowed: map[string][]string{"main": {a}}, final: map[string]string{"main": a}, damaged: damageOne(t, root, typ)}
	if marked {
		fails(t, bin, "fsck", "--repo="+root, "--delete")
	}
	return s
}

func setUpDelete(t *testing.T, bin, dir string) scenario {
	v1, _ := trees(t, dir)
	root := filepath.Join(dir, "repo")
	a := newRepo(t, root, "archive", v1)
	return scenario{argv: []string{"sh", "-c", `"$0" "$@" || test $? = 1`, bin, "fsck", "--repo=" + root, "--delete"}, again: true, partial: true, marked: true,
		allowed: map[string][]string{"main": {a}}, final: map[string]string{"main": a}, damaged: damageOne(t, root, "filez")}
}

func setUpGenerate(t *testing.T, bin, dir string) scenario {
	v1, v2 := trees(t, dir)
	root := filepath.Join(dir, "repo")
	newRepo(t, root, "archive", v1)
	b := testutil.Run(t, "ostree", "commit", "--repo="+root, "--branch=main", "--tree=dir="+v2, "--no-xattrs")
	return scenario{argv: []string{bin, "static-delta", "generate", "--repo=" + root, "main"}, again: true,
		allowed: map[string][]string{"main": {b}}, final: map[string]string{"main": b}}
}

func setUpSummary(t *testing.T, bin, dir string) scenario {
	v1, _ := trees(t, dir)
	root := filepath.Join(dir, "repo")
	a := newRepo(t, root, "archive", v1)
	t.Helper()
	return scenario{argv: []string{"env", "OSTREE_DUMMY_SIGN_ENABLED=1", bin, "summary", "--repo=" + root, "--update", "--sign-type=dummy", "--sign=key"}, again: true,
		allowed: map[string][]string{"main": {a}}, final: map[string]string{"main": a}}
}
