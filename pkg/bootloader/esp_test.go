// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sd(version string) string { return "MZ #### LoaderInfo: systemd-boot " + version + " #### code" }

func TestBinaries(t *testing.T) {
	t.Parallel()
	tree, _ := bootDir(t, map[string]string{
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi":        sd("256.1"),
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed": sd("256.1") + " signed",
		"usr/lib/systemd/boot/efi/systemd-bootaa64.efi":       sd("256.1"),
		"usr/lib/bootupd/updates/EFI/vendor/shimx64.efi":      "shim 2",
		"usr/lib/bootupd/updates/EFI/vendor/grubx64.efi":      "grub",
		"usr/lib/bootupd/updates/EFI/vendor/new.efi":          "is not installed",
		"usr/lib/bootupd/updates/EFI/BOOT/fbx64.efi":          "fb 2",
		"usr/lib/ostree-boot/efi/EFI/vendor/shimx64.efi":      "not looked at",
	})
	esp, root := bootDir(t, map[string]string{
		"EFI/systemd/systemd-bootx64.efi":  sd("255"),
		"EFI/systemd/systemd-bootaa64.efi": sd("257~rc1"),
		"EFI/BOOT/BOOTX64.EFI":             sd("254"),
		"EFI/BOOT/BOOTAA64.EFI":            "somebody else's",
		"EFI/BOOT/fbx64.efi":               "fb 1",
		"EFI/vendor/shimx64.efi":           "shim 1",
		"EFI/vendor/grubx64.efi":           "grub",
		"EFI/vendor/shimx64.efi.new0":      "shim 1", // an exchange that was split
		"EFI/vendor/shimx64.efi.new3":      "torn",
	})
	states := func() map[string]BinaryState {
		t.Helper()
		plan, err := PlanBinaries(t.Context(), tree, esp)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]BinaryState{}
		for _, b := range plan {
			out[b.Path] = b.State
		}
		if last := plan[len(plan)-1].Path; filepath.Dir(last) != "EFI/BOOT" {
			t.Errorf("%s comes last", last)
		}
		return out
	}
	want := map[string]BinaryState{
		"EFI/systemd/systemd-bootx64.efi": BinaryOutdated, "EFI/systemd/systemd-bootaa64.efi": BinaryNewer, "EFI/BOOT/BOOTX64.EFI": BinaryOutdated,
		"EFI/BOOT/fbx64.efi": BinaryOutdated, "EFI/vendor/shimx64.efi": BinaryOutdated, "EFI/vendor/grubx64.efi": BinaryCurrent,
	}
	if d := cmp.Diff(want, states()); d != "" {
		t.Fatal(d)
	}
	plan, err := PlanBinaries(t.Context(), tree, esp)
	if err != nil {
		t.Fatal(err)
	}
	if err := UpdateBinaries(t.Context(), tree, esp, plan); err != nil {
		t.Fatal(err)
	}
	for name, state := range want {
		if state == BinaryOutdated {
			want[name] = BinaryCurrent
		}
	}
	if d := cmp.Diff(want, states()); d != "" {
		t.Fatal(d)
	}
	if got := content(t, root, "EFI/BOOT/BOOTX64.EFI"); got != sd("256.1")+" signed" {
		t.Errorf("%q", got)
	}
	left, err := filepath.Glob(filepath.Join(root, "EFI/*/*.new*"))
	if err != nil || len(left) != 2 || content(t, root, "EFI/vendor/shimx64.efi.new0") != "shim 1" {
		t.Errorf("%v %v", left, err)
	}
	for _, name := range left { // what may share clusters stays
		if data, err := os.ReadFile(name); err != nil || string(data) != "shim 1" {
			t.Errorf("%s: %q %v", name, data, err)
		}
	}
}

func FuzzSdVersion(f *testing.F) {
	f.Add([]byte(sd("256.1")))
	f.Add([]byte(sdMark))
	f.Add([]byte("#### LoaderInfo: systemd-boot 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v := sdVersion(data); len(v) > 100 || major(v) < 0 {
			t.Errorf("%q", v)
		}
	})
}
