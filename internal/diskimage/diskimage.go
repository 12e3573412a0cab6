// SPDX-License-Identifier: Apache-2.0

// Package diskimage writes a raw disk image that boots an OSTree sysroot on a
// PC, with BIOS or UEFI, without mounting anything.
//
// The image holds a GUID partition table. Boot says what is in it: GRUB's core in
// a BIOS boot partition or a boot loader on an EFI system partition; /boot as ext4
// with the label "boot", or that system partition itself; and the root as ext4
// with the label "root". The sysroot's boot folder becomes /boot, all else the
// root. The ext4 filesystems keep owners, modes, extended attributes, hard links
// and the immutable flag. The file is sparse.
//
// The programs mkfs.ext4, e2fsck, debugfs (e2fsprogs 1.47), mkfs.vfat (dosfstools
// 4.2), mcopy (mtools 4) and grub-mkimage (GRUB 2.06) do the parts that have one
// right implementation. Boot loaders come from the tree.
package diskimage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
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

// defaultBootLabel is the label of /boot; espLabel and espMount are the label and
// the mount point of an EFI system partition that is not /boot.
const (
	defaultBootLabel = "boot"
	espLabel         = "EFI"
	espMount         = "/boot/efi"
)

// Options says what goes into an image. Sysroot, Dir and Name are required.
type Options struct {
	// Sysroot is the physical root: ostree/, boot/ and empty top-level folders.
	// It must not change meanwhile; Build adds GRUB's stub (see WriteStub), where
	// Boot has GRUB, if there is none. Reading it as it is needs its owner's
	// rights, for a real system those of root.
	Sysroot *fsx.Dir
	// Boot is how the image is started; BIOSGRUB if empty.
	Boot Boot
	// Tree is the operating system tree that brings the boot loader (see
	// BootTree). UEFI needs it; without it, GRUB for BIOS is that of GRUBDir.
	Tree *fsx.Dir
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
	// GRUBDir holds GRUB's i386-pc modules; if empty, they are Tree's, or those of
	// DefaultGRUBDir where it has none.
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
	BootUUID   string // of the filesystems; FAT's has the form 1234-ABCD
	RootUUID   string
}

// Build writes the image. Nothing is visible under Name until the image is
// complete and on disk.
func Build(ctx context.Context, o Options) (Result, error) {
	o = o.withDefaults()
	if _, err := ParseBoot(string(o.Boot)); err != nil {
		return Result{}, err
	}
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
	res := Result{
		Size: layout.Size, Partitions: layout.Partitions,
		BootUUID: ids.boot.String(), RootUUID: ids.root.String(),
	}
	if o.Boot.fatBoot() {
		res.BootUUID = fatUUID(ids.esp)
	}
	return res, nil
}

func addStub(o Options) error {
	if !o.Boot.grub() {
		return nil
	}
	boot, err := o.Sysroot.OpenDir("boot")
	if err != nil {
		return err
	}
	defer boot.Close()
	if o.Boot.uefi() {
		if err := boot.MkdirAll(path.Base(espMount), 0o755); err != nil {
			return err
		}
	}
	return WriteStub(boot, o.Timeout)
}

func (o Options) withDefaults() Options {
	if o.Boot == "" {
		o.Boot = BIOSGRUB
	}
	if o.Slack == 0 {
		o.Slack = DefaultSlack
	}
	if o.BootSize == 0 {
		o.BootSize = DefaultBootSize
	}
	if o.BootLabel == "" {
		o.BootLabel = defaultBootLabel
	}
	if o.RootLabel == "" {
		o.RootLabel = "root"
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
	steps := b.steps()
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

type step struct {
	name string
	fn   func(context.Context) error
}

func (b *builder) steps() []step {
	list := []step{{"partition table", b.writeTable}}
	if !b.Boot.fatBoot() {
		list = append(list, step{"boot filesystem", b.writeBoot})
	}
	list = append(list, step{"root filesystem", b.writeRoot})
	if b.Boot.uefi() {
		return append(list, step{"EFI system partition", b.writeESP})
	}
	return append(list, step{"boot loader", b.writeLoader})
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
