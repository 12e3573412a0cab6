// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"maps"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// program is an EFI program with its SBAT lines and some content.
func program(signed bool, sbat, text string) string {
	return string(testutil.EFI(signed, [2]string{".text", text}, [2]string{".sbat", "sbat,1,SBAT Version\n" + sbat}))
}

func shim(signed bool, generation int, text string) string {
	return program(signed, "shim,"+strconv.Itoa(generation)+",UEFI shim,shim\n", text)
}

// TestSignedBinaries: a partition with shim, its key manager and its fallback program
// is updated from the inside to the outside; nothing unsigned, older or foreign comes
// in, and what the tree does not bring stays.
func TestSignedBinaries(t *testing.T) {
	t.Parallel()
	const efi = "usr/lib/bootupd/updates/EFI/"
	grub := func(n int) string { return program(true, "grub,"+strconv.Itoa(n)+"\ngrub.vendor,1\n", "grub") }
	installed := map[string]string{
		"EFI/BOOT/BOOTX64.EFI":      shim(true, 4, "shim"),
		"EFI/BOOT/fbx64.efi":        shim(true, 4, "fallback"),
		"EFI/BOOT/mmx64.efi":        shim(true, 4, "keys"),
		"EFI/vendor/shimx64.efi":    shim(true, 4, "shim"),
		"EFI/vendor/mmx64.efi":      shim(true, 4, "keys"),
		"EFI/vendor/grubx64.efi":    grub(3),
		"EFI/vendor/BOOTX64.CSV":    "\xff\xfes\x00h\x00i\x00m\x00",
		"EFI/own/grubx64.efi":       grub(5),              // later than the tree's
		"EFI/own/shimx64.efi":       shim(true, 4, "own"), // signed, the tree's is not
		"EFI/own/mmx64.efi":         grub(3),
		"EFI/systemd/grubx64.efi":   sd("255"), // what shim starts there
		"EFI/keys/db.auth":          "keys",
		"EFI/own/PK.auth":           "keys of the owner",
		"loader/keys/auto/PK.auth":  "keys",
		"loader/keys/auto/dbx.auth": "keys",
		"EFI/Linux/other.efi":       "another system",
	}
	esp, root := bootDir(t, installed)
	want := maps.Clone(installed)
	offered := map[string]string{
		"EFI/BOOT/BOOTX64.EFI": shim(true, 5, "shim"), "EFI/BOOT/fbx64.efi": shim(true, 5, "fallback"), "EFI/BOOT/mmx64.efi": shim(true, 5, "keys"),
		"EFI/vendor/shimx64.efi": shim(true, 5, "shim"), "EFI/vendor/mmx64.efi": shim(true, 5, "keys"), "EFI/vendor/grubx64.efi": grub(4),
		"EFI/vendor/BOOTX64.CSV": "\xff\xfes\x00h\x00i\x00m\x002\x00", "EFI/keys/db.auth": "keys",
	}
	tree := map[string]string{
		efi + "own/grubx64.efi":                        grub(4),
		efi + "own/shimx64.efi":                        shim(false, 5, "shim"),
		efi + "own/mmx64.efi":                          shim(true, 5, "keys"),
		efi + "systemd/grubx64.efi":                    grub(4),
		efi + "vendor/new.efi":                         "is not installed",
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi": sd("256"),
	}
	for name, data := range offered {
		tree["usr/lib/bootupd/updates/"+name], want[name] = data, data
	}
	want["EFI/systemd/grubx64.efi"] = sd("256")
	source, _ := bootDir(t, tree)

	plan, err := PlanBinaries(t.Context(), source, esp)
	testutil.Must(t, err)
	var order []string
	states := map[string]BinaryState{}
	for _, b := range plan {
		states[b.Path] = b.State
		if b.State == BinaryOutdated {
			order = append(order, b.Path)
		}
	}
	if d := cmp.Diff([]string{
		"EFI/systemd/grubx64.efi", "EFI/vendor/BOOTX64.CSV", "EFI/vendor/grubx64.efi", "EFI/vendor/mmx64.efi", "EFI/vendor/shimx64.efi",
		"EFI/BOOT/fbx64.efi", "EFI/BOOT/mmx64.efi", "EFI/BOOT/BOOTX64.EFI",
	}, order); d != "" {
		t.Error(d)
	}
	for name, state := range map[string]BinaryState{"EFI/own/grubx64.efi": BinaryNewer, "EFI/own/shimx64.efi": BinaryUnsigned,
		"EFI/own/mmx64.efi": BinaryOther, "EFI/keys/db.auth": BinaryCurrent} {
		if states[name] != state {
			t.Errorf("%s is %q, want %q", name, states[name], state)
		}
	}
	testutil.Must(t, UpdateBinaries(t.Context(), source, esp, plan))
	for name, data := range want {
		if got := content(t, root, name); got != data {
			t.Errorf("%s is not as it should be", name)
		}
	}
}

func TestCompareSigned(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, have, offer string
		want              BinaryState
	}{
		{"text", "a", "b", BinaryOutdated},
		{"damaged", "torn", shim(true, 4, "x"), BinaryOutdated},
		{"to a damaged one", shim(true, 4, "x"), "torn", BinaryUnsigned},
		{"unsigned", shim(false, 4, "x"), shim(false, 5, "x"), BinaryOutdated},
		{"gets a signature", shim(false, 4, "x"), shim(true, 4, "x"), BinaryOutdated},
		{"revoked sooner", program(true, "grub,3\ngrub.vendor,2\n", "x"), program(true, "grub,4\ngrub.vendor,1\n", "x"), BinaryNewer},
		{"first generations", string(testutil.EFI(true)), shim(true, 4, "x"), BinaryOutdated},
		{"no number", program(true, "shim,x\n\n,3\nshim\n", "x"), shim(true, 4, "x"), BinaryOutdated},
	} {
		if got := compareSigned([]byte(c.have), []byte(c.offer)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
