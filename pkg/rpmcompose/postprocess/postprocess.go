// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// Conditions that callers test for.
var (
	// ErrNoKernel: a tree that must boot has no kernel.
	ErrNoKernel = errors.New("no kernel in the tree")
	// ErrManyKernels: a tree has more than one kernel.
	ErrManyKernels = errors.New("more than one kernel in the tree")
	// ErrLayout: something stands where the final layout needs another thing.
	ErrLayout = errors.New("tree does not fit the final layout")
)

// Layouts of /opt and /usr/local.
const (
	OptVar          = "var"           // links to directories of /var; the default
	OptRoot         = "root"          // part of the tree
	OptStateOverlay = "state-overlay" // part of the tree, with changes kept in an overlay
)

// AddFile is a file to put into the tree.
type AddFile struct {
	Dest       string // absolute or relative to the root; below /usr or /etc
	Data       []byte
	Executable bool
}

// Script is a program to run in the tree.
type Script struct {
	Name string // for messages
	// Body is run by the interpreter that its first line names, else by /bin/bash.
	Body []byte
}

// RemoveFrom removes those files of a package whose path (as it will be after
// boot, with a leading slash) matches one of the regular expressions.
type RemoveFrom struct {
	Package  string
	Patterns []string
}

// Options of Run; the zero value makes a bootable tree with a kernel.
type Options struct {
	// Version is the commit's version: OSTREE_VERSION of os-release.
	Version string
	// MutateOSRelease is the text in VERSION and PRETTY_NAME of os-release that
	// Version replaces; "" changes neither.
	MutateOSRelease string

	Units         []string // units to enable
	DefaultTarget string

	TmpIsDir            bool   // /tmp is a directory instead of a link to sysroot/tmp
	MachineIDCompat     bool   // an empty /etc/machine-id instead of none
	OptUsrlocal         string // OptVar, OptRoot or OptStateOverlay; "" means OptVar
	ReadonlyExecutables bool
	// KernelInOstreeBoot gives kernel and initramfs second names in usr/lib/ostree-boot.
	KernelInOstreeBoot bool

	// RefuseDevices makes a device in the tree an error instead of dropping it.
	RefuseDevices bool

	// NoKernel is for trees that do not boot by themselves (containers).
	NoKernel    bool
	NoInitramfs bool
	// InitramfsArgs are added to dracut's arguments.
	InitramfsArgs []string
	// DracutModules are the modules of dracut that prepare the root. nil means
	// hostctl, or ostree where the tree has only that; an empty list means none.
	DracutModules []string
	// InitramfsTimeout limits dracut; zero means DefaultInitramfsTimeout.
	InitramfsTimeout time.Duration

	// KernelCache keeps what depmod and dracut made for trees that they cannot tell
	// from one another; on the filesystem of the tree. nil: they always run. Links has
	// the files of the tree whose content need not be read to know it.
	KernelCache *fsx.Dir
	Links       *ostree.DevInoCache

	// EtcGroupMembers are the groups besides root that stay in /etc/group where
	// accounts are split.
	EtcGroupMembers []string

	RemoveFromPackages []RemoveFrom
	// Owned lists the tree's paths by package, as the assembly gives them.
	Owned       map[string][]string
	RemoveFiles []string
	AddFiles    []AddFile
	Scripts     []Script
	// Finalize are programs that run on this machine, unconfined, with the finished
	// tree as current directory; TreefileDir is the folder they find in RPMOSTREE_WORKDIR.
	Finalize    []Script
	TreefileDir string
	// Treefile is the JSON that the tree keeps of what it was made from.
	Treefile []byte
	// Cliwrap replaces programs by wrappers that call rpm-ostree; CliwrapBinaries
	// names those to replace instead of the usual ones.
	Cliwrap         bool
	CliwrapBinaries []string

	// WriteRPMDB writes the package database into dir, which is the tree's
	// usr/share/rpm; nil leaves the tree without one. It is called before
	// Scripts run.
	WriteRPMDB func(ctx context.Context, dir *fsx.Dir) error

	Sandbox  scripts.Options
	Logger   *slog.Logger
	Progress progress.Func // tasks "postprocess" and "initramfs"
}

// DefaultInitramfsTimeout limits dracut.
const DefaultInitramfsTimeout = 20 * time.Minute

// Timing is how long one part took.
type Timing struct {
	Part     string
	Duration time.Duration
}

// Result tells what Run did.
type Result struct {
	// Kernel is the version of the tree's kernel, "" without one. KernelCached: its
	// initramfs and the indexes of its modules come from Options.KernelCache.
	Kernel       string
	KernelCached bool
	// Dropped are files that a tree cannot hold: paths in /var and special files.
	Dropped []string
	Timings []Timing
}

// runner is one run.
type runner struct {
	o    Options
	root *fsx.Dir
	log  *slog.Logger
	res  *Result
	// release is os-release as it was before it got the version.
	release releaseEdit
}

// releaseEdit is an edit of os-release.
type releaseEdit struct {
	name          string // "": not edited
	before, after string
}

// part is a step of a run, with the name that errors and timings carry.
type part struct {
	name string
	run  func() error
}

// Run finishes the tree in root. work is a directory on the same filesystem for
// the sandbox. On an error the tree is not usable.
func Run(ctx context.Context, root, work *fsx.Dir, o Options) (*Result, error) {
	r := &runner{o: o, root: root, log: o.Logger, res: &Result{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if !slices.Contains([]string{"", OptVar, OptRoot, OptStateOverlay}, o.OptUsrlocal) {
		return nil, fmt.Errorf("postprocess tree: layout %q of /opt: %w", o.OptUsrlocal, errors.ErrUnsupported)
	}
	err := scripts.With(ctx, root, work, o.Sandbox, func(ctx context.Context, s *scripts.Sandbox) error {
		return r.edit(ctx, s)
	})
	if err == nil {
		err = r.parts(ctx, []part{
			{"kernel", func() error { return r.kernel(ctx, work) }},
			{"cliwrap", func() error { return r.cliwrap(r.root) }},
			{"kernel location", r.boot},
			{"boot location", r.bootLocation},
			{"base rpmdb", r.baseDB},
			{"normalise", r.normalise},
			{"accounts", r.splitAccounts},
			{"var", r.convertVar},
			{"layout", r.layout},
			{"special files", r.dropSpecial},
			{"finalize.d", func() error { return r.finalize(ctx, work) }},
		})
	}
	if err != nil {
		return r.res, fmt.Errorf("postprocess tree: %w", err)
	}
	return r.res, nil
}

// edit is the part in the sandbox.
func (r *runner) edit(ctx context.Context, s *scripts.Sandbox) error {
	tree := s.Root()
	return r.parts(ctx, []part{
		{"units", func() error { return r.units(ctx, s) }},
		{"os-release", func() error { return r.osRelease(tree) }},
		{"rpmdb", func() error { return r.rpmdb(ctx, tree) }},
		{"treefile", func() error { return r.treefile(tree) }},
		{"state overlays", func() error { return r.stateOverlays(tree) }},
		{"remove files", func() error { return r.removeFiles(tree) }},
		{"add files", func() error { return r.addFiles(tree) }},
		{"scripts", func() error { return r.scripts(ctx, s) }},
		{"readonly executables", func() error { return r.readonly(tree) }},
	})
}

func (r *runner) parts(ctx context.Context, list []part) error {
	for _, p := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := failpoint.Hit("postprocess." + p.name); err != nil {
			return err
		}
		start := time.Now()
		r.o.Progress.Emit(progress.Event{Task: "postprocess", Kind: progress.Message, Text: p.name})
		if err := p.run(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.res.Timings = append(r.res.Timings, Timing{p.name, time.Since(start)})
	}
	return nil
}

func (r *runner) drop(name, why string) {
	r.res.Dropped = append(r.res.Dropped, name)
	r.log.Warn("left out of the tree", "path", "/"+name, "reason", why)
}
