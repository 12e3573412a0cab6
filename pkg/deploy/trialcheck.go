// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Script folders below each of CheckOptions.Dirs, as greenboot has them.
const (
	ScriptsRequired = "check/required.d" // a failure makes the boot bad
	ScriptsWanted   = "check/wanted.d"   // a failure is reported
	ScriptsGreen    = "green.d"          // run after a good boot
	ScriptsRed      = "red.d"            // run after a bad one
)

// CheckOptions say how scripts are run.
type CheckOptions struct {
	Dirs    []string      // nil: /usr/lib/greenboot, then /etc/greenboot
	Timeout time.Duration // of one script; 0: five minutes
	Output  io.Writer     // takes what the scripts print, line by line with their names; nil: discarded
}

// CheckError reports a script that failed.
type CheckError struct {
	Script string // path
	Cause  error
	Output string // its last lines
}

func (e *CheckError) Error() string {
	s := fmt.Sprintf("health check %s failed: %v", path.Base(e.Script), e.Cause)
	if e.Output != "" {
		s += ": " + e.Output
	}
	return s
}

func (e *CheckError) Unwrap() error { return e.Cause }

// RunScripts runs every script of folder (Scripts…), in the order of Dirs and by
// name: *.sh files by bash, as greenboot does, and other files that are
// executable by themselves. It returns the errors of those that failed, each a
// *CheckError; one does not keep the next from running.
func RunScripts(ctx context.Context, folder string, o CheckOptions) ([]error, error) {
	if o.Dirs == nil {
		o.Dirs = []string{"/usr/lib/greenboot", "/etc/greenboot"}
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Minute
	}
	if o.Output == nil {
		o.Output = io.Discard
	}
	var failed []error
	for _, dir := range o.Dirs {
		scripts, err := findScripts(path.Join(dir, folder))
		if err != nil {
			return failed, fmt.Errorf("list health checks: %w", err)
		}
		for _, s := range scripts {
			if err := ctx.Err(); err != nil {
				return failed, err
			}
			if err := runScript(ctx, s, o); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return failed, nil
}

// findScripts lists the commands of a folder.
func findScripts(dir string) ([][]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out [][]string
	for _, e := range list {
		name := path.Join(dir, e.Name())
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch {
		case strings.HasSuffix(name, ".sh"):
			out = append(out, []string{"bash", name})
		case info.Mode().Perm()&0o111 != 0:
			out = append(out, []string{name})
		}
	}
	return out, nil
}

// keptOutput bounds in bytes, and keptLines in lines, what a CheckError quotes.
const (
	keptOutput = 1 << 10
	keptLines  = 5
)

func runScript(ctx context.Context, argv []string, o CheckOptions) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	script := argv[len(argv)-1]
	out := &lineWriter{prefix: path.Base(script) + ": ", to: o.Output}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	// What the script started goes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	out.end()
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("not finished after %v", o.Timeout)
	}
	return &CheckError{Script: script, Cause: err, Output: out.last()}
}

// lineWriter puts a prefix before each line and keeps the end of the output.
type lineWriter struct {
	prefix string
	to     io.Writer
	line   []byte
	tail   []string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		// A line without end must not fill the memory.
		w.line = append(w.line, line[:min(len(line), keptOutput-len(w.line))]...)
		if whole {
			w.end()
		}
		rest = after
	}
	return len(p), nil
}

func (w *lineWriter) end() {
	if len(w.line) == 0 {
		return
	}
	// Nobody can be told of a journal that takes nothing.
	_, _ = fmt.Fprintf(w.to, "%s%s\n", w.prefix, w.line)
	w.tail = append(w.tail, string(w.line))
	w.tail = slices.Clone(w.tail[max(0, len(w.tail)-keptLines):])
	w.line = w.line[:0]
}

func (w *lineWriter) last() string {
	s := strings.Join(w.tail, "\n")
	return strings.TrimSpace(s[max(0, len(s)-keptOutput):])
}
