// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

func TestSyslinuxConfig(t *testing.T) {
	t.Parallel()
	entries := []Entry{
		{Name: "ostree-2-os.conf", Entry: bls.Entry{Title: "New (ostree:0)", Linux: "/ostree/os-b/vmlinuz", Initrd: []string{"/ostree/os-b/i", "/ostree/o.img"}, Options: "a b"}},
		{Name: "ostree-1-os.conf", Entry: bls.Entry{Linux: "/boot/ostree/os-a/vmlinuz", DeviceTree: "/ostree/os-a/dt", FDTDir: "/ostree/os-a/dtb"}},
		{Name: "other.conf", Entry: bls.Entry{Linux: "/memtest"}},
	}
	const ours = "LABEL New (ostree:0)\n\tKERNEL /boot/ostree/os-b/vmlinuz\n\tINITRD /boot/ostree/os-b/i,/boot/ostree/o.img\n\tAPPEND a b\n" +
		"LABEL (Untitled)\n\tKERNEL /boot/ostree/os-a/vmlinuz\n\tDEVICETREE /boot/ostree/os-a/dt\n\tFDTDIR /boot/ostree/os-a/dtb\n"
	for name, c := range map[string]struct{ old, want string }{
		"empty":   {"", "DEFAULT New (ostree:0)\n" + ours},
		"foreign": {"TIMEOUT 5\n\n\nLABEL m\n\tKERNEL /m\n\tAPPEND x\n", "TIMEOUT 5\n\nLABEL m\n\tKERNEL /m\n\tAPPEND x\nDEFAULT New (ostree:0)\n" + ours},
		"own":     {"DEFAULT m\nLABEL m\n\tKERNEL /m\n", "DEFAULT m\nLABEL m\n\tKERNEL /m\n\n" + ours},
		"old ones": {"TIMEOUT 5\nDEFAULT Old (ostree:0)\nLABEL Old (ostree:0)\n\tKERNEL /boot/ostree/x/v\n\tAPPEND y\nLABEL Older\n\tKERNEL /ostree/x/v\n",
			"TIMEOUT 5\n\nDEFAULT New (ostree:0)\n" + ours},
	} {
		got, err := syslinuxConfig(c.old, Menu{Entries: entries}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, string(got)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		again, err := syslinuxConfig(string(got), Menu{Entries: entries}, 0)
		if err != nil || len(again) != len(got) {
			t.Errorf("%s: written again: %v\n%s", name, err, again)
		}
	}
	if _, err := syslinuxConfig("LABEL x\n\tAPPEND y\n", Menu{}, 0); err == nil {
		t.Error("a label without kernel passed")
	}
	entries[0].Options = "a\nKERNEL /evil"
	if _, err := syslinuxConfig("", Menu{Entries: entries}, 0); !errors.Is(err, bls.ErrInvalid) {
		t.Error(err)
	}
}

func FuzzSyslinuxConfig(f *testing.F) {
	f.Add("TIMEOUT 5\nDEFAULT m\nLABEL m\n\tKERNEL /m\nLABEL o (ostree:0)\n\tKERNEL /ostree/x\n")
	entries := []Entry{{Name: "ostree-1.conf", Entry: bls.Entry{Title: "T (ostree:0)", Linux: "/ostree/v"}}}
	f.Fuzz(func(t *testing.T, old string) {
		got, err := syslinuxConfig(old, Menu{Entries: entries}, 0)
		if err != nil {
			return
		}
		if n := strings.Count(string(got), "\n\tKERNEL /boot/ostree/v\n"); n != 1 {
			t.Fatalf("%d labels of ours in\n%s", n, got)
		}
	})
}

func TestSyslinuxStub(t *testing.T) {
	t.Parallel()
	m := sampleMenu(1)
	for name, c := range map[string]struct {
		stub string
		want error
	}{"included": {"INCLUDE /boot/loader/syslinux.cfg\n", nil}, "foreign": {"LABEL x\n\tKERNEL /x\n", ErrForeignConfig}} {
		boot, _ := bootDir(t, map[string]string{"syslinux/syslinux.cfg": c.stub})
		if err := WriteMenu(boot, LinkSwitch{}, m); err != nil {
			t.Fatal(err)
		}
		if err := (syslinux{}).Prepare(t.Context(), boot, m); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A link, as libostree wants it, with the lines of the generation in force.
	boot, root := bootDir(t, map[string]string{"loader.0/syslinux.cfg": "TIMEOUT 9\n", "syslinux/x": ""})
	for at, to := range map[string]string{"loader": "loader.0", "syslinux/syslinux.cfg": "../loader/syslinux.cfg"} {
		if err := os.Symlink(to, filepath.Join(root, at)); err != nil {
			t.Fatal(err)
		}
	}
	kind, backend, err := Select(t.Context(), Auto, boot, Options{})
	if kind != Syslinux || err != nil {
		t.Fatal(kind, err)
	}
	if err := WriteMenu(boot, LinkSwitch{}, m); err != nil {
		t.Fatal(err)
	}
	if err := backend.Prepare(t.Context(), boot, m); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "loader.1/syslinux.cfg"))
	if err != nil || !strings.HasPrefix(string(data), "TIMEOUT 9\n\nDEFAULT ") {
		t.Errorf("%v\n%s", err, data)
	}
}

func TestUBoot(t *testing.T) {
	t.Parallel()
	boot, root := bootDir(t, map[string]string{"loader.0/uEnv.txt": ""})
	if kind, _, err := Select(t.Context(), Auto, boot, Options{}); kind != None || err != nil {
		t.Fatal(kind, err)
	}
	if err := os.Symlink("loader.0", filepath.Join(root, "loader")); err != nil {
		t.Fatal(err)
	}
	kind, backend, err := Select(t.Context(), Auto, boot, Options{})
	if kind != UBoot || err != nil {
		t.Fatal(kind, err)
	}
	m := sampleMenu(1)
	m.UEnv = []byte("loadfdt=load\n")
	m.Entries[1].FDTDir = "/ostree/os-a/dtb"
	m.Entries = append([]Entry{{Name: "a.conf", Entry: bls.Entry{Linux: "/m"}}}, m.Entries...)
	if err := WriteMenu(boot, LinkSwitch{}, m); err != nil {
		t.Fatal(err)
	}
	if err := backend.Prepare(t.Context(), boot, m); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "loader.1/uEnv.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want := "kernel_image=/boot/ostree/os-b/vmlinuz-2\nramdisk_image=/boot/ostree/os-b/initramfs-2.img\nbootargs=" + m.Entries[1].Options +
		"\nloadfdt=load\n\nkernel_image2=/boot/ostree/os-a/vmlinuz-1\nfdtdir2=/boot/ostree/os-a/dtb\n"
	if d := cmp.Diff(want, string(data)); d != "" {
		t.Error(d)
	}
	m.UEnv = []byte{0xff}
	if err := backend.Prepare(t.Context(), boot, m); !errors.Is(err, bls.ErrInvalid) {
		t.Error(err)
	}
}

func TestGrubGenerator(t *testing.T) {
	t.Parallel()
	boot, root := bootDir(t, map[string]string{"grub2/grub.cfg": "source /loader/grub.cfg\n"})
	script := filepath.Join(root, "generator")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nls $(dirname $2)/entries >> $2; echo $1 $_OSTREE_GRUB2_BOOTVERSION >> $2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	kind, backend, err := Select(t.Context(), Auto, boot, Options{Grub2Generator: script})
	if kind != GRUB2 || err != nil {
		t.Fatal(kind, err)
	}
	m := sampleMenu(1)
	if err := WriteMenu(boot, LinkSwitch{}, m); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as after a crash
		if err := backend.Prepare(t.Context(), boot, m); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "loader.1/grub.cfg"))
	if err != nil || string(data) != "efi.conf\nostree-1-os.conf\nostree-2.conf\n-o 1\n" {
		t.Errorf("%v %q", err, data)
	}
	for _, bad := range []string{"/bin/false", "/bin/true", "/nonexistent"} {
		if err := (grub2{generator: bad}).Prepare(t.Context(), boot, m); err == nil {
			t.Errorf("%s passed", bad)
		}
	}
}

func TestGrub2Script(t *testing.T) {
	t.Parallel()
	got, err := Grub2Script([]Entry{{Name: "ostree-1-os.conf", Entry: bls.Entry{Title: "It's (ostree:0)", Linux: "/ostree/v", Initrd: []string{"/ostree/i"}, Options: "a b"}}},
		Grub2Environment{DeviceID: "simple", PrepareRoot: "set root='hd0'"})
	const want = "menuentry 'It'\\''s (ostree:0)' --class gnu-linux --class gnu --class os --unrestricted 'ostree-0-simple' {\n" +
		"load_video\nset gfxpayload=keep\ninsmod gzio\nset root='hd0'\nlinux16 /ostree/v a b\ninitrd16 /ostree/i\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestZipl: the stamp is there until zipl has run, whoever runs it.
func TestZipl(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	boot, root := bootDir(t, nil)
	pending := func() bool {
		ok, err := boot.Exists(ziplStamp)
		testutil.Must(t, err)
		return ok
	}
	with := func(command ...string) Backend {
		_, b, err := Select(ctx, Zipl, boot, Options{Zipl: command})
		testutil.Must(t, err)
		return b
	}
	runs := with("sh", "-c", "echo x >> "+root+"/bootmap")
	testutil.Must(t, Settle(ctx, runs, boot)) // nothing to do
	testutil.Must(t, runs.Prepare(ctx, boot, sampleMenu(1)))
	if !pending() {
		t.Error("no stamp before the switch")
	}
	testutil.Must(t, errors.Join(with().Finish(ctx, boot, sampleMenu(1)), Settle(ctx, with(), boot)))
	if err := with("sh", "-c", "echo no disk; exit 3").Finish(ctx, boot, sampleMenu(1)); err == nil || !strings.Contains(err.Error(), "no disk") || !pending() {
		t.Error(err)
	}
	testutil.Must(t, Settle(ctx, runs, boot))
	if data, err := os.ReadFile(filepath.Join(root, "bootmap")); err != nil || string(data) != "x\n" || pending() {
		t.Errorf("%v %q", err, data)
	}
	testutil.Must(t, runs.Prepare(ctx, boot, sampleMenu(0)))
	if err := Settle(ctx, with(), boot); !errors.Is(err, ErrZiplPending) {
		t.Error(err)
	}
	testutil.Must(t, errors.Join(runs.Finish(ctx, boot, sampleMenu(0)), Settle(ctx, with(), boot)))
	if err := Check(ctx, with("/nonexistent/zipl"), boot); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
