// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
)

// eachObject calls fn for every object on disk, in order of the names. Files
// that are no objects are passed over.
func (r *Repo) eachObject(ctx context.Context, fn func(n ObjectName) error) error {
	for i := range 256 {
		err := r.eachInDir(ctx, i, func(_ *fsx.Dir, _ string, n ObjectName) error { return fn(n) })
		if err != nil {
			return err
		}
	}
	return nil
}

// eachInDir calls fn for the objects of one of the 256 directories, with the
// directory and the name in it.
func (r *Repo) eachInDir(ctx context.Context, i int, fn func(d *fsx.Dir, name string, n ObjectName) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	top := fmt.Sprintf("%02x", i)
	d, err := r.objects.OpenDir(top)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.File().Readdirnames(-1) // without the types, which nobody needs
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		n, ok := r.parseObjectName(top, name)
		if !ok {
			continue
		}
		if err := fn(d, name, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) parseObjectName(top, name string) (ObjectName, bool) {
	sum, ext, _ := strings.Cut(name, ".")
	switch {
	case ext == TypePayloadLink.String():
		c, err := ParseChecksum(top + sum)
		return ObjectName{c, TypePayloadLink}, err == nil
	case r.mode == ModeArchive && ext == "filez":
		name = sum + ".file"
	case r.mode == ModeArchive && ext == "file":
		return ObjectName{}, false
	}
	return parseStagedName(top + name)
}

// pruner deletes what is not kept.
type pruner struct {
	r      *Repo
	o      PruneOptions
	keep   map[ObjectName]struct{}
	stored [256][]ObjectName // by first byte; with CommitOnly only commits

	mu  sync.Mutex
	res PruneResult
}

// eachDir runs fn for the 256 object directories with as many workers as there are
// CPUs.
func eachDir(ctx context.Context, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers(0))
	for i := range 256 {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}

// list notes what is stored.
func (p *pruner) list(ctx context.Context) error {
	return eachDir(ctx, func(ctx context.Context, i int) error {
		return p.r.eachInDir(ctx, i, func(_ *fsx.Dir, _ string, n ObjectName) error {
			if n.Type != TypeTombstone && (n.Type == TypeCommit || !p.o.CommitOnly) {
				p.stored[i] = append(p.stored[i], n)
			}
			return nil
		})
	})
}

func (p *pruner) commits() []Checksum {
	var out []Checksum
	for _, list := range p.stored {
		for _, n := range list {
			if n.Type == TypeCommit {
				out = append(out, n.Checksum)
			}
		}
	}
	return out
}

// run deletes commits first, durably: what only they needed goes after them.
func (p *pruner) run(ctx context.Context) error {
	if err := p.sweepCommits(); err != nil {
		return err
	}
	if err := failpoint.Hit("ostree.prune.swept"); err != nil {
		return err
	}
	if err := eachDir(ctx, p.sweepDir); err != nil {
		return err
	}
	return failpoint.Hit("ostree.prune.swept")
}

func (p *pruner) sweepCommits() error {
	var doomed []Checksum
	for _, c := range p.commits() {
		n := ObjectName{c, TypeCommit}
		gone, err := p.count(p.r.objects, n.loosePath(p.r.mode), n, &p.res)
		if err != nil {
			return err
		}
		if gone {
			doomed = append(doomed, c)
		}
	}
	if p.o.DryRun {
		return nil
	}
	return p.r.dropCommits(doomed)
}

func (p *pruner) sweepDir(ctx context.Context, i int) (err error) {
	var res PruneResult
	var d *fsx.Dir
	defer func() {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.res.Objects += res.Objects
		p.res.Deleted += res.Deleted
		p.res.DeletedBytes += res.DeletedBytes
		p.res.FreedBytes += res.FreedBytes
	}()
	for _, n := range p.stored[i] {
		if n.Type == TypeCommit {
			continue
		}
		if _, ok := p.keep[n]; ok && n.Type != TypeCommitMeta {
			res.Objects++ // nearly all of them: no need to open the directory
			continue
		}
		if d == nil {
			if d, err = p.r.objects.OpenDir(fmt.Sprintf("%02x", i)); err != nil {
				return err
			}
		}
		if err := p.object(ctx, d, n, &res); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) object(ctx context.Context, d *fsx.Dir, n ObjectName, res *PruneResult) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := n.loosePath(p.r.mode)[3:]
	gone, err := p.count(d, name, n, res)
	// What went with its commit is not there any more.
	if errors.Is(err, fs.ErrNotExist) && n.Type == TypeCommitMeta {
		return nil
	}
	if !gone || p.o.DryRun || err != nil {
		return err
	}
	if err := d.Remove(name); err != nil {
		return err
	}
	return failpoint.Hit("ostree.prune.object")
}

// count adds an object to the result and tells whether it must go.
func (p *pruner) count(d *fsx.Dir, name string, n ObjectName, res *PruneResult) (gone bool, err error) {
	counted := n.Type != TypeCommitMeta
	if counted {
		res.Objects++
	}
	if kept, err := p.kept(d, name, n); kept || err != nil {
		return false, err
	}
	st, err := d.Lstat(name)
	if err != nil {
		return false, err
	}
	if counted {
		res.Deleted++
		res.DeletedBytes += st.Size
	}
	if st.Nlink == 1 {
		res.FreedBytes += st.Size
	}
	return true, nil
}

func (p *pruner) kept(d *fsx.Dir, name string, n ObjectName) (bool, error) {
	if n.Type != TypePayloadLink {
		_, ok := p.keep[n]
		return ok, nil
	}
	target, err := d.Readlink(name)
	if err != nil {
		return false, err
	}
	file, ok := payloadTarget(target)
	if _, kept := p.keep[file]; !ok || !kept {
		return false, nil
	}
	st, err := p.r.objects.Lstat(file.loosePath(p.r.mode))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && uint64(st.Size) >= p.r.opts.payloadThreshold, err
}

// payloadTarget reads the file object that a payload link names: ../ab/cdef….file.
func payloadTarget(target string) (ObjectName, bool) {
	rest, ok := strings.CutPrefix(target, "../")
	if !ok || len(rest) < 3 || rest[2] != '/' {
		return ObjectName{}, false
	}
	n, ok := parseStagedName(rest[:2] + rest[3:])
	return n, ok && n.Type == TypeFile
}
