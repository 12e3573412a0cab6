// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// newFile is a content object that the old commit lacks.
type newFile struct {
	sum    ostree.Checksum
	paths  []string // in the new commit, in the order of a walk
	header ostree.FileHeader
	size   int64
	// similar is a file of the old commit that it is likely made from; hasSimilar
	// tells whether there is one.
	similar    ostree.Checksum
	oldSize    int64
	hasSimilar bool
}

// plan is what a delta will hold, each list in the order of packing.
type plan struct {
	commit []byte
	meta   []ostree.ObjectName
	files  []*newFile // regular
	links  []*newFile
}

// planner compares two commits.
type planner struct {
	ctx  context.Context
	repo *ostree.Repo
	from ostree.Checksum
	to   ostree.Checksum

	old   map[ostree.ObjectName]struct{} // everything that the old commit has
	fresh map[ostree.Checksum]*newFile
	plan  plan
}

func makePlan(ctx context.Context, r *ostree.Repo, from, to ostree.Checksum) (*plan, error) {
	p := &planner{ctx: ctx, repo: r, from: from, to: to, fresh: map[ostree.Checksum]*newFile{}}
	var err error
	if p.plan.commit, err = r.LoadRaw(ostree.ObjectName{Checksum: to, Type: ostree.TypeCommit}); err != nil {
		return nil, err
	}
	p.old = map[ostree.ObjectName]struct{}{}
	if !from.IsZero() {
		if p.old, err = r.Reachable(ctx, from); err != nil {
			return nil, err
		}
	}
	if err := p.walkNew(); err != nil {
		return nil, err
	}
	if err := p.readHeaders(); err != nil {
		return nil, err
	}
	if !from.IsZero() {
		if err := p.findSimilar(); err != nil {
			return nil, err
		}
	}
	p.sort()
	return &p.plan, nil
}

// walkNew collects what only the new commit has. Directories that the old one has
// too hold nothing new.
func (p *planner) walkNew() error {
	seen := map[ostree.ObjectName]struct{}{}
	meta := func(c ostree.Checksum, t ostree.ObjectType) {
		n := ostree.ObjectName{Checksum: c, Type: t}
		_, had := p.old[n]
		if _, met := seen[n]; !had && !met {
			seen[n] = struct{}{}
			p.plan.meta = append(p.plan.meta, n)
		}
	}
	return p.repo.Walk(p.ctx, p.to, func(n ostree.Node) error {
		if n.IsDir {
			meta(n.Meta, ostree.TypeDirMeta)
			meta(n.Tree, ostree.TypeDirTree)
			if _, had := p.old[ostree.ObjectName{Checksum: n.Tree, Type: ostree.TypeDirTree}]; had {
				return ostree.SkipDir
			}
			return nil
		}
		if _, had := p.old[ostree.ObjectName{Checksum: n.File, Type: ostree.TypeFile}]; had {
			return nil
		}
		f := p.fresh[n.File]
		if f == nil {
			f = &newFile{sum: n.File}
			p.fresh[n.File] = f
		}
		f.paths = append(f.paths, n.Path)
		return nil
	})
}

// readHeaders sorts the new files into regular ones and links.
func (p *planner) readHeaders() error {
	for _, f := range p.fresh {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		h, size, err := statFile(p.repo, f.sum)
		if err != nil {
			return err
		}
		f.header, f.size = h, size
		if h.IsSymlink() {
			p.plan.links = append(p.plan.links, f)
		} else {
			p.plan.files = append(p.plan.files, f)
		}
	}
	return nil
}

func statFile(r *ostree.Repo, c ostree.Checksum) (ostree.FileHeader, int64, error) {
	h, size, rc, err := r.OpenFile(c)
	if err != nil {
		return h, 0, err
	}
	return h, size, rc.Close()
}

// sort puts files that are alike next to each other: what compresses well
// together stands together, and the order does not depend on anything else.
func (p *planner) sort() {
	byKind := func(a, b *newFile) int {
		return cmp.Or(cmp.Compare(path.Ext(a.paths[0]), path.Ext(b.paths[0])), cmp.Compare(a.paths[0], b.paths[0]), a.sum.Compare(b.sum))
	}
	slices.SortFunc(p.plan.files, byKind)
	slices.SortFunc(p.plan.links, byKind)
	slices.SortStableFunc(p.plan.meta, func(a, b ostree.ObjectName) int { return cmp.Compare(a.Type, b.Type) })
}

// candidate is a file of the old commit.
type candidate struct {
	sum  ostree.Checksum
	path string
}

// similarity ranks how files of the two commits may belong together.
type similarity struct {
	planner *planner
	byPath  map[string]candidate
	byShape map[string][]candidate // by path, with versions made alike
	byBase  map[string][]candidate
	byStem  map[string][]candidate // by base name, with versions made alike
	sizes   map[ostree.Checksum]int64
}

const (
	// similarPercent is how far the sizes of two files of the same name in different
	// places may be apart.
	similarPercent = 30
	// maxCandidates bounds the files of one name that are looked at.
	maxCandidates = 64
	worldReadable = 0o004
)

// findSimilar gives each new file an old one to be made from.
func (p *planner) findSimilar() error {
	s := &similarity{
		planner: p, byPath: map[string]candidate{}, byShape: map[string][]candidate{},
		byBase: map[string][]candidate{}, byStem: map[string][]candidate{}, sizes: map[ostree.Checksum]int64{},
	}
	if err := s.indexOld(); err != nil {
		return err
	}
	for _, f := range p.plan.files {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := s.choose(f); err != nil {
			return err
		}
	}
	return nil
}

// indexOld keeps those old files whose names occur among the new ones.
func (s *similarity) indexOld() error {
	bases, stems := map[string]bool{}, map[string]bool{}
	for _, f := range s.planner.plan.files {
		for _, name := range f.paths {
			bases[path.Base(name)] = true
			stems[shape(path.Base(name))] = true
		}
	}
	return s.planner.repo.Walk(s.planner.ctx, s.planner.from, func(n ostree.Node) error {
		if n.IsDir {
			return nil
		}
		base := path.Base(n.Path)
		stem := shape(base)
		if !stems[stem] {
			return nil
		}
		c := candidate{n.File, n.Path}
		s.byStem[stem] = append(s.byStem[stem], c)
		s.byShape[shape(n.Path)] = append(s.byShape[shape(n.Path)], c)
		if bases[base] {
			s.byBase[base] = append(s.byBase[base], c)
			s.byPath[n.Path] = c
		}
		return nil
	})
}

// shape replaces each run of digits by one sign, so that versions look alike.
func shape(name string) string {
	var b strings.Builder
	digit := false
	for i := range len(name) {
		c := name[i]
		if c >= '0' && c <= '9' {
			if !digit {
				b.WriteByte('#')
			}
			digit = true
			continue
		}
		digit = false
		b.WriteByte(c)
	}
	return b.String()
}

func (s *similarity) choose(f *newFile) error {
	if f.size == 0 {
		return nil
	}
	for _, name := range f.paths {
		base := path.Base(name)
		var same []candidate
		if c, ok := s.byPath[name]; ok {
			same = []candidate{c}
		}
		for _, try := range []struct {
			list  []candidate
			limit int64 // on the difference of the sizes, in per cent
		}{{same, -1}, {s.byShape[shape(name)], -1}, {s.byBase[base], similarPercent}, {s.byStem[shape(base)], similarPercent}} {
			ok, err := s.best(f, name, try.list, try.limit)
			if ok || err != nil {
				return err
			}
		}
	}
	return nil
}

// best takes the candidate whose path has most in common with the file's, of
// equal ones that of the nearest size.
func (s *similarity) best(f *newFile, name string, list []candidate, limit int64) (bool, error) {
	var found bool
	var bestRank, bestGap int64
	for _, c := range list[:min(len(list), maxCandidates)] {
		size, err := s.size(c.sum)
		if err != nil {
			return false, err
		}
		gap := max(size-f.size, f.size-size)
		if size == 0 || limit >= 0 && gap > f.size/100*limit+f.size%100*limit/100 {
			continue
		}
		rank := commonPath(name, c.path)
		if found && (rank < bestRank || rank == bestRank && gap >= bestGap) {
			continue
		}
		found, bestRank, bestGap = true, rank, gap
		f.similar, f.oldSize, f.hasSimilar = c.sum, size, true
	}
	return found, nil
}

// size gives 0 for a file that cannot serve as a source: a client may apply the
// delta without the right to read it.
func (s *similarity) size(c ostree.Checksum) (int64, error) {
	if n, ok := s.sizes[c]; ok {
		return n, nil
	}
	h, size, err := statFile(s.planner.repo, c)
	if errors.Is(err, ostree.ErrNotFound) {
		return 0, fmt.Errorf("old commit is incomplete: %w", err)
	}
	if err != nil {
		return 0, err
	}
	if h.Mode&syscall.S_IFMT != syscall.S_IFREG || h.Mode&worldReadable == 0 {
		size = 0
	}
	s.sizes[c] = size
	return size, nil
}

// commonPath counts the equal bytes at both ends of two paths.
func commonPath(a, b string) int64 {
	n := min(len(a), len(b))
	front := 0
	for front < n && a[front] == b[front] {
		front++
	}
	back := 0
	for back < n-front && a[len(a)-1-back] == b[len(b)-1-back] {
		back++
	}
	return int64(front + back)
}
