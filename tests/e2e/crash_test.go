// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/vm/proto"
)

// TestKilledMachine kills QEMU at random moments between the start of an upgrade
// and the end of the shutdown that finishes it. Each time the machine must boot
// the old or the new tree, its filesystems and repository must be clean, and the
// next upgrade must work. HOSTCTL_CRASHES sets how often (default 2),
// HOSTCTL_SEED repeats a run, HOSTCTL_ROOTFS (ext4, xfs, btrfs) and HOSTCTL_BOOT
// (see diskimage.Boot) say what kind of machine is killed.
func TestKilledMachine(t *testing.T) {
	need(t, "crash")
	n := number(t, "HOSTCTL_CRASHES", 2)
	seed := number(t, "HOSTCTL_SEED", int(time.Now().UnixNano()&0xffffff))
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))

	m := newMachineOf(t, crashLab(t))
	m.sh("echo hello > /etc/added; echo precious > /var/lib/precious; sync")
	if err := m.Snapshot(t.Context(), "ready"); err != nil {
		t.Fatal(err)
	}
	// One undisturbed run says how long there is to disturb.
	start := time.Now()
	m.sh("hostctl upgrade")
	upgrade := time.Since(start)
	start = time.Now()
	if err := m.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	shutdown := time.Since(start)
	m.boot()
	m.expect(bootedVersion, "1.1")
	t.Logf("undisturbed: upgrade %.0f s, shutdown %.0f s", upgrade.Seconds(), shutdown.Seconds())

	seen := map[string]int{}
	for i := range n {
		if err := m.Restore(t.Context(), "ready"); err != nil {
			t.Fatal(err)
		}
		// Half of the kills hit the upgrade, half the shutdown, whose last seconds
		// hold the switch.
		argv, within := []string{"hostctl", "upgrade"}, upgrade
		if i%2 == 1 {
			m.sh("hostctl upgrade")
			// The machine may be slower now than it was undisturbed.
			argv, within = []string{"systemctl", "--no-block", "poweroff"}, 2*shutdown
		}
		after := time.Duration(random.Int64N(int64(within)))
		go func() {
			// The connection breaks with the machine.
			_, _ = m.Run(t.Context(), proto.Command{Argv: argv})
		}()
		time.Sleep(after)
		m.Kill()
		m.boot()
		version := m.sh(bootedVersion)
		seen[version]++
		t.Logf("killed %.1f s into %s: booted %s", after.Seconds(), argv[0]+" "+argv[len(argv)-1], version)
		if version != "1" && version != "1.1" {
			t.Fatalf("kill %d: booted version %q", i, version)
		}
		m.expect("cat /etc/added /var/lib/precious", "hello\nprecious")
		if out := m.sh("hostctl fsck --progress none"); !strings.Contains(out, "no errors found") {
			t.Errorf("fsck after kill %d: %s", i, out)
		}
		m.expect("hostctl status --json | jq -r '.broken // [] | length'", "0")
		m.sh("hostctl upgrade 2>&1")
		m.expect("hostctl status --json | jq -r '.deployments[0].version'", "1.1")
	}
	t.Logf("TALLY: %d kills, root %s: the old system booted %d times, the new one %d times, nothing else",
		n, m.sh("findmnt -no FSTYPE /sysroot; findmnt -no FSTYPE /boot | sed 's,^,/boot ,'"), seen["1"], seen["1.1"])
}

// crashLab is the usual lab unless another kind of machine is asked for.
func crashLab(t *testing.T) *lab.Lab {
	t.Helper()
	boot, root := os.Getenv("HOSTCTL_BOOT"), os.Getenv("HOSTCTL_ROOTFS")
	if boot == "" && root == "" {
		return theLab(t)
	}
	return widerLab(t, boot, root)
}

func number(t *testing.T, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
