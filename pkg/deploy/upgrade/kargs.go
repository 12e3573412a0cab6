// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"fmt"

	"github.com/hostctl/hostctl/pkg/deploy"
)

// SetKargs makes a deployment of the same commit with the kernel arguments that
// Options.Kargs and Options.Owner give, so that the old ones stay for a rollback. index says in
// State.Deployments what to begin from; -1 means the deployment that is to boot
// next. Where nothing changes Result.Unchanged is set.
func SetKargs(ctx context.Context, s *deploy.Sysroot, index int, o Options) (Result, error) {
	o.AllowDowngrade = true // nothing is pulled
	return locked(ctx, s, "change kernel arguments", func(l *deploy.Locked) (*job, error) {
		j, err := begin(ctx, s, o)
		if err != nil {
			return j, err
		}
		if index >= 0 {
			if index >= len(j.st.Deployments) {
				return j, fmt.Errorf("index %d of %d: %w", index, len(j.st.Deployments), deploy.ErrNoDeployment)
			}
			j.from = j.st.Deployments[index]
			j.stateroot, j.origin = j.from.Stateroot, j.from.Origin.Successor()
		}
		return j, j.apply(ctx, l, j.from.Checksum)
	})
}
