// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"context"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Trier is a backend whose boot loader counts boot attempts.
type Trier interface {
	// Tries returns how often the default entry may still be tried and how often it
	// was; counting is false where nothing is counted.
	Tries(ctx context.Context, boot *fsx.Dir) (left, done int, counting bool, err error)
	// Bless ends the counting: the default entry is good.
	Bless(ctx context.Context, boot *fsx.Dir) error
}
