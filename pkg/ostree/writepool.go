// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hostctl/hostctl/internal/progress"
)

// writePool hashes and stores files with several workers. What a worker finds goes
// into a slot that was handed out in the order of the source, so that the result
// does not depend on who was first. The slot is the caller's, or one of results.
type writePool struct {
	ctx         context.Context
	fail        context.CancelCauseFunc
	progress    progress.Func
	jobs        chan poolJob
	wg          sync.WaitGroup
	results     []poolResult
	done, bytes atomic.Int64
}

type poolJob struct {
	size int64
	sum  *Checksum
	run  func(ctx context.Context) (Checksum, error)
	drop func() // releases what run needs; called once, whether run was or not
}

type poolResult struct {
	tree *MTree
	name string
	sum  *Checksum
}

const (
	poolTask  = "Writing objects"
	poolQueue = 256 // files ahead of the workers: small, as each may hold a directory open
)

// newPool starts workers; the caller calls finish.
func (t *Txn) newPool(ctx context.Context, workers int) *writePool {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &writePool{ctx: ctx, fail: cancel, progress: t.r.opts.progress, jobs: make(chan poolJob, poolQueue)}
	p.progress.Emit(progress.Event{Task: poolTask, Kind: progress.Begin})
	if workers <= 0 {
		workers = max(2, runtime.GOMAXPROCS(0))
	}
	for range workers {
		p.wg.Go(func() {
			for j := range p.jobs {
				p.runJob(j)
			}
		})
	}
	return p
}

func (p *writePool) runJob(j poolJob) {
	if j.drop != nil {
		defer j.drop()
	}
	if p.ctx.Err() != nil {
		return
	}
	sum, err := j.run(p.ctx)
	if err != nil {
		p.fail(err)
		return
	}
	*j.sum = sum
	p.count(j.size)
}

func (p *writePool) count(size int64) {
	p.bytes.Add(size)
	if n := p.done.Add(1); n%256 == 0 {
		p.progress.Emit(progress.Event{Task: poolTask, Kind: progress.Update, Done: n, Bytes: p.bytes.Load()})
	}
}

// known records a file that is stored already.
func (p *writePool) known(m *MTree, name string, sum Checksum) {
	p.results = append(p.results, poolResult{m, name, &sum})
	p.count(0)
}

// submit queues a file that finish records in m.
func (p *writePool) submit(m *MTree, name string, j poolJob) error {
	j.sum = new(Checksum)
	p.results = append(p.results, poolResult{m, name, j.sum})
	return p.send(j)
}

// send queues a file. It waits while the queue is full.
func (p *writePool) send(j poolJob) error {
	select {
	case p.jobs <- j:
		return nil
	case <-p.ctx.Done():
		if j.drop != nil {
			j.drop()
		}
		return context.Cause(p.ctx)
	}
}

// finish waits for the workers, if err is nil, and records the results in their trees.
func (p *writePool) finish(err error) error {
	if err != nil {
		p.fail(err)
	}
	close(p.jobs)
	p.wg.Wait()
	defer p.fail(nil)
	p.progress.Emit(progress.Event{Task: poolTask, Kind: progress.End, Done: p.done.Load(), Bytes: p.bytes.Load()})
	if cause := context.Cause(p.ctx); cause != nil {
		return cause
	}
	for _, r := range p.results {
		if err := r.tree.SetFile(r.name, *r.sum); err != nil {
			return err
		}
	}
	return nil
}
