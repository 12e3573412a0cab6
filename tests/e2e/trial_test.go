// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/diskimage"
)

// settle waits until the boot under way was judged.
func (m *machine) settle() {
	m.t.Helper()
	m.sh(`for i in $(seq 300); do [ -e /run/hostctl/boot-good ] && exit 0; sleep 1; done; systemctl status 'hostctl-*' >&2; journalctl -b -u 'hostctl-*' >&2; exit 1`)
}

// nextBoot waits for a boot that nobody here asked for.
func (m *machine) nextBoot() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), bootLimit)
	defer cancel()
	if err := m.WaitReady(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// damage runs a script in the staged deployment's directory. Its files are links
// to objects: they may be removed, not changed.
func (m *machine) damage(script string) {
	m.t.Helper()
	m.sh(`d=/sysroot/ostree/deploy/testdistro/deploy/$(hostctl status --json | jq -r '.deployments[0] | select(.staged) | "\(.checksum).\(.serial)"')
unshare -m sh -ec 'mount -o remount,rw /sysroot; cd "$0"; ` + script + `' "$d"`)
}

// fellBack checks that version 1 runs again, by itself, and why.
func (m *machine) fellBack(reason string) {
	m.t.Helper()
	m.expect(bootedVersion, "1")
	m.settle()
	m.expect(`hostctl status --json | jq -r '.deployments[0].booted, .trial, .blocked[0].version'`, "true\nnull\n1.1")
	if got := m.sh(`hostctl status --json | jq -r '.blocked[0].reason'`); !strings.Contains(got, reason) {
		m.t.Errorf("blocked for %q, want %q", got, reason)
	}
	if got := m.sh("hostctl upgrade"); !strings.Contains(got, "is blocked on this host: ") {
		m.t.Errorf("upgrade to a blocked version says:\n%s", got)
	}
	m.expect("hostctl status --json | jq -r '.deployments[0].staged'", "false")
	m.t.Logf("%s", m.sh("hostctl status"))
	m.sh("hostctl unblock 1.1")
}

// TestTrial: upgrades that break the machine in three ways end where it came
// from, without anybody's help; one that does not is kept. BIOS and GRUB.
func TestTrial(t *testing.T) {
	need(t, "trial")
	newMachine(t).trials(diskimage.BIOSGRUB)
}

// TestTrialMatrix is the same with the other boot loaders.
func TestTrialMatrix(t *testing.T) {
	need(t, "matrix")
	t.Parallel()
	for _, boot := range layouts(t) {
		if boot == string(diskimage.BIOSGRUB) {
			continue
		}
		t.Run(boot, func(t *testing.T) {
			t.Parallel()
			newMachineOf(t, widerLab(t, boot, "")).trials(diskimage.Boot(boot))
		})
	}
}

func (m *machine) trials(boot diskimage.Boot) {
	t := m.t
	c := newCases(t, string(boot))
	c.begin("install, a good boot")
	m.expect(bootedVersion, "1")
	m.settle()
	m.expect("hostctl status --json | jq -r '.deployments[0].bootedWell'", "true")
	const check = `if [ -e /etc/red ] && grep -q "OSTREE_VERSION='1.1'" /usr/lib/os-release; then echo not wanted here; exit 1; fi`
	if err := m.PutBytes(t.Context(), "/etc/greenboot/check/required.d/10-version.sh", 0o755, []byte(check)); err != nil {
		t.Fatal(err)
	}

	c.begin("trial: no init")
	m.sh("hostctl upgrade --tries 1")
	m.damage("rm -f usr/lib/systemd/systemd")
	m.reboot()
	m.fellBack("did not get as far as the health checks")
	m.console("none of usr/lib/systemd/systemd, sbin/init is a program")

	c.begin("trial: health check red")
	m.sh("touch /etc/red; hostctl upgrade --tries 1")
	m.reboot()
	m.nextBoot()
	m.fellBack("health check 10-version.sh failed: exit status 1: not wanted here")

	c.begin("trial: kernel panic")
	m.sh("rm /etc/red; hostctl upgrade --tries 1")
	m.damage("rm -f usr/lib/systemd/systemd; cp usr/bin/false usr/lib/systemd/systemd")
	m.reboot()
	m.fellBack("did not get as far as the health checks")
	m.console("Attempted to kill init")

	if boot != diskimage.UEFISystemdBoot { // it returns to the firmware, which may wait for somebody
		c.begin("trial: kernel unreadable")
		m.sh("hostctl upgrade --tries 1")
		m.sh("systemctl stop hostctl-finalize-staged.service") // does now what shutdown would
		m.sh(`k=$(ls /boot/ostree/testdistro-$(hostctl status --json | jq -r '.deployments[0].bootChecksum')/vmlinuz*); head -c 100000 /dev/urandom > "$k"`)
		m.reboot()
		m.fellBack("did not get as far as the health checks")
	}

	c.begin("trial: good")
	m.sh("hostctl upgrade")
	m.reboot()
	m.expect(bootedVersion, "1.1")
	m.settle()
	m.expect("hostctl status --json | jq -r '.deployments[0].bootedWell, .trial'", "true\nnull")
	if strings.HasSuffix(string(boot), "-grub") {
		m.expect("grep -a -e boot_counter -e boot_success /boot/loader/grubenv", "boot_counter=2\nboot_success=1")
	}
	m.expect("ls /boot/loader/entries | grep -c + || :", "0")
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	c.begin("rollback is no trial")
	m.sh("hostctl rollback")
	m.expect("hostctl status --json | jq -r '.deployments[0].version, .trial'; test -e /boot/loader/grubenv || echo not counted", "1\nnull\nnot counted")
	c.end()
}

// console requires a text on the serial console.
func (m *machine) console(text string) {
	m.t.Helper()
	if !strings.Contains(m.Console(), text) {
		m.t.Errorf("the console does not say %q", text)
	}
}
