// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// endTrial ends the trial of the default entry.
func endTrial(ctx context.Context, place string) error {
	boot, err := fsx.OpenDir(filepath.Join(place, bootFolder))
	if err != nil {
		return err
	}
	defer boot.Close()
	_, backend, err := bootloader.Select(ctx, bootloader.Auto, boot, bootloader.Options{})
	if err != nil {
		return err
	}
	return backend.(bootloader.Trier).Bless(ctx, boot)
}

// TestExtlinuxTrialPowerLoss cuts the power while a trial begins, which is the flip and
// then a sector of the boot loader's file, and while it ends, one byte of the menu.
func TestExtlinuxTrialPowerLoss(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "strace")
	var fsType syscall.Statfs_t
	testutil.Must(t, syscall.Statfs(t.TempDir(), &fsType))
	if fsType.Type != 0xef53 && fsType.Type != 0x01021994 {
		t.Skip("EXTLINUX makes trials on ext4 (and these tests on tmpfs) only")
	}
	self, err := os.Executable()
	testutil.Must(t, err)
	m := newMachine(t, extlinuxLoader())
	m.must("upgrade 1", "upgrade 2")
	old := m.boots()

	rec, err := Record(m.place, append(m.env("try 4"), self)...)
	testutil.Must(t, err)
	tried := m.boots()
	if !strings.HasPrefix(tried, "4c ") || !strings.Contains(tried, "hostctl.trial") {
		t.Fatalf("on trial boots %q", tried)
	}
	m.cut("try 4", rec, old, tried)

	// The loader starts it once.
	name := m.path(bootFolder, advFile)
	file, err := os.ReadFile(name)
	testutil.Must(t, err)
	extlinuxTakes(file)
	testutil.Must(t, os.WriteFile(name, file, 0o444))
	if got := m.boots(); got != old {
		t.Fatalf("after the try boots %q, want %q", got, old)
	}
	rec, err = Record(m.place, append(m.env("end trial"), self)...)
	testutil.Must(t, err)
	good := m.boots()
	if !strings.HasPrefix(good, "4c ") || strings.Contains(good, "hostctl.trial") {
		t.Fatalf("after a good boot boots %q", good)
	}
	check := &bootCheck{firmware: m.firmware, judge: judge(m.loader, []string{old, good})}
	if err := check.run(rec); err != nil {
		t.Fatal(err)
	}
	if check.seen[old] == 0 || check.seen[good] == 0 {
		t.Errorf("states: %v", check.seen)
	}
	t.Logf("end of a trial: %s", tally(check.seen))
}
