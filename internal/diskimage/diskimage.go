// SPDX-License-Identifier: Apache-2.0

// Package diskimage writes a raw disk image that boots an OSTree sysroot on a
// PC BIOS, without mounting anything.
//
// The image holds a GUID partition table with three partitions: GRUB's core in
// a BIOS boot partition, /boot as ext4 with the label "boot", and the root as
// ext4 with the label "root". The sysroot's boot folder becomes /boot, all else
// the root. Both filesystems keep owners, modes, extended attributes, hard
// links and the immutable flag. The file is sparse.
//
// The programs mkfs.ext4, e2fsck, debugfs (e2fsprogs 1.47) and grub-mkimage
// (GRUB 2.06, with its i386-pc modules) do the parts that have one right
// implementation.
package diskimage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
)

// ErrTooSmall reports a size that the content does not fit in.
var ErrTooSmall = errors.New("disk image too small for its content")

// Defaults of Options.
const (
	DefaultSlack    = 1 << 30
	DefaultBootSize = 384 << 20
	DefaultGRUBDir  = "/usr/lib/grub/i386-pc"
)

// Options says what goes into an image. Sysroot, Dir and Name are required.
type Options struct {
	// Sysroot is the physical root: ostree/, boot/ and empty top-level folders.
	// It must not change meanwhile; Build
	// adds GRUB's stub (see WriteStub) if there is none. Reading it as it is needs its owner's rights,
	// for a real system those of root.
	Sysroot *fsx.Dir
	// Dir and Name say where the image is written. An existing file is replaced
	// once the new one is complete.
	Dir  *fsx.Dir
	Name string
	// Size of the whole image in bytes, rounded down to 1 MiB; 0 computes it
	// from the content and Slack.
	Size int64
	// Slack is the free space in bytes of the root filesystem when Size is 0;
	// DefaultSlack if 0.
	Slack int64
	// BootSize in bytes of the /boot partition; DefaultBootSize if 0.
	BootSize int64
	// BootLabel and RootLabel are filesystem labels, "boot" and "root" if empty.
	// A kernel argument root=LABEL=root and an fstab line for LABEL=boot find them.
	BootLabel, RootLabel string
	// Seed, if not empty, makes every identifier of disk, partitions and
	// filesystems a function of itself; otherwise they are random. Images with
	// equal content and seed still differ in the times that the filesystems note.
	Seed string
	// GRUBDir holds GRUB's i386-pc modules; DefaultGRUBDir if empty.
	GRUBDir string
	// Timeout in seconds that the boot menu waits, unless the menu that the
	// deployments bring says otherwise.
	Timeout int
	// Logger may be nil, Progress too.
	Logger   *slog.Logger
	Progress progress.Func
}

// Result describes the written image.
type Result struct {
	Size       int64 // bytes
	Partitions []Partition
	BootUUID   string // of the filesystems
	RootUUID   string
}

// Build writes the image. Nothing is visible under Name until the image is
// complete and on disk.
func Build(ctx context.Context, o Options) (Result, error) {
	o = o.withDefaults()
	if err := addStub(o); err != nil {
		return Result{}, err
	}
	content, err := measure(ctx, o.Sysroot)
	if err != nil {
		return Result{}, err
	}
	ids, err := newIDs(o.Seed)
	if err != nil {
		return Result{}, err
	}
	layout, err := planLayout(o, content, ids)
	if err != nil {
		return Result{}, err
	}
	out, err := o.Dir.CreateAtomic(o.Name, 0o644)
	if err != nil {
		return Result{}, err
	}
	defer out.Cancel()
	b := builder{Options: o, layout: layout, ids: ids, content: content, f: out.File}
	if err := b.run(ctx); err != nil {
		return Result{}, fmt.Errorf("build disk image %s: %w", o.Name, err)
	}
	if err := out.Commit(); err != nil {
		return Result{}, err
	}
	return Result{
		Size: layout.Size, Partitions: layout.Partitions,
		BootUUID: ids.boot.String(), RootUUID: ids.root.String(),
	}, nil
}

func addStub(o Options) error {
	boot, err := o.Sysroot.OpenDir("boot")
	if err != nil {
		return err
	}
	defer boot.Close()
	return WriteStub(boot, o.Timeout)
}

func (o Options) withDefaults() Options {
	if o.Slack == 0 {
		o.Slack = DefaultSlack
	}
	if o.BootSize == 0 {
		o.BootSize = DefaultBootSize
	}
	if o.BootLabel == "" {
		o.BootLabel = "boot"
	}
	if o.RootLabel == "" {
		o.RootLabel = "root"
	}
	if o.GRUBDir == "" {
		o.GRUBDir = DefaultGRUBDir
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

type builder struct {
	Options
	layout  Layout
	ids     ids
	content content
	f       *os.File
}

func (b *builder) run(ctx context.Context) error {
	if err := b.f.Truncate(b.layout.Size); err != nil {
		return fmt.Errorf("set size: %w", err)
	}
	steps := []struct {
		name string
		fn   func(context.Context) error
	}{
		{"partition table", b.writeTable},
		{"boot filesystem", b.writeBoot},
		{"root filesystem", b.writeRoot},
		{"boot loader", b.writeLoader},
	}
	for i, s := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.Progress.Emit(progress.Event{
			Task: "disk image", Kind: progress.Update, Done: int64(i), Total: int64(len(steps)), Text: s.name,
		})
		start := time.Now()
		if err := s.fn(ctx); err != nil {
			return fmt.Errorf("write %s: %w", s.name, err)
		}
		b.Logger.Debug("disk image part written", "part", s.name, "seconds", time.Since(start).Seconds())
	}
	return nil
}

// filePath names the open image for other programs.
func (b *builder) filePath() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(b.f.Fd()))
}

func dirPath(d *fsx.Dir) string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(d.Fd())
}

func (b *builder) writeTable(context.Context) error {
	primary, backup := gpt(b.layout.Size, b.ids.disk, b.layout.Partitions)
	if _, err := b.f.WriteAt(primary, 0); err != nil {
		return err
	}
	_, err := b.f.WriteAt(backup, b.layout.Size-int64(len(backup)))
	return err
}
