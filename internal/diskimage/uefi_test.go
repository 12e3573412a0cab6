// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

const fakeGRUB = "MZ grub\x00/EFI/vendor\x00more"

// bootTree makes a tree with boot loaders.
func bootTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	d := testutil.OpenDir(t, dir)
	for name, text := range map[string]string{
		"usr/lib/grub/x86_64-efi/monolithic/grubx64.efi":  fakeGRUB,
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi":    "MZ systemd-boot",
		"usr/lib/systemd/boot/efi/another architecture's": "x",
	} {
		testutil.Must(t, d.MkdirAll(filepath.Dir(name), 0o755))
		testutil.Must(t, d.WriteFile(name, []byte(text), 0o644))
	}
	return dir
}

// esp takes the EFI system partition out of an image, checked by fsck.vfat.
func esp(t *testing.T, image string, p Partition) string {
	t.Helper()
	in, err := os.Open(image)
	testutil.Must(t, err)
	defer in.Close()
	name := filepath.Join(t.TempDir(), "esp")
	out, err := os.Create(name)
	testutil.Must(t, err)
	_, err = io.Copy(out, io.NewSectionReader(in, p.Start, p.Size))
	testutil.Must(t, errors.Join(err, out.Close()))
	if msg, err := exec.Command(testutil.Tool(t, "fsck.vfat"), "-n", name).CombinedOutput(); err != nil {
		t.Fatalf("fsck.vfat: %v: %s", err, msg)
	}
	return name
}

func fatFile(t *testing.T, esp, name string) string {
	t.Helper()
	out, err := exec.Command(testutil.Tool(t, "mtype"), "-i", esp, "::/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("mtype %s: %v: %s", name, err, out)
	}
	return string(out)
}

func TestUEFIGRUB(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "mkfs.vfat")
	testutil.Tool(t, "mcopy")
	dir := t.TempDir()
	res := build(t, makeTree(t), dir, "disk", Options{Size: 4 << 30, Boot: UEFIGRUB, Tree: testutil.OpenDir(t, bootTree(t))})
	var names []string
	for _, p := range res.Partitions {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"esp", "boot", "root"}, names); diff != "" {
		t.Fatal(diff)
	}
	at := esp(t, filepath.Join(dir, "disk"), res.Partitions[0])
	if got := fatFile(t, at, "EFI/BOOT/BOOTX64.EFI"); got != fakeGRUB {
		t.Errorf("boot loader %q", got)
	}
	cfg := fatFile(t, at, "EFI/vendor/grub.cfg")
	if !strings.Contains(cfg, res.BootUUID) || !strings.Contains(cfg, "configfile $prefix/grub.cfg") {
		t.Errorf("grub.cfg:\n%s", cfg)
	}
	stub := filepath.Join(t.TempDir(), "grub.cfg")
	testutil.Must(t, os.WriteFile(stub, []byte(cfg), 0o600))
	if out, err := exec.Command(testutil.Tool(t, "grub-script-check"), stub).CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v: %s", err, out)
	}
	image := filepath.Join(dir, "disk") + "?offset=" + strconv.FormatInt(res.Partitions[1].Start, 10)
	out, err := exec.Command(testutil.Tool(t, "debugfs"), "-R", "stat /efi", image).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Type: directory") {
		t.Errorf("no mount point for the system partition: %v: %s", err, out)
	}
}

// fatSysroot is what an installation for systemd-boot leaves.
func fatSysroot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	d := testutil.OpenDir(t, root)
	for _, dir := range []string{"ostree/repo", "boot/loader/entries", "boot/ostree/os-0123456789abcdef0123456789abcdef"} {
		testutil.Must(t, d.MkdirAll(dir, 0o755))
	}
	testutil.Must(t, d.WriteFile("boot/loader/entries/ostree-1.conf", []byte("title x\n"), 0o644))
	testutil.Must(t, d.WriteFile("boot/ostree/os-0123456789abcdef0123456789abcdef/vmlinuz-6.1", []byte("kernel"), 0o755))
	return root
}

func TestUEFISystemdBoot(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "mkfs.vfat")
	testutil.Tool(t, "mcopy")
	dir, root := t.TempDir(), fatSysroot(t)
	tree := testutil.OpenDir(t, bootTree(t))
	res := build(t, root, dir, "disk", Options{Boot: UEFISystemdBoot, Tree: tree, Seed: "x"})
	if len(res.Partitions) != 2 || len(res.BootUUID) != len("1234-ABCD") {
		t.Fatalf("%+v", res)
	}
	at := esp(t, filepath.Join(dir, "disk"), res.Partitions[0])
	for name, want := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI":                                   "MZ systemd-boot",
		"EFI/systemd/systemd-bootx64.efi":                        "MZ systemd-boot",
		"loader/entries/ostree-1.conf":                           "title x\n",
		"ostree/os-0123456789abcdef0123456789abcdef/vmlinuz-6.1": "kernel",
	} {
		if got := fatFile(t, at, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	label, err := exec.Command(testutil.Tool(t, "blkid"), "-p", "-o", "export", at).CombinedOutput()
	if err != nil || !strings.Contains(string(label), "LABEL=BOOT\n") || !strings.Contains(string(label), "UUID="+res.BootUUID+"\n") {
		t.Errorf("blkid: %v: %s", err, label)
	}
	testutil.Must(t, os.Symlink("loader.1", filepath.Join(root, "boot", "link")))
	_, err = Build(t.Context(), Options{Sysroot: testutil.OpenDir(t, root), Dir: testutil.OpenDir(t, dir), Name: "disk",
		Boot: UEFISystemdBoot, Tree: tree, BootSize: 64 * mib, Slack: 32 * mib})
	if err == nil || !strings.Contains(err.Error(), "boot/link") {
		t.Errorf("a link on FAT: %v", err)
	}
}

// TestSecureBootFiles: the keys that a tree brings for the firmware come with its
// systemd-boot, and a system partition with shim before it as the tree has it.
func TestSecureBootFiles(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "mkfs.vfat")
	testutil.Tool(t, "mcopy")
	tree := bootTree(t)
	d := testutil.OpenDir(t, tree)
	put := func(name, data string) {
		t.Helper()
		testutil.Must(t, d.MkdirAll(filepath.Dir(filepath.Join(readyESP, name)), 0o755))
		testutil.Must(t, d.WriteFile(filepath.Join(readyESP, name), []byte(data), 0o644))
	}
	check := func(want map[string]string) {
		t.Helper()
		dir := t.TempDir()
		res := build(t, fatSysroot(t), dir, "disk", Options{Boot: UEFISystemdBoot, Tree: d})
		at := esp(t, filepath.Join(dir, "disk"), res.Partitions[0])
		for name, data := range want {
			if got := fatFile(t, at, name); got != data {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	put("loader/keys/auto/PK.auth", "keys")
	put("EFI/vendor/shimx64.efi", "MZ shim of GRUB")
	check(map[string]string{"loader/keys/auto/PK.auth": "keys", "loader/entries/ostree-1.conf": "title x\n",
		"EFI/BOOT/BOOTX64.EFI": "MZ systemd-boot", "EFI/systemd/systemd-bootx64.efi": "MZ systemd-boot"})
	const second = "MZ #### LoaderInfo: systemd-boot 257 ####"
	put("EFI/BOOT/BOOTX64.EFI", "MZ shim")
	put("EFI/BOOT/grubx64.efi", second)
	put("EFI/BOOT/mmx64.efi", "MZ keys")
	put("loader/entries/ostree-1.conf", "not the tree's")
	check(map[string]string{"loader/keys/auto/PK.auth": "keys", "loader/entries/ostree-1.conf": "title x\n",
		"EFI/BOOT/BOOTX64.EFI": "MZ shim", "EFI/BOOT/grubx64.efi": second, "EFI/BOOT/mmx64.efi": "MZ keys", "EFI/vendor/shimx64.efi": "MZ shim of GRUB"})
}

// TestReadySystemPartition is a tree of Fedora's kind: shim starts GRUB, and nothing
// that is signed changes.
func TestReadySystemPartition(t *testing.T) {
	t.Parallel()
	dir := bootTree(t)
	d := testutil.OpenDir(t, dir)
	want := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":     []byte("MZ shim"),
		"EFI/BOOT/fbx64.efi":       []byte("MZ fallback"),
		"EFI/vendor/shimx64.efi":   []byte("MZ shim"),
		"EFI/vendor/grubx64.efi":   []byte("MZ grub, signed"),
		"EFI/vendor/fonts/one.pf2": []byte("font"),
	}
	for name, data := range want {
		testutil.Must(t, d.MkdirAll(filepath.Dir(filepath.Join(readyESP, name)), 0o755))
		testutil.Must(t, d.WriteFile(filepath.Join(readyESP, name), data, 0o644))
	}
	b := builder{Options: Options{Boot: UEFIGRUB, Tree: d}}
	want["EFI/vendor/grub.cfg"] = []byte(b.espConfig())
	got, err := b.loaderFiles()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	testutil.Must(t, d.Remove(readyESP+"/EFI/vendor/grubx64.efi"))
	if got, err := b.loaderFiles(); err != nil || string(got[removableLoader]) != fakeGRUB {
		t.Errorf("without GRUB in it: %v, %q", err, got[removableLoader])
	}
	testutil.Must(t, d.Symlink("/etc/passwd", readyESP+"/EFI/vendor/link"))
	if _, err := b.loaderFiles(); err == nil {
		t.Error("a link was followed")
	}
}

func TestNoLoader(t *testing.T) {
	t.Parallel()
	empty := testutil.OpenDir(t, t.TempDir())
	for _, boot := range []Boot{UEFIGRUB, UEFISystemdBoot} {
		b := builder{Options: Options{Boot: boot, Tree: empty}}
		if _, err := b.loaderFiles(); err == nil || !strings.Contains(err.Error(), "add package") {
			t.Errorf("%s: %v", boot, err)
		}
		b.Tree = nil
		if _, err := b.loaderFiles(); err == nil {
			t.Errorf("%s: found a boot loader in no tree", boot)
		}
	}
	if _, err := grubPrefix([]byte("MZ /EFI/x")); err == nil {
		t.Error("found a prefix in a file without")
	}
	if _, err := ParseBoot("lilo"); !errors.Is(err, ErrUnknownBoot) || !strings.Contains(err.Error(), "uefi-grub") {
		t.Errorf("lilo: %v", err)
	}
}
