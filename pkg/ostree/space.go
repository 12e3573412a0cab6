// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

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

// budget counts down the blocks of the filesystem that a transaction may still use
// for content and received directories; other metadata is free, as in libostree, for
// it is what cleans up.
type budget struct {
	where   string // the repository
	left    atomic.Int64
	block   int64 // bytes of a block; 0: no limit
	percent uint64
	size    uint64 // bytes
}

// newBudget measures the filesystem: what is free above the reserve.
func (r *Repo) newBudget() (*budget, error) {
	b := &budget{where: r.dir.Path(), percent: r.opts.minFreePct, size: r.opts.minFreeBytes}
	if b.percent == 0 && b.size == 0 {
		return b, nil
	}
	free, total, err := r.dir.FreeSpace()
	if err != nil {
		return nil, err
	}
	if b.block, err = r.dir.BlockSize(); err != nil {
		return nil, err
	}
	b.block = max(b.block, 1)
	reserve := b.size
	if b.percent > 0 {
		reserve = uint64(float64(total) * (float64(b.percent) / 100))
	}
	if blocks, reserved := free/uint64(b.block), reserve/uint64(b.block); blocks > reserved {
		b.left.Store(int64(min(blocks-reserved, math.MaxInt64)))
	}
	return b, nil
}

// take reserves room for an object of size bytes or fails with ErrNoSpace.
func (b *budget) take(size int64) error {
	if b.block == 0 {
		return nil
	}
	need := size/b.block + 1
	if b.left.Add(-need) >= 0 {
		return nil
	}
	b.left.Add(need)
	limit := fmt.Sprintf("min-free-space-percent '%d%%'", b.percent)
	if b.size > 0 {
		limit = fmt.Sprintf("min-free-space-size %dMB", b.size>>20)
	}
	err := worded(ErrNoSpace, "%s would be exceeded, at least %s requested", limit, sizeWords(need, b.block))
	return fmt.Errorf("no space in %s: %w", b.where, err)
}

// full names the repository where the disk is full before the reserve is used up:
// some metadata is not held against it, and others write there, too.
func (t *Txn) full(err error) error {
	if !DiskFull(err) {
		return err
	}
	return fmt.Errorf("no space in %s: %w", t.budget.where, err)
}

// DiskFull reports an error for want of space: of the disk, of a quota, or because the
// reserve of a repository would be used (ErrNoSpace).
func DiskFull(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// sizeWords gives a number of blocks in bytes, with a unit of powers of 1000.
func sizeWords(blocks, block int64) string {
	n := float64(blocks) * float64(block)
	if n < 1000 {
		return fmt.Sprintf("%.0f\u00a0bytes", n)
	}
	unit := ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if n /= 1000; n < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f\u00a0%s", n, unit)
}
