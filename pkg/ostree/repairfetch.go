// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// repairStage is a scratch repository of the same mode inside of the one under
// repair. It is a staging directory to others: locked while in use, dropped by the
// next writer after a crash.
type repairStage struct {
	r    *Repo // the one under repair
	repo *Repo
	s    *staging
}

func (r *Repo) openRepairStage(ctx context.Context) (_ *repairStage, err error) {
	id, err := r.bootID()
	if err != nil {
		return nil, err
	}
	name := tmpDir + "/" + stagingPrefix + id + "-" + rand.Text()[:6]
	if err := r.dir.MkdirAll(tmpDir, 0o755); err != nil {
		return nil, err
	}
	lock, err := r.dir.Lock(ctx, name+lockSuffix, false, 0)
	if err != nil {
		return nil, err
	}
	st := &repairStage{r: r, s: &staging{name: name, lock: lock}}
	if err = r.dir.Mkdir(name, 0o755); err == nil {
		st.s.dir, err = r.dir.OpenDir(name)
	}
	if err != nil {
		return nil, errors.Join(err, r.dir.RemoveAll(name), lock.Unlock())
	}
	if err := st.create(); err != nil {
		return nil, errors.Join(err, st.drop())
	}
	return st, nil
}

func (st *repairStage) create() (err error) {
	st.repo, err = Create(st.s.dir, st.r.mode, Options{Logger: st.r.opts.log, DisableFsync: true, WriteSplitXattrs: true})
	if err != nil {
		return err
	}
	cfg := st.repo.Config()
	for _, key := range []string{"min-free-space-percent", "min-free-space-size", "disable-xattrs"} {
		if v, ok := st.r.cfg.Get("core", key); ok {
			err = errors.Join(err, cfg.Set("core", key, v))
		}
	}
	return errors.Join(err, st.repo.SetConfig(cfg))
}

func (st *repairStage) drop() error {
	var err error
	if st.repo != nil {
		err = st.repo.Close()
	}
	return errors.Join(err, st.s.drop(st.r))
}

// fetchRound tries to get everything that is wanted. What nobody has is given up.
func (p *repair) fetchRound(ctx context.Context) error {
	todo := sortObjects(slices.Collect(maps.Keys(p.want)))
	var mu sync.Mutex
	found := map[ObjectName]bool{}
	_, err := p.stage.repo.Update(ctx, func(ctx context.Context, t *Txn) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(workers(p.o.Workers))
		for _, n := range todo {
			g.Go(func() error {
				ok, err := p.fetch(ctx, t, n)
				if ok && n.Type == TypeCommit {
					err = errors.Join(err, p.fetchMeta(ctx, t, n.Checksum))
				}
				mu.Lock()
				defer mu.Unlock()
				found[n] = ok
				return err
			})
		}
		return g.Wait()
	})
	if err != nil {
		return err
	}
	p.fresh = nil
	for _, n := range todo {
		if !found[n] {
			p.lost[n] = struct{}{}
		} else {
			p.got[n] = p.want[n]
			p.fresh = append(p.fresh, n)
		}
		delete(p.want, n)
	}
	return nil
}

func workers(n int) int {
	if n > 0 {
		return n
	}
	return max(2, runtime.GOMAXPROCS(0))
}

// fetch writes an object from the first source that has a good one.
func (p *repair) fetch(ctx context.Context, t *Txn, n ObjectName) (bool, error) {
	var tries []func() error
	for _, src := range p.o.Repos {
		tries = append(tries, func() error { return copyObject(ctx, t, src, n) })
	}
	for _, src := range p.o.Sources {
		tries = append(tries, func() error { return fetchObject(ctx, t, src, n) })
	}
	for _, try := range tries {
		err := try()
		if err == nil {
			return true, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrNoSpace) {
			return false, err
		}
		p.r.opts.log.Debug("no good object from this source", "object", n.String(), "error", err)
	}
	return false, nil
}

// fetchMeta brings a restored commit's signatures along, if the repository has none.
func (p *repair) fetchMeta(ctx context.Context, t *Txn, c Checksum) error {
	n := ObjectName{c, TypeCommitMeta}
	have, err := p.r.Has(n)
	if have || err != nil {
		return err
	}
	_, err = p.fetch(ctx, t, n)
	return err
}

func copyObject(ctx context.Context, t *Txn, src *Repo, n ObjectName) error {
	if n.Type != TypeFile {
		data, err := src.LoadRaw(n)
		if err != nil {
			return err
		}
		return t.WriteMetadataExpected(ctx, n, data)
	}
	h, size, rc, err := src.OpenFile(n.Checksum)
	if err != nil {
		return err
	}
	err = t.WriteContentExpected(ctx, n.Checksum, h, size, rc)
	return errors.Join(err, rc.Close())
}

func fetchObject(ctx context.Context, t *Txn, src ObjectSource, n ObjectName) error {
	rc, err := src.FetchObject(ctx, n)
	if err != nil {
		return err
	}
	if n.Type == TypeFile {
		err = t.WriteArchived(ctx, n.Checksum, rc)
	} else {
		err = writeFetched(ctx, t, n, rc)
	}
	return errors.Join(err, rc.Close())
}

func writeFetched(ctx context.Context, t *Txn, n ObjectName, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxMetadataSize+1))
	if err != nil {
		return err
	}
	if len(data) > MaxMetadataSize {
		return fmt.Errorf("fetch %s: %w: larger than %d bytes", n, ErrCorrupt, MaxMetadataSize)
	}
	return t.WriteMetadataExpected(ctx, n, data)
}

// growWant looks into the commits and directories just fetched: what they name may
// be missing too, or be a good directory that nothing has led to so far.
func (p *repair) growWant() error {
	todo := p.fresh
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		children, err := p.children(n)
		if err != nil {
			return err
		}
		for _, c := range children {
			_, got := p.got[c]
			_, lost := p.lost[c]
			_, damaged := p.damaged[c]
			switch {
			case got || lost || damaged:
			case !p.present(c):
				p.want[c] = false
			case c.Type == TypeDirTree && !p.walked[c]:
				p.walked[c] = true
				todo = append(todo, c)
			}
		}
	}
	return nil
}

// children names what a good commit or directory needs.
func (p *repair) children(n ObjectName) ([]ObjectName, error) {
	r := p.r
	if _, got := p.got[n]; got {
		r = p.stage.repo
	}
	switch n.Type {
	case TypeCommit:
		c, err := r.LoadCommit(n.Checksum)
		return []ObjectName{{c.RootTree, TypeDirTree}, {c.RootMeta, TypeDirMeta}}, err
	case TypeDirTree:
		t, err := r.LoadDirTree(n.Checksum)
		return treeChildren(t), err
	}
	return nil, nil
}

func treeChildren(t DirTree) []ObjectName {
	out := make([]ObjectName, 0, len(t.Files)+2*len(t.Dirs))
	for _, f := range t.Files {
		out = append(out, ObjectName{f.Checksum, TypeFile})
	}
	for _, d := range t.Dirs {
		out = append(out, ObjectName{d.Tree, TypeDirTree}, ObjectName{d.Meta, TypeDirMeta})
	}
	return out
}
