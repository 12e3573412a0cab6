// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestBootloaderVerbs(t *testing.T) {
	root := host(t)
	put := func(dir, name, data string) {
		t.Helper()
		p := filepath.Join(dir, name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		testutil.Must(t, os.WriteFile(p, []byte(data), 0o644))
	}
	call(t, root, 1, "bootloader", "status") // no system partition
	put(root, "boot/EFI/BOOT/BOOTX64.EFI", "MZ#### LoaderInfo: systemd-boot 255 ####")
	if out := call(t, root, 0, "bootloader", "status"); !strings.Contains(out, "brings no boot loader") {
		t.Error(out)
	}
	trees, err := filepath.Glob(root + "/ostree/deploy/os/deploy/*.0")
	if err != nil || len(trees) != 1 {
		t.Fatal(trees, err)
	}
	put(trees[0], "usr/lib/systemd/boot/efi/systemd-bootx64.efi", "MZ#### LoaderInfo: systemd-boot 256 ####")
	if out := call(t, root, 0, "bootloader", "status"); out != "outdated  EFI/BOOT/BOOTX64.EFI (255, deployment 256)\n" {
		t.Errorf("%q", out)
	}
	if out := call(t, root, 0, "bootloader", "status", "--json"); !strings.Contains(out, `"state": "outdated"`) {
		t.Error(out)
	}
	for _, want := range []string{"Updated: EFI/BOOT/BOOTX64.EFI\n", "Nothing to update.\n"} {
		if out := call(t, root, 0, "bootloader", "update"); out != want {
			t.Errorf("%q, want %q", out, want)
		}
	}
}
