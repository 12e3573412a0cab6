// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"slices"

	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/etcmerge"
)

// settings are those of the sysroot with what the options say.
func (o Options) settings(s *deploy.Sysroot) (deploy.Settings, error) {
	c, err := s.Settings()
	if o.EtcConflicts != "" {
		c.EtcConflicts = o.EtcConflicts
	}
	if o.EtcReplace != nil {
		c.EtcReplace = o.EtcReplace
	}
	if o.Keep > 0 {
		c.Keep = o.Keep
	}
	if o.KeepDays > 0 {
		c.KeepDays = o.KeepDays
	}
	return c, err
}

// policy is for the merge of /etc. What was wished for a staged deployment holds for
// the one that takes its place, unless there is another wish.
func (j *job) policy() etcmerge.Policy {
	p := j.set.EtcPolicy()
	if j.o.EtcReplace == nil && j.from.EtcPolicy != nil {
		p.Replace = slices.Concat(p.Replace, j.from.EtcPolicy.Replace)
		slices.Sort(p.Replace)
		p.Replace = slices.Compact(p.Replace)
	}
	return p
}

// settleStaged gives a deployment that is staged already the policy that the options
// ask for: who was told of a conflict says how to settle it with the next command.
func (j *job) settleStaged(ctx context.Context, l *deploy.Locked, req deploy.Request) error {
	if j.from.EtcPolicy == nil || j.o.EtcConflicts == "" && j.o.EtcReplace == nil {
		return nil
	}
	old := *j.from.EtcPolicy
	if !req.FailOnConflict && old.SaveNew == req.Etc.SaveNew && slices.Equal(old.Replace, req.Etc.Replace) {
		return nil
	}
	var err error
	if j.res.Etc, err = l.SetStagedEtc(ctx, req.Etc, req.FailOnConflict); err != nil {
		return err
	}
	d := j.from
	d.EtcPolicy = &req.Etc
	j.res.Unchanged, j.res.Staged, j.res.Deployment = false, true, &d
	return nil
}
