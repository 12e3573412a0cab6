// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/etcmerge"
)

// etcReport is what status knows about the merge of /etc into one deployment: the one to
// come of a staged deployment, or what the last one left to somebody to decide.
type etcReport struct {
	Counts    *etcmerge.Counts `json:"counts,omitempty"` // of a staged deployment
	Conflicts []etcmerge.Clash `json:"conflicts"`
	// Problem tells why it is not known, for example without the right to read /etc.
	Problem string `json:"problem,omitempty"`
}

func describeEtc(ctx context.Context, s *deploy.Sysroot, d deploy.Deployment) etcReport {
	var r etcReport
	var err error
	if d.Staged {
		var rep deploy.EtcReport
		rep, err = s.StagedEtc(ctx)
		r.Conflicts, r.Counts = rep.Clashes, &rep.Counts
	} else {
		r.Conflicts, err = s.EtcConflicts(ctx, d)
	}
	if err != nil {
		r = etcReport{Problem: err.Error()}
	}
	if r.Conflicts == nil {
		r.Conflicts = []etcmerge.Clash{}
	}
	return r
}

// etcWords sums up the merge of a deployment in one line; "" if there is nothing to say.
func (r etcReport) etcWords() string {
	switch {
	case r.Problem != "":
		return "not known: " + r.Problem
	case r.Counts != nil:
		return fmt.Sprintf("%d modified, %d removed, %d added, %d in conflict", r.Counts.Modified, r.Counts.Removed, r.Counts.Added, len(r.Conflicts))
	case len(r.Conflicts) > 0:
		return fmt.Sprintf("%d left by the last merge of /etc", len(r.Conflicts))
	}
	return ""
}

// settingsWords say how many deployments stay.
func settingsWords(c deploy.Settings) string {
	out := fmt.Sprintf("%d deployments, and pinned ones", c.Keep)
	if c.KeepDays > 0 {
		out += fmt.Sprintf("; beyond two none older than %d days", c.KeepDays)
	}
	return out
}

// unlockedWords say how long /usr stays writable.
func unlockedWords(m deploy.UnlockMode) string {
	switch m {
	case deploy.UnlockHotfix:
		return string(m) + ", until the next upgrade"
	case "":
		return ""
	}
	return string(m) + ", until the next boot"
}
