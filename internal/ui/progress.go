// SPDX-License-Identifier: Apache-2.0

// Package ui renders progress, sizes and errors for the two programs. It knows
// terminals and exit codes, and no command-line library.
package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
)

// Style chooses how progress is shown.
type Style string

// The styles of --progress.
const (
	StyleAuto  Style = "auto"  // tty on a terminal, else plain
	StyleTTY   Style = "tty"   // one line, redrawn
	StylePlain Style = "plain" // a line at the end of each task, and now and then within long ones
	StyleNone  Style = "none"
)

const (
	ttyInterval   = 100 * time.Millisecond
	plainInterval = 10 * time.Second
)

// Renderer turns events into lines on w. Its zero value is not usable; see New.
type Renderer struct {
	mu    sync.Mutex
	w     io.Writer
	style Style
	now   func() time.Time
	last  map[string]time.Time
	drawn bool // a tty line without newline is on the screen
}

// New returns a renderer; StyleAuto becomes StyleTTY where terminal is true.
func New(w io.Writer, style Style, terminal bool) *Renderer {
	if style == StyleAuto || style == "" {
		style = StylePlain
		if terminal {
			style = StyleTTY
		}
	}
	return &Renderer{w: w, style: style, now: time.Now, last: map[string]time.Time{}}
}

// Func is the sink to hand to the libraries.
func (r *Renderer) Func() progress.Func { return r.event }

func (r *Renderer) event(e progress.Event) {
	if r.style == StyleNone {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case progress.Message:
		r.clear()
		fmt.Fprintln(r.w, Printable(e.Text))
	case progress.Begin:
		r.last[e.Task] = r.now()
		if r.style == StyleTTY {
			r.draw(e)
		}
	case progress.Update:
		interval := plainInterval
		if r.style == StyleTTY {
			interval = ttyInterval
		}
		if now := r.now(); now.Sub(r.last[e.Task]) >= interval {
			r.last[e.Task] = now
			r.draw(e)
		}
	case progress.End:
		delete(r.last, e.Task)
		r.draw(e)
		if r.drawn {
			fmt.Fprintln(r.w)
			r.drawn = false
		}
	}
}

func (r *Renderer) draw(e progress.Event) {
	if r.style == StyleTTY {
		fmt.Fprintf(r.w, "\r\x1b[K%s", Line(e))
		r.drawn = true
		return
	}
	fmt.Fprintln(r.w, Line(e))
}

func (r *Renderer) clear() {
	if r.drawn {
		fmt.Fprint(r.w, "\r\x1b[K")
		r.drawn = false
	}
}

// Line formats one event: "Receiving objects: 71% (25/35) 2.4 MB".
func Line(e progress.Event) string {
	var b strings.Builder
	b.WriteString(e.Task)
	sep := ": "
	if e.Total > 0 {
		fmt.Fprintf(&b, "%s%d%% (%d/%d)", sep, 100*e.Done/e.Total, e.Done, e.Total)
		sep = " "
	} else if e.Done > 0 {
		fmt.Fprintf(&b, "%s%d", sep, e.Done)
		sep = " "
	}
	if e.Bytes > 0 {
		b.WriteString(sep + Bytes(e.Bytes))
		sep = " "
		if e.TotalBytes > e.Bytes {
			b.WriteString(" of " + Bytes(e.TotalBytes))
		}
	}
	if e.Text != "" {
		b.WriteString(sep + Printable(e.Text)) // names of packages and kernels
	} else if sep == ": " && e.Kind == progress.End {
		b.WriteString(sep + "done")
	}
	return b.String()
}

// Bytes formats a size in decimal units: 999 B, 2.4 MB.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, u := range []string{"kB", "MB", "GB", "TB", "PB"} {
		v /= 1000
		unit = u
		if v < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
