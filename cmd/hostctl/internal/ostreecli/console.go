// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
)

// console shows how far a task is on standard output: on a terminal in one line
// that is drawn again and again, else in lines at most a second apart.
type console struct {
	c     *call
	name  string
	mu    sync.Mutex
	last  time.Time
	drawn bool
	done  int64
}

const (
	consoleInterval = 100 * time.Millisecond
	plainInterval   = time.Second
	barWidth        = 20
)

// newConsole makes a console for one task of the given name.
func (c *call) newConsole(name string) *console { return &console{c: c, name: name} }

// event is the sink for a library's progress; tasks of any name count.
func (k *console) event(e progress.Event) {
	switch {
	case e.Kind == progress.Message || e.Total <= 0:
	case e.Kind == progress.Begin:
		k.show(1, e.Total)
	case e.Kind == progress.End:
		k.show(e.Total, e.Total)
	default:
		k.show(e.Done, e.Total)
	}
}

func (k *console) show(done, total int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	interval := plainInterval
	if k.c.Interactive {
		interval = consoleInterval
	}
	if done <= k.done || done < total && time.Since(k.last) < interval {
		return
	}
	k.done, k.last = done, time.Now()
	percent := 100 * done / total
	if !k.c.Interactive {
		k.c.printf("%s (%d/%d) %d%%\n", k.name, done, total, percent)
		return
	}
	full := int(barWidth * done / total)
	bar := strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full)
	k.c.printf("\r\x1b[K%s (%d/%d) [%s] %d%%", k.name, done, total, bar, percent)
	k.drawn = true
	k.c.flush()
}

// end leaves the drawn line.
func (k *console) end() {
	if k.drawn {
		k.c.printf("\n")
	}
}
