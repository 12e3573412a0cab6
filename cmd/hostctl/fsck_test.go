// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// TestFsckBoot: a kernel in /boot of the right size with other bytes is found, and
// repaired from the deployment that libostree made.
func TestFsckBoot(t *testing.T) {
	t.Parallel()
	root := host(t)
	if out := call(t, root, 0, "fsck"); !strings.Contains(out, "2 files in /boot: no errors found\n") {
		t.Error(out)
	}
	files, err := filepath.Glob(root + "/boot/ostree/os-*/vmlinuz-5.1")
	testutil.Must(t, err)
	testutil.Must(t, os.Remove(files[0])) // a link to the object
	testutil.Must(t, os.WriteFile(files[0], []byte("\x00"), 0o644))
	if out := call(t, root, 1, "fsck"); !strings.Contains(out, "vmlinuz-5.1 is damaged\n") || read(t, files[0]) != "\x00" {
		t.Error(out)
	}
	if out := call(t, root, 0, "fsck", "--repair"); !strings.Contains(out, "1 of 2 files in /boot repaired\n") || read(t, files[0]) != "k" {
		t.Error(out)
	}
	call(t, root, 0, "fsck")
}
