// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/hostctl/hostctl/internal/progress"
)

const fsckTask = "Checking objects"

type fsck struct {
	r     *Repo
	o     FsckOptions
	have  map[ObjectName]struct{} // what is on disk
	whole []Checksum              // commits that are not marked partial
	lost  []Checksum              // parents that are not stored
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
	err := f.r.eachObject(ctx, func(n ObjectName) error {
		if n.Type != TypePayloadLink {
			f.have[n] = struct{}{}
		}
		return nil
	})
	if err != nil {
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
	return f.conclude()
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
	p := &fsckPool{f: f, ctx: work, jobs: make(chan ObjectName, 256), seen: map[ObjectName]struct{}{}}
	f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.Begin, Total: int64(len(f.have))})
	p.start(workers(f.o.Workers))
	err := f.closures(work, p)
	if err == nil && !f.o.Reachable {
		for n := range f.have {
			p.add(n)
		}
	}
	close(p.jobs)
	p.wg.Wait()
	f.res.Objects = p.done
	f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.End, Done: int64(p.done), Total: int64(len(f.have))})
	if ctx.Err() == nil && work.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // stopped at the first
	}
	return cmp.Or(err, ctx.Err())
}

// closures looks for what complete commits miss. Objects that partial commits
// alone need may be absent.
func (f *fsck) closures(ctx context.Context, p *fsckPool) error {
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
				p.count(n)
			}
		}
		s.missing = func(n ObjectName, err error) error {
			if f.present(n) {
				f.damaged(n, err)
			}
			return nil
		}
		if err := s.commit(c); err != nil {
			return err
		}
	}
	return nil
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

// fsckPool verifies objects in the background.
type fsckPool struct {
	f    *fsck
	ctx  context.Context
	jobs chan ObjectName
	wg   sync.WaitGroup
	seen map[ObjectName]struct{}
	done int
}

func (p *fsckPool) start(n int) {
	for range n {
		p.wg.Go(func() {
			for n := range p.jobs {
				if p.ctx.Err() == nil {
					p.f.damaged(n, p.f.r.verifyStored(n))
				}
			}
		})
	}
}

func (p *fsckPool) count(n ObjectName) {
	p.seen[n] = struct{}{}
	if p.done++; p.done%256 == 0 {
		p.f.r.opts.progress.Emit(progress.Event{Task: fsckTask, Kind: progress.Update, Done: int64(p.done), Total: int64(len(p.f.have))})
	}
}

func (p *fsckPool) add(n ObjectName) {
	if _, ok := p.seen[n]; ok || n.Type == TypeFile && p.f.o.MetadataOnly || n.Type == TypeTombstone || p.ctx.Err() != nil {
		return
	}
	p.count(n)
	p.jobs <- n
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
