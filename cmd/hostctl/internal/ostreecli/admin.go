// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
)

// adminVerb answers for libostree's deployment commands, which this program does
// not take over.
func adminVerb() *verb {
	return &verb{
		name: "admin", summary: "Commands for managing a host system booted with ostree", use: repoUnused,
		run: func(context.Context, *call) error {
			return errors.New("the admin commands are not part of this program; hostctl status, upgrade, deploy and rollback manage deployments")
		},
	}
}
