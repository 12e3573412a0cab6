// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// refused stages and expects the error, told in words, and no change.
func (b *box) refused(req Request, want error, words ...string) {
	b.t.Helper()
	before := names(b.load().Deployments)
	_, err := b.stageRequest(req)
	if !errors.Is(err, want) {
		b.t.Errorf("%v, want %v", err, want)
	}
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			b.t.Errorf("%v: does not say %q", err, w)
		}
	}
	if now := names(b.load().Deployments); now != before {
		b.t.Errorf("%s became %s", before, now)
	}
	if left, _ := filepath.Glob(b.path("ostree/deploy/testos/deploy/" + req.Commit.String() + "*")); len(left) != 0 {
		b.t.Errorf("left behind: %q", left)
	}
	if ok, _ := b.run.Exists(stagedFile); ok {
		b.t.Error("something is staged")
	}
}

func TestReadOnlyBoot(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.mountBoot("-t", "tmpfs", "-o", "size=8m", "tmpfs")
	b.boot(b.deploy(b.commit("m", "1", release("1", "1")), Retention{}))
	req := Request{Stateroot: "testos", Commit: b.commit("m", "2", release("2", "2")), Origin: NewOrigin("m")}
	mount := func(how string) {
		if out, err := exec.Command("mount", "-o", "remount,"+how, b.path("boot")).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	mount("ro")
	b.refused(req, ErrReadOnly, "boot", "mount it read-write")
	mount("rw")
	_, err := b.stageRequest(req)
	testutil.Must(t, err)
}

// TestFullRoot: the estimate refuses where there is too little, and is not below what
// is used.
func TestFullRoot(t *testing.T) {
	t.Parallel()
	b := newSmallBox(t, InitOptions{}, "48m")
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.boot(d1)
	tree := release("2", "2").with("usr/etc/default", strings.Repeat("d", 1<<20))
	for _, d := range []string{"a", "b", "c"} {
		tree = tree.with("usr/share/"+d+"/f", d)
	}
	b.edit(d1, "mine", strings.Repeat("m", 2<<20))
	req := Request{Stateroot: "testos", Commit: b.commit("m", "2", tree), Origin: NewOrigin("m")}
	free := func() int64 {
		n, _, err := b.dir.FreeSpace()
		testutil.Must(t, err)
		return int64(n)
	}
	p, err := b.sysroot().Preview(t.Context(), req)
	testutil.Must(t, err)
	if p.Disk.Free != free() || p.Disk.Need < 3<<20 || p.Disk.Need > 12<<20 {
		t.Fatalf("%+v, free %d", p.Disk, free())
	}
	junk := b.path("junk")
	testutil.Must(t, os.WriteFile(junk, make([]byte, free()-p.Disk.Need+(1<<20)), 0o644))
	b.refused(req, ErrDiskSpace, "bytes are missing", "hostctl cleanup")
	testutil.Must(t, os.Remove(junk))
	before := free()
	_, err = b.stageRequest(req)
	testutil.Must(t, err)
	_, err = b.finalize()
	testutil.Must(t, err)
	if used := before - free(); used > p.Disk.Need || used < 3<<20 {
		t.Errorf("used %d, estimated %d", used, p.Disk.Need)
	}
}

// TestFullBoot: the error says how much is missing; TestBootSpace has the rest.
func TestFullBoot(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.mountBoot("-t", "tmpfs", "-o", "size=4m", "tmpfs")
	b.boot(b.deploy(b.commit("m", "1", big("1", 1000)), Retention{}))
	b.refused(Request{Stateroot: "testos", Commit: b.commit("m", "2", big("2", 4000)), Origin: NewOrigin("m")}, ErrBootSpace, "bytes are missing", "undeploy")
}

func TestMissingBootMounts(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.boot(d1)
	req := Request{Stateroot: "testos", Commit: b.commit("m", "2", release("2", "2")), Origin: NewOrigin("m")}
	testutil.Must(t, os.MkdirAll(b.path(d1.Dir(), "boot"), 0o755))
	for _, line := range []string{"LABEL=b /boot ext4 defaults 0 2", "UUID=A-B\t/efi\tvfat umask=0077 0 2", "/dev/x /boot/efi/ vfat rw 0 0"} {
		b.edit(d1, "fstab", "# /boot\n\nLABEL=r / ext4 rw 0 1\n"+line+"\n")
		b.refused(req, ErrBootMissing, strings.TrimSuffix(strings.Fields(line)[1], "/"), "mount")
		if b.load().BootProblem == "" {
			t.Error("the state does not tell")
		}
	}
	b.edit(d1, "fstab", "LABEL=b /boot ext4 defaults,nofail 0 2\nLABEL=e /efi vfat noauto 0 2\n/sysroot/boot /boot none rw,bind 0 0\n")
	_, err := b.stageRequest(req)
	testutil.Must(t, err)
	// Without its filesystem /boot is empty.
	testutil.Must(t, os.Rename(b.path("boot"), b.path("boot.away")))
	testutil.Must(t, os.Mkdir(b.path("boot"), 0o755))
	testutil.Must(t, b.run.Remove(stagedFile))
	if got := b.load().BootProblem; !strings.Contains(got, "/boot/loader is missing") {
		t.Errorf("%q", got)
	}
	_, err = b.stageRequest(req)
	if !errors.Is(err, ErrBootMissing) {
		t.Error(err)
	}
}

// TestForeignBootloader: a boot loader that reads something else is found before shutdown.
func TestForeignBootloader(t *testing.T) {
	t.Parallel()
	for kind, stub := range map[bootloader.Kind][2]string{
		bootloader.GRUB2:    {"grub/grub.cfg", "configfile /loader/grub.cfg\n"},
		bootloader.Syslinux: {"syslinux/syslinux.cfg", "INCLUDE ../loader/syslinux.cfg\n"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := newBox(t, InitOptions{Bootloader: kind})
			name := b.path("boot", stub[0])
			testutil.Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
			testutil.Must(t, os.WriteFile(name, []byte(stub[1]), 0o644))
			b.boot(b.deploy(b.commit("m", "1", release("1", "1")), Retention{}))
			testutil.Must(t, os.WriteFile(name, []byte("linux /vmlinuz\n"), 0o644))
			req := Request{Stateroot: "testos", Commit: b.commit("m", "2", release("2", "2")), Origin: NewOrigin("m")}
			b.refused(req, bootloader.ErrForeignConfig, stub[0])
			testutil.Must(t, os.WriteFile(name, []byte(stub[1]), 0o644))
			_, err := b.stageRequest(req)
			testutil.Must(t, err)
		})
	}
}

func TestBootMounts(t *testing.T) {
	t.Parallel()
	got := bootMounts("a /boot x rw 0 0\n/short\nb /efi x rw,noauto\n#c /boot/efi x rw\nd /boot/efi x rw,nofailx\ne /var x rw\n\xff\x00")
	if d := cmp.Diff([]string{"boot", "boot/efi"}, got); d != "" {
		t.Error(d)
	}
}

// TestLockedByOther: who waits in vain is told for whom.
func TestLockedByOther(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.o.LockTimeout = 0
	b.locked(func(*Locked) {
		err := b.sysroot().WithLock(t.Context(), func(*Locked) error { return nil })
		var held *fsx.LockedError
		if !errors.As(err, &held) || held.PID != os.Getpid() || !strings.Contains(err.Error(), "ostree/lock") {
			t.Error(err)
		}
	})
}

// TestForecast: with little space, what is not refused beforehand works to the end.
func TestForecast(t *testing.T) {
	t.Parallel()
	tried := map[bool]int{}
	for less := -2; less <= 2; less++ {
		b := newSmallBox(t, InitOptions{}, "64m")
		d1 := b.deploy(b.commit("m", "1", big("1", 3000)), Retention{})
		b.boot(d1)
		b.edit(d1, "mine", strings.Repeat("m", 1<<20))
		tree := big("2", 3000)
		for i := range 300 {
			tree = tree.with("usr/etc/many/"+strings.Repeat("f", i%50+1)+string(rune('a'+i%26)), "x")
		}
		req := Request{Stateroot: "testos", Commit: b.commit("m", "2", tree), Origin: NewOrigin("m")}
		p, err := b.sysroot().Preview(t.Context(), req)
		testutil.Must(t, err)
		junk := p.Disk.Free - p.Disk.Need + int64(less)*300<<10
		testutil.Must(t, os.WriteFile(b.path("junk"), make([]byte, junk), 0o644))
		_, err = b.stageRequest(req)
		if tried[err == nil]++; err != nil {
			if !errors.Is(err, ErrDiskSpace) {
				t.Errorf("%+d: %v", less, err)
			}
			continue
		}
		if _, err := b.finalize(); err != nil {
			t.Errorf("%+d: refused at shutdown only: %v", less, err)
		}
		checkBootable(t, b, b.load())
	}
	if tried[true] == 0 || tried[false] == 0 {
		t.Errorf("%v", tried)
	}
}

// TestForecastFiles: the same where inodes run out, links being free or not.
func TestForecastFiles(t *testing.T) {
	t.Parallel()
	t.Run("tmpfs", func(t *testing.T) {
		t.Parallel()
		forecastFiles(t, 200+2*100+50+300, func() *box { return newSmallBox(t, InitOptions{}, "64m,nr_inodes=3000") })
	})
	t.Run("ext4", func(t *testing.T) {
		t.Parallel()
		forecastFiles(t, 200+100+50, func() *box {
			return newBoxIn(t, InitOptions{}, testutil.Filesystem(t, "ext4", "-N", "3000"))
		})
	})
}

// forecastFiles upgrades with an inode too few, with as many as needed and with more; the
// upgrade takes want.
func forecastFiles(t *testing.T, want int64, newBox func() *box) {
	for _, spare := range []int64{-1, 0, 100} {
		b := newBox()
		d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
		b.boot(d1)
		tree := release("2", "2")
		for i := range 300 {
			tree["usr/share/d"+strconv.Itoa(i%20)+"/f"+strconv.Itoa(i)] = "x"
			tree["usr/etc/e"+strconv.Itoa(i%100)] = "y"
		}
		for i := range 200 {
			tree["usr/share/empty"+strconv.Itoa(i)] = ""
		}
		for i := range 50 {
			b.edit(d1, "mine"+strconv.Itoa(i), "m")
		}
		req := Request{Stateroot: "testos", Commit: b.commit("m", "2", tree), Origin: NewOrigin("m")}
		preview := func() DiskSpace {
			p, err := b.sysroot().Preview(t.Context(), req)
			testutil.Must(t, err)
			return p.Disk
		}
		junk := 0
		fill := func(n int64) {
			for ; n > 0; n-- {
				junk++
				testutil.Must(t, os.WriteFile(b.path("junk"+strconv.Itoa(junk)), nil, 0o644))
			}
		}
		d := preview()
		if d.NeedFiles > want+fileMargin+60 {
			fill(d.FreeFiles - d.NeedFiles + 1) // the bound does not fit: from here on exact
			d = preview()
		}
		if d.NeedFiles < want || d.NeedFiles > want+fileMargin+60 {
			t.Fatalf("%+v, want %d", d, want)
		}
		fill(d.FreeFiles - d.NeedFiles - spare)
		if spare < 0 {
			b.refused(req, ErrDiskSpace, "1 files are missing")
			continue
		}
		_, err := b.stageRequest(req)
		testutil.Must(t, err)
		if _, err := b.finalize(); err != nil {
			t.Errorf("%+d: refused at shutdown only: %v", spare, err)
		}
		checkBootable(t, b, b.load())
	}
}
