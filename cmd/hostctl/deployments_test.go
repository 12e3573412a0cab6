// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// host is a sysroot with one deployment that libostree made.
func host(t *testing.T) string {
	t.Helper()
	testutil.Root(t, "a bare repository needs root")
	testutil.Tool(t, "ostree")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/modules/5.1/vmlinuz": "k", "usr/lib/modules/5.1/initramfs.img": "i", "usr/etc/os-release": "PRETTY_NAME=T\n",
	} {
		p := filepath.Join(dir, "tree", name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		testutil.Must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	root := filepath.Join(dir, "root")
	testutil.Must(t, os.Mkdir(root, 0o755))
	repo := "--repo=" + root + "/ostree/repo"
	testutil.Run(t, "ostree", "admin", "init-fs", root)
	testutil.Run(t, "ostree", "admin", "os-init", "os", "--sysroot="+root)
	testutil.Run(t, "ostree", "commit", repo, "-b", "main", "--tree=dir="+dir+"/tree", "--add-metadata-string=version=1")
	testutil.Run(t, "ostree", "admin", "deploy", "--sysroot="+root, "--os=os", "--karg=root=LABEL=x", "--karg=quiet", "main")
	// Links have no flags, which chattr fails for.
	t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-i", root).Run() })
	return root
}

func call(t *testing.T, root string, code int, args ...string) string {
	t.Helper()
	var out, errw strings.Builder
	if got := run(t.Context(), append(args, "--sysroot="+root), &out, &errw); got != code {
		t.Fatalf("hostctl %q: status %d, want %d\n%s%s", args, got, code, &out, &errw)
	}
	return out.String()
}

// TestDeploymentVerbs goes once through the verbs for deployments and arguments.
func TestDeploymentVerbs(t *testing.T) {
	root := host(t)
	if out := call(t, root, 0, "kargs"); out != "root=LABEL=x quiet\n" {
		t.Error(out)
	}
	call(t, root, 0, "kargs", "--append=console=ttyS0", "--delete=quiet")
	call(t, root, 77, "kargs", "--append-if-missing=console=ttyS0", "--unchanged-exit-77")
	call(t, root, 2, "kargs", "--delete=nothing")
	var rep kargsReport
	testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "kargs", "--json")), &rep))
	if rep.Kargs.String() != "root=LABEL=x console=ttyS0" || rep.Staged || rep.Index != 0 {
		t.Errorf("%+v", rep)
	}
	// The deployment before has its own.
	if out := call(t, root, 0, "kargs", "--deploy-index=1"); out != "root=LABEL=x quiet\n" {
		t.Error(out)
	}
	call(t, root, 0, "pin", "1")
	call(t, root, 1, "undeploy", "1")
	call(t, root, 0, "set-default", "1")
	if out := call(t, root, 0, "kargs"); out != "root=LABEL=x quiet\n" {
		t.Error(out)
	}
	if out := call(t, root, 0, "status"); !strings.Contains(out, "pinned") {
		t.Error(out)
	}
	call(t, root, 0, "pin", "--undo", "0")
	call(t, root, 0, "undeploy", "0")
	call(t, root, 5, "undeploy", "1")
	call(t, root, 2, "pin", "x")
	call(t, root, 1, "unlock")
	t.Setenv("EDITOR", "sed -i s/ttyS0/ttyS9/")
	t.Setenv("VISUAL", "")
	t.Setenv("OSTREE_EDITOR", "")
	call(t, root, 0, "kargs", "--editor")
	if out := testutil.Run(t, "cat", root+"/boot/loader/entries/ostree-2.conf"); !strings.Contains(out, "options root=LABEL=x console=ttyS9 ostree=") {
		t.Error(out)
	}
	testutil.Run(t, "ostree", "refs", "--repo="+root+"/ostree/repo", "--create=other", "main")
	call(t, root, 0, "rebase", "other")
	if out := testutil.Run(t, "ostree", "admin", "status", "--sysroot="+root); !strings.Contains(out, "origin refspec: other\n") {
		t.Error(out)
	}
	call(t, root, 1, "rebase", "absent:")
	call(t, root, 1, "rebase", "r:../x")
}

// TestRollbackBlock: what an administrator went back from is not taken again unasked.
func TestRollbackBlock(t *testing.T) {
	t.Parallel()
	root := host(t)
	call(t, root, 5, "rollback", "--block")
	call(t, root, 0, "kargs", "--append=x")
	call(t, root, 1, "rollback", "--block") // the same tree
	release(t, root, "2", nil)
	call(t, root, 0, "upgrade")
	if out := call(t, root, 0, "rollback", "--block", "--reason=no network"); !strings.Contains(out, "Default for the next boot: 1 ") || !strings.Contains(out, "Blocked: 2 ") {
		t.Error(out)
	}
	if out := call(t, root, 0, "upgrade"); !strings.Contains(out, "version 2 is blocked on this host: no network") {
		t.Error(out)
	}
	if out := call(t, root, 0, "status"); !strings.Contains(out, "no network") || !strings.Contains(out, "hostctl unblock") {
		t.Error(out)
	}
	call(t, root, 0, "unblock", "2")
	if out := call(t, root, 0, "upgrade", "--allow-downgrade"); strings.Contains(out, "blocked") {
		t.Error(out)
	}
	release(t, root, "3", nil)
	call(t, root, 0, "upgrade")
	call(t, root, 0, "rollback", "--block")
	release(t, root, "4", map[string]string{"app.conf": "4\n"})
	if out := call(t, root, 0, "upgrade"); !strings.Contains(out, "-> 4 ") { // a newer one is taken
		t.Error(out)
	}
	call(t, root, 2, "rollback", "--reason=x")
}

// TestForeignOrigins: a deployment that another program follows something else with can
// be changed, except for upgrades, which say why; a rebase makes it ours.
func TestForeignOrigins(t *testing.T) {
	t.Parallel()
	root := host(t)
	for text, want := range map[string]string{
		"":                                 "follows no ref; ",
		"baserefspec=r:fedora/silver\n":    "rpm-ostree's r:fedora/silver",
		"unconfigured-state=register it\n": "has to be configured first: register it",
		"container-image-reference=ostree-unverified-registry:example.test/os:1\nkeep=me\n": "the container image ostree-unverified-registry:example.test/os:1",
	} {
		testutil.Run(t, "ostree", "admin", "deploy", "--sysroot="+root, "--os=os", "main")
		if strings.HasPrefix(text, "unconf") {
			text = "refspec=main\n" + text
		}
		origin := filepath.Dir(etcFile(t, root, "")) + ".origin"
		testutil.Must(t, os.WriteFile(origin, []byte("[origin]\n"+text), 0o644))
		for _, verb := range []string{"upgrade", "upgrade --check", "deploy 1"} {
			if code, line := process(t, root, "$hostctl --sysroot=$root "+verb); code != 1 || !strings.Contains(line, want) {
				t.Errorf("%q: %s: %d %s", text, verb, code, line)
			}
		}
		call(t, root, 0, "kargs", "--append=x")
		call(t, root, 0, "status")
		testutil.Run(t, "ostree", "refs", "--repo="+root+"/ostree/repo", "--create=next", "main", "--force")
		call(t, root, 0, "rebase", ":next")
		call(t, root, 0, "upgrade")
		if got := read(t, filepath.Dir(etcFile(t, root, ""))+".origin"); !strings.Contains(got, "refspec=next\n") || strings.Contains(got, "base") ||
			strings.Contains(got, "image") || strings.Contains(got, "unconf") || strings.Contains(text, "keep") != strings.Contains(got, "keep=me") {
			t.Errorf("%q: %s", text, got)
		}
	}
}
