// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
)

// soft is a tree whose systemd can.
func soft(version, kernel string) osTree {
	return release(version, kernel).with(softRebootTarget, "[Unit]\n").with("usr/lib/systemd/systemd", "init").with("usr/lib/ostree/prepare-root.conf", "[sysroot]\nreadonly=true\n")
}

func TestCanSoftReboot(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("testos/main", "1", soft("1", "1")), Retention{})
	d2 := b.deploy(b.commit("testos/main", "2", soft("2", "1")), Retention{Rollback: true})
	d3 := b.deploy(b.commit("testos/main", "3", soft("3", "2")), Retention{Pending: true, Rollback: true, Older: 3})
	check := func(what, want string, st State, d Deployment) {
		t.Helper()
		err := b.sysroot().CanSoftReboot(st, d)
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrNoSoftReboot) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	b.o.Cmdline = "BOOT_IMAGE=/x root=LABEL=x rw ostree=/ostree/boot.0/testos/" + strings.Repeat("ab", 32) + "/0"
	check("not booted", "none of the deployments", b.load(), d2)
	b.boot(d1)
	st := b.load()
	check("same kernel", "", st, d2)
	check("itself", "is running", st, d1)
	check("other kernel", "kernel or the initramfs", st, d3)
	other := d2
	other.Kargs = bls.Kargs{"root=LABEL=x", "rw", "quiet"}
	check("arguments", `kernel arguments differ: "root=LABEL=x rw quiet"`, st, other)
	other = d2
	other.overlays = []string{"x"}
	check("overlay initrd", "initramfs differs", st, other)
	b.o.Cmdline = "root=LABEL=x"
	check("changed since the boot", "argument rw", st, d2)
	b.o.Cmdline = "root=LABEL=x rw"
	nextRoot := filepath.Join(b.root, "run/nextroot")
	testutil.Must(t, os.Symlink("elsewhere", nextRoot))
	check("a link", "/run/nextroot is no directory", st, d2)
	testutil.Must(t, os.Remove(nextRoot))
	testutil.Must(t, os.Remove(b.path(d2.Dir(), "usr/lib/systemd/systemd")))
	check("no init", "none of usr/lib/systemd/systemd, sbin/init is a program", st, d2)
	testutil.Must(t, os.Remove(b.path(d1.Dir(), softRebootTarget)))
	check("old systemd", "254", st, d2)
}

func TestSoftReboot(t *testing.T) {
	t.Parallel()
	b := newSmallBox(t, InitOptions{}, "64m")
	d1 := b.deploy(b.commit("testos/main", "1", soft("1", "1")), Retention{})
	b.boot(d1)
	b.o.Cmdline = "root=LABEL=x rw"
	next := b.stage(b.commit("testos/main", "2", soft("2", "1")), StageOptions{}).Deployment
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/app.conf"), []byte("mine"), 0o644))
	b.locked(func(l *Locked) {
		d, err := l.PrepareSoftReboot(t.Context(), 0, Retention{})
		if err != nil {
			t.Fatal(err)
		}
		if !d.Same(next) {
			t.Errorf("prepared %s", d.Name())
		}
	})
	root := filepath.Join(b.root, "run/nextroot")
	t.Cleanup(func() { _ = sys.Unmount(root, true) })
	// A full restart goes there, too, with the /etc of now.
	st := b.load()
	if names(st.Deployments) != "2.0 1.0*" || b.read(next.Dir(), "etc/app.conf") != "mine" {
		t.Error(names(st.Deployments))
	}
	if d, ok := b.sysroot().SoftRebootTarget(st); !ok || !d.Same(next) {
		t.Errorf("target: %v", d)
	}
	testutil.Must(t, os.WriteFile(filepath.Join(root, "etc/new"), nil, 0o644))
	for _, dir := range []string{".", "usr", "sysroot"} {
		if err := os.WriteFile(filepath.Join(root, dir, "refused"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
			t.Errorf("write to %s: %v", dir, err)
		}
	}
	// Without the mount systemd starts the same root again.
	testutil.Must(t, sys.Unmount(root, true))
	if st = b.load(); names(st.Deployments) != "2.0 1.0*" {
		t.Errorf("somebody has unmounted it: %s", names(st.Deployments))
	}
	if done, err := b.sysroot().CompleteSoftReboot(t.Context()); err != nil || done {
		t.Errorf("completed without a soft reboot: %v, %v", done, err)
	}
	mark, err := b.run.ReadFile(prepareroot.NextMark, 1<<10)
	testutil.Must(t, err)
	b.locked(func(l *Locked) {
		_, err := l.SettleBoot(t.Context())
		testutil.Must(t, err)
	})
	if ok, err := b.run.Exists(prepareroot.NextMark); ok || err != nil {
		t.Errorf("stale mark: %v, %v", ok, err)
	}
	testutil.Must(t, b.run.WriteFileAtomic(prepareroot.NextMark, mark, 0o644))
	// What systemd does with the mount: it is the new root, and no longer there.
	b.boot(next)
	testutil.Must(t, b.run.MkdirAll(runState(next, UnlockDevelopment), 0o755))
	st = b.load()
	if names(st.Deployments) != "2.0* 1.0" {
		t.Errorf("after the soft reboot: %s", names(st.Deployments))
	}
	for _, want := range []bool{true, false} {
		if done, err := b.sysroot().CompleteSoftReboot(t.Context()); err != nil || done != want {
			t.Errorf("complete: %v, %v, want %v", done, err, want)
		}
	}
	for _, gone := range []string{"ostree/nextroot-booted", runStates} {
		if ok, err := b.run.Exists(gone); ok || err != nil {
			t.Errorf("%s: %v, %v", gone, ok, err)
		}
	}
	if st = b.load(); names(st.Deployments) != "2.0* 1.0" {
		t.Errorf("at the end: %s", names(st.Deployments))
	}
	// And back, which is given up.
	b.locked(func(l *Locked) {
		d, err := l.PrepareSoftReboot(t.Context(), 1, Retention{})
		if err != nil || !d.Same(d1) {
			t.Fatalf("%v, %v", d, err)
		}
		testutil.Must(t, l.ResetSoftReboot(t.Context()))
	})
	st = b.load()
	if _, ok := b.sysroot().SoftRebootTarget(st); ok || names(st.Deployments) != "1.0 2.0*" {
		t.Errorf("after reset: %s", names(st.Deployments))
	}
	// What is prepared goes with its deployment.
	b.locked(func(l *Locked) {
		_, err := l.PrepareSoftReboot(t.Context(), 0, Retention{})
		testutil.Must(t, err)
		_, err = l.Cleanup(t.Context())
		testutil.Must(t, err)
		if !b.sysroot().isMount(prepareroot.NextRoot) {
			t.Error("a clean-up takes back what is prepared")
		}
		_, err = l.Write(t.Context(), []Deployment{st.Deployments[1]})
		testutil.Must(t, err)
		_, err = l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if ok, err := b.run.Exists("ostree/nextroot-booted"); ok || err != nil || b.sysroot().isMount(prepareroot.NextRoot) {
		t.Errorf("the next root of a deployment that is gone: mark %v, %v", ok, err)
	}
}

// What is not possible changes nothing.
func TestSoftRebootRefused(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("testos/main", "1", soft("1", "1")), Retention{})
	b.boot(d1)
	b.stage(b.commit("testos/main", "2", soft("2", "2")), StageOptions{})
	b.locked(func(l *Locked) {
		if _, err := l.PrepareSoftReboot(t.Context(), 0, Retention{}); !errors.Is(err, ErrNoSoftReboot) {
			t.Error(err)
		}
		for _, index := range []int{7, -1} {
			if _, err := l.PrepareSoftReboot(t.Context(), index, Retention{}); !errors.Is(err, ErrNoDeployment) {
				t.Error(err)
			}
		}
	})
	if st := b.load(); names(st.Deployments) != "2.0+ 1.0*" {
		t.Error(names(st.Deployments))
	}
}
