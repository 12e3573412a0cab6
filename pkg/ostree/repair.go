// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/progress"
)

// ObjectSource is where Repair gets objects from, such as a remote.
type ObjectSource interface {
	// FetchObject opens an object as an archive repository serves it: the .filez
	// stream of a file, the bytes of anything else. An absent one is an error wrapping
	// ErrNotFound. What it gives is verified before it is used. It may be called from
	// several goroutines at once.
	FetchObject(ctx context.Context, n ObjectName) (io.ReadCloser, error)
}

// RepairOptions say where Repair looks for objects; the first source that gives a
// good one is used, local repositories before the others.
type RepairOptions struct {
	Repos   []*Repo
	Sources []ObjectSource
	Workers int // 0 means one per CPU, at least 2
	// DryRun only finds out what is damaged.
	DryRun bool
}

// SharedObject is a corrupt object of which other names exist, such as in hard-linked
// checkouts: they keep the damaged bytes.
type SharedObject struct {
	Object ObjectName `json:"object"`
	Links  int        `json:"links"` // names besides the object's own
}

// RepairResult tells what Repair found and did.
type RepairResult struct {
	Findings []Finding    // what was damaged before
	Restored []ObjectName // missing objects that are there again
	Replaced []ObjectName // corrupt objects that were replaced by good ones
	Shared   []SharedObject
	Cleared  []Checksum // commits that are complete again and no longer marked partial
	// Remaining is what could not be repaired, found by checking once more all that
	// was damaged, and all that was fetched. Empty means that the repository is whole.
	Remaining []Finding
}

// ErrUnrepaired reports that damage remains after Repair.
var ErrUnrepaired = errors.New("damage remains")

// Repair restores what Fsck finds missing or corrupt, also in commits that an earlier
// Fsck marked partial, from other repositories. Each object is verified and durable in
// a staging directory before it is renamed over the damaged one, commits after what they
// need, and marks are cleared last: a crash leaves every object as it was or good. The
// end is a check of all that was touched. Refs are not changed. The error wraps
// ErrUnrepaired where something could not be restored; the result is then valid.
func (r *Repo) Repair(ctx context.Context, o RepairOptions) (RepairResult, error) {
	ctx, unlock, err := r.Lock(ctx, true)
	if err != nil {
		return RepairResult{}, err
	}
	p := &repair{
		r: r, o: o, want: map[ObjectName]bool{}, got: map[ObjectName]bool{}, walked: map[ObjectName]bool{},
		lost: map[ObjectName]struct{}{}, bad: map[ObjectName]struct{}{}, damaged: map[ObjectName]struct{}{},
	}
	err = p.run(ctx)
	if err = errors.Join(err, unlock()); err != nil {
		return p.res, fmt.Errorf("repair: %w", err)
	}
	return p.res, nil
}

// repair is a running Repair.
type repair struct {
	r     *Repo
	o     RepairOptions
	stage *repairStage
	marks []Checksum // commits that fsck marked partial before

	want    map[ObjectName]bool     // to be fetched; true: a corrupt object has the name
	got     map[ObjectName]bool     // fetched; the same
	fresh   []ObjectName            // fetched in the last round
	walked  map[ObjectName]bool     // good directories looked into
	lost    map[ObjectName]struct{} // no source has them
	damaged map[ObjectName]struct{} // corrupt before
	bad     map[ObjectName]struct{} // corrupt or missing still
	res     RepairResult
}

func (p *repair) run(ctx context.Context) error {
	if err := p.inspect(ctx); err != nil {
		return err
	}
	if p.o.DryRun {
		p.res.Remaining = p.res.Findings
		return p.verdict()
	}
	if err := p.fetchAll(ctx); err != nil {
		return err
	}
	return p.verdict()
}

func (p *repair) verdict() error {
	if n := len(p.res.Remaining); n > 0 {
		return fmt.Errorf("%w: %d of %d, the first is %s", ErrUnrepaired, n, len(p.res.Findings), p.res.Remaining[0])
	}
	return nil
}

// inspect finds what is damaged. Commits that an earlier fsck marked are wanted whole.
func (p *repair) inspect(ctx context.Context) error {
	f := newFsck(p.r, FsckOptions{Workers: p.o.Workers})
	f.ignoreMarks = true
	if err := f.run(ctx); err != nil {
		return err
	}
	p.marks = f.marked
	p.res.Findings = f.res.Findings
	for _, x := range f.res.Findings {
		switch x.Kind {
		case MissingObject, DanglingRef:
			p.want[x.Object] = false
		case CorruptObject, UnreadableObject:
			p.want[x.Object] = true
			p.damaged[x.Object] = struct{}{}
		}
	}
	return nil
}

// present holds also for what a parent repository stores.
func (p *repair) present(n ObjectName) bool {
	ok, err := p.r.Has(n)
	return ok && err == nil
}

// fetchAll goes on until nothing is wanted: a restored directory may name objects
// that are missing too. What follows is renames only, which are not interrupted.
func (p *repair) fetchAll(ctx context.Context) (err error) {
	if _, err := p.r.dropWrongLinks(p.res.Findings); err != nil {
		return err
	}
	if len(p.want) > 0 {
		if p.stage, err = p.r.openRepairStage(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.stage.drop()) }()
	}
	emit := p.r.opts.progress.Emit
	const task = "Restoring objects"
	emit(progress.Event{Task: task, Kind: progress.Begin, Total: int64(len(p.want))})
	for len(p.want) > 0 {
		if err := p.fetchRound(ctx); err != nil {
			return err
		}
		if err := p.growWant(); err != nil {
			return err
		}
		emit(progress.Event{Task: task, Kind: progress.Update, Done: int64(len(p.got)), Total: int64(len(p.got) + len(p.want))})
	}
	emit(progress.Event{Task: task, Kind: progress.End, Done: int64(len(p.got)), Total: int64(len(p.got))})
	if err := failpoint.Hit("ostree.repair.fetched"); err != nil {
		return err
	}
	if len(p.got) > 0 {
		if err := p.publish(); err != nil {
			return err
		}
	}
	return p.prove()
}

func sortObjects(list []ObjectName) []ObjectName {
	slices.SortFunc(list, func(a, b ObjectName) int {
		if c := a.Checksum.Compare(b.Checksum); c != 0 {
			return c
		}
		return int(a.Type) - int(b.Type)
	})
	return list
}
