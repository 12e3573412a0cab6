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
// and Total those known to be missing, which grows while directories arrive;
// both leave out what was stored before.
type meter struct {
	report   progress.Func
	bytes    atomic.Int64
	requests atomic.Int64

	mu          sync.Mutex
	done, total int64
	meta, files int
	last        time.Time
	active      bool // between begin and end
}

func newMeter(f progress.Func) *meter { return &meter{report: f} }

func (m *meter) event(kind progress.Kind) progress.Event {
	return progress.Event{Task: task, Kind: kind, Done: m.done, Total: m.total, Bytes: m.bytes.Load()}
}

func (m *meter) begin() { m.emit(progress.Begin) }
func (m *meter) end()   { m.emit(progress.End) }

func (m *meter) emit(kind progress.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active = kind == progress.Begin
	m.report.Emit(m.event(kind))
}

// expect counts an object that will be requested.
func (m *meter) expect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	m.update()
}

// object counts a received object.
func (m *meter) object(t ostree.ObjectType) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t == ostree.TypeFile {
		m.files++
	} else {
		m.meta++
	}
	m.done++
	if m.total < m.done {
		m.total = m.done
	}
	m.update()
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
	if !m.active || m.report == nil || time.Since(m.last) < reportEvery {
		return
	}
	m.last = time.Now()
	m.report.Emit(m.event(progress.Update))
}

func (m *meter) received() int64 { return m.bytes.Load() }

func (m *meter) fill(r *Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Metadata, r.Content, r.Bytes, r.Requests = m.meta, m.files, m.bytes.Load(), int(m.requests.Load())
}
