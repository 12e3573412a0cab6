// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// report is what a run of this package ends with, whether it passed or not.
var report struct {
	sync.Mutex
	boots, cases []string // in the order in which they began
	cell         map[[2]string]string
	consoles     []string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := printReport(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func printReport(out io.Writer) error {
	report.Lock()
	defer report.Unlock()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(report.cases) > 0 {
		fmt.Fprint(w, "case")
	}
	for _, boot := range report.boots {
		fmt.Fprintf(w, "\t%s", boot)
	}
	if len(report.cases) > 0 {
		fmt.Fprintln(w)
	}
	for _, name := range report.cases {
		fmt.Fprint(w, name)
		for _, boot := range report.boots {
			cell := report.cell[[2]string{name, boot}]
			if cell == "" {
				cell = "-"
			}
			fmt.Fprintf(w, "\t%s", cell)
		}
		fmt.Fprintln(w)
	}
	for _, name := range report.consoles {
		fmt.Fprintf(w, "serial console: %s\n", name)
	}
	return w.Flush()
}

func keptConsole(name string) {
	report.Lock()
	defer report.Unlock()
	report.consoles = append(report.consoles, name)
}

// cases are the parts of one machine's test, one after the other, for the table.
type cases struct {
	t          *testing.T
	boot, name string
	start      time.Time
	failed     bool // before the case under way
}

// newCases begins a column of the table. A test that ends in the middle of a case
// has failed there.
func newCases(t *testing.T, boot string) *cases {
	c := &cases{t: t, boot: boot}
	t.Cleanup(func() {
		if c.name != "" {
			c.finish("FAIL")
		}
	})
	return c
}

// begin ends the case under way and begins another.
func (c *cases) begin(name string) {
	c.end()
	c.t.Log(name)
	c.name, c.start, c.failed = name, time.Now(), c.t.Failed()
}

// end ends the case under way. Whether one passed that follows a failure is not known.
func (c *cases) end() {
	switch {
	case c.name == "":
	case c.failed:
		c.finish("unclear")
	case c.t.Failed():
		c.finish("FAIL")
	default:
		c.finish("PASS")
	}
}

func (c *cases) finish(verdict string) {
	report.Lock()
	defer report.Unlock()
	if !slices.Contains(report.boots, c.boot) {
		report.boots = append(report.boots, c.boot)
	}
	if !slices.Contains(report.cases, c.name) {
		report.cases = append(report.cases, c.name)
	}
	if report.cell == nil {
		report.cell = map[[2]string]string{}
	}
	report.cell[[2]string{c.name, c.boot}] = fmt.Sprintf("%s %.0f s", verdict, time.Since(c.start).Seconds())
	c.name = ""
}
