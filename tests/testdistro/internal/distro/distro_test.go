// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
)

func TestMendLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, target, want string }{
		{"lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2.13", "libz.so.1.2.13"},
		{"lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"},
		{"usr/lib/x86_64-linux-gnu/libz.so", "../../../lib/x86_64-linux-gnu/libz.so.1", "libz.so.1"},
		{"usr/bin/foo", "../../bin/foo", "foo"},
		{"sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"},
		{"sbin/init", "../lib/systemd/systemd", "../lib/systemd/systemd"},
		{"lib/udev/x", "../../etc/y", "../../../etc/y"},
		{"etc/os-release", "../usr/lib/os-release", "../usr/lib/os-release"},
		{"bin/sh", "dash", "dash"},
	} {
		if got := mendLink(c.from, mergeUsr(c.from), c.target); got != c.want {
			t.Errorf("mendLink(%s -> %s) = %s, want %s", c.from, c.target, got, c.want)
		}
	}
}

func TestKernelPaths(t *testing.T) {
	t.Parallel()
	r := recipe("linux-image-amd64")
	for in, want := range map[string]string{
		"boot/vmlinuz-6.1.0-1-amd64":              "usr/lib/modules/6.1.0-1-amd64/vmlinuz",
		"boot/System.map-6.1.0-1-amd64":           "usr/lib/modules/6.1.0-1-amd64/System.map",
		"usr/lib/modules/6.1.0-1-amd64/kernel/fs": "usr/lib/modules/6.1.0-1-amd64/kernel/fs",
	} {
		if got := r.rename(in); got != want {
			t.Errorf("rename(%s) = %s, want %s", in, got, want)
		}
	}
	const mods = "usr/lib/modules/6.1.0-1-amd64/kernel/"
	for _, keep := range []string{
		"drivers/virtio/virtio_pci.ko", "drivers/net/virtio_net.ko", "drivers/block/virtio_blk.ko", "drivers/scsi/virtio_scsi.ko",
		"drivers/ata/ahci.ko", "drivers/ata/ata_piix.ko", "drivers/net/ethernet/intel/e1000/e1000.ko", "fs/overlayfs/overlay.ko",
		"fs/ext4/ext4.ko", "fs/erofs/erofs.ko", "fs/xfs/xfs.ko", "fs/btrfs/btrfs.ko", "fs/fat/vfat.ko", "drivers/block/loop.ko",
		"drivers/md/dm-mod.ko", "drivers/md/dm-verity.ko", "drivers/nvme/host/nvme.ko", "drivers/usb/host/xhci-hcd.ko",
		"drivers/usb/storage/usb-storage.ko", "fs/squashfs/squashfs.ko", "fs/fuse/fuse.ko", "fs/9p/9p.ko", "fs/isofs/isofs.ko",
		"drivers/gpu/drm/virtio/virtio-gpu.ko", "drivers/gpu/drm/tiny/bochs.ko", "drivers/firmware/qemu_fw_cfg.ko",
		"drivers/char/hw_random/virtio-rng.ko", "drivers/watchdog/softdog.ko", "net/netfilter/nf_tables.ko",
		"net/bridge/bridge.ko", "drivers/net/veth.ko", "net/vmw_vsock/vsock.ko", "drivers/char/tpm/tpm_vtpm_proxy.ko",
		"drivers/cdrom/cdrom.ko", "crypto/xxhash_generic.ko", "drivers/net/tun.ko", "net/9p/9pnet_virtio.ko",
	} {
		if r.pruned(mods + keep) {
			t.Errorf("%s is pruned", keep)
		}
	}
	for _, gone := range []string{"sound/core/snd.ko", "drivers/gpu/drm/amd/amdgpu/amdgpu.ko", "drivers/media/v4l2-core/videodev.ko"} {
		if !r.pruned(mods + gone) {
			t.Errorf("%s is kept", gone)
		}
	}
}

const sampleChangelog = `rsync (3.2.7-1+deb12u2) bookworm-security; urgency=high

  * Fix heap overflow
    in checksum parsing (CVE-2024-12084).
  * Another thing.

 -- Jane Doe <jane@example.test>  Mon, 13 Jan 2025 10:00:00 +0100

rsync (3.2.7-1) unstable; urgency=medium

  [ Someone ]
  * New upstream release.

 -- John Doe <john@example.test>  Fri, 21 Oct 2022 08:00:00 +0000
`

func TestParseChangelog(t *testing.T) {
	t.Parallel()
	got := parseChangelog(strings.NewReader(sampleChangelog), 5)
	if len(got) != 2 {
		t.Fatalf("%d entries, want 2", len(got))
	}
	want := []string{"Fix heap overflow in checksum parsing (CVE-2024-12084).", "Another thing."}
	if diff := cmp.Diff(want, got[0].Lines); diff != "" {
		t.Error(diff)
	}
	if got[0].Version != "3.2.7-1+deb12u2" || got[0].Suite != "bookworm-security" || got[0].Urgency != "high" {
		t.Errorf("head %+v", got[0])
	}
	if when := time.Date(2025, 1, 13, 9, 0, 0, 0, time.UTC); !got[0].When.Equal(when) {
		t.Errorf("date %v, want %v", got[0].When, when)
	}
}

func TestAdvisories(t *testing.T) {
	t.Parallel()
	changes := parseChangelog(strings.NewReader(sampleChangelog), 5)
	mk := func(name, evr, src string, ch []debChange) published {
		return published{ManifestPackage: ManifestPackage{Name: name, EVR: evr, Arch: "x86_64", Source: src, File: "Packages/" + name + ".rpm"}, meta: meta{Changes: ch}}
	}
	before := []published{
		mk("rsync", "3.2.7-1", "rsync-3.2.7-1.src.rpm", changes[1:]),
		mk("same", "1-1", "same-1-1.src.rpm", nil),
	}
	now := []published{
		mk("rsync", "3.2.7-1+deb12u2", "rsync-3.2.7-1+deb12u2.src.rpm", changes),
		mk("same", "1-1", "same-1-1.src.rpm", nil),
		mk("tree", "2-1", "tree-2-1.src.rpm", nil),
	}
	got := advisories(now, before)
	if len(got) != 2 || got[0].source != "rsync" || got[1].source != "tree" {
		t.Fatalf("advisories %+v", got)
	}
	if diff := cmp.Diff([]string{"CVE-2024-12084"}, got[0].cves); diff != "" {
		t.Error(diff)
	}
	if got[0].kind() != "security" || got[0].severity() != "Important" || got[1].kind() != "enhancement" {
		t.Errorf("kinds %s/%s, %s", got[0].kind(), got[0].severity(), got[1].kind())
	}
	xml := string(updateinfo(2, now, before))
	if !strings.Contains(xml, "<severity>Important</severity>") || !strings.Contains(xml, `id="CVE-2024-12084"`) {
		t.Errorf("updateinfo:\n%s", xml)
	}
}

func TestOwnSpecs(t *testing.T) {
	t.Parallel()
	render := func(state int) map[string]string {
		specs, err := ownSpecs(specData{State: state, Essential: []string{"bash"}, Extras: []string{"nano"}})
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, s := range specs {
			m[s.Name] = s.Text
		}
		return m
	}
	one, two := render(1), render(2)
	for name := range one {
		// Only these differ between the states, so only these are updates.
		differ := name == "testdistro-release" || name == "testdistro-extras"
		if (one[name] != two[name]) != differ {
			t.Errorf("%s: differs between the states: %t, want %t", name, one[name] != two[name], differ)
		}
	}
	for _, want := range []string{"Provides: user(root)\n", "Provides: group(shadow)\n"} {
		if !strings.Contains(one["setup"], want) {
			t.Errorf("setup lacks %q", want)
		}
	}
}

// The key must change with anything that changes the package.
func TestJobKey(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, parts := range [][]any{{"a", "b"}, {"ab"}, {"a", "b", ""}, {"a", Recipe{}}, {"a", Recipe{NoScan: true}}} {
		k, err := jobKey(parts...)
		if err != nil {
			t.Fatal(err)
		}
		if seen[k] {
			t.Errorf("key of %v is not unique", parts)
		}
		seen[k] = true
	}
}

func TestFolded(t *testing.T) {
	t.Parallel()
	if !folded(&debian.Package{Name: "linux-image-6.1.0-50-amd64"}) || folded(&debian.Package{Name: "linux-image-amd64"}) {
		t.Error("the kernel image belongs into linux-image-amd64, and that stays")
	}
}

func TestTrimCache(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	now := time.Now()
	old := now.Add(-2 * keepUnused)
	for _, name := range []string{"debs/used.deb", "debs/old.deb", "debs/new.deb", "rpms/old/x", "work-1/x", "gnupg/key"} {
		p := filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"debs/used.deb", "debs/old.deb", "rpms/old", "work-1", "gnupg"} {
		if err := os.Chtimes(filepath.Join(cache, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := trimCache(cache, map[string]bool{"debs/used.deb": true}, now); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"debs/used.deb": true, "debs/new.deb": true, "gnupg/key": true,
		"debs/old.deb": false, "rpms/old": false, "work-1": false,
	} {
		if _, err := os.Stat(filepath.Join(cache, name)); (err == nil) != want {
			t.Errorf("%s exists: %t, want %t", name, err == nil, want)
		}
	}
}
