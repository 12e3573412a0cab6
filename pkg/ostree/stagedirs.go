// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hostctl/hostctl/internal/fsx"
)

// newDirSuffix is that of a directory in the staging directory which is to become
// objects/XX. libostree, which trusts what it finds in directories of two characters,
// must not take it for one of its own: a file may be there that is being written.
const newDirSuffix = ".new"

// stageDirs are the directories XX.new of a transaction. Where the repository has no
// objects/XX yet, they get objects under their last names, so that one rename publishes
// all of them, and writers do not wait for each other at one directory.
type stageDirs struct {
	once [256]sync.Once
	dirs [256]atomic.Pointer[fsx.Dir]
}

// close ends the use of all directories.
func (s *stageDirs) close() error {
	var errs []error
	for i := range s.dirs {
		if d := s.dirs[i].Swap(nil); d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// stagedAt tells where an object is in the staging directory if it was staged: a commit,
// which is published last, always by a flat name.
func (t *Txn) stagedAt(n ObjectName) (d *fsx.Dir, name string) {
	if d := t.stage.sub.dirs[n.Checksum[0]].Load(); d != nil && !n.publishedLast() {
		return d, n.loosePath(t.r.mode)[3:]
	}
	return t.stage.dir, n.String()
}

// stageAt is stagedAt for an object that is about to be staged. Where the first one of
// its prefix goes, all go.
func (t *Txn) stageAt(n ObjectName) (d *fsx.Dir, name string) {
	if x := n.Checksum[0]; !n.publishedLast() {
		t.stage.sub.once[x].Do(func() {
			if !t.resumed && t.dirs.missing(t.r, n) {
				t.stage.makeDir(n)
			}
		})
	}
	return t.stagedAt(n)
}

// publishedLast tells that an object becomes visible after all others.
func (n ObjectName) publishedLast() bool { return n.Type == TypeCommit }

// makeDir makes XX.new. Where that cannot be, as without a free descriptor, flat names do.
func (s *staging) makeDir(n ObjectName) {
	name := n.Checksum.String()[:2] + newDirSuffix
	if s.dir.Mkdir(name, objectDirMode) != nil {
		return
	}
	if d, err := s.dir.OpenDir(name); err == nil {
		s.sub.dirs[n.Checksum[0]].Store(d)
	}
}

// adoptDirs opens the directories XX.new of an interrupted transaction.
func (s *staging) adoptDirs(entries []fsx.Entry) error {
	for _, e := range entries {
		xx, ok := strings.CutSuffix(e.Name, newDirSuffix)
		c, err := ParseChecksum(xx + strings.Repeat("0", 62))
		if !ok || err != nil || !e.IsDir() {
			continue
		}
		d, err := s.dir.OpenDir(e.Name)
		if err != nil {
			return err
		}
		s.sub.dirs[c[0]].Store(d)
	}
	return nil
}
