// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/vm/proto"
)

// The parts of an update that a kill can hit. A kill that comes later than it was
// meant counts for the part that it did hit; phaseDone is the rest of the shutdown,
// behind the switch.
const (
	phasePull     = "pull"
	phaseStage    = "stage"
	phaseFinalise = "finalise"
	phaseSwitch   = "switch"
	phaseDone     = "after"
)

// What a machine is after a kill.
const (
	outcomeOld  = "old"
	outcomeNew  = "new"
	outcomeNone = "neither"
)

// Points that the programs report on their way, see internal/failpoint: where a
// kill is aimed at, in the order in which they come.
func pullPoints() []string {
	return []string{"ostree.txn.staged", "ostree.txn.synced", "ostree.txn.marked", "ostree.txn.published", "ostree.txn.durable",
		"ostree.txn.commits-published", "ostree.txn.commits-durable", "ostree.txn.cleared", "ostree.txn.done"}
}

func stagePoints() []string {
	return []string{"deploy.checkout-begin", "deploy.checkout-done", "deploy.etc-copied", "deploy.origin-written", "deploy.tree-synced",
		"deploy.stage-synced", "deploy.staged"}
}

func finalisePoints() []string {
	return []string{"deploy.finalize-begin", "deploy.etc-merged", "deploy.write-begin", "deploy.kernel-file", "deploy.kernel-installed",
		"deploy.menu-written", "deploy.bootloader-prepared", "deploy.refs-written", "deploy.links-written"}
}

func switchPoints() []string {
	return []string{"deploy.armed", "deploy.before-flip", "deploy.after-flip", "deploy.flip-synced"}
}

// traced makes the programs report these points on standard error.
func traced() string {
	return "HOSTCTL_FAILPOINTS=deploy.*=trace;bootloader.*=trace;" + strings.Join(pullPoints(), "=trace;") + "=trace"
}

// traceUnit lets the service that works at shutdown report on the serial console.
var traceUnit = "[Service]\nEnvironment=\"" + traced() + "\"\nStandardError=file:/dev/ttyS0\n"

var reported = regexp.MustCompile(`failpoint ([a-z]+\.[a-z.-]+)`)

// lastPoint gives the last point that text reports whole.
func lastPoint(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for _, l := range slices.Backward(lines) {
		if m := reported.FindStringSubmatch(l); m != nil && strings.HasSuffix(l, "\n") {
			return m[1]
		}
	}
	return ""
}

// phaseOf tells from what was reported which part of an update was under way.
func phaseOf(text string, shutdown bool) string {
	said := func(point string) bool { return strings.Contains(text, "failpoint "+point) }
	switch {
	case !shutdown && !said("deploy."):
		return phasePull
	case !shutdown:
		return phaseStage
	case said("deploy.flip-synced"):
		return phaseDone
	case said("deploy.armed"):
		return phaseSwitch
	}
	return phaseFinalise
}

// possible tells which outcomes a kill there may have. A line on the console comes
// a little later than what it reports.
func possible(phase string) []string {
	switch phase {
	case phaseSwitch:
		return []string{outcomeOld, outcomeNew}
	case phaseDone:
		return []string{outcomeNew}
	}
	return []string{outcomeOld}
}

// killer kills one machine again and again.
type killer struct {
	*machine
	l      *lab.Lab
	random *rand.Rand
	tally  *tally
	inside bool // look at the repository in the machine only: the rest takes FUSE and loop devices

	n int // kills so far
}

// counts says how many of n kills are aimed at each part.
func counts(n int) (pulls, stages, finals, switches int) {
	pulls, stages, finals = (n+2)/4, n/4, (n+1)/4
	return pulls, stages, finals, n - pulls - stages - finals
}

// killAll spreads n kills over the update. Those that hit the shutdown start from a
// snapshot with everything staged.
func killAll(t *testing.T, l *lab.Lab, n int, random *rand.Rand, tl *tally, inside bool) {
	k := &killer{machine: newMachineOf(t, l), l: l, random: random, tally: tl, inside: inside}
	k.prepare()
	pulls, stages, finals, switches := counts(n)
	// One upgrade that is killed while objects arrive, when they become part of the
	// repository, and in staging; each time the next one goes on.
	for i := range pulls {
		if i == pulls-1 && stages > 0 {
			k.duringUpgrade(k.pick(pullPoints()), 0)
			continue
		}
		k.duringUpgrade("", 1+k.random.IntN(maxObjects/pulls))
	}
	for range stages {
		k.duringUpgrade(k.pick(stagePoints()), 0)
	}
	// The upgrade that was killed so often works at last, in a machine that runs all services.
	k.sh("systemctl start multi-user.target")
	k.sh("hostctl upgrade 2>&1")
	k.expect("hostctl status --json | jq -r '.deployments[0].version, .deployments[0].staged'", "1.1\ntrue")
	k.snapshot("staged")
	for range finals {
		k.duringShutdown(k.pick(finalisePoints()))
	}
	for i := range switches {
		points := switchPoints()
		// The last one has passed the switch, so that there is something to roll back.
		if i == switches-1 {
			points = points[len(points)-1:]
		}
		k.duringShutdown(k.pick(points))
	}
	if n > 2 {
		k.rollBack()
	}
}

// maxObjects is less than what an upgrade receives.
const maxObjects = 2000

func (k *killer) pick(points []string) string { return points[k.random.IntN(len(points))] }

// prepare makes local changes of every kind, which no kill may take away.
func (k *killer) prepare() {
	k.expect(bootedVersion, "1")
	k.sh(`echo '# my line' >> /etc/testdistro.conf; echo hello > /etc/added; rm /etc/issue.net
mkdir -p /var/lib/mine; echo precious > /var/lib/mine/precious; echo 0 > /etc/latest; echo 0 > /var/lib/mine/latest`)
	const unit = "/etc/systemd/system/hostctl-finalize-staged.service.d/trace.conf"
	if err := k.PutBytes(k.t.Context(), unit, 0o644, []byte(traceUnit)); err != nil {
		k.t.Fatal(err)
	}
	// Boots end with the agent, since every service beyond it costs time to emulate.
	k.sh("systemctl add-wants basic.target hostctl-vm-agent.service; systemctl set-default basic.target; sync")
}

func (k *killer) snapshot(name string) {
	k.t.Helper()
	if err := k.Snapshot(k.t.Context(), name); err != nil {
		k.t.Fatal(err)
	}
}

func (k *killer) restore(name string) {
	k.t.Helper()
	if err := k.Restore(k.t.Context(), name); err != nil {
		k.t.Fatal(err)
	}
}

// changeLate makes the last changes before a kill, durable ones.
func (k *killer) changeLate() {
	k.t.Helper()
	k.n++
	k.sh("echo " + k.number() + " | tee /etc/latest > /var/lib/mine/latest; sync -f /etc/latest; sync -f /var/lib/mine/latest")
}

// duringUpgrade kills when an upgrade reports point, or after it was sent objects.
func (k *killer) duringUpgrade(point string, objects int) {
	k.t.Helper()
	k.changeLate()
	before, _ := k.count.contentObjects()
	var said syncBuffer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The line breaks with the machine.
		_, _ = k.Stream(context.WithoutCancel(k.t.Context()), proto.Command{Argv: []string{"hostctl", "upgrade"}, Env: []string{traced()}}, &bytes.Buffer{}, &said)
	}()
	k.waitFor(point, before, objects, &said, ended)
	k.kill(point)
	<-ended
	k.judge(said.String(), false)
}

// waitFor returns when an upgrade has reported point, has been sent objects beyond
// those before, or has ended.
func (k *killer) waitFor(point string, before, objects int, said *syncBuffer, ended <-chan struct{}) {
	from := 0
	for {
		received, _ := k.count.contentObjects()
		text := said.String()
		if received == before && strings.HasPrefix(point, "ostree.") {
			// The first transactions of an upgrade are small ones, of the commit alone.
			from = len(text)
		}
		if objects > 0 && received-before >= objects {
			return
		}
		if point != "" && strings.Contains(text[from:], "failpoint "+point+"\n") {
			return
		}
		select {
		case <-ended:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// duringShutdown kills when the service that finishes the staged deployment reports point.
func (k *killer) duringShutdown(point string) {
	k.t.Helper()
	k.restore("staged")
	k.changeLate()
	mark, err := k.ConsoleMark()
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := k.Run(k.t.Context(), proto.Command{Argv: []string{"systemctl", "--no-block", "poweroff"}}); err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(k.t.Context(), bootLimit)
	defer cancel()
	if err := k.WaitConsole(ctx, mark, "failpoint "+point); err != nil {
		k.t.Logf("%v: killed at the end", err)
	}
	k.kill(point)
	said, err := k.ConsoleSince(mark)
	if err != nil {
		k.t.Fatal(err)
	}
	k.judge(said, true)
}

// kill waits for a random moment, longer before long steps and shorter before short
// ones, and kills QEMU.
func (k *killer) kill(point string) {
	within := 300 * time.Millisecond
	switch point {
	case "deploy.checkout-begin", "deploy.finalize-begin", "deploy.kernel-file":
		within = 3 * time.Second
	case "deploy.before-flip", "deploy.after-flip":
		within = 60 * time.Millisecond
	}
	time.Sleep(time.Duration(k.random.Int64N(int64(within))))
	k.Kill()
}

// syncBuffer is a buffer that is read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
