// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// task identifies the progress of a pull.
const task = "Receiving objects"

// reportEvery spaces the reports about a running transfer.
const reportEvery = 100 * time.Millisecond

// meter counts a pull and reports its progress. Done counts objects received
// and Total those known to be missing; both leave out what was stored before.
// Where a commit lists its objects' sizes, or a delta its parts', the totals are
// known from the start; else they grow while directories arrive.
type meter struct {
	report   progress.Func
	every    time.Duration
	bytes    atomic.Int64
	requests atomic.Int64

	mu          sync.Mutex
	done, total int64
	planned     int64 // objects known in advance; 0: none
	plannedSize int64 // bytes at the end; 0: unknown
	res         Result
	last        time.Time
	active      bool // between begin and end
}

func newMeter(f progress.Func, every time.Duration) *meter {
	if every <= 0 {
		every = reportEvery
	}
	return &meter{report: f, every: every}
}

func (m *meter) event(kind progress.Kind) progress.Event {
	e := progress.Event{Task: task, Kind: kind, Done: m.done, Total: max(m.total, m.planned), Bytes: m.bytes.Load()}
	if m.plannedSize > 0 {
		e.TotalBytes = max(m.plannedSize, e.Bytes)
	}
	return e
}

func (m *meter) begin() { m.emit(progress.Begin) }
func (m *meter) end()   { m.emit(progress.End) }

func (m *meter) emit(kind progress.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active = kind == progress.Begin
	if kind == progress.End && m.done == m.total {
		m.planned = 0 // some of it turned out not to be needed
	}
	m.report.Emit(m.event(kind))
}

// plan announces what is still to come.
func (m *meter) plan(objects int, bytes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.planned = m.total + int64(objects)
	m.plannedSize = m.bytes.Load() + int64(min(bytes, 1<<62))
	m.update()
}

// expect counts an object that will be requested.
func (m *meter) expect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	m.update()
}

// object counts a received object, or one taken from a local repository.
func (m *meter) object(t ostree.ObjectType, imported bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case t == ostree.TypeFile && imported:
		m.res.ImportedContent++
	case t == ostree.TypeFile:
		m.res.Content++
	case imported:
		m.res.ImportedMetadata++
	default:
		m.res.Metadata++
	}
	m.finishOne()
}

// part counts an applied part of a delta.
func (m *meter) part() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.res.DeltaParts++
	m.finishOne()
}

func (m *meter) finishOne() {
	m.done++
	if m.total < m.done {
		m.total = m.done
	}
	m.update()
}

// asked counts a metadata file that is no part of a tree.
func (m *meter) asked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.res.Metadata++
}

// transferred counts received bytes.
func (m *meter) transferred(n int) {
	m.bytes.Add(int64(n))
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.update()
}

func (m *meter) update() {
	if !m.active || m.report == nil || time.Since(m.last) < m.every {
		return
	}
	m.last = time.Now()
	m.report.Emit(m.event(progress.Update))
}

func (m *meter) received() int64 { return m.bytes.Load() }

func (m *meter) fill(r *Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Metadata, r.Content, r.ImportedMetadata, r.ImportedContent = m.res.Metadata, m.res.Content, m.res.ImportedMetadata, m.res.ImportedContent
	r.DeltaParts = m.res.DeltaParts
	r.Bytes, r.Requests = m.bytes.Load(), int(m.requests.Load())
}
