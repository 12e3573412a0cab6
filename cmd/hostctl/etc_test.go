// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
)

// release commits version v of the tree of host with files of /etc and gives its folder.
func release(t *testing.T, root, v string, etc map[string]string) {
	t.Helper()
	tree := filepath.Join(filepath.Dir(root), "tree")
	for name, text := range etc {
		testutil.Must(t, os.WriteFile(filepath.Join(tree, "usr/etc", name), []byte(text), 0o644))
	}
	testutil.Run(t, "ostree", "commit", "--repo="+root+"/ostree/repo", "-b", "main", "--tree=dir="+tree, "--add-metadata-string=version="+v)
}

// etcFile names a file in /etc of the first deployment.
func etcFile(t *testing.T, root, name string) string {
	t.Helper()
	var st stateReport
	testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "status", "--json")), &st))
	return filepath.Join(root, st.Deployments[0].Dir(), "etc", name)
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	testutil.Must(t, err)
	return string(data)
}

// TestEtcConflicts goes the way of an administrator whose file the new tree changes, too.
func TestEtcConflicts(t *testing.T) {
	root := host(t)
	release(t, root, "2", map[string]string{"app.conf": "old\n", "other.conf": "old\n"})
	call(t, root, 0, "upgrade")
	for _, name := range []string{"app.conf", "other.conf"} {
		testutil.Must(t, os.WriteFile(etcFile(t, root, name), []byte("mine\n"), 0o644))
	}
	release(t, root, "3", map[string]string{"app.conf": "new\n", "other.conf": "new\n"})

	out := call(t, root, 6, "upgrade", "--etc-conflicts=fail")
	if !strings.Contains(out, "  /etc/app.conf: your version is kept") || !strings.Contains(out, "    -mine\n    +new\n") {
		t.Error(out)
	}
	var res upgrade.Result
	testutil.Must(t, json.Unmarshal([]byte(call(t, root, 6, "upgrade", "--etc-conflicts=fail", "--json")), &res))
	if len(res.Etc.Clashes) != 2 || res.Deployment != nil {
		t.Errorf("%+v", res)
	}
	call(t, root, 2, "upgrade", "--etc-conflicts=ask")
	call(t, root, 2, "upgrade", "--etc-replace=/usr/etc/app.conf")
	call(t, root, 2, "upgrade", "--keep=1")
	if out := call(t, root, 0, "status"); strings.Contains(out, "Version: 3") || !strings.Contains(out, "Kept: 2 deployments") {
		t.Error(out)
	}

	out = call(t, root, 0, "upgrade", "--etc-replace=/etc/other.conf", "--keep=3")
	if !strings.Contains(out, "the new default is beside it as /etc/app.conf.rpmnew") || !strings.Contains(out, "the new default is taken, yours is kept as /etc/other.conf.rpmsave") {
		t.Error(out)
	}
	for name, text := range map[string]string{"app.conf": "mine\n", "app.conf.rpmnew": "new\n", "other.conf": "new\n", "other.conf.rpmsave": "mine\n"} {
		if got := read(t, etcFile(t, root, name)); got != text {
			t.Errorf("%s: %q", name, got)
		}
	}
	out = call(t, root, 0, "status")
	if !strings.Contains(out, "Conflicts: 1 left by the last merge") || !strings.Contains(out, "/etc/app.conf: your") || strings.Contains(out, "-mine") {
		t.Error(out)
	}
	if out := call(t, root, 0, "status", "--diff"); !strings.Contains(out, "    -mine\n    +new\n") {
		t.Error(out)
	}
	testutil.Must(t, os.Chmod(etcFile(t, root, "os-release"), 0o600))
	if out := call(t, root, 0, "config-diff", "/etc"); !strings.Contains(out, "\n+mine\n") || !strings.Contains(out, "/usr/etc/os-release has mode 0644 and owner 0:0, /etc/os-release has mode 0600") {
		t.Error(out)
	}
	call(t, root, 0, "config-reset", "/etc/app.conf", "/etc/other.conf")
	if out := call(t, root, 0, "status"); strings.Contains(out, "onflict") {
		t.Error(out)
	}

	if out := call(t, root, 0, "cleanup"); strings.Contains(out, "Dropped") {
		t.Error(out)
	}
	var rep cleanupReport
	testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "cleanup", "--keep=2", "--json")), &rep))
	if len(rep.Dropped) != 1 || rep.Dropped[0].Version != "1" {
		t.Errorf("%+v", rep.Dropped)
	}
	call(t, root, 2, "cleanup", "--keep=1")
	testutil.Run(t, "ostree", "config", "--repo="+root+"/ostree/repo", "--group=hostctl", "set", "keep-days", "30")
	if out := call(t, root, 0, "status"); !strings.Contains(out, "none older than 30 days") {
		t.Error(out)
	}
}

// TestTwoAtOnce: the second waits for the first and finds nothing left to do.
func TestTwoAtOnce(t *testing.T) {
	root := host(t)
	release(t, root, "2", nil)
	var wg sync.WaitGroup
	var out [2]strings.Builder
	var errs [2]strings.Builder
	var codes [2]int
	for i := range 2 {
		wg.Go(func() { codes[i] = run(t.Context(), []string{"upgrade", "--sysroot=" + root}, &out[i], &errs[i]) })
	}
	wg.Wait()
	if codes != [2]int{} || strings.Contains(out[0].String(), "No change") == strings.Contains(out[1].String(), "No change") {
		t.Errorf("%d\n%s%s\n%s%s", codes, &out[0], &errs[0], &out[1], &errs[1])
	}
	testutil.Run(t, "ostree", "admin", "status", "--sysroot="+root)
	testutil.Run(t, "ostree", "fsck", "--repo="+root+"/ostree/repo")
}

func TestLockedCode(t *testing.T) {
	t.Parallel()
	if got := ui.ExitCode(&fsx.LockedError{Path: "x"}, codes()); got != 3 {
		t.Error(got)
	}
}
