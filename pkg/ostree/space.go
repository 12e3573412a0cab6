// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

const defaultMinFreePercent = 3

// minFree reads core.min-free-space-percent and core.min-free-space-size. Both
// given, the size counts, as in libostree.
func minFree(cfg *keyfile.File) (pct, bytes uint64, err error) {
	size, sizeErr := cfg.StringOr("core", "min-free-space-size", "")
	percent, pctErr := cfg.IntOr("core", "min-free-space-percent", defaultMinFreePercent)
	if err := errors.Join(sizeErr, pctErr); err != nil {
		return 0, 0, err
	}
	if size != "" {
		bytes, err = parseSize(size)
		return 0, bytes, err
	}
	if percent < 0 || percent > 99 {
		return 0, 0, fmt.Errorf("%w: core.min-free-space-percent %d", ErrInvalid, percent)
	}
	return uint64(percent), 0, nil
}

// parseSize reads a number followed by MB, GB or TB, powers of 1024.
func parseSize(s string) (uint64, error) {
	digits := strings.TrimRight(s, "MGTB")
	n, err := strconv.ParseUint(digits, 10, 32)
	shift, ok := map[string]uint{"MB": 20, "GB": 30, "TB": 40}[s[len(digits):]]
	if err != nil || !ok || n > math.MaxUint64>>(shift+1) {
		return 0, fmt.Errorf("%w: core.min-free-space-size %q", ErrInvalid, clip(s))
	}
	return n << shift, nil
}

// budget counts down the bytes that a transaction may still write.
type budget struct {
	left          atomic.Int64
	path          string // of the repository
	free, reserve uint64 // bytes at the start; to remain
}

// newBudget measures the filesystem: what is free above the reserve.
func (r *Repo) newBudget() (*budget, error) {
	b := &budget{path: r.dir.Path()}
	b.left.Store(math.MaxInt64)
	if r.opts.minFreePct == 0 && r.opts.minFreeBytes == 0 {
		return b, nil
	}
	free, total, err := r.dir.FreeSpace()
	if err != nil {
		return nil, err
	}
	reserve := r.opts.minFreeBytes
	if r.opts.minFreePct > 0 {
		reserve = total / 100 * r.opts.minFreePct
	}
	b.free, b.reserve = free, reserve
	b.left.Store(int64(min(free, math.MaxInt64) - min(reserve, free)))
	return b, nil
}

// take reserves n bytes or fails with ErrNoSpace.
func (b *budget) take(n int64) error {
	if left := b.left.Add(-n); left < 0 {
		return fmt.Errorf("%w in %s: %d MiB free at the start, %d MiB must remain (core.min-free-space)",
			ErrNoSpace, b.path, b.free>>20, b.reserve>>20)
	}
	return nil
}
