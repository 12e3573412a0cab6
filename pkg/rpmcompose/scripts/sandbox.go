// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// Conditions of a sandbox and of the commands in it.
var (
	// ErrTimeout: a command ran longer than its limit and was killed.
	ErrTimeout = errors.New("time limit exceeded")
	// ErrTreeDamaged: a command removed a directory that every tree needs.
	ErrTreeDamaged = errors.New("tree was damaged")
	// ErrClosed: the function given to With has returned.
	ErrClosed = errors.New("sandbox is closed")
)

// Defaults of Options.
const (
	DefaultTimeout   = 5 * time.Minute
	DefaultMaxOutput = 64 << 10
)

// Options describe a sandbox; the zero value is usable.
type Options struct {
	// Bwrap is the bubblewrap program; empty means "bwrap" in PATH.
	Bwrap string
	// Timeout limits one command; zero means DefaultTimeout.
	Timeout time.Duration
	// MaxOutput bounds the bytes kept of one command's output; the last ones
	// stay. Zero means DefaultMaxOutput.
	MaxOutput int
	// SourceDateEpoch is given to every command in SOURCE_DATE_EPOCH, in seconds.
	SourceDateEpoch int64
	// Env is added to the fixed environment, as NAME=VALUE.
	Env []string
	// LuaHelper is a command that calls ServeLua: Lua scripts then run in a process
	// of their own, whose memory is bounded and which can be killed at any moment.
	// Empty runs them in this process.
	LuaHelper []string
	// Logger receives every line of output at level debug; nil discards.
	Logger *slog.Logger
	// Changes looks at the overlay's upper layer before it is merged; an error leaves
	// the tree as it was. nil: nobody looks.
	Changes func(upper *fsx.Dir) error
}

func (o *Options) fill() {
	if o.Bwrap == "" {
		o.Bwrap = "bwrap"
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxOutput <= 0 {
		o.MaxOutput = DefaultMaxOutput
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Sandbox is an overlay over a tree in which commands run.
type Sandbox struct {
	o      Options
	merged *fsx.Dir // the overlay, reachable from every thread through its handle
	path   string   // the overlay's mount point, valid on the sandbox's thread only
	calls  chan func()
	closed chan struct{}
	guard  []string // directories that must not become empty
}

// Root is the overlay: reads see the tree with all changes so far, writes go to
// the upper layer and never through a hard link. It is valid until the function
// given to With returns. A directory of the lower tree cannot be renamed here
// (EXDEV).
func (s *Sandbox) Root() *fsx.Dir { return s.merged }

// With lays an overlay over root, calls fn, and merges the changes into root
// when fn returns nil. If fn fails, root is untouched.
//
// root and work must be on one filesystem that can carry an overlay's upper
// layer (not itself an overlay). Needs root.
func With(ctx context.Context, root, work *fsx.Dir, o Options, fn func(context.Context, *Sandbox) error) (err error) {
	o.fill()
	name, err := work.Mkdtemp("overlay-")
	if err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	defer func() { err = errors.Join(err, work.RemoveAll(name)) }()
	dir, err := work.OpenDir(name)
	if err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	defer dir.Close()
	for _, sub := range []string{"upper", "work", "merged"} {
		if err := dir.Mkdir(sub, 0o755); err != nil {
			return fmt.Errorf("create sandbox: %w", err)
		}
	}
	if err := copyDirAttrs(root, ".", dir, "upper"); err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	if err := sys.InPrivateMounts(func() error { return serve(ctx, root, dir, o, fn) }); err != nil {
		return err
	}
	upper, err := dir.OpenDir("upper")
	if err != nil {
		return fmt.Errorf("merge sandbox: %w", err)
	}
	defer upper.Close()
	if o.Changes != nil {
		if err := o.Changes(upper); err != nil {
			return fmt.Errorf("look at changes: %w", err)
		}
	}
	if err := mergeUpper(upper, root); err != nil {
		return fmt.Errorf("merge sandbox: %w", err)
	}
	return nil
}

// serve runs on the thread that owns the mounts. fn runs elsewhere; whatever
// must start inside the namespace is sent here.
func serve(ctx context.Context, root, dir *fsx.Dir, o Options, fn func(context.Context, *Sandbox) error) (err error) {
	// A private namespace has a private mask too: what commands make must not
	// depend on the user's.
	syscall.Umask(0o022)
	// Handles from outside belong to mounts that this namespace cannot use.
	lower, err := reopen(root)
	if err != nil {
		return fmt.Errorf("mount sandbox: %w", err)
	}
	defer lower.Close()
	layers, err := reopen(dir)
	if err != nil {
		return fmt.Errorf("mount sandbox: %w", err)
	}
	defer layers.Close()
	base := layers.Path()
	s := &Sandbox{o: o, path: path.Join(base, "merged"), calls: make(chan func()), closed: make(chan struct{})}
	// Descriptors keep odd characters of paths out of the option string.
	data := fmt.Sprintf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d/upper,workdir=/proc/self/fd/%d/work,"+
		"index=off,redirect_dir=off,metacopy=off", lower.Fd(), layers.Fd(), layers.Fd())
	if err := sys.Mount("overlay", s.path, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay over %s: %w", root.Path(), err)
	}
	defer func() {
		close(s.closed)
		err = errors.Join(err, unmount(s.path))
	}()
	if s.merged, err = fsx.OpenDir(s.path); err != nil {
		return fmt.Errorf("open overlay: %w", err)
	}
	defer s.merged.Close()
	if err := s.prepare(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := errors.New("sandbox function ended its goroutine")
		defer func() { done <- err }()
		err = fn(ctx, s)
	}()
	for {
		select {
		case call := <-s.calls:
			call()
		case err := <-done:
			return err
		}
	}
}

// unmountTries is how often a busy overlay is tried again, every 20 ms.
const unmountTries = 250

// unmount takes the overlay down. A process that this program is just starting
// elsewhere holds copies of all descriptors for a moment, so busy is tried
// again; after that something still writes, and the upper layer is not final.
func unmount(p string) error {
	var err error
	for range unmountTries {
		if err = sys.Unmount(p, false); !errors.Is(err, syscall.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("unmount overlay %s: %w", p, err), sys.Unmount(p, true))
}

// prepare makes what commands expect and remembers what they must not remove.
func (s *Sandbox) prepare() error {
	for _, d := range []struct {
		name string
		mode uint32
	}{{"usr/etc", 0o755}, {"var", 0o755}, {"var/tmp", 0o1777}, {"var/lib/rpm-state", 0o755}} {
		if ok, err := s.merged.Exists(d.name); err != nil || ok {
			if err != nil {
				return fmt.Errorf("prepare sandbox: %w", err)
			}
			continue
		}
		if err := s.merged.MkdirAll(d.name, 0o755); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
		if err := s.merged.Chmod(d.name, d.mode); err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
	}
	for _, name := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/share", "usr/etc"} {
		n, err := s.entries(name)
		if err != nil {
			return fmt.Errorf("prepare sandbox: %w", err)
		}
		if n > 0 {
			s.guard = append(s.guard, name)
		}
	}
	return nil
}

// entries counts what a directory of the tree holds, links resolved.
func (s *Sandbox) entries(name string) (int, error) {
	d, err := s.merged.OpenDirInRoot(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.Close()
	list, err := d.ReadDir(".")
	return len(list), err
}

// intact reports a directory that has lost everything: the mark of a script that
// deleted more than it meant to, even where it hides its exit status.
func (s *Sandbox) intact() error {
	for _, name := range s.guard {
		n, err := s.entries(name)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("/%s is gone or empty: %w", name, ErrTreeDamaged)
		}
	}
	return nil
}

// inside runs f on the sandbox's thread.
func (s *Sandbox) inside(f func() error) error {
	done := make(chan error, 1)
	select {
	case s.calls <- func() { done <- f() }:
		return <-done
	case <-s.closed:
		return ErrClosed
	}
}

// reopen opens the directory that d is once more, by the path that the kernel
// knows for it, and makes sure that it is the same one.
func reopen(d *fsx.Dir) (*fsx.Dir, error) {
	p, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.Fd()))
	if err != nil {
		return nil, err
	}
	again, err := fsx.OpenDir(p)
	if err != nil {
		return nil, err
	}
	want, err := d.Lstat(".")
	if err != nil {
		return nil, errors.Join(err, again.Close())
	}
	have, err := again.Lstat(".")
	if err != nil {
		return nil, errors.Join(err, again.Close())
	}
	if want.Dev != have.Dev || want.Ino != have.Ino {
		return nil, errors.Join(fmt.Errorf("open %s again: it was moved", p), again.Close())
	}
	return again, nil
}
