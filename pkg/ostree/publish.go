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
	"github.com/hostctl/hostctl/internal/fsx"
)

// publishBatch is how many names of the staging directory are in memory at a time.
const publishBatch = 2048

// publisher moves staged objects to their names.
type publisher struct {
	t       *Txn
	commits bool // only commits; else everything but them
	moved   bool // anything in this round
}

// publish moves either the commits or everything else to their names.
func (t *Txn) publish(commits bool) error {
	if t.staged.empty() {
		return nil
	}
	p := &publisher{t: t, commits: commits}
	if !commits {
		for x := range t.stage.sub.dirs {
			if d := t.stage.sub.dirs[x].Load(); d != nil {
				if err := p.prefix(d, x); err != nil {
					return err
				}
			}
		}
	}
	return p.all(t.stage.dir, parseStagedName)
}

// prefix publishes the directory XX.new as a whole where it holds nothing but complete
// objects and objects/XX is still missing. Whoever makes that meanwhile has it filled
// object by object.
func (p *publisher) prefix(d *fsx.Dir, x int) error {
	t, xx := p.t, fmt.Sprintf("%02x", x)
	if !t.resumed {
		if err := failpoint.Hit("ostree.txn.object"); err != nil {
			return err
		}
		if t.stage.dir.RenameNoReplace(xx+newDirSuffix, t.r.objects, xx) == nil {
			t.present[x].Store(true)
			return nil
		}
	}
	return p.all(d, t.r.nameIn(x))
}

// all publishes the objects in a directory. What moves leaves the directory that is being
// listed, which may make a filesystem pass over names: it is listed again until there is
// nothing to move.
func (p *publisher) all(d *fsx.Dir, parse func(name string) (ObjectName, bool)) error {
	for p.moved = true; p.moved; {
		p.moved = false
		if err := p.round(d, parse); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) round(dir *fsx.Dir, parse func(name string) (ObjectName, bool)) (err error) {
	d, err := dir.OpenDir(".")
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
		var todo []ObjectName
		for _, name := range names {
			n, ok := parse(name)
			if ok && n.publishedLast() == p.commits && p.t.mayPublish(n) {
				todo = append(todo, n)
			}
		}
		if err := p.batch(todo); err != nil {
			return err
		}
	}
}

func (p *publisher) batch(todo []ObjectName) error {
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
	from, staged := t.stagedAt(n)
	rename := from.RenameNoReplace
	if n.Type == TypeCommitMeta {
		rename = from.Rename
	}
	dir, name, err := p.dir(n)
	if err == nil {
		err = rename(staged, dir, name)
	}
	if errors.Is(err, syscall.EEXIST) || err == nil && n.Type == TypeCommitMeta {
		// The staged name may still be there, after the rename of one link of a file
		// over another as well.
		err = t.removeStaged(n)
	}
	if err == nil && n.Type == TypeCommit {
		err = t.r.removeIfThere(t.r.objects, ObjectName{n.Checksum, TypeTombstone}.loosePath(t.r.mode))
	}
	return err
}

// dir gives the directory that an object goes to, made where it is missing. Without a free
// descriptor at tells nothing of that.
func (p *publisher) dir(n ObjectName) (*fsx.Dir, string, error) {
	d, name, err := p.t.dirs.at(p.t.r, n)
	if err != nil || d != nil && d != p.t.r.objects {
		return d, name, err
	}
	if err := p.t.r.makeObjectDir(n); err != nil {
		return nil, "", err
	}
	d, name, err = p.t.dirs.at(p.t.r, n)
	if err == nil && d == nil {
		err = fmt.Errorf("publish object %s: no directory: %w", n, ErrNotFound)
	}
	return d, name, err
}
