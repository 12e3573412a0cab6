// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrSameTree reports that the deployment to go back to has the commit that is to be
// blocked.
var ErrSameTree = errors.New("the deployment to go back to has the same tree")

// RollbackAndBlock is Rollback, and keeps upgrades from taking the version that was to
// boot next again, for the given reason. It gives both deployments.
func (l *Locked) RollbackAndBlock(ctx context.Context, reason string) (to, left Deployment, err error) {
	return l.rollback(ctx, func(to, left Deployment) error {
		if to.Checksum == left.Checksum {
			return fmt.Errorf("block %s: %w", left.Name(), ErrSameTree)
		}
		// First: a crash behind the switch must not let the next upgrade take it again.
		return l.s.updateBootRecord(func(r *bootRecord) error {
			r.block(Blocked{Checksum: left.Checksum, Version: left.Version, Reason: reason, Time: time.Now()})
			return nil
		})
	})
}
