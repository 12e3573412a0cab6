// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/diskimage"
)

// TestUKI is the life of a machine whose trees have unified kernel images, with
// systemd's stub in them: the first boot, kernel arguments, an upgrade on trial, a
// rollback.
func TestUKI(t *testing.T) {
	need(t, "matrix")
	t.Parallel()
	boot := string(diskimage.UEFISystemdBoot)
	if !slices.Contains(layouts(t), boot) {
		t.Skipf("HOSTCTL_MATRIX has no %s", boot)
	}
	l, err := widerLab(t, boot, "").WithUKIs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := newMachineOf(t, l)
	m.bootedUKI("1")
	m.settle()
	kernel := m.sh("uname -r")

	m.sh("hostctl upgrade 2>&1")
	m.sh("hostctl kargs --append matrix.test=1") // of the staged deployment
	m.expect("hostctl status --json | jq -r '.deployments[0] | .staged, .uki'", "true\ntrue")
	m.reboot()
	m.bootedUKI("1.1")
	if now := m.sh("uname -r"); now == kernel {
		t.Errorf("still kernel %s", kernel)
	}
	m.expect("grep -o 'matrix.test=.' /proc/cmdline", "matrix.test=1")
	m.settle()
	m.expect("ls /boot/loader/entries | grep -c + || :; hostctl status --json | jq -r '.deployments[0].bootedWell'", "0\ntrue")
	t.Logf("%s", m.sh("hostctl status; ls -lR /boot/ostree; cat /boot/loader/entries/*.conf"))

	m.sh("hostctl rollback")
	m.reboot()
	m.bootedUKI("1")
	m.expect("uname -r; grep -c matrix.test /proc/cmdline || :", kernel+"\n0")

	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// bootedUKI checks that version runs from its image, started through systemd's stub by
// the entry that the menu names.
func (m *machine) bootedUKI(version string) {
	m.t.Helper()
	const guid = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	m.expect(bootedVersion, version)
	m.expect("hostctl status --json | jq -r '.deployments[] | select(.booted) | .uki'", "true")
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	variable := func(name string) string {
		return m.sh("cat /sys/firmware/efi/efivars/" + name + "-" + guid + ` > /run/variable; tail -c +5 /run/variable | tr -d '\0'`)
	}
	m.sh("mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs efivarfs /sys/firmware/efi/efivars")
	if got := variable("StubInfo"); !strings.HasPrefix(got, "systemd-stub ") {
		m.t.Errorf("started by %q", got)
	}
	// Some versions tell the name with its counters, as it was before they changed it.
	entry, _, _ := strings.Cut(strings.TrimSuffix(variable("LoaderEntrySelected"), ".conf"), "+")
	parts := strings.Split(entry, "-")
	if len(parts) != 3 {
		m.t.Fatalf("started the entry %q", entry)
	}
	m.expect("sed -n 's,.*ostree=/ostree/boot.\\(.\\)/.*,\\1,p' /proc/cmdline", parts[1])
	// The file that was started is the tree's, byte by byte.
	m.sh(`f=$(sed -n 's/^linux //p' /boot/loader/entries/` + entry + `*.conf | head -n 1); cmp "/boot$f" "/usr/lib/modules/$(uname -r)/$(uname -r).efi"
test "$(basename "$(dirname "$f")")" = "testdistro-$(sha256sum < "/boot$f" | cut -d' ' -f1)"`)
	m.expect("find /boot/ostree -name 'vmlinuz*' -o -name 'initramfs*'", "")
}
