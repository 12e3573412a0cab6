// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// old moves the kernel of a tree to an older place; what is "" is left out.
func (o osTree) old(dir, vmlinuz, initramfs, devicetree string) osTree {
	out := osTree{}
	for name, text := range o {
		if !strings.HasPrefix(name, modulesDir) {
			out[name] = text
		}
	}
	sum := strings.Repeat("5e", 32)
	for name, text := range map[string]string{"vmlinuz-6.0-": vmlinuz, "initramfs-6.0.img-": initramfs, "devicetree-6.0-": devicetree} {
		if text != "" {
			out[dir+"/"+name+sum] = text
		}
	}
	return out
}

// TestLegacyKernels: kernels in the older places are found and booted as libostree
// does it.
func TestLegacyKernels(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	base, sum := release("1", "5.0"), strings.Repeat("5e", 32)
	for name, c := range map[string]struct {
		tree             osTree
		sum              string // "" for the computed one
		linux, initrd, d string
	}{
		"ostree-boot":               {base.old("usr/lib/ostree-boot", "k", "i", ""), sum, "vmlinuz-6.0", "initramfs-6.0.img", ""},
		"boot":                      {base.old("boot", "k", "i", "d"), sum, "vmlinuz-6.0", "initramfs-6.0.img", "devicetree-6.0"},
		"no initramfs":              {base.old("boot", "k", "", ""), sum, "vmlinuz-6.0", "", ""},
		"modules without initramfs": {base.old("boot", "k", "i", "").with(modulesDir+"/5.0/vmlinuz", "x"), sum, "vmlinuz-6.0", "initramfs-6.0.img", ""},
		"modules win":               {base.with("boot/vmlinuz-6.0-"+sum, "k"), "", "vmlinuz-5.0", "initramfs-5.0.img", ""},
		"plain name":                {base.with(modulesDir+"/5.0/initramfs.img", "").with(modulesDir+"/5.0/initramfs", "i"), "", "vmlinuz-5.0", "initramfs-5.0.img", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, InitOptions{})
			b.o.StaterootInNames = true
			commit := b.commit("testos/main", "1", c.tree)
			d := b.deploy(commit, Retention{})
			b.expectStatus(d)
			if c.sum != "" && d.BootChecksum != c.sum {
				t.Errorf("boot checksum %s", d.BootChecksum)
			}
			e := b.entry(1)
			dir := "/ostree/testos-" + d.BootChecksum + "/"
			if e.Linux != dir+c.linux || len(e.Initrd) > 0 != (c.initrd != "") || c.initrd != "" && e.Initrd[0] != dir+c.initrd || e.DeviceTree != prefixed(dir, c.d) {
				t.Errorf("%+v", e)
			}
			if _, ok := bls.ParseKargs(e.Options).Value("init"); ok != (c.initrd == "") {
				t.Errorf("options %s", e.Options)
			}
			// The same commit by libostree beside it: same kernel, same entry.
			b.mustOstree("admin", "deploy", "--sysroot="+b.path(), "--os=testos", commit.String())
			st := b.load()
			if len(st.Deployments) != 2 || st.Deployments[0].BootChecksum != d.BootChecksum {
				t.Fatalf("%+v", st.Deployments)
			}
			theirs := b.entry(2)
			if theirs.Linux != e.Linux || strings.Join(theirs.Initrd, " ") != strings.Join(e.Initrd, " ") || theirs.DeviceTree != e.DeviceTree {
				t.Errorf("ours %+v\ntheirs %+v", e, theirs)
			}
		})
	}
}

func prefixed(dir, name string) string {
	if name == "" {
		return ""
	}
	return dir + name
}

// entry reads the entry with version n of the menu in force.
func (b *box) entry(n int) bootloader.Entry {
	b.t.Helper()
	entries, _, bad, err := bootloader.ReadMenu(testutil.OpenDir(b.t, b.path("boot")), b.sysroot().sw, b.load().BootVersion)
	testutil.Must(b.t, err)
	if len(bad) > 0 {
		b.t.Fatal(bad)
	}
	return entries[len(entries)-n]
}

func TestLegacyKernelMismatch(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	tree := release("1", "5.0").old("boot", "k", "", "").with("boot/initramfs-6.0.img-"+strings.Repeat("aa", 32), "i")
	commit := b.commit("testos/main", "1", tree)
	b.locked(func(l *Locked) {
		if _, _, err := l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: commit}); !errors.Is(err, ErrInvalidCommit) {
			t.Error(err)
		}
	})
}

// TestOverlayInitrds: ours and libostree's are the same files, shared, and go with
// the last deployment that names them.
func TestOverlayInitrds(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	b := newBox(t, InitOptions{})
	b.o.StaterootInNames = true
	commit := b.commit("testos/main", "1", release("1", "1"))
	var sum string
	b.locked(func(l *Locked) {
		var err error
		sum, err = l.AddOverlayInitrd(t.Context(), strings.NewReader("overlay"))
		testutil.Must(t, err)
		d, _, err := l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: commit, Kargs: bls.Kargs{"a"}, Overlays: []string{sum}})
		testutil.Must(t, err)
		_, err = l.Write(t.Context(), []Deployment{d})
		testutil.Must(t, err)
	})
	line := "/ostree/initramfs-overlays/" + sum + ".img"
	if e := b.entry(1); len(e.Initrd) != 2 || e.Initrd[1] != line || b.read("boot", line) != "overlay" {
		t.Fatalf("%+v", e)
	}
	// libostree keeps it, and gives it to nobody else.
	c2 := b.commit("testos/main", "2", release("2", "1"))
	b.mustOstree("admin", "deploy", "--sysroot="+b.path(), "--os=testos", c2.String())
	if e := b.entry(1); len(e.Initrd) != 2 || e.Initrd[1] != line {
		t.Fatalf("%+v", e)
	}
	if e := b.entry(2); len(e.Initrd) != 1 {
		t.Fatalf("%+v", e)
	}
	testutil.Must(t, os.WriteFile(b.path("boot/ostree/initramfs-overlays/junk.img"), []byte("torn"), 0o644))
	b.locked(func(l *Locked) {
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
		if _, err := os.Stat(b.path("boot", line)); err != nil {
			t.Error(err)
		}
		order, err := PlanUndeploy(b.load(), 1)
		testutil.Must(t, err)
		_, err = l.Write(t.Context(), order)
		testutil.Must(t, err)
		_, err = l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if list, err := os.ReadDir(b.path("boot/ostree/initramfs-overlays")); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if st := b.load(); len(st.Deployments) != 1 || st.Deployments[0].Checksum != c2 {
		t.Error(names(st.Deployments))
	}
	b.mustOstree("admin", "cleanup", "--sysroot="+b.path())
}

// TestStrictEtc refuses what libostree cannot merge.
func TestStrictEtc(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d := b.deploy(b.commit("testos/main", "1", release("1", "1")), Retention{})
	testutil.Must(t, os.WriteFile(b.path(d.Dir(), "etc/late"), []byte("mine"), 0o644))
	next := b.commit("testos/main", "2", release("2", "1").with("usr/etc/late/x", "theirs"))
	deployNext := func() error {
		var err error
		b.locked(func(l *Locked) {
			_, _, err = l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: next})
			testutil.Must(t, l.Discard(t.Context()))
		})
		return err
	}
	testutil.Must(t, deployNext())
	b.o.StrictEtc = true
	if err := deployNext(); !errors.Is(err, ErrEtcConflict) {
		t.Error(err)
	}
}

func TestCreateStateroot(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{NoTmp: true})
	b.locked(func(l *Locked) {
		testutil.Must(t, l.CreateStateroot(t.Context(), "new"))
		if err := l.CreateStateroot(t.Context(), "new"); !errors.Is(err, os.ErrExist) {
			t.Error(err)
		}
		if err := l.CreateStateroot(t.Context(), "../x"); err == nil {
			t.Error("a bad name passed")
		}
		d, _, err := l.Deploy(t.Context(), Request{Stateroot: "new", Commit: b.commit("m", "1", release("1", "1")), Origin: NewOrigin("m")})
		testutil.Must(t, err)
		_, err = l.Write(t.Context(), []Deployment{d})
		testutil.Must(t, err)
	})
	if _, err := os.Stat(b.path("tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if st, err := os.Stat(b.path("ostree/deploy/new/var/tmp")); err != nil || st.Mode()&os.ModeSticky == 0 {
		t.Error(st, err)
	}
}

// TestLockWaiting: who has to wait is told before.
func TestLockWaiting(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	entered, waiting := make(chan bool), make(chan bool)
	done := make(chan error, 1)
	holder := b.sysroot()
	go func() {
		done <- holder.WithLock(t.Context(), func(*Locked) error {
			close(entered)
			<-waiting
			return nil
		})
	}()
	<-entered
	calls := 0
	b.o.LockTimeout, b.o.LockWaiting = -1, func() { calls++; close(waiting) }
	b.locked(func(*Locked) {})
	testutil.Must(t, <-done)
	if calls != 1 {
		t.Error(calls)
	}
}

// libostree opens no repository with a boot loader that it does not know.
func TestOwnBootloaderKey(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{Bootloader: bootloader.SystemdBoot})
	for kind, fat := range map[bootloader.Kind]bool{bootloader.SystemdBoot: true, "": true} {
		testutil.Must(t, InitSysroot(t.Context(), b.dir, InitOptions{Bootloader: kind}))
		if got := b.sysroot().bootIsFAT(); got != fat {
			t.Errorf("%q: %v", kind, got)
		}
	}
	b.mustOstree("refs", "--repo="+b.path("ostree/repo"))
	testutil.Must(t, InitSysroot(t.Context(), b.dir, InitOptions{Bootloader: bootloader.GRUB2}))
	if b.sysroot().bootIsFAT() {
		t.Error("the old key still counts")
	}
}
