// SPDX-License-Identifier: Apache-2.0

// Package measure runs programs for benchmarks and says what they took.
package measure

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/lab"
)

// Sample is what a run took.
type Sample struct {
	Wall time.Duration
	CPU  time.Duration // user and system time of the program and the children it waited for
	Peak int64         // resident memory of the program at its highest, in bytes
}

// Add gives what two runs took, one after the other.
func (s Sample) Add(o Sample) Sample {
	return Sample{Wall: s.Wall + o.Wall, CPU: s.CPU + o.CPU, Peak: max(s.Peak, o.Peak)}
}

// String gives seconds and MiB.
func (s Sample) String() string {
	return fmt.Sprintf("%.2f s, CPU %.2f s, %.0f MiB", s.Wall.Seconds(), s.CPU.Seconds(), float64(s.Peak)/(1<<20))
}

// Run runs a program to its end and gives its standard output. A failure is an
// error with all of its output.
func Run(ctx context.Context, env []string, argv ...string) (Sample, string, error) {
	cmd := lab.Command(ctx, argv...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Sample{}, "", err
	}
	ended := make(chan struct{})
	peak := make(chan int64, 1)
	go func() { peak <- watch(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	s := Sample{Wall: time.Since(start), CPU: cpu(cmd.ProcessState)}
	close(ended)
	s.Peak = <-peak
	if err != nil {
		return s, out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out.String(), errs.String())
	}
	return s, out.String(), nil
}

func cpu(p *os.ProcessState) time.Duration {
	if p == nil {
		return 0
	}
	return p.UserTime() + p.SystemTime()
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// watch follows the peak of a process while it runs. What the kernel counts for a
// finished child begins with the memory of its parent.
func watch(pid int, ended <-chan struct{}) (peak int64) {
	for {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if m := highWater.FindSubmatch(data); err == nil && m != nil {
			if n, err := strconv.ParseInt(string(m[1]), 10, 64); err == nil {
				peak = max(peak, n<<10)
			}
		}
		select {
		case <-ended:
			return peak
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Need gives the path of a program.
func Need(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find the peer: %w", err)
	}
	return p, nil
}
