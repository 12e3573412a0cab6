// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
)

// fsckWalk looks for what complete commits miss. Commits and directories are verified
// as they are read; of the files, of which there are ten times as many, only a filter
// is kept, for verifyDir to pass over what no complete commit needs. Objects that
// partial commits alone need may be absent.
type fsckWalk struct {
	f     *fsck
	files objectFilter

	mu   sync.Mutex
	seen map[ObjectName]struct{} // commits, directories and their metadata
	away map[Checksum]struct{}   // files that only a parent repository has
	next []Checksum              // directories of the next round
}

func newFsckWalk(f *fsck) *fsckWalk {
	return &fsckWalk{f: f, seen: map[ObjectName]struct{}{}, away: map[Checksum]struct{}{}}
}

func (w *fsckWalk) run(ctx context.Context) error {
	for _, c := range w.f.whole {
		if err := w.commit(c); err != nil {
			return err
		}
	}
	for len(w.next) > 0 {
		if err := w.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *fsckWalk) commit(c Checksum) error {
	n := ObjectName{c, TypeCommit}
	if fresh, err := w.meta(n); !fresh || err != nil {
		return err
	}
	commit, err := w.f.r.LoadCommit(c)
	if err != nil {
		w.f.damaged(n, err)
		return nil
	}
	return w.dir(TreeDir{Tree: commit.RootTree, Meta: commit.RootMeta})
}

// round reads the directories found so far, with several workers.
func (w *fsckWalk) round(ctx context.Context) error {
	todo := w.next
	w.next = nil
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(w.f.workers())
	for len(todo) > 0 {
		batch := todo[:min(len(todo), fsckBatch)]
		todo = todo[len(batch):]
		g.Go(func() error {
			for _, c := range batch {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := w.tree(c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// fsckBatch is how many directories a worker takes at a time; to wake it for each would
// cost more than to read a small one.
const fsckBatch = 16

func (w *fsckWalk) tree(c Checksum) error {
	t, err := w.f.r.LoadDirTree(c)
	if err != nil {
		w.f.damaged(ObjectName{c, TypeDirTree}, err)
		return nil
	}
	for _, x := range t.Files {
		if err := w.file(x.Checksum); err != nil {
			return err
		}
	}
	for _, x := range t.Dirs {
		if err := w.dir(x); err != nil {
			return err
		}
	}
	return nil
}

func (w *fsckWalk) dir(d TreeDir) error {
	if _, err := w.meta(ObjectName{d.Meta, TypeDirMeta}); err != nil {
		return err
	}
	fresh, err := w.meta(ObjectName{d.Tree, TypeDirTree})
	if fresh {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.next = append(w.next, d.Tree)
	}
	return err
}

// meta notes a metadata object and tells whether it is there and met for the first time.
func (w *fsckWalk) meta(n ObjectName) (fresh bool, err error) {
	w.mu.Lock()
	_, met := w.seen[n]
	w.seen[n] = struct{}{}
	w.mu.Unlock()
	if met {
		return false, nil
	}
	local, ok, err := w.f.present(n)
	if err != nil {
		return false, err
	}
	if !ok {
		w.f.report(Finding{Kind: MissingObject, Object: n})
		return false, nil
	}
	switch {
	case n.Type != TypeDirMeta: // read in a moment
		w.f.count()
	case !local: // verifyDir does not come there
		w.f.count()
		w.f.damaged(n, w.f.r.verifyStored(n))
	}
	return true, nil
}

// file looks for a file each time that it is met, which costs less than to remember
// all that were.
func (w *fsckWalk) file(c Checksum) error {
	n := ObjectName{c, TypeFile}
	local, ok, err := w.f.present(n)
	switch {
	case err != nil:
		return err
	case !ok:
		w.f.report(Finding{Kind: MissingObject, Object: n})
	case local:
		w.files.add(n)
	default:
		w.parentFile(n)
	}
	return nil
}

func (w *fsckWalk) parentFile(n ObjectName) {
	w.mu.Lock()
	_, met := w.away[n.Checksum]
	w.away[n.Checksum] = struct{}{}
	w.mu.Unlock()
	if !met && !w.f.o.MetadataOnly {
		w.f.count()
		w.f.damaged(n, w.f.r.verifyStored(n))
	}
}

// verifyDir verifies what the walk has not read of one of the 256 directories.
func (w *fsckWalk) verifyDir(ctx context.Context, i int) error {
	return w.f.r.eachInDir(ctx, i, func(d *fsx.Dir, name string, n ObjectName) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !w.wanted(n) {
			return nil
		}
		w.f.count()
		err := w.f.r.verifyObject(d, name, n)
		if err != nil && w.f.o.Reachable && w.f.o.StopAtFirst && !w.f.needed(n) {
			return nil // the filter passed a stranger
		}
		w.f.damaged(n, err)
		return nil
	})
}

// wanted tells whether a stored object is still to be verified. The walk is over: what
// it has seen needs no lock.
func (w *fsckWalk) wanted(n ObjectName) bool {
	_, seen := w.seen[n]
	switch n.Type {
	case TypeTombstone, TypePayloadLink:
		return false
	case TypeFile:
		return !w.f.o.MetadataOnly && (!w.f.o.Reachable || w.files.mayHave(n))
	case TypeCommit, TypeDirTree:
		return !seen && !w.f.o.Reachable
	}
	return seen || !w.f.o.Reachable
}
