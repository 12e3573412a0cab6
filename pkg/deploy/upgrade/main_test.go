// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"os"
	"testing"
)

// TestMain keeps scratch trees in memory where that is possible: the tests make
// thousands of files, and libostree's tool syncs and freezes the filesystem it
// writes to.
func TestMain(m *testing.M) {
	if os.Getenv("TMPDIR") != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("/dev/shm", "upgrade-test-")
	if err != nil {
		os.Exit(m.Run())
	}
	_ = os.Setenv("TMPDIR", dir)
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}
