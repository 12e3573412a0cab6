// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// capabilities is what a scriptlet may need on the files of its tree. mknod,
// sys_admin, net_* and the rest are not given.
var capabilities = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_SYS_CHROOT", "CAP_SETFCAP"}

// procReadOnly is what root without any capability could still write in a fresh
// /proc, settings of the whole host among them. bubblewrap protects some of it
// in some versions only.
var procReadOnly = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi",
	"/proc/scsi", "/proc/mtrr", "/proc/timer_list", "/proc/latency_stats"}

// scriptPath is where a script's bytes appear inside the sandbox.
const scriptPath = "/run/scriptlet"

// killGrace is how long output is still read after a command was killed.
const killGrace = 5 * time.Second

// Command is one program run inside the tree.
type Command struct {
	// Name stands in log lines and errors, for example "NAME.post"; empty means Args[0].
	Name string
	// Args is the program, as a path inside the tree, with its arguments.
	Args []string
	// Script, when not nil, is placed in a file whose path is put at the place
	// ScriptIndex of Args (default: after all of them).
	Script      []byte
	ScriptIndex int
	// Stdin is what the command reads; nil is an empty input.
	Stdin io.Reader
	// Env is added to the environment, as NAME=VALUE.
	Env []string
	// Timeout limits this command; zero means that of the sandbox.
	Timeout time.Duration
	// Hide are directories of the tree, relative to its root and not reached through
	// links, that the command finds empty and cannot write.
	Hide []string
	// Keep are directories in those of Hide that stay as they are.
	Keep []string
	// Show are files of the tree that the command finds with another content, and
	// cannot write.
	Show []ShownFile
}

// ShownFile stands for a file of the tree while a command runs.
type ShownFile struct {
	Name string // relative to the tree's root, not reached through links
	Mode uint32 // permission bits
	Data []byte
}

func (c *Command) name() string {
	if c.Name != "" {
		return c.Name
	}
	if len(c.Args) > 0 {
		return c.Args[0]
	}
	return "command"
}

// Output tells how a command went.
type Output struct {
	// Text is the last part of standard output and standard error, mixed.
	Text string
	// Truncated: earlier output was dropped.
	Truncated bool
	// Duration is the wall time.
	Duration time.Duration
}

// Error is a command that failed.
type Error struct {
	Command string // its name
	Code    int    // exit status; -1 where a signal or a limit ended it
	Output  string // the last lines of its output
	Err     error  // what happened
}

// Error gives the name, what happened and the last lines of output.
func (e *Error) Error() string {
	msg := fmt.Sprintf("run %s: %v", e.Command, e.Err)
	if out := lastLines(e.Output, 10); out != "" {
		msg += "; last output:\n" + out
	}
	return msg
}

// Unwrap gives the cause, for example ErrTimeout.
func (e *Error) Unwrap() error { return e.Err }

// Run runs a command in new pid, network, ipc, uts and cgroup namespaces with
// /usr, /etc, /var and /boot of the tree, an empty /run and /tmp, a minimal /dev
// and no network. When it ends, for whatever reason, every process it left is
// killed. A command that fails, or that deleted a directory every tree needs,
// gives an *Error.
func (s *Sandbox) Run(ctx context.Context, c Command) (Output, error) {
	if len(c.Args) == 0 {
		return Output{}, fmt.Errorf("run %s: no program given", c.name())
	}
	limit := c.Timeout
	if limit <= 0 {
		limit = s.o.Timeout
	}
	runCtx, cancel := context.WithTimeoutCause(ctx, limit, ErrTimeout)
	defer cancel()
	out := newTail(s.o.MaxOutput, s.o.Logger, c.name())
	start := time.Now()
	err := s.exec(runCtx, c, out)
	out.flush()
	res := Output{Text: out.String(), Truncated: out.dropped, Duration: time.Since(start)}
	// Damage counts whatever the command says of itself: its failure might be tolerated.
	if damaged := s.intact(); damaged != nil && ctx.Err() == nil {
		return res, &Error{Command: c.name(), Code: -1, Output: res.Text, Err: damaged}
	}
	if err == nil {
		return res, nil
	}
	if cause := context.Cause(runCtx); cause != nil {
		if errors.Is(cause, ErrTimeout) {
			cause = fmt.Errorf("%w after %s", ErrTimeout, limit)
		}
		return res, &Error{Command: c.name(), Code: -1, Output: res.Text, Err: cause}
	}
	code := -1
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	return res, &Error{Command: c.name(), Code: code, Output: res.Text, Err: err}
}

func (s *Sandbox) exec(ctx context.Context, c Command, out io.Writer) error {
	files, args, err := s.bwrapArgs(c)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.o.Bwrap, args...)
	cmd.Env = s.environ(c.Env)
	cmd.Stdin = c.Stdin
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = files
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// bwrap dies with its pid namespace and takes every process in it along.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killGrace
	// Started on the thread that has the mounts; awaited here.
	if err := s.inside(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", s.o.Bwrap, err)
	}
	return cmd.Wait()
}

func (s *Sandbox) environ(extra []string) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
		"LANG=C", "LC_ALL=C", "TZ=UTC", "TERM=dumb", "SYSTEMD_OFFLINE=1", "PYTHONDONTWRITEBYTECODE=1",
		"PYTHONHASHSEED=0", "PERL_HASH_SEED=0",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(s.o.SourceDateEpoch, 10)}
	env = append(env, s.o.Env...)
	return append(env, extra...)
}

// bwrapArgs builds the command line and the files it refers to by descriptor,
// the first of which is 3 in the child.
func (s *Sandbox) bwrapArgs(c Command) ([]*os.File, []string, error) {
	var files []*os.File
	pass := func(f *os.File) string {
		files = append(files, f)
		return strconv.Itoa(2 + len(files))
	}
	args := []string{"--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--hostname", "localhost", "--die-with-parent", "--new-session", "--cap-drop", "ALL"}
	for _, name := range capabilities {
		args = append(args, "--cap-add", name)
	}
	tree, err := s.treeArgs()
	if err != nil {
		return files, nil, err
	}
	args = append(args, tree...)
	for _, name := range c.Hide {
		args = append(args, "--perms", "0755", "--tmpfs", "/"+name)
	}
	for _, name := range c.Keep {
		args = append(args, "--bind", path.Join(s.path, name), "/"+name)
	}
	for _, name := range c.Hide {
		args = append(args, "--remount-ro", "/"+name)
	}
	for _, s := range c.Show {
		f, err := scratchFile(s.Data)
		if err != nil {
			return files, nil, err
		}
		args = append(args, "--perms", fmt.Sprintf("%04o", s.Mode&0o777), "--ro-bind-data", pass(f), "/"+s.Name)
	}
	args = append(args, "--proc", "/proc")
	for _, name := range procReadOnly {
		args = append(args, "--ro-bind-try", name, name)
	}
	args = append(args, "--dev", "/dev", "--dir", "/sys", "--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run")
	booted, err := scratchFile(nil)
	if err != nil {
		return files, nil, err
	}
	args = append(args, "--file", pass(booted), "/run/ostree-booted")
	argv := c.Args
	if c.Script != nil {
		f, err := scratchFile(c.Script)
		if err != nil {
			return files, nil, err
		}
		args = append(args, "--perms", "0700", "--file", pass(f), scriptPath)
		at := c.ScriptIndex
		if at <= 0 || at > len(argv) {
			at = len(argv)
		}
		argv = append(append(append([]string{}, argv[:at]...), scriptPath), argv[at:]...)
	}
	args = append(args, "--chdir", "/", "--")
	return files, append(args, argv...), nil
}

// treeArgs shows the tree: real directories bound, top-level links as they are,
// and what the tree keeps in usr/etc at /etc.
func (s *Sandbox) treeArgs() ([]string, error) {
	args := []string{"--bind", path.Join(s.path, "usr"), "/usr", "--bind", path.Join(s.path, "usr/etc"), "/etc",
		"--bind", path.Join(s.path, "var"), "/var"}
	entries, err := s.merged.ReadDir(".")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{"usr": true, "etc": true, "var": true}
	for _, e := range entries {
		name := e.Name
		if seen[name] {
			continue
		}
		switch name {
		case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "home", "root", "srv", "mnt", "media":
			if e.Type != syscall.S_IFLNK {
				break
			}
			target, err := s.merged.Readlink(name)
			if err != nil {
				return nil, err
			}
			args = append(args, "--symlink", target, "/"+name)
			seen[name] = true
		case "boot":
			args = append(args, "--bind", path.Join(s.path, "boot"), "/boot")
			seen[name] = true
		}
	}
	for _, name := range []string{"root", "home", "srv", "mnt", "media", "opt"} {
		if !seen[name] {
			args = append(args, "--dir", "/"+name)
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if seen[name] {
			continue
		}
		ok, err := s.merged.Exists("usr/" + name)
		if err != nil {
			return nil, err
		}
		if ok {
			args = append(args, "--symlink", "usr/"+name, "/"+name)
		}
	}
	return args, nil
}

// scratchFile gives an unnamed file with data, to be read from its start.
func scratchFile(data []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "hostctl-script-")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(f.Name()), write(f, data)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func write(f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// tail keeps the last bytes of an output and logs its lines.
type tail struct {
	buf     []byte
	max     int
	dropped bool
	line    []byte
	log     *slog.Logger
	name    string
}

// maxLine bounds one log line of a command's output.
const maxLine = 4096

func newTail(limit int, log *slog.Logger, name string) *tail {
	return &tail{max: limit, log: log, name: name}
}

// Write never fails, so that a chatty command is not killed by its own output.
func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > t.max {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.dropped = true
	}
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			t.line = append(t.line, rest[:min(len(rest), max(0, maxLine-len(t.line)))]...)
			break
		}
		t.line = append(t.line, rest[:min(i, max(0, maxLine-len(t.line)))]...)
		t.flush()
		rest = rest[i+1:]
	}
	return len(p), nil
}

func (t *tail) flush() {
	if len(t.line) > 0 {
		t.log.Debug(strings.ToValidUTF8(string(t.line), "?"), "command", t.name)
	}
	t.line = t.line[:0]
}

// String gives what was kept.
func (t *tail) String() string {
	b := t.buf
	if len(b) > t.max {
		b = b[len(b)-t.max:]
		t.dropped = true
	}
	return strings.ToValidUTF8(string(b), "?")
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
