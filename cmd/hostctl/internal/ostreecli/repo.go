// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// defaultRepo is the repository of the running system.
const defaultRepo = "/ostree/repo"

// repoFromEnv gives the repository that is meant without --repo: the current
// directory if it looks like one, else $OSTREE_REPO, else that of $OSTREE_SYSROOT,
// else the system's.
func repoFromEnv() string {
	objects, err1 := os.Stat("objects")
	config, err2 := os.Stat("config")
	if err1 == nil && err2 == nil && objects.IsDir() && config.Mode().IsRegular() {
		return "."
	}
	if env := os.Getenv("OSTREE_REPO"); env != "" {
		return env
	}
	if env := os.Getenv("OSTREE_SYSROOT"); env != "" {
		return env + defaultRepo
	}
	if _, err := os.Stat("/run/ostree-booted"); err == nil {
		return "/sysroot" + defaultRepo
	}
	return defaultRepo
}

// openRepo does what the verb needs of --repo.
func (c *call) openRepo() error {
	if c.v.use == repoUnused {
		return nil
	}
	given := c.path != ""
	if !given {
		c.path = repoFromEnv()
	}
	o := c.repoOptions()
	if c.v.prepare != nil {
		if err := c.v.prepare(c, &o); err != nil {
			return err
		}
	}
	if c.v.use == repoPath && given {
		return nil
	}
	r, err := c.openRepoAt(c.path, o)
	if err != nil && !given && errors.Is(err, fs.ErrNotExist) {
		fmt.Fprint(c.Err, c.helpPage())
		return failf("Command requires a --repo argument")
	}
	c.repo = r
	return err
}

// repoOptions are those that every repository of this program is opened with. The
// variables are libostree's, for tests.
func (c *call) repoOptions() ostree.Options {
	return ostree.Options{
		Logger: c.logger(), BootID: os.Getenv("OSTREE_BOOTID"),
		WriteSplitXattrs: os.Getenv("OSTREE_EXP_WRITE_BARE_SPLIT_XATTRS") != "",
	}
}

// openRepoAt opens a repository, which is closed after the verb has run.
func (c *call) openRepoAt(path string, o ostree.Options) (*ostree.Repo, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, openError(path, err)
	}
	st, err := os.Stat(abs)
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "opendir", Path: path, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, openError(abs, err)
	}
	if _, err := os.Stat(path + "/objects"); err != nil {
		return nil, openError("objects", err)
	}
	d, err := fsx.OpenDir(path)
	if err != nil {
		return nil, openError(path, err)
	}
	c.close = append(c.close, d.Close)
	r, err := ostree.Open(d, o)
	if err != nil {
		return nil, fmt.Errorf("opening repo: %w", err)
	}
	c.close = append(c.close, r.Close)
	// libostree makes it in every repository that it may write to.
	if err := d.MkdirAll("tmp", 0o755); err != nil {
		o.Logger.Debug("make directory for temporary files", "error", err)
	}
	return r, nil
}

// openError has the words of libostree, with the system's reason.
func openError(path string, err error) error {
	return fmt.Errorf("opening repo: opendir(%s): %w", path, pathReason(err))
}

// logger sends warnings, or with --verbose everything, to standard error.
func (c *call) logger() *slog.Logger {
	level := slog.LevelWarn
	if c.verbose {
		level = slog.LevelDebug
	}
	return slog.New(&logHandler{c: c, level: level})
}

// logHandler prints records the way libostree's program does.
type logHandler struct {
	c     *call
	level slog.Level
	attrs []slog.Attr
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("OT: ")
	if r.Level >= slog.LevelWarn {
		b.Reset()
		b.WriteString("warning: ")
	}
	b.WriteString(r.Message)
	write := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		write(a)
	}
	r.Attrs(write)
	_, err := fmt.Fprintln(h.c.Err, b.String())
	return err
}

func (h *logHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return &logHandler{h.c, h.level, append(h.attrs[:len(h.attrs):len(h.attrs)], as...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }

// message gives the text of an error with the system's reasons as C spells them,
// which scripts look for.
func message(err error) string {
	text := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text = strings.ReplaceAll(text, errno.Error(), strerror(errno))
	}
	return text
}

// strerror gives the C library's text, which begins with a capital.
func strerror(e syscall.Errno) string {
	s := e.Error()
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// failf makes an error in libostree's words, which scripts match.
func failf(format string, args ...any) error { return fmt.Errorf(format, args...) }
