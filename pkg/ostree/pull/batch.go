// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// A repository transaction is all or nothing, and a pull must not be: what was
// received before a crash should not be received again. So objects are written
// through a series of transactions, each ending after so long, so that a loss of power costs
// little, or after so much that what is remembered of it stays small. Their commits mark
// nothing but "these objects are verified and durable"; refs and partial marks belong to
// the last transaction alone. More of them would cost: only the first one in an empty
// repository publishes its objects by whole directories.
const (
	batchBytes = 1 << 30
	batchFiles = 32 << 10
	batchTime  = 10 * time.Second
)

// batches hands out the current transaction and starts a new one in time. One
// transaction at most is being committed while the next takes objects.
type batches struct {
	ctx      context.Context
	repo     *ostree.Repo
	maxBytes int64
	maxTime  time.Duration

	mu      sync.Mutex
	seq     int // of cur, or of the last one
	cur     *batch
	landing *batch // the one before cur
	err     error

	statsMu sync.Mutex
	total   ostree.Stats
}

type batch struct {
	txn     *ostree.Txn
	seq     int
	users   int
	files   int
	bytes   int64
	started time.Time
	closing bool
	release chan struct{} // closed when the transaction may commit
	done    chan struct{} // closed when it has
	stats   ostree.Stats  // valid after done, as is err
	err     error
}

func newBatches(ctx context.Context, repo *ostree.Repo) *batches {
	return &batches{ctx: ctx, repo: repo, maxBytes: batchBytes, maxTime: batchTime}
}

// write runs fn with a transaction. fn returns about how many bytes it stored.
func (b *batches) write(fn func(*ostree.Txn) (int64, error)) error {
	_, err := b.run(0, fn)
	return err
}

// file is write for a file. It gives the number of the batch: when the second one after
// it takes objects, the file is in the repository.
func (b *batches) file(fn func(*ostree.Txn) (int64, error)) (seq int, err error) { return b.run(1, fn) }

func (b *batches) run(files int, fn func(*ostree.Txn) (int64, error)) (seq int, err error) {
	cur, err := b.acquire(files)
	if err != nil {
		return 0, err
	}
	size, err := fn(cur.txn)
	b.releaseUser(cur, size)
	return cur.seq, err
}

func (b *batches) acquire(files int) (*batch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rotate()
	if b.err != nil {
		return nil, b.err
	}
	if b.cur == nil {
		cur, err := b.start()
		if err != nil {
			b.err = err
			return nil, err
		}
		b.seq++
		cur.seq = b.seq
		b.cur = cur
	}
	b.cur.users++
	b.cur.files += files
	return b.cur, nil
}

// rotate closes the current batch when it is due and the one before has landed.
func (b *batches) rotate() {
	if b.landing != nil {
		select {
		case <-b.landing.done:
			b.err = errors.Join(b.err, b.landing.err)
			b.landing = nil
		default:
			return
		}
	}
	if b.cur == nil || b.cur.bytes < b.maxBytes && b.cur.files < batchFiles && time.Since(b.cur.started) < b.maxTime {
		return
	}
	b.landing = b.cur
	b.cur.closeIfIdle(true)
	b.cur = nil
}

// closeIfIdle lets the transaction commit once nobody uses it.
func (c *batch) closeIfIdle(closing bool) {
	c.closing = c.closing || closing
	if c.closing && c.users == 0 {
		close(c.release)
	}
}

func (b *batches) releaseUser(c *batch, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.users--
	c.bytes += size
	c.closeIfIdle(false)
}

// start opens a transaction and returns when it takes objects. Cancellation
// counts only until then: it must end a wait for the repository lock, and it
// must not undo what was received.
func (b *batches) start() (*batch, error) {
	c := &batch{started: time.Now(), release: make(chan struct{}), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.ctx))
	opened := context.AfterFunc(b.ctx, cancel)
	ready := make(chan *ostree.Txn, 1)
	go func() {
		defer cancel()
		defer close(c.done)
		c.stats, c.err = b.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error {
			opened()
			ready <- t
			<-c.release
			return nil
		})
		b.add(c.stats)
	}()
	select {
	case c.txn = <-ready:
		return c, nil
	case <-c.done:
		return nil, c.err
	}
}

// finish lands everything and reports the first failure to do so.
func (b *batches) finish() error {
	b.mu.Lock()
	cur, landing, err := b.cur, b.landing, error(nil)
	b.cur, b.landing = nil, nil
	if cur != nil {
		cur.closeIfIdle(true)
	}
	b.mu.Unlock()
	for _, c := range []*batch{landing, cur} {
		if c == nil {
			continue
		}
		<-c.done
		err = errors.Join(err, c.err)
	}
	return err
}

// add counts what a transaction wrote.
func (b *batches) add(s ostree.Stats) {
	b.statsMu.Lock()
	defer b.statsMu.Unlock()
	b.total.MetadataTotal += s.MetadataTotal
	b.total.MetadataWritten += s.MetadataWritten
	b.total.ContentTotal += s.ContentTotal
	b.total.ContentWritten += s.ContentWritten
	b.total.BytesWritten += s.BytesWritten
	b.total.ContentBytes += s.ContentBytes
}

func (b *batches) stats() ostree.Stats {
	b.statsMu.Lock()
	defer b.statsMu.Unlock()
	return b.total
}
