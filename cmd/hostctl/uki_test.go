// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// TestUnifiedKernelImage installs a tree with one for systemd-boot; GRUB cannot have it.
func TestUnifiedKernelImage(t *testing.T) {
	testutil.Root(t, "a bare repository needs root")
	testutil.Tool(t, "ostree")
	dir := t.TempDir()
	image := string(testutil.EFI(true, [2]string{".linux", "kernel"}, [2]string{".initrd", "initramfs"}, [2]string{".cmdline", "quiet"}))
	for name, text := range map[string]string{"usr/lib/modules/6.1/6.1.efi": image, "usr/etc/os-release": "PRETTY_NAME=T\n"} {
		p := filepath.Join(dir, "tree", name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		testutil.Must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	repo := dir + "/repo"
	testutil.Run(t, "ostree", "init", "--repo="+repo, "--mode=archive")
	testutil.Run(t, "ostree", "commit", "--repo="+repo, "-b", "main", "--tree=dir="+dir+"/tree", "--add-metadata-string=version=1")
	root := dir + "/root"
	t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-i", root).Run() })
	install := []string{"install", "--url=http://example.test", "--from=" + repo, "--ref=main", "--no-gpg-verify", "--stateroot=os", "--karg=rw"}
	call(t, root, 0, append(install, "--boot=uefi-systemd-boot")...)
	if out := call(t, root, 0, "status"); !strings.Contains(out, "            Kernel: unified kernel image\n") {
		t.Error(out)
	}
	if out := call(t, root, 0, "status", "--json"); !strings.Contains(out, `"uki": true`) {
		t.Error(out)
	}
	if out := call(t, root, 0, "kargs"); out != "rw quiet\n" {
		t.Error(out)
	}
	found, err := filepath.Glob(root + "/boot/ostree/os-*/6.1.efi")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if data, err := os.ReadFile(found[0]); err != nil || string(data) != image {
		t.Error(err)
	}
	var out, errw strings.Builder
	grub := dir + "/grub"
	t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-i", grub).Run() })
	if got := run(t.Context(), append(install, "--boot=bios-grub", "--sysroot="+grub), &out, &errw); got != 1 || !strings.Contains(errw.String(), "grub2 starts none; systemd-boot does") {
		t.Errorf("%d: %s", got, &errw)
	}
}
