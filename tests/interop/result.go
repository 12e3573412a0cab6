// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// result is what one run of a script gave, in the terms of TAP.
type result struct {
	points  int    // passed
	skipped int    // points that the script skipped
	skip    string // why the whole script was skipped
	err     error  // nil: passed or skipped
	took    time.Duration
	output  []byte
}

func (r result) String() string {
	took := fmt.Sprintf("%.0fs", r.took.Seconds())
	switch {
	case r.err != nil:
		return fmt.Sprintf("FAIL after %d, %s", r.points, took)
	case r.skip != "":
		return fmt.Sprintf("skip: %.30s", r.skip)
	case r.skipped > 0:
		return fmt.Sprintf("pass %d skip %d, %s", r.points, r.skipped, took)
	}
	return fmt.Sprintf("pass %d, %s", r.points, took)
}

// worseThan also counts as worse what passes by skipping more, and a failure of
// something that the real program does not offer.
func (r result) worseThan(peer result) bool {
	switch {
	case peer.err != nil:
		return false
	case r.err != nil:
		return true
	case peer.skip != "":
		return false
	}
	return r.skip != "" || r.points < peer.points
}

// tail gives the end of the output, indented, and the error.
func (r result) tail() string {
	lines := strings.Split(strings.TrimRight(string(r.output), "\n"), "\n")
	lines = lines[max(0, len(lines)-12):]
	if r.err != nil {
		lines = append(lines, r.err.Error())
	}
	return "    | " + strings.Join(lines, "\n    | ")
}

var (
	tapPoint = regexp.MustCompile(`(?m)^(ok|not ok)\b(.*)$`)
	tapSkip  = regexp.MustCompile(`(?mi)^1\.\.0\s*#\s*SKIP\s*(.*)$`)
)

func parse(output []byte, err error) result {
	r := result{output: output, err: err}
	if m := tapSkip.FindSubmatch(output); m != nil {
		r.skip = string(m[1])
		return r
	}
	for _, m := range tapPoint.FindAllSubmatch(output, -1) {
		switch {
		case string(m[1]) == "not ok":
			r.err = errors.Join(r.err, fmt.Errorf("%s", m[0]))
		case bytes.Contains(bytes.ToUpper(m[2]), []byte("# SKIP")):
			r.skipped++
		default:
			r.points++
		}
	}
	if r.err == nil && r.points+r.skipped == 0 {
		r.err = errors.New("no test point in the output")
	}
	return r
}

// runScript runs one script in an empty folder with the given PATH.
func runScript(ctx context.Context, o options, dir, name, which, path string) result {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return result{err: err}
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(o.suite, name))
	cmd.Dir = dir
	cmd.Env = environment(path)
	// A group of its own, so that the time limit ends what the script started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// Daemons that a script leaves behind hold the pipe open.
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %s: %w", o.timeout, ctx.Err())
	}
	r := parse(out.Bytes(), err)
	r.took = time.Since(start)
	if o.logs != "" {
		if err := keepLog(o.logs, name+"."+which+".log", out.Bytes()); err != nil {
			r.err = errors.Join(r.err, err)
		}
	}
	return r
}

func keepLog(folder, name string, data []byte) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name), data, 0o644)
}

// environment leaves out what changes the behaviour of ostree or of the scripts.
func environment(path string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "OSTREE_") || strings.HasPrefix(kv, "PATH=") ||
			strings.HasPrefix(kv, "G_") || strings.HasPrefix(kv, "GNUPG") || strings.HasPrefix(kv, "SOURCE_DATE_EPOCH=")
	})
	env = append(env, "PATH="+path)
	if os.Geteuid() == 0 {
		env = append(env, "OSTREE_TEST_SUDO=1") // root needs no sudo
	}
	return env
}
