// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/hostctl/hostctl/internal/failpoint"
)

// publishBatch is how many names of the staging directory are in memory at a time.
const publishBatch = 2048

// publisher moves staged objects to their names, in the order of the staging directory.
type publisher struct {
	t       *Txn
	commits bool      // only commits; else everything but them
	made    [256]bool // directories below objects/ that are there
	moved   bool      // anything in this round
}

// publish moves either the commits or everything else to their names. What moves
// leaves the directory that is being listed, which may make a filesystem pass over
// names: it is listed again until there is nothing to move.
func (t *Txn) publish(commits bool) error {
	if t.staged.empty() {
		return nil
	}
	p := &publisher{t: t, commits: commits, moved: true}
	for p.moved {
		p.moved = false
		if err := p.round(); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) round() (err error) {
	d, err := p.t.stage.dir.OpenDir(".")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for {
		names, err := d.File().Readdirnames(publishBatch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list staged objects: %w", err)
		}
		if err := p.batch(names); err != nil {
			return err
		}
	}
}

func (p *publisher) batch(names []string) error {
	var todo []ObjectName
	for _, name := range names {
		n, ok := parseStagedName(name)
		if ok && (n.Type == TypeCommit) == p.commits && p.t.mayPublish(n) {
			todo = append(todo, n)
		}
	}
	slices.SortFunc(todo, func(a, b ObjectName) int {
		return cmp.Or(a.Checksum.Compare(b.Checksum), cmp.Compare(a.Type, b.Type))
	})
	for _, n := range todo {
		if err := failpoint.Hit("ostree.txn.object"); err != nil {
			return err
		}
		if err := p.object(n); err != nil {
			return err
		}
	}
	p.moved = p.moved || len(todo) > 0
	return nil
}

// mayPublish is isStaged for a name that was found in the staging directory.
func (t *Txn) mayPublish(n ObjectName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, left := t.leftover[n]
	return !left && t.staged.mayHave(n)
}

// object moves one object. A name that is taken belongs to the same bytes, put there
// durably by another transaction; only detached metadata is replaced.
func (p *publisher) object(n ObjectName) error {
	t, x := p.t, n.Checksum[0]
	t.present[x].Store(true)
	if !p.made[x] {
		if err := t.r.makeObjectDir(n); err != nil {
			return err
		}
		p.made[x] = true
	}
	rename := t.stage.dir.RenameNoReplace
	if n.Type == TypeCommitMeta {
		rename = t.stage.dir.Rename
	}
	dir, name, err := t.dirs.at(t.r, n)
	if err == nil && dir == nil {
		err = fmt.Errorf("publish object %s: no directory: %w", n, ErrNotFound)
	}
	if err == nil {
		err = rename(n.String(), dir, name)
	}
	if errors.Is(err, syscall.EEXIST) || err == nil && n.Type == TypeCommitMeta {
		// The staged name may still be there, after the rename of one link of a file
		// over another as well.
		err = t.r.removeIfThere(t.stage.dir, n.String())
	}
	if err == nil && n.Type == TypeCommit {
		err = t.r.removeIfThere(t.r.objects, ObjectName{n.Checksum, TypeTombstone}.loosePath(t.r.mode))
	}
	return err
}
