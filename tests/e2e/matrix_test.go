// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/tests/lab"
)

// preparedWide is the lab with a tree for every boot loader and root filesystem.
var preparedWide = sync.OnceValues(func() (*lab.Lab, error) {
	l, err := lab.New(os.Stderr)
	if err != nil {
		return nil, err
	}
	l.UseExtra(lab.Extra{
		Name:     "wide",
		Packages: []string{"systemd-boot-efi", "extlinux", "syslinux-common", "mtools", "xfsprogs", "btrfs-progs"},
		Drivers:  []string{"xfs", "btrfs"},
	})
	return l, l.Prepare(context.Background())
})

// widerLab is that lab, set to one kind of machine.
func widerLab(t *testing.T, boot, rootFS string) *lab.Lab {
	t.Helper()
	l, err := preparedWide()
	if err != nil {
		t.Fatal(err)
	}
	own := *l
	own.Boot, own.RootFS = boot, rootFS
	return &own
}

// layouts are the ways to boot that HOSTCTL_MATRIX selects (commas); all if it
// is not set.
func layouts(t *testing.T) []string {
	t.Helper()
	all := []string{lab.Extlinux}
	for _, b := range diskimage.Boots() {
		all = append(all, string(b))
	}
	v := os.Getenv("HOSTCTL_MATRIX")
	if v == "" {
		return all
	}
	list := strings.Split(v, ",")
	for _, name := range list {
		if !slices.Contains(all, name) {
			t.Fatalf("HOSTCTL_MATRIX: %q is none of %s", name, strings.Join(all, ", "))
		}
	}
	return list
}

// TestMatrix is the life of a machine under every firmware and boot loader: the
// first boot, kernel arguments, an upgrade, a rollback.
func TestMatrix(t *testing.T) {
	need(t, "matrix")
	t.Parallel()
	for _, boot := range layouts(t) {
		t.Run(boot, func(t *testing.T) {
			t.Parallel()
			matrixMachine(t, boot)
		})
	}
}

func matrixMachine(t *testing.T, boot string) {
	c := newCases(t, boot)
	c.begin("install")
	m := newMachineOf(t, widerLab(t, boot, ""))
	m.expect(bootedVersion, "1")
	m.expect("test -d /sys/firmware/efi && echo uefi || echo bios", boot[:4])
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	m.expect("findmnt -no FSTYPE /boot", bootFilesystem(boot))
	kernel := m.sh("uname -r")
	m.sh("echo '# my line' >> /etc/testdistro.conf; echo precious > /var/lib/precious")

	c.begin("upgrade, kernel arguments")
	m.sh("hostctl upgrade 2>&1")
	m.sh("hostctl kargs --append matrix.test=1") // of the staged deployment
	m.reboot()
	m.expect(bootedVersion, "1.1")
	if now := m.sh("uname -r"); now == kernel {
		t.Errorf("still kernel %s", kernel)
	}
	m.expect("grep -o 'matrix.test=.' /proc/cmdline; tail -n1 /etc/testdistro.conf; cat /var/lib/precious", "matrix.test=1\n# my line\nprecious")
	m.expect("systemctl --failed --no-legend | wc -l", "0")

	c.begin("rollback")
	m.sh("hostctl rollback")
	m.reboot()
	m.expect(bootedVersion, "1")
	m.expect("uname -r; grep -c matrix.test /proc/cmdline || :; cat /var/lib/precious", kernel+"\n0\nprecious")

	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	c.end()
}

func bootFilesystem(boot string) string {
	if boot == string(diskimage.UEFISystemdBoot) {
		return "vfat"
	}
	return "ext4"
}
