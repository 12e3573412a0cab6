// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/hostctl/hostctl/internal/failpoint"
)

// publish makes what was fetched durable, then puts it in place by renames, commits
// last: a name always holds the damaged object or the good one.
func (p *repair) publish() error {
	if p.r.opts.fsync {
		if err := p.r.dir.Syncfs(); err != nil {
			return err
		}
	}
	if err := failpoint.Hit("ostree.repair.synced"); err != nil {
		return err
	}
	for _, commits := range []bool{false, true} {
		var list []ObjectName
		for _, n := range sortObjects(slices.Collect(maps.Keys(p.got))) {
			if (n.Type == TypeCommit) == commits {
				list = append(list, n)
			}
		}
		if err := p.place(list); err != nil {
			return err
		}
		if err := failpoint.Hit("ostree.repair.published"); err != nil {
			return err
		}
	}
	return nil
}

func (p *repair) place(list []ObjectName) error {
	dirs := map[string]bool{}
	whole := &completer{p: p, memo: map[Checksum]bool{}}
	for _, n := range list {
		if n.Type == TypeCommit && !whole.commit(n.Checksum) {
			// A ref may name it: absent or unreadable is better than incomplete.
			p.lost[n] = struct{}{}
			delete(p.got, n)
			continue
		}
		if err := failpoint.Hit("ostree.repair.object"); err != nil {
			return err
		}
		if err := p.placeOne(n); err != nil {
			return fmt.Errorf("place %s: %w", n, err)
		}
		dirs[n.Checksum.String()[:2]] = true
	}
	if !p.r.opts.fsync {
		return nil
	}
	for dir := range dirs {
		if err := p.r.objects.FsyncName(dir); err != nil {
			return err
		}
	}
	return p.r.objects.Fsync()
}

func (p *repair) placeOne(n ObjectName) error {
	if err := p.r.makeObjectDir(n); err != nil {
		return err
	}
	name := n.loosePath(p.r.mode)
	if p.got[n] {
		st, err := p.r.objects.Lstat(name)
		if err == nil && st.Nlink > 1 {
			p.res.Shared = append(p.res.Shared, SharedObject{n, int(st.Nlink) - 1})
		}
		p.res.Replaced = append(p.res.Replaced, n)
	} else {
		p.res.Restored = append(p.res.Restored, n)
	}
	if n.Type == TypeCommit {
		meta := ObjectName{n.Checksum, TypeCommitMeta}.loosePath(p.r.mode)
		err := p.stage.repo.objects.RenameNoReplace(meta, p.r.objects, meta)
		if err != nil && !isAbsent(err) && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := p.r.removeIfThere(p.r.objects, ObjectName{n.Checksum, TypeTombstone}.loosePath(p.r.mode)); err != nil {
			return err
		}
	}
	return p.stage.repo.objects.Rename(name, p.r.objects, name)
}

// prove checks again what was damaged or fetched, and clears the marks of commits
// that are whole now.
func (p *repair) prove() error {
	for n := range p.got {
		if err := p.r.verifyStored(n); err != nil {
			return fmt.Errorf("restored object %s: %w", n, err)
		}
	}
	for _, x := range p.res.Findings {
		if x.Kind == WrongPayloadLink {
			continue // dropped
		}
		if x.Object.Checksum.IsZero() || x.Kind == WrongBinding || x.Kind == WrongBackRef {
			p.res.Remaining = append(p.res.Remaining, x)
			continue
		}
		if _, ok := p.got[x.Object]; !ok {
			p.res.Remaining = append(p.res.Remaining, x)
			delete(p.lost, x.Object)
			p.bad[x.Object] = struct{}{}
		}
	}
	for _, n := range sortObjects(slices.Collect(maps.Keys(p.lost))) {
		p.res.Remaining = append(p.res.Remaining, Finding{Kind: MissingObject, Object: n})
	}
	return p.clearMarks()
}

func (p *repair) clearMarks() error {
	whole := &completer{p: p, memo: map[Checksum]bool{}}
	for _, c := range p.marks {
		if !whole.commit(c) {
			continue
		}
		if err := failpoint.Hit("ostree.repair.clear"); err != nil {
			return err
		}
		if err := p.r.removeIfThere(p.r.dir, partialName(c)); err != nil {
			return err
		}
		p.res.Cleared = append(p.res.Cleared, c)
	}
	if len(p.res.Cleared) == 0 || !p.r.opts.fsync {
		return nil
	}
	return p.r.dir.FsyncName("state")
}

// completer tells whether all that a commit needs is there and good: in the
// repository, or fetched and about to be placed.
type completer struct {
	p    *repair
	memo map[Checksum]bool // by dirtree
}

func (w *completer) good(n ObjectName) bool {
	if _, lost := w.p.lost[n]; lost {
		return false
	}
	if _, bad := w.p.bad[n]; bad {
		return false
	}
	if _, got := w.p.got[n]; got {
		return true
	}
	_, damaged := w.p.damaged[n]
	return !damaged && w.p.present(n)
}

func (w *completer) commit(c Checksum) bool {
	n := ObjectName{c, TypeCommit}
	if !w.good(n) {
		return false
	}
	commit, err := loadParsed(w.load, n, ParseCommit)
	return err == nil && w.good(ObjectName{commit.RootMeta, TypeDirMeta}) && w.tree(commit.RootTree, 0)
}

func (w *completer) tree(c Checksum, depth int) bool {
	if ok, seen := w.memo[c]; seen {
		return ok
	}
	n := ObjectName{c, TypeDirTree}
	if depth > maxTreeDepth || !w.good(n) {
		return false
	}
	t, err := loadParsed(w.load, n, ParseDirTree)
	ok := err == nil
	for _, f := range t.Files {
		ok = ok && w.good(ObjectName{f.Checksum, TypeFile})
	}
	for _, d := range t.Dirs {
		ok = ok && w.good(ObjectName{d.Meta, TypeDirMeta}) && w.tree(d.Tree, depth+1)
	}
	w.memo[c] = ok
	return ok
}

// load reads from the stage what is not in place yet.
func (w *completer) load(n ObjectName) ([]byte, error) {
	data, err := w.p.r.LoadRaw(n)
	if err != nil && w.p.stage != nil {
		if staged, serr := w.p.stage.repo.LoadRaw(n); serr == nil {
			return staged, nil
		}
	}
	return data, err
}
