// SPDX-License-Identifier: Apache-2.0

package treediff

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
)

// Sizes tells how large the trees are and what lies between them.
type Sizes struct {
	Old   TreeSize `json:"old"`
	New   TreeSize `json:"new"`
	Fetch Fetch    `json:"fetch"`
	// Delta is what the static delta between the commits takes, all of its files and
	// the objects that it leaves out, in bytes; nil where the repository of the new
	// commit has none.
	Delta *int64 `json:"delta,omitempty"`
}

// TreeSize is what a tree holds, counting once what several paths share.
type TreeSize struct {
	Files int   `json:"files"` // objects: files and links
	Bytes int64 `json:"bytes"` // content
}

// Fetch is what a system that has the old commit needs for the new one.
type Fetch struct {
	Objects int `json:"objects"` // metadata included
	// Bytes are those of the objects as an archive repository has them, compressed.
	Bytes int64 `json:"bytes"`
	// Unpacked are the bytes of the content.
	Unpacked int64 `json:"unpacked"`
	// Estimated: the repository is no archive and the commit does not tell the sizes;
	// Bytes is what the objects take uncompressed.
	Estimated bool `json:"estimated,omitempty"`
}

func compareSizes(ctx context.Context, from, to *side) (Sizes, error) {
	var s Sizes
	old, err := from.repo.Reachable(ctx, from.sum)
	if err != nil {
		return s, err
	}
	next, err := to.repo.Reachable(ctx, to.sum)
	if err != nil {
		return s, err
	}
	contents := map[ostree.Checksum]int64{}
	if s.Old, err = treeSize(ctx, from.repo, old, contents); err != nil {
		return s, err
	}
	if s.New, err = treeSize(ctx, to.repo, next, contents); err != nil {
		return s, err
	}
	if s.Delta, err = deltaSize(to.repo, ostree.DeltaName{From: from.sum, To: to.sum}); err != nil {
		return s, err
	}
	archived, err := to.archived()
	if err != nil {
		return s, err
	}
	for n := range next {
		if _, ok := old[n]; ok {
			continue
		}
		s.Fetch.Objects++
		if n.Type == ostree.TypeFile {
			s.Fetch.Unpacked = add(s.Fetch.Unpacked, contents[n.Checksum])
		}
		size, exact, err := archived(n)
		if err != nil {
			return s, err
		}
		s.Fetch.Bytes = add(s.Fetch.Bytes, size)
		s.Fetch.Estimated = s.Fetch.Estimated || !exact
	}
	return s, nil
}

// treeSize adds up the files among the objects; known keeps sizes for the next tree.
func treeSize(ctx context.Context, r *ostree.Repo, objects map[ostree.ObjectName]struct{}, known map[ostree.Checksum]int64) (TreeSize, error) {
	var out TreeSize
	for n := range objects {
		if n.Type != ostree.TypeFile {
			continue
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		size, ok := known[n.Checksum]
		if !ok {
			info, err := r.Info(ostree.Node{File: n.Checksum})
			if err != nil {
				return out, err
			}
			size = info.Size
			known[n.Checksum] = size
		}
		out.Files++
		out.Bytes = add(out.Bytes, size)
	}
	return out, nil
}

// archived gives the function that tells an object's size in an archive repository,
// and whether it is not a mere estimate.
func (s *side) archived() (func(ostree.ObjectName) (int64, bool, error), error) {
	told := map[ostree.ObjectName]int64{}
	list, err := s.commit.Sizes()
	if err != nil && !errors.Is(err, ostree.ErrNotFound) {
		return nil, fmt.Errorf("commit %s: %w", s.sum, err)
	}
	for _, e := range list {
		told[e.Object] = int64(min(e.Archived, math.MaxInt64))
	}
	archive := s.repo.Mode() == ostree.ModeArchive
	return func(n ostree.ObjectName) (int64, bool, error) {
		if size, ok := told[n]; ok && !archive {
			return size, true, nil
		}
		size, err := s.repo.StorageSize(n)
		return size, archive || n.Type.IsMeta(), err
	}, nil
}

func deltaSize(r *ostree.Repo, name ostree.DeltaName) (*int64, error) {
	d, err := delta.Load(r, name)
	if errors.Is(err, ostree.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st, err := r.Dir().Lstat(name.Path() + "/" + delta.SuperblockName)
	if err != nil {
		return nil, err
	}
	size := st.Size
	for i := range d.Parts {
		if _, inline := d.Parts[i].Inline(); !inline {
			size = add(size, int64(min(d.Parts[i].Size, math.MaxInt64)))
		}
	}
	for _, f := range d.Fallbacks {
		size = add(size, int64(min(f.Size, math.MaxInt64)))
	}
	return &size, nil
}

// add sums up sizes that whoever made the commit claims: more than fits is the most
// that fits.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
