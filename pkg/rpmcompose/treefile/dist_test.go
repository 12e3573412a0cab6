// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The treefiles handed out must load for every architecture they name packages
// for, and name only repositories that the .repo file beside them defines.
func TestShippedTreefiles(t *testing.T) {
	t.Parallel()
	const dir = "../../../dist/treefiles"
	for _, name := range []string{"fedora", "centos-stream"} {
		for _, arch := range []string{"x86_64", "aarch64"} {
			m, err := Load(os.DirFS(dir), name+".toml", Options{Basearch: arch})
			if err != nil {
				t.Errorf("%s: %v", arch, err)
				continue
			}
			for _, p := range []string{"hostctl", "kernel", "systemd", "filesystem"} {
				if !slices.Contains(m.Packages, p) {
					t.Errorf("%s: package %s is missing", name, p)
				}
			}
			repos, err := os.ReadFile(dir + "/" + name + ".repo")
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range m.Repos {
				if !strings.Contains(string(repos), "\n["+r+"]\n") {
					t.Errorf("%s.repo lacks [%s]", name, r)
				}
			}
		}
	}
}
