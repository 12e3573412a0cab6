// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Filesystem makes a new filesystem of a type ("xfs", "btrfs") in a file, with options for
// mkfs, and mounts it until the end of the test; it gives the mount point.
func Filesystem(t testing.TB, fstype string, options ...string) string {
	t.Helper()
	Root(t, "needs root to mount")
	mkfs := Tool(t, "mkfs."+fstype)
	known, err := os.ReadFile("/proc/filesystems")
	Must(t, err)
	if !strings.Contains(string(known), "\t"+fstype+"\n") {
		t.Skipf("the kernel has no %s", fstype)
	}
	// Not in memory: the size is that of the smallest xfs, of which little is used.
	dir, err := os.MkdirTemp("/var/tmp", "hostctl-test-")
	Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	image, root := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	Must(t, os.WriteFile(image, nil, 0o600))
	Must(t, os.Truncate(image, 512<<20))
	Must(t, os.Mkdir(root, 0o755))
	Run(t, append(append([]string{mkfs, "-q"}, options...), image)...)
	Run(t, "mount", "-o", "loop", image, root)
	// Lazily: a program that another test starts holds our files until its exec.
	t.Cleanup(func() { Run(t, "umount", "-l", root) })
	return root
}

// Extents tells where on the disk the bytes of a file are, and whether all of them are
// there for another file, too.
func Extents(t testing.TB, path string) (where string, shared bool) {
	t.Helper()
	Run(t, "sync", path)
	shared = true
	for line := range strings.Lines(Run(t, Tool(t, "filefrag"), "-v", path)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 4) // number, logical, physical, length and flags
		if len(f) < 4 || strings.Trim(f[0], "0123456789") != "" {
			continue
		}
		where += strings.ReplaceAll(f[2], " ", "") + ";"
		shared = shared && strings.Contains(f[3], "shared")
	}
	return where, shared && where != ""
}
