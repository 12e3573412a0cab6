// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/hostctl/hostctl/pkg/ostree"
)

const (
	defaultOutstanding = 8
	maxTreeDepth       = 4096
	// maxQueue is how many files wait before they go before directories.
	maxQueue = 16 << 10
)

// walk receives the closure of some trees. Directories come before files, so
// that the number of objects is known early, unless there are very many files: those that
// are known and not received yet are all that is kept of them. What the repository has is not
// requested, but stored directories are read all the same: after an interrupted
// pull a directory can be there without what it lists. Only what a complete commit lists
// in the same place is passed over; see base.go.
type walk struct {
	p *puller

	mu      sync.Mutex
	wake    *sync.Cond
	meta    []job
	content queue
	seen    map[ostree.Checksum]seen // directories and their metadata
	files   pending
	paths   map[pathJob]struct{} // with subpaths, what is below depends on the path
	running int
	err     error
}

// seen is a set of object types.
type seen uint8

// job is a directory or its metadata. path, with a slash at its end, is kept only
// where subpaths make a difference.
type job struct {
	ostree.ObjectName
	path  string
	depth int
	// old is the same directory of a complete commit: what both list is there. Zero for none.
	old ostree.Checksum
}

type pathJob struct {
	tree ostree.Checksum
	path string
}

func newWalk(p *puller) *walk {
	w := &walk{p: p, seen: map[ostree.Checksum]seen{}, files: newPending(), paths: map[pathJob]struct{}{}}
	w.wake = sync.NewCond(&w.mu)
	return w
}

// fresh tells whether an object is met for the first time. Of a file that was received
// the repository tells.
func (w *walk) fresh(j job) bool {
	bit := seen(1) << j.Type
	w.mu.Lock()
	defer w.mu.Unlock()
	if j.Type == ostree.TypeFile {
		return w.files.add(j.Checksum)
	}
	if j.path != "" && j.Type == ostree.TypeDirTree {
		k := pathJob{j.Checksum, j.path}
		_, known := w.paths[k]
		w.paths[k] = struct{}{}
		return !known
	}
	known := w.seen[j.Checksum]
	w.seen[j.Checksum] = known | bit
	return known&bit == 0
}

// add queues an object unless it was queued before or needs nothing.
func (w *walk) add(j job) error {
	if !w.fresh(j) {
		return nil
	}
	stored, err := w.has(j.ObjectName)
	if err != nil {
		return fmt.Errorf("look up object %s: %w", j, err)
	}
	if !stored {
		w.p.meter.expect()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case stored && j.Type == ostree.TypeFile:
		w.files.drop(j.Checksum)
		return nil
	case stored && j.Type != ostree.TypeDirTree:
		return nil
	}
	if j.Type == ostree.TypeFile {
		w.content.push(j.Checksum)
	} else {
		w.meta = append(w.meta, j)
	}
	w.wake.Signal()
	return nil
}

// has asks the transaction, which also knows what a killed pull left behind.
func (w *walk) has(n ostree.ObjectName) (stored bool, err error) {
	err = w.p.batch.write(func(t *ostree.Txn) (int64, error) {
		stored, err = t.Has(n)
		return 0, err
	})
	return stored, err
}

// run works until the queue is empty, an object fails or ctx ends. 0 workers are as many
// as a pull has requests at a time by default.
func (w *walk) run(ctx context.Context, workers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { w.fail(context.Cause(ctx)) })
	defer stop()
	if workers <= 0 {
		workers = defaultOutstanding
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				j, ok := w.next()
				if !ok {
					return
				}
				err := w.object(ctx, j)
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
		if w.err != nil || w.running == 0 && len(w.meta)+w.content.len() == 0 {
			w.wake.Broadcast()
			return job{}, false
		}
		if k := len(w.meta); k > 0 && w.content.len() < maxQueue {
			j := w.meta[k-1]
			w.meta = w.meta[:k-1]
			w.running++
			return j, true
		}
		if w.content.len() > 0 {
			w.running++
			return job{ObjectName: ostree.ObjectName{Checksum: w.content.pop(), Type: ostree.TypeFile}}, true
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

// file stores a content object, from a cache if one has it.
func (w *walk) file(ctx context.Context, n ostree.ObjectName) error {
	src, imported := w.p.src, w.p.local != nil
	for _, c := range w.p.caches {
		found, err := c.has(n)
		if err != nil {
			return err
		}
		if found {
			src, imported = c, true
			break
		}
	}
	batch, err := w.p.batch.file(func(t *ostree.Txn) (int64, error) { return src.store(ctx, t, n.Checksum) })
	if errors.Is(err, ostree.ErrCorrupt) {
		return fmt.Errorf("Corrupted file object %s: %w", n, err) //nolint:staticcheck // ST1005: the words scripts look for
	}
	if err != nil {
		return fmt.Errorf("receive object %s: %w", n, err)
	}
	w.p.meter.object(n.Type, imported)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files.done(n.Checksum, batch)
	return nil
}

// receive fetches and stores a metadata object.
func (w *walk) receive(ctx context.Context, n ostree.ObjectName) ([]byte, error) {
	raw, imported, err := w.p.metadata(ctx, n, maxObject)
	if err != nil {
		return nil, fmt.Errorf("receive object %s: %w", n, err)
	}
	err = w.p.batch.write(func(t *ostree.Txn) (int64, error) {
		return int64(len(raw)), w.p.storeMeta(ctx, t, n, raw)
	})
	if err != nil {
		return nil, storeError(n, err)
	}
	w.p.meter.object(n.Type, imported)
	return raw, nil
}

// storeError says like libostree which file name makes an object unacceptable.
func storeError(n ostree.ObjectName, err error) error {
	if text, ok := ostree.Words(err); ok && !errors.Is(err, ostree.ErrNoSpace) {
		return &condition{n.String() + ": " + text, err}
	}
	return fmt.Errorf("store object %s: %w", n, err)
}

// tree makes sure that a directory is stored and queues what it lists.
func (w *walk) tree(ctx context.Context, j job) error {
	var raw []byte
	var stored bool
	err := w.p.batch.write(func(t *ostree.Txn) (n int64, err error) {
		if stored, err = t.Has(j.ObjectName); stored && err == nil {
			raw, err = t.LoadRaw(j.ObjectName)
		}
		return 0, err
	})
	if err == nil && !stored {
		raw, err = w.receive(ctx, j.ObjectName)
	}
	if err != nil {
		return err
	}
	tree, err := ostree.ParseDirTree(raw)
	if err != nil {
		return fmt.Errorf("read object %s: %w", j, err)
	}
	old := w.oldTree(j.old)
	for _, f := range tree.Files {
		if !w.wanted(j.path, f.Name, false) {
			continue
		}
		if o, ok := old.File(f.Name); ok && o.Checksum == f.Checksum {
			continue
		}
		if err := w.add(job{ObjectName: ostree.ObjectName{Checksum: f.Checksum, Type: ostree.TypeFile}}); err != nil {
			return err
		}
	}
	if j.depth == maxTreeDepth {
		return fmt.Errorf("read object %s: %w: directories nested too deeply", j, ostree.ErrInvalid)
	}
	for _, d := range tree.Dirs {
		if !w.wanted(j.path, d.Name, true) {
			continue
		}
		o, _ := old.Dir(d.Name)
		if o == d {
			continue
		}
		if err := w.dir(j.path+d.Name+"/", j.depth+1, d, o.Tree); err != nil {
			return err
		}
	}
	return nil
}

// oldTree reads a directory of a complete commit. Where that fails everything is looked at.
func (w *walk) oldTree(c ostree.Checksum) (t ostree.DirTree) {
	if c.IsZero() {
		return t
	}
	t, err := w.p.repo.LoadDirTree(c)
	if err != nil {
		w.p.log.Warn("compare with an earlier commit", "error", err)
		return ostree.DirTree{}
	}
	return t
}

// addRoot queues the tree of a commit; old is that of a complete one, or nil.
func (w *walk) addRoot(c admitted, old *ostree.Commit) error {
	root, from := ostree.TreeDir{Tree: c.tree, Meta: c.meta}, ostree.Checksum{}
	if old != nil {
		from = old.RootTree
	}
	return w.dir("/", 0, root, from)
}

func (w *walk) dir(at string, depth int, d ostree.TreeDir, old ostree.Checksum) error {
	if len(w.p.req.Subpaths) == 0 {
		at = ""
	}
	if d.Tree != old {
		if err := w.add(job{ostree.ObjectName{Checksum: d.Tree, Type: ostree.TypeDirTree}, at, depth, old}); err != nil {
			return err
		}
	}
	return w.add(job{ObjectName: ostree.ObjectName{Checksum: d.Meta, Type: ostree.TypeDirMeta}})
}

// wanted tells whether an entry of the directory at is one of the subpaths, below
// one, or a directory that leads to one.
func (w *walk) wanted(at, name string, dir bool) bool {
	if len(w.p.req.Subpaths) == 0 {
		return true
	}
	full := at + name
	for _, s := range w.p.req.Subpaths {
		switch {
		case s == "/", full == s, strings.HasPrefix(full, s+"/"):
			return true
		case dir && strings.HasPrefix(s, full+"/"):
			return true
		}
	}
	return false
}

func cleanSubpath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("%w: subpath %q does not begin with a slash", ostree.ErrInvalid, clip(s))
	}
	return path.Clean(s), nil
}
