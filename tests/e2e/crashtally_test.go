// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
)

// TestPhases: what a machine reported tells which part of an update was hit, and what
// may come of it.
func TestPhases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		said     string
		shutdown bool
		phase    string
		point    string
		possible string
	}{
		{"", false, phasePull, "", outcomeOld},
		{"failpoint ostree.txn.synced\n", false, phasePull, "ostree.txn.synced", outcomeOld},
		{"failpoint ostree.txn.done\nfailpoint deploy.checkout-begin\n", false, phaseStage, "deploy.checkout-begin", outcomeOld},
		{"\r\n[  OK  ] Stopped target\nfailpoint deploy.finalize-begin\r\nfailpoint deploy.ker", true, phaseFinalise, "deploy.finalize-begin", outcomeOld},
		{"failpoint deploy.finalize-begin\nfailpoint deploy.armed\nfailpoint deploy.before-flip\n", true, phaseSwitch, "deploy.before-flip", outcomeOld + outcomeNew},
		{"failpoint deploy.armed\nfailpoint deploy.flip-synced\n", true, phaseDone, "deploy.flip-synced", outcomeNew},
	} {
		phase := phaseOf(c.said, c.shutdown)
		if phase != c.phase || lastPoint(c.said) != c.point || strings.Join(possible(phase), "") != c.possible {
			t.Errorf("%q: %s, %s, %v", c.said, phase, lastPoint(c.said), possible(phase))
		}
	}
	for n := range 70 {
		if a, b, c, d := counts(n); a+b+c+d != n || min(a, b, c, d) < n/4 {
			t.Errorf("counts(%d) = %d %d %d %d", n, a, b, c, d)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	got := table([]*tally{{Machine: "xfs", Kills: []kill{
		{Phase: phasePull, Outcome: outcomeOld}, {Phase: phaseSwitch, Outcome: outcomeNew}, {Phase: phaseSwitch, Outcome: outcomeNone, Problems: []string{"x"}}, {Phase: phasePull}}}})
	for _, want := range []string{"machine  kills", "xfs      3      1 old 0 new", "all      3"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	t.Log("\n" + got)
}
