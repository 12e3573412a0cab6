// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// aheadObjects are the objects that WriteAhead stored, or is about to store, and that
// nobody has asked for yet.
type aheadObjects struct {
	mu   sync.Mutex
	size map[Checksum]int64 // of the content
}

func (a *aheadObjects) add(c Checksum) (isNew bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.size[c]; ok {
		return false
	}
	if a.size == nil {
		a.size = map[Checksum]int64{}
	}
	a.size[c] = 0
	return true
}

func (a *aheadObjects) stored(c Checksum, size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.size[c]; ok {
		a.size[c] = size
	}
}

// used strikes off an object that a tree has.
func (a *aheadObjects) used(n ObjectName) {
	if n.Type != TypeFile {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.size, n.Checksum)
}

// WriteAhead stores content objects of src before it is known whether a tree will
// have them: with several workers, while whoever makes the tree is still busy. What
// is there already is left alone. Of the objects stored, those that no tree of the
// transaction has are dropped at its end, all of them if it fails. It may run beside
// other writers of the transaction. Call it before WriteDir is asked for sizes.
func (t *Txn) WriteAhead(ctx context.Context, src *Repo, list []Checksum) (err error) {
	var dirs objectDirs
	defer func() { err = errors.Join(err, dirs.close()) }()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range list {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := t.writeAhead(gctx, src, &dirs, c); err != nil {
				return fmt.Errorf("write object %s ahead: %w", c, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (t *Txn) writeAhead(ctx context.Context, src *Repo, dirs *objectDirs, c Checksum) error {
	n := ObjectName{c, TypeFile}
	if found, err := t.has(n); found || err != nil {
		return err
	}
	if !t.ahead.add(c) {
		return nil
	}
	h, size, content, err := src.openIn(dirs, n)
	if err != nil {
		return err
	}
	defer content.Close()
	if _, err := t.writeContent(ctx, &c, h, size, &ctxReader{ctx, content}); err != nil {
		return err
	}
	t.ahead.stored(c, size)
	return nil
}

// openIn is OpenFile with the directories of objects at hand.
func (r *Repo) openIn(dirs *objectDirs, n ObjectName) (FileHeader, int64, io.ReadCloser, error) {
	d, name, err := dirs.at(r, n)
	if err != nil || d == nil || r.parent != nil {
		return r.OpenFile(n.Checksum) // which says what is wrong
	}
	return r.openContent(d, name, n)
}

// dropAhead removes what was stored in vain.
func (t *Txn) dropAhead() error {
	t.ahead.mu.Lock()
	defer t.ahead.mu.Unlock()
	for c, size := range t.ahead.size {
		n := ObjectName{c, TypeFile}
		if !t.isStaged(n) {
			continue
		}
		d, name := t.stagedAt(n)
		st, err := d.Lstat(name)
		if err == nil {
			err = d.Remove(name)
		}
		if err != nil {
			return fmt.Errorf("drop object %s: %w", n, err)
		}
		t.count.contentTotal.Add(-1)
		t.count.contentWritten.Add(-1)
		t.count.content.Add(-size)
		t.count.bytes.Add(-st.Size)
	}
	return nil
}
