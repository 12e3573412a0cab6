// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

const loaderConf = "loader/loader.conf"

// write makes a menu and flips to it.
func write(t *testing.T, boot *fsx.Dir, sw Switch, m Menu) error {
	t.Helper()
	if err := WriteMenu(boot, sw, m); err != nil {
		return err
	}
	if err := sw.Arm(boot, m.Version); err != nil {
		return err
	}
	return sw.Flip(boot, m.Version)
}

func content(t *testing.T, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFileSwitchOneByte(t *testing.T) {
	t.Parallel()
	sw := FileSwitch{}
	boot, root := bootDir(t, map[string]string{loaderConf: "timeout 3\neditor no"})
	if err := WriteMenu(boot, sw, menuFor(sw, 1)); err != nil {
		t.Fatal(err)
	}
	if got := content(t, root, loaderConf); got != "timeout 3\neditor no\ndefault ostree-x-*\n" {
		t.Fatalf("%q", got)
	}
	// Nothing of a first order shows before the flip.
	if names, err := filepath.Glob(filepath.Join(root, entriesDir, "*.conf")); err != nil || len(names) != 0 {
		t.Fatal(names, err)
	}
	if err := sw.Flip(boot, 1); err != nil {
		t.Fatal(err)
	}
	for _, v := range []int{0, 1} {
		before := content(t, root, loaderConf)
		st, err := os.Stat(filepath.Join(root, loaderConf))
		if err != nil {
			t.Fatal(err)
		}
		if err := write(t, boot, sw, menuFor(sw, v)); err != nil {
			t.Fatal(err)
		}
		after := content(t, root, loaderConf)
		if want := "timeout 3\neditor no\ndefault ostree-" + string(digit(v)) + "-*\n"; after != want {
			t.Fatalf("%q", after)
		}
		now, err := os.Stat(filepath.Join(root, loaderConf))
		if err != nil || !os.SameFile(st, now) || len(before) != len(after) {
			t.Errorf("the switch was not overwritten in place: %v", err)
		}
	}
}

func TestFileSwitchForeign(t *testing.T) {
	t.Parallel()
	sw := FileSwitch{}
	for conf, want := range map[string]error{
		"default windows.conf\n":                          ErrForeignConfig,
		"default ostree-1-*\ndefault @saved\n":            ErrForeignConfig,
		"preferred x\ndefault ostree-1-*\n":               ErrForeignConfig,
		"default windows.conf\n\tdefault ostree-1-*  \n":  nil,
		"#default windows.conf\n  timeout 1\r\n":          nil,
		"default ostree-0-*\ndefault ostree-1-*\n":        nil,
		"default ostree-1-*\r\ntimeout menu-force\r\n":    nil,
		strings.Repeat("# long\n", 300) + "editor yes\n ": nil,
	} {
		boot, root := bootDir(t, map[string]string{loaderConf: conf, "loader/entries/ostree-1-1.conf": "title a\nlinux /a\n"})
		if v, err := sw.Active(boot); v != 1 || err != nil {
			t.Errorf("%q: %d %v", conf, v, err)
		}
		err := write(t, boot, sw, menuFor(sw, 0))
		if !errors.Is(err, want) {
			t.Errorf("%q: %v", conf, err)
		}
		if want != nil {
			if got := content(t, root, loaderConf); got != conf {
				t.Errorf("%q was changed to %q", conf, got)
			}
			continue
		}
		if v, err := sw.Active(boot); v != 0 || err != nil {
			t.Errorf("%q: %d %v", conf, v, err)
		}
	}
	boot, root := bootDir(t, nil)
	if err := os.Symlink("loader.0", filepath.Join(root, "loader")); err != nil {
		t.Fatal(err)
	}
	if _, err := sw.Active(boot); err == nil {
		t.Error("took a link for a directory")
	}
}

// A line that somebody removed comes back before the other generation is written.
func TestFileSwitchLineComesBack(t *testing.T) {
	t.Parallel()
	sw := FileSwitch{}
	boot, root := bootDir(t, nil)
	if err := write(t, boot, sw, menuFor(sw, 1)); err != nil {
		t.Fatal(err)
	}
	for _, conf := range []string{"", "timeout 1", "default ostree-x-*\n"} {
		if err := os.WriteFile(filepath.Join(root, loaderConf), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := WriteMenu(boot, sw, menuFor(sw, 0)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, root, loaderConf); !strings.HasSuffix(got, "\ndefault ostree-1-*\n") && got != "default ostree-1-*\n" {
			t.Errorf("%q: %q", conf, got)
		}
	}
	if err := os.Remove(filepath.Join(root, loaderConf)); err != nil {
		t.Fatal(err)
	}
	if v, err := sw.Active(boot); v != 1 || err != nil {
		t.Error(v, err)
	}
}

func TestFileSwitchESP(t *testing.T) {
	t.Parallel()
	boot, root := bootDir(t, nil)
	esp, espRoot := bootDir(t, map[string]string{"EFI/systemd/systemd-bootx64.efi": ""})
	o := Options{FAT: true, ESP: esp}
	if kind, _, err := Select(t.Context(), Auto, boot, o); err != nil || kind != SystemdBoot {
		t.Fatal(kind, err)
	}
	sw, err := SelectSwitch(t.Context(), Auto, boot, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t, boot, sw, menuFor(sw, 1)); err != nil {
		t.Fatal(err)
	}
	if got := content(t, espRoot, loaderConf); got != "default ostree-1-*\n" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(filepath.Join(root, loaderConf)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, kind := range []Kind{Syslinux, UBoot} {
		if _, err := SelectSwitch(t.Context(), kind, boot, o); !errors.Is(err, ErrNoLinks) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestFATGrubStub(t *testing.T) {
	t.Parallel()
	boot, _ := bootDir(t, map[string]string{"grub2/grub.cfg": "blscfg\n"})
	if err := (grub2{fat: true}).Prepare(t.Context(), boot, Menu{}); !errors.Is(err, ErrForeignConfig) {
		t.Error(err)
	}
	boot, _ = bootDir(t, map[string]string{"loader/grub.cfg": "set timeout=1\n"})
	if err := WriteMenu(boot, FileSwitch{grub: true}, menuFor(FileSwitch{}, 1)); !errors.Is(err, ErrForeignConfig) {
		t.Error(err)
	}
}

// loaderValue is a variable as efivarfs shows it.
func loaderValue(text string) string {
	data := []byte{7, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		data = binary.LittleEndian.AppendUint16(data, u)
	}
	return string(data)
}

func TestLoaderVariables(t *testing.T) {
	t.Parallel()
	const guid = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	boot, _ := bootDir(t, nil)
	for file, want := range map[string]error{
		"LoaderEntryDefault":   ErrForeignConfig,
		"LoaderEntryPreferred": ErrForeignConfig,
		"LoaderEntrySelected":  nil,
	} {
		vars, _ := bootDir(t, map[string]string{file + guid: loaderValue("windows.conf")})
		_, b, err := Select(t.Context(), SystemdBoot, boot, Options{EFIVars: vars})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Prepare(t.Context(), boot, Menu{}); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), `"windows.conf"`) {
			t.Errorf("%s: %v", file, err)
		}
	}
	vars, _ := bootDir(t, map[string]string{"LoaderEntryDefault" + guid: loaderValue("")})
	if err := (systemdBoot{efivars: vars}).Prepare(t.Context(), boot, Menu{}); err != nil {
		t.Error(err)
	}
}

// counter is what the boot loader interface needs of a backend that counts.
type counter interface {
	Tries(ctx context.Context, boot *fsx.Dir) (left, done int, counting bool, err error)
	Bless(ctx context.Context, boot *fsx.Dir) error
}

func TestCounting(t *testing.T) {
	t.Parallel()
	boot, root := bootDir(t, nil)
	_, b, err := Select(t.Context(), SystemdBoot, boot, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sd := b.(counter)
	if _, _, _, err := sd.Tries(t.Context(), boot); err == nil {
		t.Error("counted without entries")
	}
	sw := FileSwitch{}
	m := menuFor(sw, 1)
	m.Tries = 3
	if err := write(t, boot, sw, m); err != nil {
		t.Fatal(err)
	}
	expect := func(left, done int, counting bool) {
		t.Helper()
		l, d, c, err := sd.Tries(t.Context(), boot)
		if err != nil || l != left || d != done || c != counting {
			t.Errorf("%d %d %v %v", l, d, c, err)
		}
	}
	expect(3, 0, true)
	at := func(name string) string { return filepath.Join(root, entriesDir, name) }
	if err := os.Rename(at("ostree-1-2+3.conf"), at("ostree-1-2+1-2.conf")); err != nil {
		t.Fatal(err)
	}
	expect(1, 2, true)
	const onTrial = `"b=c d" hostctl.trial panic=10 `
	if got := content(t, root, entriesDir+"/ostree-1-2+1-2.conf"); !strings.Contains(got, onTrial) {
		t.Error(got)
	}
	// Bless, cut short after its copy, and done again.
	if err := os.WriteFile(at("ostree-1-2.conf"), []byte(content(t, root, entriesDir+"/ostree-1-2+1-2.conf")), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Entries[0].Name = "ostree-1-2.conf"
	for range 2 {
		entries, _, _, err := ReadMenu(boot, sw, 1)
		if err != nil {
			t.Fatal(err)
		}
		entries[0].Options = bls.ParseKargs(entries[0].Options).WithoutTrial().String()
		if d := cmp.Diff(m.Entries[:2], entries); d != "" {
			t.Fatal(d)
		}
		if err := sd.Bless(t.Context(), boot); err != nil {
			t.Fatal(err)
		}
	}
	expect(0, 0, false)
	if _, err := os.Stat(at("ostree-1-2+1-2.conf")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.Rename(at("ostree-1-2.conf"), at("ostree-1-2+3-0.conf")); err != nil {
		t.Fatal(err)
	}
	if err := sd.Bless(t.Context(), boot); err != nil {
		t.Fatal(err)
	}
	expect(0, 0, false)
	got := content(t, root, entriesDir+"/ostree-1-2.conf")
	if !strings.Contains(got, "linux /ostree/os-b/vmlinuz-2") || !strings.Contains(got, "\"b=c d\"\n") {
		t.Error(got)
	}
}
