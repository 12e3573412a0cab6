// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

func bootDir(t *testing.T, files map[string]string) (*fsx.Dir, string) {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return testutil.OpenDir(t, root), root
}

func sampleMenu(version int) Menu { return menuFor(LinkSwitch{}, version) }

func menuFor(sw Switch, version int) Menu {
	return Menu{Version: version, Entries: []Entry{
		{Name: NameEntry(sw, version, 0, 2, ""), Entry: bls.Entry{Title: "It's $new (ostree:0)", Version: "2", Linux: "/ostree/os-b/vmlinuz-2",
			Initrd: []string{"/ostree/os-b/initramfs-2.img", "/ostree/o.img"}, Options: `root=LABEL=x dyndbg="file a +p" 'q $(x) "b=c d"`}},
		{Name: NameEntry(sw, version, 1, 2, "os"), Entry: bls.Entry{Title: "Old (ostree:1)", Version: "1", Linux: "/boot/ostree/os-a/vmlinuz-1"}},
		{Name: "efi.conf", Entry: bls.Entry{Title: "Firmware"}},
	}}
}

// TestSwitch is the contract of Switch and of every Backend.
func TestSwitch(t *testing.T) {
	t.Parallel()
	grub := map[string]string{"grub2/grub.cfg": "source /loader/grub.cfg\n"}
	fat := map[string]string{"loader/entries/efi.conf": "title Firmware\n", "loader/loader.conf": "timeout 3"}
	for name, c := range map[string]struct {
		kind  Kind
		files map[string]string
		o     Options
	}{
		"none":         {None, nil, Options{}},
		"grub2":        {GRUB2, grub, Options{}},
		"syslinux":     {Syslinux, map[string]string{"syslinux/syslinux.cfg": "INCLUDE ../loader/syslinux.cfg\n"}, Options{}},
		"zipl":         {Zipl, nil, Options{Zipl: []string{"true"}}},
		"systemd-boot": {SystemdBoot, fat, Options{FAT: true}},
		"none, FAT":    {None, map[string]string{"loader/entries/efi.conf": "title Firmware\n"}, Options{FAT: true}},
		"grub2, FAT":   {GRUB2, map[string]string{"grub2/grub.cfg": "source /loader/grub.cfg\n", "loader/entries/efi.conf": "title Firmware\n"}, Options{FAT: true}},
	} {
		t.Run(name, func(t *testing.T) { contract(t, c.kind, c.files, c.o) })
	}
}

func contract(t *testing.T, kind Kind, files map[string]string, o Options) {
	ctx := t.Context()
	boot, root := bootDir(t, files)
	ask := Auto
	if kind == Zipl { // found by the architecture
		ask = Zipl
	}
	got, backend, err := Select(ctx, ask, boot, o)
	if err != nil || got != kind {
		t.Fatalf("Select: %v %v, want %v", err, got, kind)
	}
	sw, err := SelectSwitch(ctx, Auto, boot, o)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := sw.Active(boot); v != -1 || err != nil {
		t.Fatalf("Active: %d %v", v, err)
	}
	for _, v := range []int{1, 0, 1} {
		m := menuFor(sw, v)
		before, _ := sw.Active(boot)
		for range 2 { // as after a crash
			if err := WriteMenu(boot, sw, m); err != nil {
				t.Fatal(err)
			}
			if err := backend.Prepare(ctx, boot, m); err != nil {
				t.Fatal(err)
			}
			if err := sw.Arm(boot, v); err != nil {
				t.Fatal(err)
			}
		}
		if now, _ := sw.Active(boot); now != before {
			t.Fatalf("preparing changed the next boot from %d to %d", before, now)
		}
		if err := sw.Flip(boot, 1-v); err == nil {
			t.Fatal("flipped to what was not armed")
		}
		if err := sw.Flip(boot, v); err != nil {
			t.Fatal(err)
		}
		if now, err := sw.Active(boot); now != v || err != nil {
			t.Fatalf("Active: %d %v", now, err)
		}
		if err := WriteMenu(boot, sw, m); err == nil {
			t.Fatal("overwrote the generation in use")
		}
		for range 2 {
			if err := backend.Finish(ctx, boot, m); err != nil {
				t.Fatal(err)
			}
		}
		entries, foreign, bad, err := ReadMenu(boot, sw, v)
		if err != nil || len(bad) != 0 {
			t.Fatalf("%v %v", err, bad)
		}
		if d := cmp.Diff(m.Entries, append(entries, foreign...)); d != "" {
			t.Fatal(d)
		}
		paths, err := MenuPaths(boot, sw)
		if err != nil || !slices.ContainsFunc(paths, func(p string) bool { return Generation(p) == v }) {
			t.Fatalf("%v %q", err, paths)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "loader.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestForeignLoader(t *testing.T) {
	t.Parallel()
	boot, root := bootDir(t, map[string]string{"loader/entries/x.conf": "title x\n"})
	if _, err := (LinkSwitch{}).Active(boot); !errors.Is(err, ErrNotSwitchable) {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "loader")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../etc", filepath.Join(root, "loader")); err != nil {
		t.Fatal(err)
	}
	if _, err := (LinkSwitch{}).Active(boot); !errors.Is(err, ErrNotSwitchable) {
		t.Error(err)
	}
	if _, _, err := Select(context.Background(), "lilo", boot, Options{}); !errors.Is(err, ErrUnknownKind) {
		t.Error(err)
	}
}

func TestReadMenuOrder(t *testing.T) {
	t.Parallel()
	boot, _ := bootDir(t, map[string]string{
		"loader.0/entries/ostree-1-os.conf": "version 9\n", "loader.0/entries/ostree-2.conf": "version 10\n",
		"loader.0/entries/ostree-3.conf": "title no version\n", "loader.0/entries/ostree-4.conf": "linux a\nlinux b\n",
		"loader.0/entries/readme": "x", "loader.0/entries/a.conf": "title a\n",
	})
	entries, foreign, bad, err := ReadMenu(boot, LinkSwitch{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range append(entries, foreign...) {
		got = append(got, e.Name)
	}
	want := []string{"ostree-2.conf", "ostree-1-os.conf", "ostree-3.conf", "a.conf"}
	if d := cmp.Diff(want, got); d != "" || len(bad) != 1 || bad["ostree-4.conf"] == nil {
		t.Fatal(d, bad)
	}
}

func TestGrubStub(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"none yet": {nil, nil},
		"stub":     {map[string]string{"grub/grub.cfg": "configfile /boot/loader/grub.cfg\n"}, nil},
		"blscfg":   {map[string]string{"grub2/grub.cfg": "insmod blscfg\nblscfg\n"}, nil},
		"foreign":  {map[string]string{"grub/grub.cfg": "menuentry x {\n}\n"}, ErrForeignConfig},
		"one good": {map[string]string{"grub2/grub.cfg": "menuentry x {\n}\n", "grub/grub.cfg": "configfile /loader/grub.cfg"}, nil},
	} {
		boot, root := bootDir(t, c.files)
		m := sampleMenu(1)
		if err := WriteMenu(boot, LinkSwitch{}, m); err != nil {
			t.Fatal(err)
		}
		if err := (grub2{}).Prepare(context.Background(), boot, m); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(root, "loader.1/grub.cfg")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: wrote a configuration that nobody reads", name)
		}
	}
	boot, root := bootDir(t, map[string]string{"grub2/x": ""})
	if err := os.Symlink("../loader/grub.cfg", filepath.Join(root, "grub2/grub.cfg")); err != nil {
		t.Fatal(err)
	}
	if ok, err := (grub2{}).Probe(context.Background(), boot); !ok || err != nil {
		t.Error(ok, err)
	}
	if err := (grub2{}).checkStubs(boot); err != nil {
		t.Error(err)
	}
}

func TestGrubConfig(t *testing.T) {
	t.Parallel()
	data, err := grubConfig(sampleMenu(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`menuentry 'It'\''s $new (ostree:0)' --class ostree --id 'ostree-2' {`,
		`linux ${bootdir}'/ostree/os-b/vmlinuz-2' 'root=LABEL=x' 'dyndbg=file a +p' ''\''q' '$(x)' 'b=c d'` + "\n",
		`initrd ${bootdir}'/ostree/os-b/initramfs-2.img' ${bootdir}'/ostree/o.img'` + "\n",
		`linux ${bootdir}'/ostree/os-a/vmlinuz-1'` + "\n",
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %s in\n%s", want, data)
		}
	}
	if strings.Contains(string(data), "Firmware") {
		t.Error("an entry without kernel got in")
	}
	if _, err := grubConfig(Menu{Entries: []Entry{{Name: "x", Entry: bls.Entry{Linux: "/x", Options: "a\n}\nreboot"}}}}); !errors.Is(err, bls.ErrInvalid) {
		t.Error(err)
	}
	cmd := exec.Command(testutil.Tool(t, "grub-script-check"))
	cmd.Stdin = strings.NewReader(string(data))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
