// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
)

// errOver reports use of a transaction outside the function given to Update.
var errOver = fmt.Errorf("%w: transaction is over", ErrInvalid)

// Stats counts the objects that a transaction met and those that it had to
// write. BytesWritten is what they take on disk, ContentBytes the unpacked content
// of the written files. CacheHits are the files that a DevInoCache spared reading;
// they are not in ContentTotal.
type Stats struct {
	MetadataTotal, MetadataWritten int
	ContentTotal, ContentWritten   int
	CacheHits                      int
	BytesWritten, ContentBytes     int64
}

type counters struct {
	metaTotal, metaWritten, contentTotal, contentWritten, linked, bytes, content atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		MetadataTotal: int(c.metaTotal.Load()), MetadataWritten: int(c.metaWritten.Load()),
		ContentTotal: int(c.contentTotal.Load()), ContentWritten: int(c.contentWritten.Load()),
		CacheHits: int(c.linked.Load()), BytesWritten: c.bytes.Load(), ContentBytes: c.content.Load(),
	}
}

// Txn is a running transaction. It is valid inside the function given to Update
// and safe for concurrent use there.
type Txn struct {
	r      *Repo
	stage  *staging
	dirs   objectDirs
	budget *budget
	count  counters
	over   atomic.Bool
	// present marks the objects/XX directories that hold an object this transaction
	// relies on: another process may have renamed it there a moment ago.
	present [256]atomic.Bool
	resumed bool // the staging directory is that of an interrupted transaction

	// staged passes what is complete in the staging directory, which alone knows.
	staged   objectFilter
	mu       sync.Mutex
	leftover map[ObjectName]struct{}      // found there; not trusted before verification
	refs     map[string]Checksum          // zero: delete
	partial  map[Checksum]bool            // true: mark, false: clear
	claims   map[ObjectName]chan struct{} // being written under their names
	consume  []*fsx.Dir                   // sources to be emptied after the commit
	adopted  []ObjectName                 // staged files that are also in a source

	sizes sizeTable
	early earlySync
	ahead aheadObjects
}

// Update runs fn in a transaction, holding the repository's shared lock, and
// commits when fn returns nil. On an error nothing becomes visible; the objects
// written so far are kept for the next transaction of the same boot, which
// verifies what it takes over. Cancelling ctx stops the transaction until the
// commit begins; from then on it completes.
func (r *Repo) Update(ctx context.Context, fn func(context.Context, *Txn) error) (Stats, error) {
	unlock, err := r.lock(ctx, true)
	if err != nil {
		return Stats{}, err
	}
	t, err := r.begin(ctx)
	if err != nil {
		return Stats{}, errors.Join(fmt.Errorf("begin transaction: %w", err), unlock())
	}
	err = fn(ctx, t)
	if err == nil {
		err = ctx.Err()
	}
	t.over.Store(true)
	if early := t.early.finish(); err == nil && early != nil {
		err = fmt.Errorf("write objects to disk: %w", early)
	}
	if dropErr := t.dropAhead(); err == nil {
		err = dropErr
	}
	if err == nil {
		if err = t.commit(); err != nil {
			err = fmt.Errorf("commit transaction: %w", err)
		}
	}
	err = errors.Join(err, t.finishSources(err), t.dirs.close(), t.end(err), unlock())
	if err == nil && r.opts.autoSummary && len(t.refs) > 0 {
		err = r.WriteSummary(context.WithoutCancel(ctx), SummaryOptions{})
	}
	return t.count.stats(), err
}

func (r *Repo) begin(ctx context.Context) (*Txn, error) {
	if err := failpoint.Hit("ostree.txn.begin"); err != nil {
		return nil, err
	}
	b, err := r.newBudget()
	if err != nil {
		return nil, err
	}
	s, err := r.openStaging(ctx)
	if err != nil {
		return nil, err
	}
	left, err := r.leftovers(s)
	if err != nil {
		return nil, errors.Join(err, s.keep(r))
	}
	return &Txn{
		r: r, stage: s, budget: b, resumed: len(left) > 0, leftover: left,
		refs: map[string]Checksum{}, partial: map[Checksum]bool{}, claims: map[ObjectName]chan struct{}{},
	}, nil
}

// end releases the staging directory. After a failure it stays for the next
// transaction, unless the disk is full: then its space is what matters.
func (t *Txn) end(failure error) error {
	if failure == nil || DiskFull(failure) {
		err := t.stage.drop(t.r)
		t.r.dropExpired()
		return err
	}
	return t.stage.keep(t.r)
}

// Repo gives the repository.
func (t *Txn) Repo() *Repo { return t.r }

// Has reports an object as present: durable in the repository, or written by
// this transaction. What an interrupted transaction left is verified first.
func (t *Txn) Has(n ObjectName) (bool, error) {
	t.ahead.used(n)
	return t.has(n)
}

func (t *Txn) has(n ObjectName) (bool, error) {
	staged, left := t.lookup(n)
	if staged {
		return true, nil
	}
	found, err := t.dirs.has(t.r, n)
	if err != nil {
		return false, err
	}
	if found {
		t.present[n.Checksum[0]].Store(true)
		return true, nil
	}
	if left && n.Type.verifiable() && t.takeOver(n) {
		return true, nil
	}
	return t.r.hasInParents(n)
}

// takeOver verifies an object that an interrupted transaction left, and drops it
// if it is damaged.
func (t *Txn) takeOver(n ObjectName) bool {
	err := t.finished(n)
	if err == nil {
		d, name := t.stagedAt(n)
		err = t.r.verifyObject(d, name, n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, left := t.leftover[n]; !left {
		return t.staged.mayHave(n) && t.inStaging(n) // by another goroutine
	}
	if err != nil {
		t.r.opts.log.Warn("drop damaged staged object", "object", n.String(), "error", err)
		if t.removeStaged(n) == nil {
			delete(t.leftover, n)
		}
		return false
	}
	t.staged.add(n)
	delete(t.leftover, n)
	return true
}

// finished refuses a staged file that has another name: it may be that in a directory
// which was to be consumed, and change after it is verified. It also refuses one that was
// not given its time, which comes last and is no part of a checksum.
func (t *Txn) finished(n ObjectName) error {
	d, name := t.stagedAt(n)
	st, err := d.Lstat(name)
	switch {
	case err != nil:
		return err
	case st.Nlink > 1:
		return fmt.Errorf("%w: it has %d names", ErrInvalid, st.Nlink)
	case n.Type == TypeFile && t.r.mode != ModeArchive && st.Mtime.Unix() != 0:
		return fmt.Errorf("%w: it was not finished", ErrInvalid)
	}
	return nil
}

// LoadRaw is Repo.LoadRaw that also sees what this transaction wrote.
func (t *Txn) LoadRaw(n ObjectName) ([]byte, error) {
	if t.isStaged(n) {
		d, name := t.stagedAt(n)
		return loadMeta(d, name, n)
	}
	return t.r.LoadRaw(n)
}

// OpenFile is Repo.OpenFile that also sees what this transaction wrote.
func (t *Txn) OpenFile(c Checksum) (FileHeader, int64, io.ReadCloser, error) {
	n := ObjectName{c, TypeFile}
	if t.isStaged(n) {
		d, name := t.stagedAt(n)
		return t.r.openContent(d, name, n)
	}
	return t.r.OpenFile(c)
}

func (t *Txn) isStaged(n ObjectName) bool {
	staged, _ := t.lookup(n)
	return staged
}

// lookup tells whether an object is complete in the staging directory, or was left
// there by an interrupted transaction.
func (t *Txn) lookup(n ObjectName) (staged, left bool) {
	if t.resumed {
		t.mu.Lock()
		_, left = t.leftover[n]
		t.mu.Unlock()
	}
	return !left && t.staged.mayHave(n) && t.inStaging(n), left
}

// inStaging looks for a name in the staging directory. Where that fails, whoever
// reads the object or publishes it meets the reason.
func (t *Txn) inStaging(n ObjectName) bool {
	d, name := t.stagedAt(n)
	found, err := d.Exists(name)
	return found || err != nil
}

// removeStaged removes an object from the staging directory, if it is there.
func (t *Txn) removeStaged(n ObjectName) error {
	d, name := t.stagedAt(n)
	return t.r.removeIfThere(d, name)
}

// SetRef points a ref (REF or REMOTE:REF) at a commit when the transaction
// commits. The commit must be present then.
func (t *Txn) SetRef(refspec string, c Checksum) error {
	if c.IsZero() {
		return fmt.Errorf("set ref %s: %w: zero checksum", clip(refspec), ErrInvalid)
	}
	return t.planRef(refspec, c)
}

// DeleteRef removes a ref when the transaction commits; an absent one is no error.
func (t *Txn) DeleteRef(refspec string) error { return t.planRef(refspec, Checksum{}) }

func (t *Txn) planRef(refspec string, c Checksum) error {
	if t.over.Load() {
		return errOver
	}
	p, err := refPath(refspec)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refs[p] = c
	return nil
}

// MarkPartial marks a commit as incomplete. The mark is durable before the
// commit object can appear.
func (t *Txn) MarkPartial(c Checksum) error { return t.planPartial(c, true) }

// ClearPartial removes the mark when the transaction commits, after all its
// objects are durable.
func (t *Txn) ClearPartial(c Checksum) error { return t.planPartial(c, false) }

func (t *Txn) planPartial(c Checksum, mark bool) error {
	if t.over.Load() {
		return errOver
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partial[c] = mark
	return nil
}

// commit makes everything durable, then visible, then referenced. The order is
// the whole point; each failpoint is a place where a crash must leave either the
// old refs or the new ones, both with their closures.
func (t *Txn) commit() error {
	if err := t.checkRefs(); err != nil {
		return err
	}
	steps := []struct {
		point string
		run   func() error
	}{
		{"ostree.txn.staged", t.syncStaged},
		{"ostree.txn.synced", func() error { return t.writePartial(true) }},
		{"ostree.txn.marked", func() error { return t.publish(false) }},
		{"ostree.txn.published", t.syncObjects},
		// Whoever finds a commit that is not marked partial takes its closure for
		// granted, so that has to be durable before.
		{"ostree.txn.durable", func() error { return t.publish(true) }},
		{"ostree.txn.commits-published", t.syncObjects},
		{"ostree.txn.commits-durable", func() error { return t.writePartial(false) }},
		{"ostree.txn.cleared", t.writeRefs},
	}
	for _, s := range steps {
		if err := failpoint.Hit(s.point); err != nil {
			return err
		}
		if err := s.run(); err != nil {
			return err
		}
	}
	return failpoint.Hit("ostree.txn.done")
}

// syncStaged puts the bytes of all staged objects on disk, with one call for all.
func (t *Txn) syncStaged() error {
	if !t.r.opts.fsync || t.staged.empty() {
		return nil
	}
	return t.r.dir.Syncfs()
}

// manyDirs is from how many directories on one call for the whole filesystem costs less: each
// fsync waits for the disk, and while objects arrive it commits a journal in which they are.
const manyDirs = 8

// syncObjects makes the names durable: of what was renamed, and of what was
// there already but perhaps only since a moment ago.
func (t *Txn) syncObjects() error {
	if !t.r.opts.fsync {
		return nil
	}
	var dirs []string
	for i := range t.present {
		if t.present[i].Swap(false) {
			dirs = append(dirs, fmt.Sprintf("%02x", i))
		}
	}
	switch {
	case len(dirs) == 0:
		return nil
	case len(dirs) >= manyDirs:
		return t.r.objects.Syncfs()
	}
	for _, name := range dirs {
		if err := t.r.objects.FsyncName(name); err != nil {
			return err
		}
	}
	return t.r.objects.Fsync()
}

// writePartial sets the marks of incomplete commits before their objects appear,
// and clears those of complete ones after all objects are durable.
func (t *Txn) writePartial(mark bool) error {
	changed := false
	for c, m := range t.partial {
		if m != mark {
			continue
		}
		changed = true
		var err error
		if mark {
			err = errors.Join(t.r.dir.MkdirAll("state", 0o755), t.r.dir.WriteFile(partialName(c), nil, 0o644))
		} else {
			err = t.r.removeIfThere(t.r.dir, partialName(c))
		}
		if err != nil {
			return err
		}
	}
	if !changed || !t.r.opts.fsync {
		return nil
	}
	return t.r.dir.FsyncName("state")
}
