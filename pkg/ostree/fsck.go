// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/hostctl/hostctl/internal/progress"
)

// FindingKind names a kind of damage, in words that do not change.
type FindingKind string

// What Fsck finds.
const (
	// MissingObject: a commit that is not marked partial needs an absent object.
	MissingObject FindingKind = "missing-object"
	// CorruptObject: an object's bytes do not match its name or its format. It is
	// reported even if nothing uses it, as a later commit would take it for present.
	CorruptObject FindingKind = "corrupt-object"
	// DanglingRef: a ref names a commit that is not stored.
	DanglingRef FindingKind = "dangling-ref"
	// InvalidRef: a ref's file cannot be read as a checksum.
	InvalidRef FindingKind = "invalid-ref"
	// UnreadableObject: the disk or the permissions fail, not the object.
	UnreadableObject FindingKind = "unreadable-object"
)

// Finding is one damage. Object is zero where a ref is meant; Ref is the path of
// the ref's file below the repository.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Object ObjectName  `json:"object"`
	Ref    string      `json:"ref,omitempty"`
	Detail string      `json:"detail,omitempty"`
	// Commit is one of the commits that need a missing object.
	Commit Checksum `json:"commit"`
}

// String tells the kind, what is damaged and how, in one line.
func (f Finding) String() string {
	text := string(f.Kind)
	if f.Ref != "" {
		text += " " + f.Ref
	}
	if !f.Object.Checksum.IsZero() && !strings.Contains(f.Detail, f.Object.String()) {
		text += " " + f.Object.String()
	}
	if !f.Commit.IsZero() {
		text += " of commit " + f.Commit.String()
	}
	if f.Detail != "" {
		text += ": " + f.Detail
	}
	return text
}

// FsckResult is what Fsck saw; Findings are sorted by kind, ref and object.
type FsckResult struct {
	Commits, Partial int // commits stored, and those among them marked partial
	Objects          int // objects read
	Findings         []Finding
}

// FsckOptions say what Fsck checks.
type FsckOptions struct {
	MetadataOnly bool // do not read the content of files, only look for it
	Workers      int  // 0 means one per CPU, at least 2
}

// Fsck verifies every ref and every object, and that each commit which is not
// marked partial has its whole closure. Damage is reported as findings; an error
// means that the check itself could not run. It changes nothing.
func (r *Repo) Fsck(ctx context.Context, o FsckOptions) (FsckResult, error) {
	unlock, err := r.lock(ctx, true)
	if err != nil {
		return FsckResult{}, err
	}
	f := &fsck{r: r, o: o, have: map[ObjectName]struct{}{}, bad: map[ObjectName]bool{}}
	err = f.run(ctx)
	if err = errors.Join(err, unlock()); err != nil {
		return f.res, fmt.Errorf("fsck: %w", err)
	}
	slices.SortFunc(f.res.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Ref, b.Ref),
			a.Object.Checksum.Compare(b.Object.Checksum), int(a.Object.Type)-int(b.Object.Type))
	})
	return f.res, nil
}

type fsck struct {
	r    *Repo
	o    FsckOptions
	have map[ObjectName]struct{} // what is on disk

	mu  sync.Mutex
	bad map[ObjectName]bool // reported already
	res FsckResult
}

func (f *fsck) report(x Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.Ref == "" {
		if f.bad[x.Object] {
			return
		}
		f.bad[x.Object] = true
	}
	f.res.Findings = append(f.res.Findings, x)
}

func (f *fsck) run(ctx context.Context) error {
	var commits []Checksum
	err := f.r.eachObject(ctx, func(n ObjectName) error {
		f.have[n] = struct{}{}
		if n.Type == TypeCommit {
			commits = append(commits, n.Checksum)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.res.Commits = len(commits)
	if err := f.refs(); err != nil {
		return err
	}
	if err := f.objects(ctx); err != nil {
		return err
	}
	return f.closures(ctx, commits)
}

func (f *fsck) refs() error {
	for _, dir := range []string{headsDir, remotesDir, mirrorsDir} {
		err := f.r.walkRefs(dir, 0, func(p string) error {
			c, err := readRefFile(f.r.dir, p)
			if err != nil {
				f.report(Finding{Kind: InvalidRef, Ref: p, Detail: err.Error()})
				return nil
			}
			if _, ok := f.have[ObjectName{c, TypeCommit}]; !ok {
				f.report(Finding{Kind: DanglingRef, Ref: p, Object: ObjectName{c, TypeCommit}})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// objects reads everything on disk with several workers.
func (f *fsck) objects(ctx context.Context) error {
	n := f.o.Workers
	if n <= 0 {
		n = max(2, runtime.GOMAXPROCS(0))
	}
	p := f.r.opts.progress
	p.Emit(progress.Event{Task: "Checking objects", Kind: progress.Begin, Total: int64(len(f.have))})
	jobs := make(chan ObjectName, 64)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for n := range jobs {
				f.object(n)
			}
		})
	}
	done := 0
	for n := range f.have {
		if ctx.Err() != nil {
			break
		}
		if n.Type == TypeFile && f.o.MetadataOnly {
			continue
		}
		jobs <- n
		if done++; done%256 == 0 {
			p.Emit(progress.Event{Task: "Checking objects", Kind: progress.Update, Done: int64(done), Total: int64(len(f.have))})
		}
	}
	close(jobs)
	wg.Wait()
	f.res.Objects = done
	p.Emit(progress.Event{Task: "Checking objects", Kind: progress.End, Done: int64(done), Total: int64(len(f.have))})
	return ctx.Err()
}

func (f *fsck) object(n ObjectName) {
	err := f.r.verifyObject(f.r.objects, n.loosePath(f.r.mode), n)
	if err == nil {
		return
	}
	kind := UnreadableObject
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrInvalid) {
		kind = CorruptObject
	}
	f.report(Finding{Kind: kind, Object: n, Detail: err.Error()})
}

// closures looks for what complete commits miss. Objects that partial commits
// alone need may be absent.
func (f *fsck) closures(ctx context.Context, commits []Checksum) error {
	s := &sweep{r: f.r, ctx: ctx, seen: map[ObjectName]struct{}{}}
	for _, c := range commits {
		partial, err := f.r.CommitPartial(c)
		if err != nil {
			return err
		}
		if partial {
			f.res.Partial++
			continue
		}
		// Unreadable directories have been reported as such, absent ones are below.
		s.missing = func(ObjectName, error) error { return nil }
		s.fresh = func(n ObjectName) {
			if _, ok := f.have[n]; !ok {
				f.report(Finding{Kind: MissingObject, Object: n, Commit: c})
			}
		}
		if err := s.commit(c); err != nil {
			return err
		}
	}
	return nil
}
