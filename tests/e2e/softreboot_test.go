// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/vm/proto"
)

// preparedSoft is the lab with a tree whose systemd can restart without the kernel, and
// with an upgrade that has the same one.
var preparedSoft = sync.OnceValues(func() (*lab.Lab, error) {
	l, err := lab.New(os.Stderr)
	if err != nil {
		return nil, err
	}
	l.UseExtra(lab.Extra{Name: "soft", Packages: []string{"ostree"}, Backports: []string{"systemd"}})
	if err := l.Prepare(context.Background()); err != nil {
		return nil, err
	}
	return l.WithFix(context.Background())
})

func softLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := preparedSoft()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// softReboot runs a command that ends in a soft reboot.
func (m *machine) softReboot(argv ...string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), bootLimit)
	defer cancel()
	if err := m.SoftReboot(ctx, argv...); err != nil {
		m.t.Fatal(err)
	}
}

// softMachine is a machine on which the kernel goes on.
type softMachine struct {
	*machine
	kernel  string // identifies its run
	mounts  string // of disks, as after the first boot
	reboots int    // without it
}

// layout lists the mounts of disks, without what tells deployments apart.
const layout = `findmnt -rno TARGET,SOURCE,OPTIONS,PROPAGATION -t ext4 | sed 's/[0-9a-f]\{64\}\.[0-9]*/DEPLOYMENT/' | sort`

// fullBoot notes what soft reboots must keep.
func (m *softMachine) fullBoot(version string) {
	m.t.Helper()
	m.expect(bootedVersion, version)
	m.settle()
	m.kernel, m.reboots = m.BootID(), 0
	m.expect("systemctl --failed --no-legend | wc -l", "0")
}

// softBoot runs a command that ends in a soft reboot, and checks what follows every one.
func (m *softMachine) softBoot(version string, argv ...string) {
	m.t.Helper()
	m.softReboot(argv...)
	m.reboots++
	m.expect("cat /proc/sys/kernel/random/boot_id", m.kernel)
	m.expect(bootedVersion, version)
	m.settle()
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	// systemd counts them since version 256.
	m.expect(fmt.Sprintf(`n=$(systemctl show -P SoftRebootsCount); echo "${n:-%d}"`, m.reboots), strconv.Itoa(m.reboots))
	m.expect("ls -d /run/nextroot/* /run/ostree/nextroot-booted 2>/dev/null | wc -l", "0")
	if got := m.sh(layout); got != m.mounts {
		m.t.Errorf("mounts after a soft reboot:\n%s\nafter a boot:\n%s", got, m.mounts)
	}
	m.expect("for d in / /usr /sysroot; do touch $d/x 2>/dev/null || echo refused; done; touch /etc/x /var/x; rm /etc/x /var/x", "refused\nrefused\nrefused")
	// What libostree takes for the booted deployment.
	m.expect("ostree admin status | sed -n 's/^\\* //p'",
		m.sh(`hostctl status --json | jq -r '.deployments[] | select(.booted) | "\(.stateroot) \(.checksum).\(.serial)"'`))
	// The time limit of a boot has just begun, whatever the kernel's clock says.
	m.sh(`p() { busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/hostctl_2dboot_2ddeadline_2etimer org.freedesktop.systemd1.$1 | cut -d' ' -f2; }
next=$(p 'Timer NextElapseUSecMonotonic'); now=$(p 'Unit ActiveEnterTimestampMonotonic'); test $((next - now)) -gt 1190000000`)
	m.expect("cat /var/lib/precious; tail -n1 /etc/testdistro.conf", "precious\n# my line")
}

// refused runs a command that must fail because only a full restart is possible.
func (m *softMachine) refused(words string, argv ...string) {
	m.t.Helper()
	res, err := m.Run(m.t.Context(), proto.Command{Argv: argv, Seconds: 600})
	if err != nil {
		m.t.Fatal(err)
	}
	if res.Code != 7 || !strings.Contains(string(res.Stderr), "a soft reboot is not possible: "+words) {
		m.t.Errorf("%q: exit status %d, want 7 and %q\n%s%s", argv, res.Code, words, res.Stdout, res.Stderr)
	}
	m.expect("mountpoint -q /run/nextroot || echo nothing mounted", "nothing mounted")
}

// TestSoftReboot restarts a machine without its kernel: an upgrade whose health check
// fails, the same upgrade without that, a rollback; and what cannot be reached so.
// BIOS and GRUB, systemd 254.
func TestSoftReboot(t *testing.T) {
	need(t, "matrix")
	boot := string(diskimage.BIOSGRUB)
	if !slices.Contains(layouts(t), boot) {
		t.Skipf("HOSTCTL_MATRIX has no %s", boot)
	}
	c := newCases(t, boot)
	c.begin("soft reboot: install")
	l := softLab(t)
	m := &softMachine{machine: newMachineOf(t, l)}
	m.fullBoot("1")
	m.mounts = m.sh(layout)
	m.sh("echo '# my line' >> /etc/testdistro.conf; echo precious > /var/lib/precious")
	const check = `if [ -e /etc/red ] && [ -e /usr/share/fixed ]; then echo not wanted here; exit 1; fi`
	if err := m.PutBytes(t.Context(), "/etc/greenboot/check/required.d/10-fixed.sh", 0o755, []byte(check)); err != nil {
		t.Fatal(err)
	}

	c.begin("soft reboot: health check red")
	m.sh("touch /etc/red")
	m.softReboot("hostctl", "upgrade", "--tries", "1", "--soft-reboot=required")
	m.expect(bootedVersion, lab.FixVersion)
	m.nextBoot() // by the boot loader, which counts it
	m.nextBoot()
	m.fullBoot("1")
	m.expect(`hostctl status --json | jq -r '.trial, .blocked[0].version, .blocked[0].reason'`,
		"null\n"+lab.FixVersion+"\nhealth check 10-fixed.sh failed: exit status 1: not wanted here")
	m.sh("rm /etc/red; hostctl unblock " + lab.FixVersion)

	c.begin("soft reboot: upgrade")
	m.softBoot(lab.FixVersion, "hostctl", "upgrade", "--soft-reboot=required")
	m.expect("cat /usr/share/fixed /etc/testdistro.d/network.conf; grep OSTREE_VERSION /usr/lib/os-release",
		"fixed\n# fixed default\nOSTREE_VERSION='"+lab.FixVersion+"'")
	m.expect(`hostctl status --json | jq -r '.trial, (.deployments[] | "\(.version) \(.booted) \(.bootedWell) \(.softReboot.possible)")'`,
		"null\n"+lab.FixVersion+" true true false\n1 false true true")
	if got := m.sh(busctl("testdistro", "OS", "BootedDeployment")); !strings.Contains(got, `"version" s "`+lab.FixVersion+`"`) {
		t.Errorf("the bus says that this runs: %s", got)
	}

	c.begin("soft reboot: full restart")
	m.reboot()
	m.fullBoot(lab.FixVersion)
	m.expect("cat /usr/share/fixed", "fixed")

	c.begin("soft reboot: not possible")
	m.impossible()

	c.begin("soft reboot: prepared and given up")
	m.sh("hostctl soft-reboot --prepare 1")
	m.expect(`hostctl status --json | jq -r '.deployments[] | "\(.version) \(.softReboot.prepared)"'`, "1 true\n"+lab.FixVersion+" null")
	m.sh("umount -R /run/nextroot")
	m.expect(bootedVersion, lab.FixVersion)
	m.sh("hostctl soft-reboot --reset; hostctl soft-reboot --prepare 0; hostctl soft-reboot --reset; hostctl set-default 1")
	m.expect("mountpoint -q /run/nextroot || echo nothing mounted", "nothing mounted")

	c.begin("soft reboot: rollback")
	m.softBoot("1", "hostctl", "rollback", "--soft-reboot=required")
	m.expect("test -e /usr/share/fixed || echo gone; cat /etc/testdistro.d/network.conf", "gone\n"+m.sh("cat /usr/etc/testdistro.d/network.conf"))

	c.begin("soft reboot: another kernel")
	if err := l.Release(t.Context(), lab.SecondState); err != nil {
		t.Fatal(err)
	}
	m.refused("the kernel or the initramfs differs", "hostctl", "upgrade", "--soft-reboot=required")
	m.expect(`hostctl status --json | jq -r '.deployments[0] | .version, .staged, .softReboot.problem'`, "1.1\ntrue\nthe kernel or the initramfs differs")
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	c.end()
}

// impossible tries what must change nothing.
func (m *softMachine) impossible() {
	m.t.Helper()
	state := "hostctl status --json | jq -c '[.deployments[] | [.version, .booted, .staged]]'; cat /boot/loader/entries/*"
	before := m.sh(state)
	m.refused("the deployment is running", "hostctl", "soft-reboot", "0")
	m.sh("ln -s elsewhere /run/nextroot.link; rmdir /run/nextroot 2>/dev/null || :; mv -T /run/nextroot.link /run/nextroot")
	m.refused("/run/nextroot is no directory", "hostctl", "soft-reboot", "1")
	m.sh("rm /run/nextroot")
	m.sh("hostctl kargs --append soft.test=1")
	m.refused("the kernel arguments differ", "hostctl", "soft-reboot")
	m.sh("hostctl undeploy 0")
	m.expect(state, before)
}
