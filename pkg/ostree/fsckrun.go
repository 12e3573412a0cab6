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
	r     *Repo
	o     FsckOptions
	have  map[ObjectName]struct{} // what is on disk
	whole []Checksum              // commits that are not marked partial
	lost  []Checksum              // parents that are not stored
	links []ObjectName            // payload links on disk
	stop  context.CancelFunc      // ends the check of objects

	// ignoreMarks takes commits that fsck marked partial for whole, and lists them.
	ignoreMarks bool
	marked      []Checksum

	mu  sync.Mutex
	bad map[ObjectName]int // index of the finding
	res FsckResult
}

func newFsck(r *Repo, o FsckOptions) *fsck {
	return &fsck{r: r, o: o, have: map[ObjectName]struct{}{}, bad: map[ObjectName]int{}, stop: func() {}}
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

func (f *fsck) run(ctx context.Context) error {
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
	if err := f.commits(); err != nil {
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

// workers is more than the processors, as some wait for the disk.
func (f *fsck) workers() int {
	if f.o.Workers > 0 {
		return f.o.Workers
	}
	return 2 * workers(0)
}

// list reads with several workers which objects are stored.
func (f *fsck) list(ctx context.Context) error {
	var next atomic.Int32
	var g errgroup.Group
	for range f.workers() {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= 256 {
					return nil
				}
				if err := f.listDir(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

func (f *fsck) listDir(ctx context.Context, i int) error {
	var names []ObjectName
	err := f.r.eachInDir(ctx, i, func(_ *fsx.Dir, _ string, n ObjectName) error {
		names = append(names, n)
		return nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range names {
		if n.Type == TypePayloadLink {
			f.links = append(f.links, n)
		} else {
			f.have[n] = struct{}{}
		}
	}
	return err
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

// objects reads what is to be checked with several workers: directories are read
// here, one after another, and what they name is handed out as it is met.
func (f *fsck) objects(ctx context.Context) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	f.stop = stop
	p := &fsckPool{f: f, ctx: work, jobs: make(chan []ObjectName, 16)}
	f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.Begin, Total: int64(len(f.have))})
	p.start(f.workers())
	seen, err := f.closures(work, p)
	if err == nil && !f.o.Reachable {
		for n := range f.have {
			if _, ok := seen[n]; !ok {
				p.add(n)
			}
		}
	}
	p.send()
	close(p.jobs)
	p.wg.Wait()
	f.res.Objects = p.done
	f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.End, Done: int64(p.done), Total: int64(len(f.have))})
	if ctx.Err() == nil && work.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped at the first
	}
	return cmp.Or(err, ctx.Err())
}

// closures looks for what complete commits miss, and gives what they need. Objects that
// partial commits alone need may be absent.
func (f *fsck) closures(ctx context.Context, p *fsckPool) (map[ObjectName]struct{}, error) {
	s := &sweep{r: f.r, ctx: ctx, seen: map[ObjectName]struct{}{}}
	for _, c := range f.whole {
		s.fresh = func(n ObjectName) {
			if !f.present(n) {
				f.report(Finding{Kind: MissingObject, Object: n})
				return
			}
			// The walk itself verifies commits and directories.
			if n.Type != TypeDirTree && n.Type != TypeCommit {
				p.add(n)
			} else {
				p.count()
			}
		}
		s.missing = func(n ObjectName, err error) error {
			if f.present(n) {
				f.damaged(n, err)
			}
			return nil
		}
		if err := s.commit(c); err != nil {
			return nil, err
		}
	}
	return s.seen, nil
}

// present holds also for what a parent repository stores.
func (f *fsck) present(n ObjectName) bool {
	if _, ok := f.have[n]; ok {
		return true
	}
	if f.r.parent == nil {
		return false
	}
	ok, err := f.r.parent.Has(n)
	return ok && err == nil
}

// fsckBatch is how many objects a worker takes at a time; to wake it for each would
// cost more than to read a small one.
const fsckBatch = 16

// fsckPool verifies objects in the background.
type fsckPool struct {
	f     *fsck
	ctx   context.Context
	jobs  chan []ObjectName
	batch []ObjectName // not sent yet
	wg    sync.WaitGroup
	done  int
}

func (p *fsckPool) start(n int) {
	for range n {
		p.wg.Go(func() {
			for batch := range p.jobs {
				for _, n := range batch {
					if p.ctx.Err() == nil {
						p.f.damaged(n, p.f.r.verifyStored(n))
					}
				}
			}
		})
	}
}

func (p *fsckPool) count() {
	if p.done++; p.done%256 == 0 {
		p.f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.Update, Done: int64(p.done), Total: int64(len(p.f.have))})
	}
}

func (p *fsckPool) add(n ObjectName) {
	if n.Type == TypeFile && p.f.o.MetadataOnly || n.Type == TypeTombstone || p.ctx.Err() != nil {
		return
	}
	p.count()
	if p.batch = append(p.batch, n); len(p.batch) == fsckBatch {
		p.send()
	}
}

func (p *fsckPool) send() {
	if len(p.batch) > 0 {
		p.jobs <- p.batch
		p.batch = nil
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
