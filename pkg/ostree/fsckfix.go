// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/hostctl/hostctl/internal/failpoint"
)

// partialReason tells why a commit is marked partial.
type partialReason uint8

const (
	partialNone partialReason = iota
	partialPull               // by a pull that is under way, was cut short or left parts out
	partialFsck               // by fsck, which found objects missing
)

// fsckMark is the content of a commitpartial file that fsck wrote.
const fsckMark = 'f'

// partialState reads a commit's mark.
func (r *Repo) partialState(c Checksum) (partialReason, error) {
	f, err := r.dir.Open(partialName(c))
	if errors.Is(err, fs.ErrNotExist) {
		return partialNone, nil
	}
	if err != nil {
		return partialNone, err
	}
	defer f.Close()
	var first [1]byte
	if n, _ := f.Read(first[:]); n == 1 && first[0] == fsckMark {
		return partialFsck, nil
	}
	return partialPull, nil
}

// markFsckPartial marks a commit durably as one that lacks objects.
func (r *Repo) markFsckPartial(c Checksum) error {
	if err := r.dir.MkdirAll("state", 0o755); err != nil {
		return err
	}
	return r.replaceFile(partialName(c), []byte{fsckMark}, 0o644)
}

// mark marks the commits that lack objects or will do so in a moment.
func (f *fsck) mark() error {
	marked := map[Checksum]bool{}
	for _, x := range f.res.Findings {
		gone := x.Kind == MissingObject || x.Kind == CorruptObject && f.o.Delete
		if !gone || x.Object.Type == TypeCommit {
			continue
		}
		for _, c := range x.Commits {
			if marked[c] {
				continue
			}
			marked[c] = true
			if err := f.r.markFsckPartial(c); err != nil {
				return fmt.Errorf("mark commit %s: %w", c, err)
			}
			f.res.Marked = append(f.res.Marked, c)
		}
	}
	slices.SortFunc(f.res.Marked, Checksum.Compare)
	return failpoint.Hit("ostree.fsck.marked")
}

// delete drops corrupt objects, of which every commit that needs them is marked.
func (f *fsck) delete() error {
	var err error
	if f.res.Deleted, err = f.r.dropWrongLinks(f.res.Findings); err != nil {
		return err
	}
	for _, x := range f.res.Findings {
		if x.Kind != CorruptObject {
			continue
		}
		local, err := f.r.HasLocal(x.Object)
		if err != nil {
			return err
		}
		if !local {
			continue // a parent's
		}
		if x.Object.Type == TypeCommit {
			err = f.r.dropCommits([]Checksum{x.Object.Checksum})
		} else {
			err = f.r.objects.Remove(x.Object.loosePath(f.r.mode))
		}
		if err != nil {
			return fmt.Errorf("delete object %s: %w", x.Object, err)
		}
		f.res.Deleted = append(f.res.Deleted, x.Object)
		if err := failpoint.Hit("ostree.fsck.deleted"); err != nil {
			return err
		}
	}
	return nil
}

// entomb records as deleted the parents that are not there.
func (f *fsck) entomb() error {
	slices.SortFunc(f.lost, Checksum.Compare)
	f.lost = slices.Compact(f.lost)
	if len(f.lost) == 0 {
		return nil
	}
	if err := f.r.EnableTombstones(); err != nil {
		return err
	}
	for _, c := range f.lost {
		if done, err := f.r.HasTombstone(c); done || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := f.r.writeTombstone(c); err != nil {
			return fmt.Errorf("write tombstone of %s: %w", c, err)
		}
		f.res.Tombstones = append(f.res.Tombstones, c)
	}
	return nil
}
