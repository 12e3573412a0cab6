// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
)

const deployment = "ostree/deploy/os/deploy/abc.0"

// TestBuildKeepsEverything looks at the written filesystems with debugfs, which
// needs no mount.
func TestBuildKeepsEverything(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "foreign owners and the immutable flag need root")
	needGRUB(t)
	debugfs := testutil.Tool(t, "debugfs")
	src := makeTree(t)
	dir := t.TempDir()
	res := build(t, src, dir, "disk", Options{})
	at := func(p Partition, cmd string) string {
		t.Helper()
		image := filepath.Join(dir, "disk") + "?offset=" + strconv.FormatInt(p.Start, 10)
		out, err := exec.Command(debugfs, "-R", cmd, image).CombinedOutput()
		if err != nil {
			t.Fatalf("debugfs %s: %v: %s", cmd, err, out)
		}
		return string(out)
	}
	boot, root := res.Partitions[1], res.Partitions[2]
	wants := []struct {
		part Partition
		cmd  string
		has  []string
	}{
		{root, "stat /" + deployment + "/usr/bin/tool", []string{"Mode:  04755", "User:  1000", "Group:   100", "Links: 2", "user.note", "hello"}},
		{root, "stat /" + deployment, []string{"Flags: 0x80010", "Type: directory"}},
		{root, "stat /" + deployment + "/usr", []string{"Flags: 0x80000"}},
		{root, "cat /" + deployment + "/usr/bin/tool", []string{"#!/bin/true"}},
		{root, "stat /" + deployment + "/link", []string{"Fast link dest: \"usr/bin\""}},
		{root, "stat /tmp", []string{"Mode:  01777"}},
		{root, "stat /boot", []string{"Type: directory", "Links: 2"}},
		{root, "stat /boot/loader", []string{"File not found"}},
		{boot, "stat /loader", []string{"Fast link dest: \"loader.1\""}},
		{boot, "cat /loader.1/entries/ostree-1.conf", []string{"title x"}},
		{boot, "cat /grub/grub.cfg", []string{"configfile /loader/grub.cfg"}},
		{boot, "show_super_stats -h", []string{"volume name:   boot", res.BootUUID}},
		{root, "show_super_stats -h", []string{"volume name:   root", res.RootUUID, "has_journal"}},
	}
	for _, w := range wants {
		out := at(w.part, w.cmd)
		for _, want := range w.has {
			if !strings.Contains(out, want) {
				t.Errorf("%s lacks %q:\n%s", w.cmd, want, out)
			}
		}
	}
	tool, object := at(root, "stat /"+deployment+"/usr/bin/tool"), at(root, "stat /ostree/repo/object")
	if inode(tool) != inode(object) || inode(tool) == "" {
		t.Errorf("hard link lost: %s, %s", inode(tool), inode(object))
	}
	checkLoader(t, filepath.Join(dir, "disk"), res.Partitions[0])
	if st, err := os.Stat(filepath.Join(dir, "disk")); err != nil || st.Size() != res.Size {
		t.Errorf("size of the file: %v, %v, want %d", st, err, res.Size)
	}
}

// inode takes "Inode: N" out of debugfs' stat.
func inode(stat string) string {
	_, rest, _ := strings.Cut(stat, "Inode: ")
	n, _, _ := strings.Cut(rest, " ")
	return n
}

func checkLoader(t *testing.T, name string, bios Partition) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mbr, first := make([]byte, 512), make([]byte, 512)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(first, bios.Start); err != nil {
		t.Fatal(err)
	}
	lba := binary.LittleEndian.Uint64(mbr[bootKernelLBA:])
	next := binary.LittleEndian.Uint64(first[blockListEnd:])
	if lba != uint64(bios.Start/512) || next != lba+1 || mbr[446+4] != 0xee || mbr[510] != 0x55 || mbr[511] != 0xaa {
		t.Errorf("boot sector: core at %d, rest at %d, % x", lba, next, mbr[440:])
	}
}

func TestSeedFixesIdentifiers(t *testing.T) {
	t.Parallel()
	needGRUB(t)
	src, dir := makeTree(t), t.TempDir()
	a := build(t, src, dir, "a", Options{Seed: "release 1"})
	b := build(t, src, dir, "b", Options{Seed: "release 1"})
	c := build(t, src, dir, "c", Options{})
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	if c.RootUUID == a.RootUUID {
		t.Error("an image without a seed has the identifiers of one with a seed")
	}
}

func TestBuildLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	needGRUB(t)
	src, dir := makeTree(t), t.TempDir()
	d := testutil.OpenDir(t, dir)
	testutil.Must(t, d.WriteFile("disk", []byte("old"), 0o600))
	_, err := Build(t.Context(), Options{
		Sysroot: testutil.OpenDir(t, src), Dir: d, Name: "disk", BootSize: 64 * mib, Slack: 32 * mib, GRUBDir: "/nonexistent",
	})
	if err == nil {
		t.Fatal("built without GRUB")
	}
	list, err := os.ReadDir(dir)
	testutil.Must(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "disk"))
	testutil.Must(t, err)
	if len(list) != 1 || !bytes.Equal(data, []byte("old")) {
		t.Errorf("left behind: %v, %q", list, data)
	}
	_, err = Build(t.Context(), Options{Sysroot: testutil.OpenDir(t, src), Dir: d, Name: "disk", Size: 24 * mib, BootSize: 16 * mib})
	if !errors.Is(err, ErrTooSmall) {
		t.Errorf("small image: %v", err)
	}
}

func TestWriteFstab(t *testing.T) {
	t.Parallel()
	const (
		line = "LABEL=boot /boot ext4 defaults,nosuid,nodev 0 2\n"
		efi  = "LABEL=EFI /boot/efi vfat defaults,nosuid,nodev,umask=0077,nofail 0 2\n"
		fat  = "LABEL=BOOT /boot vfat defaults,nosuid,nodev,umask=0077 0 2\n"
	)
	for _, c := range []struct {
		boot      Boot
		old, want string
	}{
		{BIOSGRUB, "", line},
		{BIOSGRUB, "# mine\n", "# mine\n" + line},
		{BIOSGRUB, "LABEL=d /data xfs", "LABEL=d /data xfs\n" + line},
		{BIOSGRUB, "UUID=1 /boot ext4 ro 0 0\n", "UUID=1 /boot ext4 ro 0 0\n"},
		{BIOSGRUB, "#UUID=1 /boot ext4 ro 0 0\n", "#UUID=1 /boot ext4 ro 0 0\n" + line},
		{UEFIGRUB, "", line + efi},
		{UEFIGRUB, "UUID=1 /boot ext4 ro 0 0\n", "UUID=1 /boot ext4 ro 0 0\n" + efi},
		{UEFISystemdBoot, "", fat},
	} {
		d := testutil.OpenDir(t, t.TempDir())
		if c.old != "" {
			testutil.Must(t, d.WriteFile("fstab", []byte(c.old), 0o644))
		}
		testutil.Must(t, WriteFstab(d, c.boot, ""))
		got, err := d.ReadFile("fstab", 1000)
		if err != nil || string(got) != c.want {
			t.Errorf("%s, %q: got %q, %v", c.boot, c.old, got, err)
		}
	}
}

func build(t *testing.T, src, dir, name string, o Options) Result {
	t.Helper()
	o.Sysroot, o.Dir, o.Name = testutil.OpenDir(t, src), testutil.OpenDir(t, dir), name
	o.BootSize, o.Slack = 64*mib, 32*mib
	res, err := Build(t.Context(), o)
	testutil.Must(t, err)
	return res
}

// makeTree makes a sysroot with everything that could get lost.
func makeTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	d := testutil.OpenDir(t, root)
	for _, dir := range []string{
		deployment + "/usr/bin", deployment + "/etc", "ostree/repo", "boot/loader.1/entries", "boot/empty dir", "tmp",
	} {
		testutil.Must(t, d.MkdirAll(dir, 0o755))
	}
	testutil.Must(t, d.Chmod("tmp", 0o1777))
	testutil.Must(t, d.WriteFile("ostree/repo/object", []byte("#!/bin/true\n"), 0o755))
	testutil.Must(t, d.Lchown("ostree/repo/object", 1000, 100))
	testutil.Must(t, d.Chmod("ostree/repo/object", 0o4755))
	testutil.Must(t, d.SetXattr("ostree/repo/object", "user.note", []byte("hello")))
	testutil.Must(t, d.Link("ostree/repo/object", d, deployment+"/usr/bin/tool"))
	testutil.Must(t, d.Symlink("usr/bin", deployment+"/link"))
	testutil.Must(t, d.Symlink("loader.1", "boot/loader"))
	testutil.Must(t, d.WriteFile("boot/loader.1/entries/ostree-1.conf", []byte("title x\n"), 0o644))
	testutil.Must(t, d.Link("boot/loader.1/entries/ostree-1.conf", d, "boot/second name"))
	setImmutable(t, d, true)
	t.Cleanup(func() { setImmutable(t, testutil.OpenDir(t, root), false) })
	return root
}

func setImmutable(t *testing.T, d *fsx.Dir, on bool) {
	t.Helper()
	dep, err := d.OpenDir(deployment)
	testutil.Must(t, err)
	defer dep.Close()
	if err := sys.SetImmutable(dep.Fd(), on); err != nil {
		t.Skipf("set the immutable flag: %v", err)
	}
}

func needGRUB(t *testing.T) {
	t.Helper()
	testutil.Tool(t, "grub-mkimage")
	testutil.Tool(t, "mkfs.ext4")
	if _, err := os.Stat(DefaultGRUBDir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}
