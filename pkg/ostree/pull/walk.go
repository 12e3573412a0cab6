// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"fmt"
	"sync"

	"github.com/hostctl/hostctl/pkg/ostree"
)

const defaultOutstanding = 8

// walk receives the closure of some trees. Directories come before files, so
// that the number of objects is known early. What the repository has is not
// requested, but stored directories are read all the same: after an interrupted
// pull a directory can be there without what it lists.
type walk struct {
	p *puller

	mu      sync.Mutex
	wake    *sync.Cond
	meta    []job
	content []job
	seen    map[ostree.ObjectName]struct{}
	running int
	err     error
}

// job is an object to receive, or with raw a stored directory to read.
type job struct {
	ostree.ObjectName
	raw []byte
}

func newWalk(p *puller) *walk {
	w := &walk{p: p, seen: map[ostree.ObjectName]struct{}{}}
	w.wake = sync.NewCond(&w.mu)
	return w
}

// add queues an object unless it was queued before or needs nothing.
func (w *walk) add(n ostree.ObjectName) error {
	w.mu.Lock()
	_, known := w.seen[n]
	w.seen[n] = struct{}{}
	w.mu.Unlock()
	if known {
		return nil
	}
	stored, raw, err := w.lookUp(n)
	if err != nil {
		return fmt.Errorf("look up object %s: %w", n, err)
	}
	if stored && n.Type != ostree.TypeDirTree {
		return nil
	}
	if !stored {
		w.p.meter.expect()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.Type == ostree.TypeFile {
		w.content = append(w.content, job{n, raw})
	} else {
		w.meta = append(w.meta, job{n, raw})
	}
	w.wake.Signal()
	return nil
}

// lookUp asks the transaction, which also knows what a killed pull left behind,
// and reads a stored directory.
func (w *walk) lookUp(n ostree.ObjectName) (stored bool, raw []byte, err error) {
	err = w.p.batch.write(func(t *ostree.Txn) (int64, error) {
		stored, err = t.Has(n)
		if err == nil && stored && n.Type == ostree.TypeDirTree {
			raw, err = t.LoadRaw(n)
		}
		return 0, err
	})
	return stored, raw, err
}

// run works until the queue is empty, an object fails or ctx ends.
func (w *walk) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { w.fail(context.Cause(ctx)) })
	defer stop()
	workers := w.p.req.Network.Outstanding
	if workers <= 0 {
		workers = defaultOutstanding
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				n, ok := w.next()
				if !ok {
					return
				}
				err := w.object(ctx, n)
				if err != nil {
					w.fail(err)
					cancel(err)
				}
				w.finished()
			}
		})
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// next waits for an object; false means that there will be none.
func (w *walk) next() (job, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if w.err != nil || w.running == 0 && len(w.meta)+len(w.content) == 0 {
			w.wake.Broadcast()
			return job{}, false
		}
		for _, queue := range []*[]job{&w.meta, &w.content} {
			if k := len(*queue); k > 0 {
				n := (*queue)[k-1]
				*queue = (*queue)[:k-1]
				w.running++
				return n, true
			}
		}
		w.wake.Wait()
	}
}

func (w *walk) finished() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	if w.running == 0 {
		w.wake.Broadcast()
	}
}

// fail keeps the first error: those that follow come from the cancellation.
func (w *walk) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.wake.Broadcast()
}

func (w *walk) object(ctx context.Context, j job) error {
	switch j.Type {
	case ostree.TypeDirTree:
		return w.tree(ctx, j)
	case ostree.TypeFile:
		return w.file(ctx, j.ObjectName)
	}
	_, err := w.receive(ctx, j.ObjectName)
	return err
}

func (w *walk) file(ctx context.Context, n ostree.ObjectName) error {
	err := w.p.batch.write(func(t *ostree.Txn) (int64, error) { return w.p.src.content(ctx, t, n.Checksum) })
	if err != nil {
		return fmt.Errorf("receive object %s: %w", n, err)
	}
	w.p.meter.object(n.Type)
	return nil
}

// receive fetches and stores a metadata object.
func (w *walk) receive(ctx context.Context, n ostree.ObjectName) ([]byte, error) {
	raw, err := w.p.src.metadata(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("receive object %s: %w", n, err)
	}
	err = w.p.batch.write(func(t *ostree.Txn) (int64, error) {
		return int64(len(raw)), t.WriteMetadataExpected(ctx, n, raw)
	})
	if err != nil {
		return nil, fmt.Errorf("store object %s: %w", n, err)
	}
	w.p.meter.object(n.Type)
	return raw, nil
}

// tree makes sure that a directory is stored and queues what it lists.
func (w *walk) tree(ctx context.Context, j job) error {
	raw := j.raw
	if raw == nil {
		var err error
		if raw, err = w.receive(ctx, j.ObjectName); err != nil {
			return err
		}
	}
	tree, err := ostree.ParseDirTree(raw)
	if err != nil {
		return fmt.Errorf("read object %s: %w", j, err)
	}
	for _, d := range tree.Dirs {
		if err := w.addDir(d.Tree, d.Meta); err != nil {
			return err
		}
	}
	for _, f := range tree.Files {
		if err := w.add(ostree.ObjectName{Checksum: f.Checksum, Type: ostree.TypeFile}); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) addDir(tree, meta ostree.Checksum) error {
	if err := w.add(ostree.ObjectName{Checksum: tree, Type: ostree.TypeDirTree}); err != nil {
		return err
	}
	return w.add(ostree.ObjectName{Checksum: meta, Type: ostree.TypeDirMeta})
}
