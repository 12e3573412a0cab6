// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"context"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// Trier is a backend whose boot loader counts boot attempts.
type Trier interface {
	// Tries returns how often the default entry may still be tried and how often it
	// was; counting is false where nothing is counted.
	Tries(ctx context.Context, boot *fsx.Dir) (left, done int, counting bool, err error)
	// Bless ends the counting: the default entry is good.
	Bless(ctx context.Context, boot *fsx.Dir) error
}

// MaxTries bounds Menu.Tries.
const MaxTries = 9

// TryLimit is how often the boot loader boots an entry on trial at most.
func TryLimit(t Trier) int {
	if l, ok := t.(interface{ tryLimit() int }); ok {
		return l.tryLimit()
	}
	return MaxTries
}

// TrialKargs are the kernel arguments that the entry on trial gets beside its
// own, at the end, bls.TrialMark first: whatever would stop and wait for somebody
// restarts instead, so that the next try or the entry before comes by itself.
func TrialKargs() []string {
	return []string{bls.TrialMark,
		"panic=10",                          // the kernel: seconds after a panic
		"systemd.crash_reboot=1",            // the service manager, where it would freeze
		"rd.shell=0", "rd.emergency=reboot", // dracut's own emergency shell
	}
}
