// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// heldLock is the repository lock that a context carries.
type heldLock struct {
	r      *Repo
	l      *fsx.Lock // nil where nothing needs locking
	shared bool
}

type lockKey struct{ r *Repo }

// Lock takes the repository's lock for several operations in a row: shared as
// writers do, or exclusively as Prune does. Operations on the Repo that get the
// returned context rely on it instead of locking again; one that needs the lock
// exclusively while it is held shared waits until no other process holds it, and
// gives it back to shared. It waits core.lock-timeout-secs, then the error wraps
// fsx.ErrLocked. Where core.locking is off, or the caller cannot write to the
// repository, nothing is locked. The lock is the one that libostree takes.
func (r *Repo) Lock(ctx context.Context, shared bool) (context.Context, func() error, error) {
	h := &heldLock{r: r, shared: shared}
	if outer, _ := ctx.Value(lockKey{r}).(*heldLock); outer != nil {
		unlock, err := outer.nest(ctx, shared)
		return ctx, unlock, err
	}
	var err error
	if h.l, err = r.takeLock(ctx, shared); err != nil {
		return ctx, nil, err
	}
	unlock := func() error { return nil }
	if h.l != nil {
		unlock = h.l.Unlock
	}
	return context.WithValue(ctx, lockKey{r}, h), unlock, nil
}

// nest serves an operation inside of a held lock.
func (h *heldLock) nest(ctx context.Context, shared bool) (unlock func() error, err error) {
	if h.l == nil || shared || !h.shared {
		return func() error { return nil }, nil
	}
	if err := h.l.Convert(ctx, false, h.r.opts.lockTimeout); err != nil {
		return nil, lockError(false, err)
	}
	h.shared = false
	return func() error {
		h.shared = true
		return h.l.Convert(context.WithoutCancel(ctx), true, h.r.opts.lockTimeout)
	}, nil
}

// lock takes the repository lock within the configured time, or relies on the one
// that ctx carries.
func (r *Repo) lock(ctx context.Context, shared bool) (unlock func() error, err error) {
	_, unlock, err = r.Lock(ctx, shared)
	return unlock, err
}

func (r *Repo) takeLock(ctx context.Context, shared bool) (*fsx.Lock, error) {
	if !r.opts.locking {
		return nil, nil
	}
	l, err := r.dir.Lock(ctx, lockName, shared, r.opts.lockTimeout)
	// Who cannot write here can only read, and readers take no lock.
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, lockError(shared, err)
	}
	return l, nil
}

func lockError(shared bool, err error) error {
	kind := "exclusive"
	if shared {
		kind = "shared"
	}
	return fmt.Errorf("Locking repo %s failed: %w", kind, err) //nolint:staticcheck // ST1005: the words scripts know
}
