// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

const (
	installedBinary = "EFI/systemd/systemd-bootx64.efi"
	fallbackBinary  = "EFI/BOOT/BOOTX64.EFI"
)

func sdImage(version string) string {
	return "MZ" + strings.Repeat("code "+version+" ", 200) + "#### LoaderInfo: systemd-boot " + version + " ####"
}

// updateBinaries is a change for the recorded program.
func updateBinaries(ctx context.Context, place string) error {
	tree, err := fsx.OpenDir(filepath.Join(place, rootFolder))
	if err != nil {
		return err
	}
	defer tree.Close()
	esp, err := fsx.OpenDir(filepath.Join(place, bootFolder))
	if err != nil {
		return err
	}
	defer esp.Close()
	plan, err := bootloader.PlanBinaries(ctx, tree, esp)
	if err != nil {
		return err
	}
	return bootloader.UpdateBinaries(ctx, tree, esp, plan)
}

// bothBinaries reads what firmware may start, by its own entry and without one.
func bothBinaries(v volume) (b booted, err error) {
	b.kernel, err = v.file(installedBinary)
	if err != nil {
		return b, err
	}
	fallback, err := v.file(fallbackBinary)
	b.initrds = [][]byte{fallback}
	return b, err
}

// TestPowerLossBinaries cuts the power while the boot loader itself is replaced: both
// its copies are whole at every moment, each the old or the new one.
func TestPowerLossBinaries(t *testing.T) {
	testutil.Tool(t, "strace")
	m := &machine{t: t, place: t.TempDir()}
	put := func(name, data string) {
		testutil.Must(t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
		testutil.Must(t, os.WriteFile(m.path(name), []byte(data), 0o644))
	}
	put(rootFolder+"/usr/lib/systemd/boot/efi/systemd-bootx64.efi", sdImage("256"))
	put(bootFolder+"/"+installedBinary, sdImage("255"))
	put(bootFolder+"/"+fallbackBinary, sdImage("254"))
	self, err := os.Executable()
	testutil.Must(t, err)
	for _, point := range []string{"", "bootloader.binary-exchanged=kill"} {
		argv := append(m.env("binaries"), "sh", "-c", `HOSTCTL_FAILPOINTS=`+point+` "$0"; exec "$0"`, self)
		rec, err := Record(m.place, argv...)
		testutil.Must(t, err)
		names := map[string]string{sdImage("254"): "254", sdImage("255"): "255", sdImage("256"): "256", sdImage("257"): "257"}
		check := &bootCheck{firmware: bothBinaries, fat: true, judge: func(b booted, err error, _ string) (string, error) {
			if err != nil {
				return "", err
			}
			installed, fallback := names[string(b.kernel)], names[string(b.initrds[0])]
			if installed == "" || fallback == "" {
				err = errors.New("torn")
			}
			return fmt.Sprintf("%s, fallback %s", installed, fallback), err
		}}
		testutil.Must(t, check.run(rec))
		if len(check.seen) != 3 {
			t.Errorf("%v", check.seen)
		}
		t.Logf("%d states: %s", check.states, tally(check.seen))
		left, err := filepath.Glob(m.path(bootFolder, "EFI/*/*.new*"))
		if err != nil || len(left) > 0 {
			t.Error(left, err)
		}
		put(rootFolder+"/usr/lib/systemd/boot/efi/systemd-bootx64.efi", sdImage("257"))
	}
}
