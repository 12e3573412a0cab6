// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
)

const fsckTask = "Checking objects"

type fsck struct {
	r       *Repo
	o       FsckOptions
	dirs    objectDirs
	stored  int                // objects on disk, payload links aside
	commits []Checksum         // those among them that are commits
	whole   []Checksum         // commits that are not marked partial
	lost    []Checksum         // parents that are not stored
	links   []ObjectName       // payload links on disk
	stop    context.CancelFunc // ends the check of objects
	done    atomic.Int64       // objects read

	// ignoreMarks takes commits that fsck marked partial for whole, and lists them.
	ignoreMarks bool
	marked      []Checksum

	mu  sync.Mutex
	bad map[ObjectName]int // index of the finding
	res FsckResult
}

func newFsck(r *Repo, o FsckOptions) *fsck {
	return &fsck{r: r, o: o, bad: map[ObjectName]int{}, stop: func() {}}
}

func (f *fsck) isBad(n ObjectName) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, bad := f.bad[n]
	return bad
}

func (f *fsck) report(x Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.Ref == "" && x.Kind != WrongBackRef {
		if _, ok := f.bad[x.Object]; ok {
			return
		}
		f.bad[x.Object] = len(f.res.Findings)
	}
	f.res.Findings = append(f.res.Findings, x)
	if f.o.StopAtFirst && x.Kind == CorruptObject {
		f.stop()
	}
}

func (f *fsck) phase(p FsckPhase, n int) {
	if f.o.Phase != nil {
		f.o.Phase(p, n)
	}
}

func (f *fsck) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, f.dirs.close()) }()
	if err := f.list(ctx); err != nil {
		return err
	}
	f.phase(FsckRefs, 0)
	if err := f.refs(); err != nil {
		return err
	}
	f.phase(FsckCollectionRefs, 0)
	if err := f.collectionRefs(); err != nil {
		return err
	}
	f.phase(FsckCommits, 0)
	if err := f.lookAtCommits(); err != nil {
		return err
	}
	f.phase(FsckObjects, len(f.whole))
	if err := f.objects(ctx); err != nil {
		return err
	}
	if err := f.payloadLinks(ctx); err != nil {
		return err
	}
	return f.conclude()
}

// workers are more than the processors, as some wait for the disk.
func (f *fsck) workers() int {
	if f.o.Workers > 0 {
		return f.o.Workers
	}
	return 2 * workers(0)
}

// eachDir runs fn for the 256 object directories with several workers.
func (f *fsck) eachDir(ctx context.Context, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.workers())
	for i := range 256 {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}

// list counts what is stored, and notes the little that is wanted by name.
func (f *fsck) list(ctx context.Context) error {
	return f.eachDir(ctx, func(ctx context.Context, i int) error {
		stored := 0
		var some []ObjectName
		err := f.r.eachInDir(ctx, i, func(_ *fsx.Dir, _ string, n ObjectName) error {
			if n.Type != TypePayloadLink {
				stored++
			}
			if n.Type == TypePayloadLink || n.Type == TypeCommit {
				some = append(some, n)
			}
			return nil
		})
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stored += stored
		for _, n := range some {
			if n.Type == TypeCommit {
				f.commits = append(f.commits, n.Checksum)
			} else {
				f.links = append(f.links, n)
			}
		}
		return err
	})
}

// conclude names the commits that suffer and does what the options ask for.
func (f *fsck) conclude() error {
	f.blame()
	slices.SortFunc(f.res.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Ref, b.Ref),
			a.Object.Checksum.Compare(b.Object.Checksum), int(a.Object.Type)-int(b.Object.Type))
	})
	if f.o.MarkPartial {
		if err := f.mark(); err != nil {
			return err
		}
	}
	if f.o.Delete {
		if err := f.delete(); err != nil {
			return err
		}
	}
	if f.o.AddTombstones {
		return f.entomb()
	}
	return nil
}

// objects reads what is to be checked: first the directories of complete commits,
// which tell what must be there, then one object directory after another, so that no
// list of all objects has to be kept.
func (f *fsck) objects(ctx context.Context) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	f.stop = stop
	f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.Begin, Total: int64(f.stored)})
	w := newFsckWalk(f)
	err := w.run(work)
	if err == nil {
		err = f.eachDir(work, w.verifyDir)
	}
	done := f.done.Load()
	f.res.Objects = int(done)
	f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.End, Done: done, Total: int64(f.stored)})
	if ctx.Err() == nil && work.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped at the first
	}
	return cmp.Or(err, ctx.Err())
}

// present holds also for what a parent repository stores.
func (f *fsck) present(n ObjectName) (local, ok bool, err error) {
	local, err = f.dirs.has(f.r, n)
	if local || err != nil || f.r.parent == nil {
		return local, local, err
	}
	ok, err = f.r.parent.Has(n)
	return false, ok && err == nil, nil
}

// hasCommit is present, without telling what is wrong.
func (f *fsck) hasCommit(c Checksum) bool {
	_, ok, err := f.present(ObjectName{c, TypeCommit})
	return ok && err == nil
}

func (f *fsck) count() {
	if n := f.done.Add(1); n%256 == 0 {
		f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.Update, Done: n, Total: int64(f.stored)})
	}
}

// damaged reports an object that could not be verified, if err is one.
func (f *fsck) damaged(n ObjectName, err error) {
	if err == nil {
		return
	}
	x := Finding{Kind: UnreadableObject, Object: n, Detail: err.Error()}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrInvalid) {
		x.Kind = CorruptObject
	}
	if e := (*checksumError)(nil); errors.As(err, &e) {
		x.Actual = e.actual
	}
	if e := (*wordedError)(nil); errors.As(err, &e) {
		x.said = e.text
	}
	f.report(x)
}
