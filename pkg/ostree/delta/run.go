// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// partWorkers is how many objects of a part are made at a time, where none needs another.
const partWorkers = 2

// objectOps are the operations of one object: those after the object before, up to its
// S or c. They depend on nothing that others set, but may take an object of the same part
// as their source.
type objectOps struct {
	end int64 // where the operations of the next one begin
	low int64 // first byte of the data that this or a later object takes
}

// split finds the operations of each object and checks their order. workers is how many
// objects may be made at a time.
func (p *partData) split(ctx context.Context, list *Part) (out []objectOps, workers int, err error) {
	s := splitter{data: p, ops: newOpReader(p.ops), list: list, low: math.MaxInt64, workers: partWorkers}
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		meta := len(s.out) < list.NumObjects() && list.Object(len(s.out)).Type.IsMeta()
		o, err := s.ops.next(meta)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = s.add(o, meta)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if s.inside {
		return nil, 0, fmt.Errorf("%w: part ends inside a file", ErrCorrupt)
	}
	if len(s.out) != list.NumObjects() {
		return nil, 0, fmt.Errorf("%w: part makes %d objects of %d", ErrCorrupt, len(s.out), list.NumObjects())
	}
	low := int64(math.MaxInt64)
	for i := len(s.out) - 1; i >= 0; i-- {
		low = min(low, s.out[i].low)
		s.out[i].low = low
	}
	return s.out, s.workers, nil
}

// splitter goes through the operations of a part. Its low is that of the object that is due.
type splitter struct {
	data           *partData
	ops            *opReader
	list           *Part
	out            []objectOps
	low            int64
	inside, source bool
	workers        int
	own            map[ostree.Checksum]struct{} // files of the part, once there are sources
}

func (s *splitter) add(o op, meta bool) error {
	begins := o.code == opSplice || o.code == opOpen
	within := o.code == opWrite || o.code == opPatch || o.code == opClose
	switch {
	case begins && s.inside:
		return fmt.Errorf("%w: operation %c inside a file", ErrCorrupt, o.code)
	case within && !s.inside:
		return fmt.Errorf("%w: operation %c outside of a file", ErrCorrupt, o.code)
	case begins && len(s.out) == s.list.NumObjects():
		return fmt.Errorf("%w: part makes more than its %d objects", ErrCorrupt, s.list.NumObjects())
	}
	switch o.code {
	case opSplice:
		if meta {
			s.takes(o.args[1])
		} else {
			s.takes(o.args[3])
		}
		s.end()
	case opOpen:
		s.inside = true
	case opSetSource:
		s.takes(o.args[0])
		s.source = true
		return s.setSource(o.args[0])
	case opUnsetSource:
		s.source = false
	case opWrite:
		if !s.source {
			s.takes(o.args[1])
		}
	case opPatch:
		s.takes(o.args[0])
	case opClose:
		s.end()
	}
	return nil
}

// setSource looks whether the part makes the source itself: then what needs it waits.
func (s *splitter) setSource(off uint64) error {
	sum, err := s.data.sourceSum(off)
	if err != nil {
		return err
	}
	if s.own == nil {
		s.own = map[ostree.Checksum]struct{}{}
		for i := range s.list.NumObjects() {
			if n := s.list.Object(i); n.Type == ostree.TypeFile {
				s.own[n.Checksum] = struct{}{}
			}
		}
	}
	if _, ok := s.own[sum]; ok {
		s.workers = 1
	}
	return nil
}

func (s *splitter) takes(off uint64) { s.low = min(s.low, int64(min(off, math.MaxInt64))) }

func (s *splitter) end() {
	s.out = append(s.out, objectOps{end: s.ops.pos, low: s.low})
	s.inside, s.source, s.low = false, false, math.MaxInt64
}

// runner makes the objects of a part, several at a time.
type runner struct {
	to   sink
	tmp  *fsx.Dir
	list *Part
	data *partData
	ops  []objectOps

	mu   sync.Mutex
	next int
	made []bool
	done int // objects before which all are made
}

func runPart(ctx context.Context, to sink, tmp *fsx.Dir, list *Part, data *partData) error {
	ops, workers, err := data.split(ctx, list)
	if err != nil {
		return err
	}
	r := &runner{to: to, tmp: tmp, list: list, data: data, ops: ops, made: make([]bool, len(ops))}
	g, ctx := errgroup.WithContext(ctx)
	for range min(workers, len(ops)) {
		g.Go(func() error { return r.work(ctx) })
	}
	return g.Wait()
}

func (r *runner) work(ctx context.Context) error {
	m := newMachine(ctx, r.to, r.tmp, r.list, r.data)
	for {
		i, from := r.take()
		if i < 0 {
			return nil
		}
		if err := m.run(i, from, r.ops[i].end); err != nil {
			return err
		}
		r.finished(i)
	}
}

func (r *runner) take() (i int, from int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == len(r.ops) {
		return -1, 0
	}
	i = r.next
	r.next++
	if i > 0 {
		from = r.ops[i-1].end
	}
	return i, from
}

// finished gives back the data that no object takes any more.
func (r *runner) finished(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made[i] = true
	for r.done < len(r.made) && r.made[r.done] {
		r.done++
	}
	if r.done < len(r.ops) {
		r.data.release(r.ops[r.done].low)
	}
}
