// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

func TestRunMakesABootableLayout(t *testing.T) {
	t.Parallel()
	s := newSmall(t, fakeKernel())
	o := Options{
		Version: "7.20260101.0", MutateOSRelease: "7", DefaultTarget: "my.target", MachineIDCompat: true, TmpIsDir: true,
		InitramfsArgs:      []string{"--test-arg"},
		RemoveFiles:        []string{"/etc/removed"},
		RemoveFromPackages: []RemoveFrom{{Package: "distro", Patterns: []string{"^/usr/share/doc/.*/a$"}}},
		AddFiles:           []AddFile{{Dest: "/etc/added", Data: []byte("added\n")}, {Dest: "usr/bin/new", Data: []byte("#!/bin/sh\n"), Executable: true}},
		Scripts:            []Script{{Body: []byte("#!/bin/sh\ncat /etc/added > /usr/share/copied; echo more >> /usr/lib/os-release\n")}},
		WriteRPMDB: func(_ context.Context, d *fsx.Dir) error {
			return d.WriteFile("rpmdb.sqlite", []byte("database"), 0o644)
		},
	}
	root, res, err := s.compose(t, o)
	testutil.Must(t, err)
	got := snapshot(t, root)
	modules := "usr/lib/modules/" + kver
	for name, want := range map[string]string{
		"home": "-> var/home", "root": "-> var/roothome", "ostree": "-> sysroot/ostree", "opt": "-> var/opt", "usr/local": "-> ../var/usrlocal",
		"bin": "-> usr/bin", "tmp": "41777 0:0", "boot": "40755 0:0", "var": "40755 0:0", modules + "/vmlinuz": "100644 0:0",
		modules + "/initramfs.img": "100600 0:0", modules + "/modules.dep": "100644", "usr/lib/ostree-boot/extra": "100644",
		"usr/lib/systemd/system/default.target": "-> my.target", baseRPMDB + "/rpmdb.sqlite": "100644", "usr/bin/new": "100755",
		"usr/lib/sysimage/rpm": "-> ../../share/rpm", "usr/share/rpm/rpmdb.sqlite": "100644", "usr/etc/machine-id": "100444",
		"usr/lib/opt/distro/tool": "100644", "usr/share/copied": "100644",
	} {
		if line, ok := got[name]; !ok || !strings.Contains(line, want) {
			t.Errorf("%s is %q, want %q", name, line, want)
		}
	}
	for _, gone := range []string{"etc", "usr/etc/removed", "usr/etc/systemd/system/default.target", "usr/share/doc/distro/a", "usr/etc/.pwd.lock", "usr/etc/passwd-",
		"usr/etc/ssh/ssh_host_rsa_key", "var/lib", "boot/extra"} {
		if line, ok := got[gone]; ok {
			t.Errorf("%s is %s, want it gone", gone, line)
		}
	}
	if res.Kernel != kver {
		t.Errorf("kernel %q", res.Kernel)
	}
	wantOS := "NAME=Distro\nVERSION=\"7.20260101.0 (Seven)\"\nVERSION_ID=7\nPRETTY_NAME=\"Distro 7.20260101.0\"\nOSTREE_VERSION='7.20260101.0'\nmore\n"
	if diff := cmp.Diff(wantOS, text(t, root, "usr/lib/os-release")); diff != "" {
		t.Errorf("os-release (-want +got):\n%s", diff)
	}
	auto := text(t, root, autovarConf)
	for _, line := range []string{"d /var/lib/made 0755 root root - -\n", "d /var/lib/made/by 0755 svc root - -\n", "L /var/lib/made/link - - - - by\n"} {
		if !strings.Contains(auto, line) {
			t.Errorf("autovar lacks %q:\n%s", line, auto)
		}
	}
	if strings.Contains(auto, "/var/lib/distro") {
		t.Error("a directory that its package makes is there twice")
	}
	if diff := cmp.Diff([]string{"var/lib/made/file", "var/stamp", "var/uptime"}, res.Dropped); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
	if !strings.Contains(text(t, root, "usr/etc/shadow"), "dated:!::0:99999:7:::\n") {
		t.Error("the date of a locked password stays in shadow")
	}
	if text(t, root, "usr/etc/default/useradd") != "# comment\nHOME=/var/home\n" {
		t.Error("useradd makes homes behind a link")
	}
}

func TestTwoRunsAreEqualAndTheCacheIsUntouched(t *testing.T) {
	t.Parallel()
	s := newSmall(t, fakeKernel())
	o := Options{InitramfsArgs: []string{"--test-arg"}, MachineIDCompat: true, ReadonlyExecutables: true, Version: "1"}
	first, _, err := s.compose(t, o)
	testutil.Must(t, err)
	objects := filepath.Join(s.dir, "cache", "objects")
	cacheBefore := snapshot(t, objects)
	second, _, err := s.compose(t, o)
	testutil.Must(t, err)
	if diff := cmp.Diff(snapshot(t, first), snapshot(t, second)); diff != "" {
		t.Errorf("two runs differ (-first +second):\n%s", diff)
	}
	cacheAfter := snapshot(t, objects)
	for name, line := range cacheBefore {
		if cacheAfter[name] != line {
			t.Errorf("object %s was %s, is %s", name, line, cacheAfter[name])
		}
	}
	if fsck, err := s.repo.Fsck(t.Context(), ostree.FsckOptions{}); err != nil || len(fsck.Findings) > 0 {
		t.Errorf("cache is damaged: %v, %v", fsck.Findings, err)
	}
}

func TestKernelErrors(t *testing.T) {
	t.Parallel()
	second := rpmtest.Spec{Name: "kernel2", Install: "mkdir -p %{buildroot}/usr/lib/modules/6.2; echo k > %{buildroot}/usr/lib/modules/6.2/vmlinuz", Files: "/usr/lib/modules/6.2"}
	both := newSmall(t, fakeKernel(), second)
	if _, _, err := both.compose(t, Options{}); !errors.Is(err, ErrManyKernels) || !strings.Contains(err.Error(), kver) || !strings.Contains(err.Error(), "6.2") {
		t.Errorf("two kernels: %v", err)
	}
	none := newSmall(t)
	if _, _, err := none.compose(t, Options{}); !errors.Is(err, ErrNoKernel) {
		t.Errorf("no kernel: %v", err)
	}
	if _, res, err := none.compose(t, Options{NoKernel: true}); err != nil || res.Kernel != "" {
		t.Errorf("container: %v", err)
	}
	one := newSmall(t, fakeKernel())
	if _, _, err := one.compose(t, Options{}); err == nil || !strings.Contains(err.Error(), "exit status 9") || !strings.Contains(err.Error(), "arguments:") {
		t.Errorf("failing dracut: %v", err)
	}
	if _, _, err := one.compose(t, Options{DracutModules: []string{"missing"}}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("missing module: %v", err)
	}
}

func TestAccountsAreSplitOnlyWithAltfiles(t *testing.T) {
	t.Parallel()
	lib := rpmtest.Spec{Name: "altfiles", Install: "mkdir -p %{buildroot}/usr/lib/x86_64-linux-gnu; echo x > %{buildroot}/usr/lib/x86_64-linux-gnu/libnss_altfiles.so.2",
		Files: "/usr/lib/x86_64-linux-gnu/libnss_altfiles.so.2"}
	without, _, err := newSmall(t).compose(t, Options{NoKernel: true})
	testutil.Must(t, err)
	if p := text(t, without, "usr/etc/passwd"); !strings.Contains(p, "\nsvc:") {
		t.Errorf("passwd without altfiles:\n%s", p)
	}
	if _, err := os.Stat(filepath.Join(without, "usr/lib/passwd")); err == nil {
		t.Error("usr/lib/passwd without a library that reads it")
	}
	with, _, err := newSmall(t, lib).compose(t, Options{NoKernel: true})
	testutil.Must(t, err)
	if p := text(t, with, "usr/etc/passwd"); p != "root:x:0:0:root:/root:/bin/sh\n" {
		t.Errorf("etc/passwd:\n%s", p)
	}
	if p := text(t, with, "usr/lib/passwd"); !strings.HasPrefix(p, "svc:x:") {
		t.Errorf("lib/passwd:\n%s", p)
	}
	if n := text(t, with, "usr/etc/nsswitch.conf"); n != "passwd: files altfiles systemd\ngroup: files altfiles\nhosts: files dns\n" {
		t.Errorf("nsswitch.conf:\n%s", n)
	}
}

func TestUsrLocal(t *testing.T) {
	t.Parallel()
	s := newSmall(t, rpmtest.Spec{Name: "local", Install: "mkdir -p %{buildroot}/usr/local/bin; echo x > %{buildroot}/usr/local/bin/x", Files: "/usr/local/bin/x"})
	if _, _, err := s.compose(t, Options{NoKernel: true}); !errors.Is(err, ErrLayout) || !strings.Contains(err.Error(), "/usr/local/bin/x") {
		t.Errorf("got %v", err)
	}
	root, _, err := s.compose(t, Options{NoKernel: true, OptUsrlocal: OptRoot})
	testutil.Must(t, err)
	if text(t, root, "usr/local/bin/x") != "x\n" || text(t, root, "usr/lib/opt/distro/tool") != "tool\n" {
		t.Error("files of /usr/local and /opt are not part of the tree")
	}
	if target, err := os.Readlink(filepath.Join(root, "opt")); err != nil || target != "usr/lib/opt" {
		t.Errorf("opt leads to %q, %v", target, err)
	}
}

func TestScriptCannotLeaveTheTree(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	marker := filepath.Join(s.dir, "marker")
	testutil.Must(t, os.WriteFile(marker, []byte("here"), 0o644))
	// The path below the marker's directory is of the host: inside there is none.
	body := "#!/bin/sh\nrm -rf '" + marker + "'; rm -rf --no-preserve-root / 2>/dev/null; exit 0\n"
	_, _, err := s.compose(t, Options{NoKernel: true, Scripts: []Script{{Name: "wipe", Body: []byte(body)}}})
	if !errors.Is(err, scripts.ErrTreeDamaged) || !strings.Contains(err.Error(), "wipe") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(marker); err != nil {
		t.Error("a script reached the host")
	}
	if _, _, err := s.compose(t, Options{NoKernel: true}); err != nil {
		t.Errorf("the cache did not survive: %v", err)
	}
	for _, dest := range []string{"/", "/var/x", "../../x", "/home/x"} {
		if _, _, err := s.compose(t, Options{NoKernel: true, AddFiles: []AddFile{{Dest: dest}}}); err == nil {
			t.Errorf("add-files wrote %q", dest)
		}
	}
}
