// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
)

// ErrLocked reports that another process held the lock for the whole time-out.
var ErrLocked = errors.New("locked by another process")

// Lock is a held advisory lock.
type Lock struct{ f *os.File }

// lockPoll is how often a busy lock is tried again: flock(2) has no time-out.
const lockPoll = 50 * time.Millisecond

// Lock takes the flock on the file name inside d, creating it if needed. It
// waits until timeout (0: try once; negative: for ever) or until ctx ends.
func (d *Dir) Lock(ctx context.Context, name string, shared bool, timeout time.Duration) (*Lock, error) {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for {
		busy, err := sys.Flock(int(f.Fd()), shared)
		if err == nil && !busy {
			return &Lock{f: f}, nil
		}
		if err != nil {
			return nil, errors.Join(d.wrap("lock", name, err), f.Close())
		}
		if timeout >= 0 && time.Since(start) >= timeout {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path.Join(d.path, name), ErrLocked), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(lockPoll):
		}
	}
}

// Unlock releases the lock.
func (l *Lock) Unlock() error { return l.f.Close() }
