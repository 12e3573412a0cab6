// SPDX-License-Identifier: Apache-2.0

package ostree

import "sync"

// earlySyncObjects is after how many objects the filesystem is written to disk while
// others are still being made. The sync before they become visible would otherwise wait
// for all small files at once, with the processors idle.
const earlySyncObjects = 2048

// earlySync runs such syncs, one at a time. The sync that counts comes later; but the
// kernel tells of an error only once, so the errors of these count too.
type earlySync struct {
	mu      sync.Mutex
	objects int           // since the last one began
	running chan struct{} // closed when it ends; nil: none was begun
	over    bool
	err     error
}

// count notes a new object and starts a sync where one is due.
func (e *earlySync) count(run func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.objects++
	if e.objects < earlySyncObjects || e.over || e.busy() {
		return
	}
	e.objects = 0
	done := make(chan struct{})
	e.running = done
	go func() {
		defer close(done)
		if err := run(); err != nil {
			e.fail(err)
		}
	}()
}

func (e *earlySync) busy() bool {
	if e.running == nil {
		return false
	}
	select {
	case <-e.running:
		return false
	default:
		return true
	}
}

func (e *earlySync) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

// finish waits for the last sync and gives the first error of all. None begins later.
func (e *earlySync) finish() error {
	e.mu.Lock()
	e.over = true
	running := e.running
	e.mu.Unlock()
	if running != nil {
		<-running
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// wrote counts a new object of size bytes on disk.
func (t *Txn) wrote(size int64) {
	t.count.bytes.Add(size)
	if t.r.opts.fsync && !t.r.opts.perObjectFsync {
		t.early.count(t.r.dir.Syncfs)
	}
}
