// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
)

// ErrLocked reports that another process held the lock for the whole time-out.
var ErrLocked = errors.New("locked by another process")

// Lock is a held advisory lock.
type Lock struct{ f *os.File }

// lockPoll is how often a busy lock is tried again: the kernel knows no time-out.
const lockPoll = 50 * time.Millisecond

// Lock locks the file name inside d, creating it if needed. It waits until timeout
// (0: try once; negative: for ever) or until ctx ends. A *LockedError tells who holds it.
func (d *Dir) Lock(ctx context.Context, name string, shared bool, timeout time.Duration) (*Lock, error) {
	start := time.Now()
	for {
		l, err := d.tryLock(name, shared)
		if l != nil || err != nil {
			return l, err
		}
		if timeout >= 0 && time.Since(start) >= timeout {
			return nil, d.locked(name)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// tryLock returns nil without an error where somebody else holds the lock.
func (d *Dir) tryLock(name string, shared bool) (*Lock, error) {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil, err
	}
	busy, err := sys.TryLock(int(f.Fd()), shared)
	if err != nil {
		return nil, errors.Join(d.wrap("lock", name, err), f.Close())
	}
	// libostree unlinks its lock file on release: a lock on a file that no longer
	// has the name excludes nobody.
	if !busy && d.stillNamed(f, name) {
		return &Lock{f: f}, nil
	}
	return nil, f.Close()
}

func (d *Dir) stillNamed(f *os.File, name string) bool {
	held, err := FStat(f)
	if err != nil {
		return false
	}
	now, err := d.Lstat(name)
	return err == nil && now.Ino == held.Ino && now.Dev == held.Dev
}

// Unlock releases the lock. It is released before the file is closed because a
// child that another goroutine is starting may hold the descriptor until its exec.
func (l *Lock) Unlock() error {
	return errors.Join(sys.Unlock(int(l.f.Fd())), l.f.Close())
}

// Convert makes a held lock shared or exclusive, waiting like Dir.Lock. While it
// waits the lock is held as before; two holders that both want it exclusive wait
// for each other until the time-out.
func (l *Lock) Convert(ctx context.Context, shared bool, timeout time.Duration) error {
	start := time.Now()
	for {
		busy, err := sys.TryLock(int(l.f.Fd()), shared)
		if err != nil || !busy {
			return err
		}
		if timeout >= 0 && time.Since(start) >= timeout {
			return fmt.Errorf("lock %s: %w", l.f.Name(), ErrLocked)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
