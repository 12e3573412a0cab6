// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
)

// mountBoot puts a filesystem of its own on the sysroot's boot directory.
func (b *box) mountBoot(args ...string) {
	b.t.Helper()
	at := b.path("boot")
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		b.t.Skipf("mounting is not possible here: %v %s", err, out)
	}
	b.t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", at).CombinedOutput(); err != nil {
			b.t.Errorf("%v %s", err, out)
		}
	})
}

// big gives a release whose kernel and initramfs take n KiB.
func big(v string, n int) osTree {
	return release(v, v).with("usr/lib/modules/"+v+"/initramfs.img", strings.Repeat(v, n*1024/len(v)))
}

// TestBootSpace: /boot holds two big kernels but not three.
func TestBootSpace(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.mountBoot("-t", "tmpfs", "-o", "size=8m", "tmpfs")
	d1 := b.deploy(b.commit("m", "1", big("1", 2500)), Retention{})
	b.boot(d1)
	b.deploy(b.commit("m", "2", big("2", 2500)), Retention{})

	// The third fits once the pending second is gone: done in two steps.
	c3 := b.commit("m", "3", big("3", 2500))
	p, err := b.sysroot().Preview(t.Context(), Request{Stateroot: "testos", Commit: c3})
	testutil.Must(t, err)
	if p.Boot.Fits() || !p.Boot.FitsInSteps() {
		t.Fatalf("%+v", p.Boot)
	}
	b.deploy(c3, Retention{})
	if got := names(b.load().Deployments); got != "3.0 1.0*" {
		t.Fatal(got)
	}
	checkBootable(t, b, b.load())

	// The fourth does not fit beside the booted one: refused, nothing changed.
	c4 := b.commit("m", "4", big("4", 5000))
	b.locked(func(l *Locked) {
		_, err := deployAndWrite(t.Context(), l, c4, Retention{})
		var space *BootSpaceError
		if !errors.Is(err, ErrBootSpace) || !errors.As(err, &space) || space.Need < 5000<<10 || space.Reclaimable < 2500<<10 {
			t.Errorf("%v", err)
		}
		if _, err := l.Stage(t.Context(), Request{Stateroot: "testos", Commit: c4}, StageOptions{}); !errors.Is(err, ErrBootSpace) {
			t.Errorf("stage: %v", err)
		}
	})
	if got := names(b.load().Deployments); got != "3.0 1.0*" {
		t.Fatal(got)
	}
	checkBootable(t, b, b.load())

	// Garbage of a crash does not count as used.
	junk := b.path("boot/ostree/testos-" + strings.Repeat("a", 64))
	testutil.Must(t, os.Mkdir(junk, 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(junk, "vmlinuz"), make([]byte, 2000<<10), 0o644))
	b.deploy(b.commit("m", "5", big("5", 2500)), Retention{})
	if _, err := os.Lstat(junk); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestFreeze deploys to a /boot that can be frozen, and lets the watchdog rescue
// one whose owner has died.
func TestFreeze(t *testing.T) {
	t.Parallel()
	mkfs := testutil.Tool(t, "mkfs.ext4")
	b := newBox(t, InitOptions{})
	img := filepath.Join(b.root, "boot.img")
	testutil.Must(t, os.WriteFile(img, nil, 0o600))
	testutil.Must(t, os.Truncate(img, 8<<20))
	if out, err := exec.Command(mkfs, "-q", img).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	b.mountBoot("-o", "loop", img)
	exe, err := os.Executable()
	testutil.Must(t, err)
	b.o.DisableFsync = false
	b.o.FreezeWatchdog = []string{"/usr/bin/env", crashOp + "=watchdog", exe}
	b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	checkBootable(t, b, b.load())

	boot, err := os.Open(b.path("boot"))
	testutil.Must(t, err)
	defer boot.Close()
	dog, err := startWatchdog(b.o.FreezeWatchdog, boot)
	testutil.Must(t, err)
	testutil.Must(t, sys.Freeze(int(boot.Fd())))
	testutil.Must(t, dog.stdin.Close()) // as the kernel does when the owner dies
	testutil.Must(t, dog.cmd.Wait())
	if err := sys.Thaw(int(boot.Fd())); err == nil {
		t.Error("it was still frozen")
	}
	testutil.Must(t, os.WriteFile(b.path("boot/x"), nil, 0o644))
}

// TestReadOnlySysroot: mutators work through a read-only mount, nobody else's
// view changes.
func TestReadOnlySysroot(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{ReadOnly: true})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	c2 := b.commit("m", "2", release("2", "2"))
	ro := filepath.Join(b.root, "ro")
	testutil.Must(t, os.Mkdir(ro, 0o755))
	if out, err := exec.Command("mount", "--bind", b.path(), ro).CombinedOutput(); err != nil {
		t.Skipf("mounting is not possible here: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", ro).Run() })
	if out, err := exec.Command("mount", "-o", "remount,bind,ro", ro).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	p := Paths{Sysroot: ro, Boot: ro + "/boot", Run: b.root + "/run", Root: ro + "/" + d1.Dir(), Cmdline: b.root + "/cmdline"}
	h, err := OpenHost(p, false, Options{})
	testutil.Must(t, err)
	st, err := h.Load(t.Context())
	testutil.Must(t, err)
	if names(st.Deployments) != "1.0*" {
		t.Fatal(names(st.Deployments))
	}
	if err := h.WithLock(t.Context(), func(l *Locked) error { _, err := deployAndWrite(t.Context(), l, c2, Retention{}); return err }); err == nil {
		t.Error("wrote through a read-only handle")
	}
	testutil.Must(t, h.Close())
	h, err = OpenHost(p, true, b.o)
	testutil.Must(t, err)
	defer h.Close()
	testutil.Must(t, h.WithLock(t.Context(), func(l *Locked) error {
		if err := l.Preflight(t.Context(), Preview{}, false); err != nil {
			return err
		}
		if _, err := deployAndWrite(t.Context(), l, c2, Retention{}); err != nil {
			return err
		}
		_, err := l.Cleanup(t.Context())
		return err
	}))
	if got := names(b.load().Deployments); got != "2.0 1.0" {
		t.Fatal(got)
	}
	if err := os.WriteFile(ro+"/x", nil, 0o644); err == nil {
		t.Error("the visible mount became writable")
	}
}

// TestCleanupMounted: what is mounted in an old tree survives, also where it is the
// same filesystem, and the rest is cleaned up around it. Immutable files go.
func TestCleanupMounted(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	old := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	other := b.deploy(b.commit("m", "2", release("2", "2")), Retention{})
	b.deploy(b.commit("m", "3", release("3", "3")), Retention{})
	last := b.deploy(b.commit("m", "4", release("4", "4")), Retention{})
	testutil.Must(t, os.MkdirAll(b.path("data"), 0o755))
	testutil.Must(t, os.WriteFile(b.path("data/precious"), nil, 0o644))
	at := b.path(old.Dir(), "etc/d")
	if out, err := exec.Command("mount", "--bind", b.path("data"), at).CombinedOutput(); err != nil {
		t.Skipf("mounting is not possible here: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", at).Run() })
	b.edit(other, "frozen", "x")
	if out, err := exec.Command("chattr", "+i", b.path(other.Dir(), "etc/frozen")).CombinedOutput(); err != nil {
		t.Logf("no immutable flag here: %v %s", err, out)
	}
	clean := func() (res CleanupResult) {
		b.locked(func(l *Locked) {
			_, err := l.Prune(t.Context(), Retention{})
			testutil.Must(t, err)
			res, err = l.Cleanup(t.Context())
			testutil.Must(t, err)
		})
		return res
	}
	if got := clean().Mounted; len(got) != 1 || got[0] != old.Dir() {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(b.path("data/precious")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.path(other.Dir())); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := clean().Mounted; len(got) != 0 {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(b.path(old.Dir())); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	st := b.load()
	if !st.Deployments[0].Same(last) {
		t.Fatal(names(st.Deployments))
	}
	checkBootable(t, b, st)
}

// TestOverlaySpace: overlay initrds count, those that come and those that go.
func TestOverlaySpace(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.mountBoot("-t", "tmpfs", "-o", "size=10m", "tmpfs")
	d1 := b.deploy(b.commit("m", "1", big("1", 1000)), Retention{})
	b.boot(d1)
	add := func(c string, kib int) (sum string) {
		b.locked(func(l *Locked) {
			var err error
			sum, err = l.AddOverlayInitrd(t.Context(), strings.NewReader(strings.Repeat(c, kib<<10)))
			testutil.Must(t, err)
		})
		return sum
	}
	req := Request{Stateroot: "testos", Commit: b.commit("m", "2", big("2", 1000)), Origin: NewOrigin("m"), Overlays: []string{add("a", 4000)}}
	_, err := b.stageRequest(req)
	testutil.Must(t, err)
	_, err = b.finalize()
	testutil.Must(t, err)

	// Another of that size, staged in libostree's way, does not fit beside it. It fits
	// once the pending deployment is gone.
	staged := strings.Repeat("b", 4000<<10)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(staged)))
	testutil.Must(t, b.run.MkdirAll(stagedOverlayDir, 0o755))
	testutil.Must(t, b.run.WriteFile(stagedOverlayDir+"/"+sum, []byte(staged), 0o600))
	next := Request{Stateroot: "testos", Commit: b.commit("m", "3", big("3", 1000)), Origin: NewOrigin("m"), Overlays: []string{sum}}
	p, err := b.sysroot().Preview(t.Context(), next)
	testutil.Must(t, err)
	if p.Boot.Fits() || !p.Boot.FitsInSteps() || p.Boot.Need < 5000<<10 || p.Boot.Reclaimable < 5000<<10 {
		t.Fatalf("%+v", p.Boot)
	}
	b.locked(func(l *Locked) { testutil.Must(t, l.SetPinned(t.Context(), 0, true)) })
	b.refused(next, ErrBootSpace, "bytes are missing")
	b.locked(func(l *Locked) { testutil.Must(t, l.SetPinned(t.Context(), 0, false)) })
	left := add("c", 2000) // of a command that ended too early
	_, err = b.stageRequest(next)
	testutil.Must(t, err)
	_, err = b.finalize()
	testutil.Must(t, err)
	if got := names(b.load().Deployments); got != "3.0 1.0*" {
		t.Fatal(got)
	}
	checkBootable(t, b, b.load())
	for _, gone := range []string{req.Overlays[0], left} {
		if ok, err := b.sysroot().boot.Exists(overlayPath(gone)); ok || err != nil {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
}
