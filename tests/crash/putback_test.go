// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// TestPowerLossPutsBack cuts the power while a kernel that the menu in force uses is
// put back into /boot: it is missing or whole, never the right size with other bytes.
func TestPowerLossPutsBack(t *testing.T) {
	testutil.Tool(t, "strace")
	self, err := os.Executable()
	testutil.Must(t, err)
	for _, l := range loaders() {
		if l.name != "none" && l.name != "none on FAT" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			m.must("upgrade 1", "upgrade 2")
			before := m.boots()
			files, err := filepath.Glob(m.path(bootFolder, "ostree/os-*/vmlinuz-b"))
			testutil.Must(t, err)
			if len(files) != 1 {
				t.Fatal(files)
			}
			testutil.Must(t, os.Remove(files[0]))
			missing := m.boots()
			if missing == before {
				t.Fatalf("boots %s without its kernel", missing)
			}
			rec, err := Record(m.place, append(m.env("kargs quiet"), self)...)
			testutil.Must(t, err)
			after, again := m.boots(), 0
			strict := judge(l, []string{missing, before, after})
			check := &bootCheck{firmware: m.firmware, fat: m.fat, retry: 20, judge: func(b booted, err error, version string) (string, error) {
				if err == nil && m.fat && len(b.kernel) == 0 {
					return missing, nil // a new name on FAT begins empty; its size says so
				}
				return strict(b, err, version)
			}}
			check.again = func(lay func(string) error) error {
				again++
				return m.recover(lay)
			}
			testutil.Must(t, check.run(rec))
			if check.seen[missing] == 0 || check.seen[before] == 0 || check.seen[after] == 0 || again == 0 {
				t.Errorf("%d states, %v, %d retries", check.states, check.seen, again)
			}
		})
	}
}
