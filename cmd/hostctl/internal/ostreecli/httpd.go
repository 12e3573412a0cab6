// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// watchInterval is how often --autoexit looks for its directory.
const watchInterval = 500 * time.Millisecond

type httpdOptions struct {
	daemonize, autoexit     bool
	port                    int
	portFile, logFile       string
	forceRanges, auth       bool
	random500, random500Max int
	random408, random408Max int
	cookies, headers        []string
	readyFD                 int // of the background process: where it reports
}

// trivialHTTPD serves a directory, for tests: with errors on purpose.
func trivialHTTPD() *verb {
	o := &httpdOptions{random500Max: 100, random408Max: 100}
	return &verb{
		name: "trivial-httpd", args: "[DIR] - Simple webserver", hidden: true, use: repoUnused,
		opts: []option{
			{long: "daemonize", short: 'd', dst: &o.daemonize, help: "Fork into background when ready"},
			{long: "autoexit", dst: &o.autoexit, help: "Automatically exit when directory is deleted"},
			{long: "port", short: 'P', arg: "PORT", dst: &o.port, help: "Use the specified TCP port"},
			{long: "port-file", short: 'p', arg: "PATH", dst: &o.portFile, help: "Write port number to PATH (- for standard output)"},
			{long: "force-range-requests", dst: &o.forceRanges, help: "Force range requests by only serving half of files"},
			{long: "require-basic-auth", dst: &o.auth, help: "Require username foouser, password barpw"},
			{long: "random-500s", arg: "PERCENTAGE", dst: &o.random500, help: "Generate random HTTP 500 errors approximately for PERCENTAGE requests"},
			{long: "random-500s-max", arg: "MAX", dst: &o.random500Max, help: "Limit HTTP 500 errors to MAX (default 100)"},
			{long: "random-408s", arg: "PERCENTAGE", dst: &o.random408, help: "Generate random HTTP 408 errors approximately for PERCENTAGE requests"},
			{long: "random-408s-max", arg: "MAX", dst: &o.random408Max, help: "Limit HTTP 408 errors to MAX (default 100)"},
			{long: "log-file", arg: "PATH", dst: &o.logFile, help: "Put logs here (use - for stdout)"},
			{long: "expected-cookies", arg: "KEY=VALUE", dst: &o.cookies, help: "Expect given cookies in the http request"},
			{long: "expected-header", arg: "KEY=VALUE", dst: &o.headers, help: "Expect given headers in the http request"},
			{long: "ready-fd", arg: "N", dst: &o.readyFD, hidden: true},
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *httpdOptions) check(c *call) error {
	switch {
	case o.random500 < 0 || o.random500 > 99:
		return failf("Invalid --random-500s=%d", o.random500)
	case o.random408 < 0 || o.random408 > 99:
		return failf("Invalid --random-408s=%d", o.random408)
	case o.daemonize && o.logFile == "-":
		return c.usageError("Cannot use --log-file=- and --daemonize at the same time")
	}
	for _, kv := range slices.Concat(o.cookies, o.headers) {
		if !strings.Contains(kv, "=") {
			return failf("Missing '=' in %q", kv)
		}
	}
	return nil
}

func (o *httpdOptions) run(ctx context.Context, c *call) error {
	if err := o.check(c); err != nil {
		return err
	}
	dir := "."
	if len(c.args) > 0 {
		dir = c.args[0]
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return errors.Join(err, failf("%s is not a directory", dir))
	}
	if o.daemonize {
		return o.background(dir)
	}
	ready := func(error) {}
	if o.readyFD > 0 {
		ready = reportTo(os.NewFile(uintptr(o.readyFD), "ready"))
	}
	err := o.serve(ctx, c, dir, ready)
	ready(err)
	return err
}

// reportTo gives a function that reports once: nothing for success.
func reportTo(f *os.File) func(error) {
	done := false
	return func(err error) {
		if done {
			return
		}
		done = true
		if err != nil {
			_, _ = io.WriteString(f, err.Error())
		}
		_ = f.Close()
	}
}

// background starts the program again without a terminal and waits until it
// serves or fails: a Go program cannot go on after a fork.
func (o *httpdOptions) background(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"ostree", "trivial-httpd", "--ready-fd=3"}, o.arguments(dir)...),
		ExtraFiles: []*os.File{w}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	report, err := io.ReadAll(io.LimitReader(r, 1<<16))
	if err == nil && len(report) > 0 {
		err = errors.New(string(report))
	}
	return errors.Join(err, cmd.Process.Release())
}

// arguments repeats the options for the background process.
func (o *httpdOptions) arguments(dir string) []string {
	args := []string{
		fmt.Sprint("--port=", o.port), "--port-file=" + o.portFile, "--log-file=" + o.logFile,
		fmt.Sprint("--random-500s=", o.random500), fmt.Sprint("--random-500s-max=", o.random500Max),
		fmt.Sprint("--random-408s=", o.random408), fmt.Sprint("--random-408s-max=", o.random408Max),
	}
	for _, b := range []struct {
		on   bool
		name string
	}{{o.autoexit, "--autoexit"}, {o.forceRanges, "--force-range-requests"}, {o.auth, "--require-basic-auth"}} {
		if b.on {
			args = append(args, b.name)
		}
	}
	for _, kv := range o.cookies {
		args = append(args, "--expected-cookies="+kv)
	}
	for _, kv := range o.headers {
		args = append(args, "--expected-header="+kv)
	}
	return append(args, "--", dir)
}

func (o *httpdOptions) serve(ctx context.Context, c *call, dir string, ready func(error)) error {
	log, err := o.openLog(c)
	if err != nil {
		return err
	}
	defer log.Close()
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", o.port))
	if err != nil {
		return err
	}
	if err := o.writePort(c, listener.Addr().(*net.TCPAddr).Port); err != nil {
		return errors.Join(err, listener.Close())
	}
	h := &httpHandler{o: o, root: dir, log: log}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	h.logf("serving at root %s\n", dir)
	ready(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		o.watch(ctx, dir)
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// watch returns when the server has to end: cancelled, the directory gone, or the
// process that it was started for.
func (o *httpdOptions) watch(ctx context.Context, dir string) {
	before, err := os.Lstat(dir)
	parent := os.Getppid()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, nerr := os.Lstat(dir); o.autoexit && (nerr != nil || err != nil || !os.SameFile(before, now) || removed(now)) {
			return
		}
		if o.readyFD == 0 && os.Getppid() != parent {
			return
		}
	}
}

// removed tells whether a directory that is still open has no name any more, as
// the current one may be.
func removed(st os.FileInfo) bool {
	s, ok := st.Sys().(*syscall.Stat_t)
	return ok && s.Nlink == 0
}

func (o *httpdOptions) writePort(c *call, port int) error {
	text := fmt.Sprintln(port)
	switch o.portFile {
	case "":
		return nil
	case "-":
		_, err := io.WriteString(promptly{c}, text)
		return err
	}
	// Readers wait for the name, so the file appears complete.
	tmp := o.portFile + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, o.portFile)
}

// promptly is standard output without delay: writing to standard error flushes it.
type promptly struct{ c *call }

func (p promptly) Write(b []byte) (int, error) {
	n, err := p.c.Out.Write(b)
	if err == nil {
		_, err = p.c.Err.Write(nil)
	}
	return n, err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (o *httpdOptions) openLog(c *call) (io.WriteCloser, error) {
	switch o.logFile {
	case "":
		return nopCloser{io.Discard}, nil
	case "-":
		return nopCloser{promptly{c}}, nil
	}
	return os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
