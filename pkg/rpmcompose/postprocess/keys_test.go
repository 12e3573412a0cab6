// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

func link(t *testing.T, root, name string) string {
	t.Helper()
	target, err := os.Readlink(filepath.Join(root, name))
	testutil.Must(t, err)
	return target
}

func TestBootLocationNew(t *testing.T) {
	t.Parallel()
	s := newSmall(t, fakeKernel())
	root, _, err := s.compose(t, Options{InitramfsArgs: []string{"--test-arg"}, KernelInOstreeBoot: true})
	testutil.Must(t, err)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("kernel\nimage 0\n")))
	for name, want := range map[string]string{"vmlinuz-" + kver + "-" + sum: "kernel\n", "initramfs-" + kver + ".img-" + sum: "image 0\n", "extra": "other\n"} {
		if got := text(t, root, "usr/lib/ostree-boot/"+name); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
	root, _, err = s.compose(t, Options{NoInitramfs: true, KernelInOstreeBoot: true})
	testutil.Must(t, err)
	if got := text(t, root, "usr/lib/ostree-boot/vmlinuz-"+kver+fmt.Sprintf("-%x", sha256.Sum256([]byte("kernel\n")))); got != "kernel\n" {
		t.Errorf("kernel %q", got)
	}
}

func TestStateOverlay(t *testing.T) {
	t.Parallel()
	if _, _, err := newSmall(t).compose(t, Options{NoKernel: true, OptUsrlocal: OptStateOverlay}); err == nil || !strings.Contains(err.Error(), "needs ostree-state-overlay@.service") {
		t.Errorf("without the unit: %v", err)
	}
	unit := rpmtest.Spec{Name: "ostree", Install: "mkdir -p %{buildroot}/usr/lib/systemd/system %{buildroot}/usr/local/bin; cd %{buildroot}; echo x > usr/lib/systemd/system/ostree-state-overlay@.service; echo y > usr/local/bin/y",
		Files: "/usr/lib/systemd/system/*\n/usr/local/bin/y"}
	root, _, err := newSmall(t, unit).compose(t, Options{NoKernel: true, OptUsrlocal: OptStateOverlay})
	testutil.Must(t, err)
	if link(t, root, "opt") != "usr/lib/opt" || text(t, root, "usr/local/bin/y") != "y\n" || text(t, root, "usr/lib/opt/distro/tool") != "tool\n" {
		t.Error("/opt and /usr/local are not part of the tree")
	}
	for _, u := range []string{"ostree-state-overlay@usr-lib-opt.service", "ostree-state-overlay@usr-local.service"} {
		if got := link(t, root, "usr/lib/systemd/system/local-fs.target.requires/"+u); got != "../"+u {
			t.Errorf("%s leads to %s", u, got)
		}
	}
	if strings.Contains(text(t, root, layoutConf), "/var/opt") {
		t.Error("directories of /var for what is in the tree")
	}
}

// The hooks see the finished layout, and what they write does not reach the files
// that the tree shares with the cache.
func TestFinalizeHooks(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	dir := t.TempDir()
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "extra"), []byte("from the folder\n"), 0o644))
	hooks := []Script{
		{Name: "01-copy", Body: []byte("#!/bin/sh\nset -e\n[ -d usr/etc ] && [ ! -e etc ]\ncp \"$RPMOSTREE_WORKDIR/extra\" usr/share/extra\necho changed > usr/share/doc/distro/a\n")},
		{Name: "02-see", Body: []byte("#!/bin/sh\nset -e\ncat usr/share/extra > usr/share/seen; mkdir -p var/lib/x\n")},
	}
	root, _, err := s.compose(t, Options{NoKernel: true, Finalize: hooks, TreefileDir: dir})
	testutil.Must(t, err)
	if text(t, root, "usr/share/seen") != "from the folder\n" || text(t, root, "usr/share/doc/distro/a") != "changed\n" {
		t.Error("the hooks left no trace")
	}
	entries, err := os.ReadDir(filepath.Join(root, "var"))
	if err != nil || len(entries) > 0 {
		t.Errorf("var holds %v (%v)", entries, err)
	}
	if fsck, err := s.repo.Fsck(t.Context(), ostree.FsckOptions{}); err != nil || len(fsck.Findings) > 0 {
		t.Errorf("cache is damaged: %v, %v", fsck.Findings, err)
	}
	_, _, err = s.compose(t, Options{NoKernel: true, Finalize: []Script{{Name: "03-fail", Body: []byte("#!/bin/sh\necho why; exit 3\n")}}})
	if err == nil || !strings.Contains(err.Error(), "03-fail: exit status 3\nits output: why") {
		t.Errorf("failing hook: %v", err)
	}
}

func TestCliwrap(t *testing.T) {
	t.Parallel()
	if _, _, err := newSmall(t).compose(t, Options{NoKernel: true, Cliwrap: true}); err == nil || !strings.Contains(err.Error(), "add package rpm-ostree") {
		t.Errorf("without rpm-ostree: %v", err)
	}
	prog := rpmtest.Spec{Name: "rpm-ostree", Install: "mkdir -p %{buildroot}/usr/bin; cd %{buildroot}/usr/bin; echo real > rpm; echo k > kernel-install; echo o > rpm-ostree", Files: "%attr(755,root,root) /usr/bin/*"}
	s := newSmall(t, prog)
	root, _, err := s.compose(t, Options{NoKernel: true, Cliwrap: true})
	testutil.Must(t, err)
	if text(t, root, wrappedDir+"/rpm") != "real\n" || !strings.Contains(text(t, root, "usr/bin/rpm"), "exec /usr/bin/rpm-ostree cliwrap \"$0\" \"$@\"\n") ||
		!strings.Contains(text(t, root, "usr/bin/dnf"), "cliwrap") || text(t, root, "usr/bin/kernel-install") != "k\n" {
		t.Error("programs are not wrapped")
	}
	root, _, err = s.compose(t, Options{NoKernel: true, CliwrapBinaries: []string{"kernel-install"}})
	testutil.Must(t, err)
	if text(t, root, wrappedDir+"/kernel-install") != "k\n" || text(t, root, "usr/bin/rpm") != "real\n" {
		t.Error("only kernel-install was to be wrapped")
	}
}

// systemctl stands in for the program that enables units.
func systemctl() rpmtest.Spec {
	return rpmtest.Spec{Name: "systemctl", Install: `mkdir -p %{buildroot}/usr/bin; cat > %{buildroot}/usr/bin/systemctl <<'END'
#!/bin/sh
echo "$*" > /etc/enabled
END
`, Files: "%attr(755,root,root) /usr/bin/systemctl"}
}

func TestUnitsSurviveTheFirstBootsPresets(t *testing.T) {
	t.Parallel()
	s := newSmall(t, systemctl())
	units := []string{"sshd.service", "getty@ttyS0.service", "x@.timer"}
	root, _, err := s.compose(t, Options{NoKernel: true, Units: units, Treefile: []byte("{}\n")})
	testutil.Must(t, err)
	if got := text(t, root, "usr/etc/enabled"); got != "enable sshd.service getty@ttyS0.service x@.timer\n" {
		t.Errorf("systemctl %q", got)
	}
	if got := text(t, root, unitPreset); got != "# Units of the treefile.\nenable sshd.service\nenable getty@.service ttyS0\nenable x@.timer\n" {
		t.Errorf("presets %q", got)
	}
	if text(t, root, treefileJSON) != "{}\n" {
		t.Error("no treefile in the tree")
	}
	if _, err := os.Stat(filepath.Join(root, "usr/etc/machine-id")); err == nil {
		t.Error("a machine-id")
	}
	root, _, err = s.compose(t, Options{NoKernel: true, Units: units, MachineIDCompat: true})
	testutil.Must(t, err)
	if _, err := os.Stat(filepath.Join(root, unitPreset)); err == nil {
		t.Error("presets although there is a machine-id")
	}
}
