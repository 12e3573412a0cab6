// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Options configure a Sysroot. The zero value is right for a sysroot that is not
// the running system, such as a disk image under construction.
type Options struct {
	// Boot is what is mounted as /boot; nil means the directory boot in the sysroot.
	Boot *fsx.Dir
	// ESP is the EFI system partition where that is not /boot, see bootloader.Options.
	ESP *fsx.Dir
	// EFIVars is the running system's /sys/firmware/efi/efivars; nil means that no
	// firmware variable is looked at.
	EFIVars *fsx.Dir
	// FATBoot treats /boot as FAT whatever it is on, see bootloader.Options.
	FATBoot bool
	// Run is the running system's /run, where staged deployments are recorded.
	// nil means that nothing can be staged.
	Run *fsx.Dir
	// Root is the running system's /, by whose device and inode the booted
	// deployment is found. nil means that the sysroot is not the running system.
	Root *fsx.Dir
	// Cmdline is the content of /proc/cmdline. It names the booted deployment
	// where Root is nil, and is ignored otherwise.
	Cmdline string
	// FreezeWatchdog is a command that thaws a frozen /boot if this process dies,
	// see ThawWatchdog. Empty means that /boot is synced but never frozen.
	FreezeWatchdog []string
	// LockTimeout is how long WithLock waits for another process; 0 means not at
	// all, a negative value for ever.
	LockTimeout time.Duration
	// LockWaiting, if not nil, is called before WithLock begins to wait.
	LockWaiting func()

	// StaterootInNames names boot entries ostree-N-STATEROOT.conf instead of
	// ostree-N.conf, as libostree before 2024.5 did.
	StaterootInNames bool
	// Grub2Generator is a program that writes GRUB's menu, see bootloader.Options.
	Grub2Generator string
	// Zipl is the command that runs zipl, see bootloader.Options.
	Zipl []string
	// Mutable leaves the top directories of new deployments without chattr +i.
	Mutable bool
	// StrictEtc refuses to merge (ErrEtcConflict), as libostree does, where a local
	// file stands in the place of a new default directory. Otherwise the file wins.
	StrictEtc bool
	// NoDeviceTrees installs no device trees from usr/lib/modules, for tests.
	NoDeviceTrees bool
	// FailCommit ends every write before its transaction of refs, for tests.
	FailCommit bool
	// TestFreeze ends every write at the point where /boot would be frozen, once the
	// watchdog has done its work, for tests.
	TestFreeze bool

	Logger       *slog.Logger  // nil: discard
	Progress     progress.Func // nil: none
	DisableFsync bool          // never sync: for scratch sysroots only
	// BootID is passed to the repository, see ostree.Options.
	BootID string
}

// Sysroot is an open sysroot. It holds no state of its own: every method reads
// the disk again. It is safe for concurrent use.
type Sysroot struct {
	dir, boot *fsx.Dir
	repoDir   *fsx.Dir
	repo      *ostree.Repo
	sw        bootloader.Switch
	noSwitch  error // why no boot order can be written
	o         Options
	log       *slog.Logger
}

// Open opens the sysroot in d, the directory that holds ostree/. The caller
// closes d and the directories in o after the Sysroot. ErrNotSysroot where d has
// no repository.
func Open(d *fsx.Dir, o Options) (*Sysroot, error) {
	s := &Sysroot{dir: d, boot: o.Boot, o: o, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open sysroot %s: %w", d.Path(), err), s.Close())
	}
	return s, nil
}

func (s *Sysroot) open() (err error) {
	s.repoDir, err = s.dir.OpenDirInRoot("ostree/repo")
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotSysroot
	}
	if err != nil {
		return err
	}
	s.repo, err = ostree.Open(s.repoDir, ostree.Options{Logger: s.o.Logger, Progress: s.o.Progress, DisableFsync: s.o.DisableFsync, BootID: s.o.BootID})
	if err != nil {
		return err
	}
	if s.boot == nil {
		if s.boot, err = s.dir.OpenDir("boot"); err != nil {
			return err
		}
	}
	kind, err := s.bootloaderKind()
	if err != nil {
		return err
	}
	s.sw, err = bootloader.SelectSwitch(context.Background(), kind, s.boot, s.bootloaderOptions())
	if errors.Is(err, bootloader.ErrNoLinks) || errors.Is(err, bootloader.ErrUnknownKind) {
		// Everything but a new boot order still works.
		s.sw, s.noSwitch, err = bootloader.LinkSwitch{}, err, nil
	}
	return err
}

// ownBootloaderKey holds kinds that libostree would refuse to open a repository with.
const ownBootloaderKey = "hostctl-bootloader"

func (s *Sysroot) bootloaderKind() (bootloader.Kind, error) {
	kind, err := s.repo.Config().StringOr("sysroot", ownBootloaderKey, "")
	if err != nil || kind == "" {
		kind, err = s.repo.Config().StringOr("sysroot", "bootloader", string(bootloader.Auto))
	}
	return bootloader.Kind(kind), err
}

func (s *Sysroot) bootloaderOptions() bootloader.Options {
	return bootloader.Options{Grub2Generator: s.o.Grub2Generator, Zipl: s.o.Zipl, ESP: s.o.ESP, EFIVars: s.o.EFIVars, FAT: s.o.FATBoot}
}

// bootIsFAT reports that /boot has the layout of FAT: no links, one directory for
// the entries of both generations.
func (s *Sysroot) bootIsFAT() bool {
	_, ok := s.sw.(bootloader.FileSwitch)
	return ok
}

// Close releases what Open opened.
func (s *Sysroot) Close() error {
	var errs []error
	if s.repo != nil {
		errs = append(errs, s.repo.Close())
	}
	if s.repoDir != nil {
		errs = append(errs, s.repoDir.Close())
	}
	if s.boot != nil && s.boot != s.o.Boot {
		errs = append(errs, s.boot.Close())
	}
	return errors.Join(errs...)
}

// Repo returns the sysroot's repository.
func (s *Sysroot) Repo() *ostree.Repo { return s.repo }

// Dir returns the sysroot's directory.
func (s *Sysroot) Dir() *fsx.Dir { return s.dir }

// OpenESP opens the EFI system partition: that of Options, /boot, or efi in /boot.
// fs.ErrNotExist where none has the folder EFI. The caller closes it.
func (s *Sysroot) OpenESP() (*fsx.Dir, error) {
	for _, d := range []struct {
		dir  *fsx.Dir
		name string
	}{{s.o.ESP, "."}, {s.boot, "."}, {s.boot, "efi"}} {
		if d.dir == nil {
			continue
		}
		ok, err := d.dir.Exists(path.Join(d.name, "EFI"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if ok {
			return d.dir.OpenDir(d.name)
		}
	}
	return nil, fmt.Errorf("open EFI system partition: %w", fs.ErrNotExist)
}

// InitOptions say how InitSysroot configures a new sysroot.
type InitOptions struct {
	Bootloader bootloader.Kind // "" means auto
	BootPrefix bool            // boot entries carry /boot/ostree/… instead of /ostree/…
	ReadOnly   bool            // /sysroot is mounted read-only at runtime
	NoTmp      bool            // without /tmp, which not every tree needs
}

// InitSysroot prepares the empty directory d: the repository, the deploy
// directory and /boot. It may run again.
func InitSysroot(_ context.Context, d *fsx.Dir, o InitOptions) error {
	for _, dir := range []string{"boot", "ostree/repo", "ostree/deploy"} {
		if err := d.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("initialise sysroot: %w", err)
		}
	}
	if !o.NoTmp {
		// Trees have /tmp as a link to here, and the running system a writable mount.
		if err := d.MkdirAll("tmp", 0o755); err != nil {
			return fmt.Errorf("initialise sysroot: %w", err)
		}
		if err := d.Chmod("tmp", 0o1777); err != nil {
			return fmt.Errorf("initialise sysroot: %w", err)
		}
	}
	repoDir, err := d.OpenDir("ostree/repo")
	if err != nil {
		return fmt.Errorf("initialise sysroot: %w", err)
	}
	defer repoDir.Close()
	repo, err := ostree.Create(repoDir, ostree.ModeBare, ostree.Options{})
	if err != nil {
		return fmt.Errorf("initialise sysroot: %w", err)
	}
	defer repo.Close()
	cfg := repo.Config()
	own := o.Bootloader == bootloader.SystemdBoot
	if own {
		if err := cfg.SetString("sysroot", ownBootloaderKey, string(o.Bootloader)); err != nil {
			return err
		}
		o.Bootloader = bootloader.None
	}
	if o.Bootloader != "" {
		if !own {
			cfg.Remove("sysroot", ownBootloaderKey)
		}
		if err := cfg.SetString("sysroot", "bootloader", string(o.Bootloader)); err != nil {
			return err
		}
	}
	if o.BootPrefix {
		if err := cfg.SetBool("sysroot", "bootprefix", true); err != nil {
			return err
		}
	}
	if o.ReadOnly {
		if err := cfg.SetBool("sysroot", "readonly", true); err != nil {
			return err
		}
	}
	if err := repo.SetConfig(cfg); err != nil {
		return fmt.Errorf("initialise sysroot: %w", err)
	}
	return nil
}

// InitStateroot makes the home of an operating system called name: its
// deployments and the /var that they share. It may run again.
func (l *Locked) InitStateroot(_ context.Context, name string) error {
	if !validStateroot(name) {
		return fmt.Errorf("initialise stateroot %q: bad name", name)
	}
	for _, dir := range []string{"deploy", "var"} {
		if err := l.s.dir.MkdirAll(path.Join(stateDir(name), dir), 0o755); err != nil {
			return fmt.Errorf("initialise stateroot %s: %w", name, err)
		}
	}
	return nil
}

// CreateStateroot is InitStateroot for a name that is not taken yet (fs.ErrExist),
// with what programs rely on in its /var, as libostree's os-init makes it.
func (l *Locked) CreateStateroot(ctx context.Context, name string) error {
	if !validStateroot(name) {
		return fmt.Errorf("initialise stateroot %q: bad name", name)
	}
	if ok, err := l.s.dir.Exists(stateDir(name)); err != nil || ok {
		return errors.Join(fmt.Errorf("initialise stateroot %s: %w", name, fs.ErrExist), err)
	}
	if err := errors.Join(ctx.Err(), l.s.dir.MkdirAll(path.Join(stateDir(name), "var"), 0o755)); err != nil {
		return fmt.Errorf("initialise stateroot %s: %w", name, err)
	}
	dir, err := l.s.dir.OpenDir(path.Join(stateDir(name), "var"))
	if err != nil {
		return fmt.Errorf("initialise stateroot %s: %w", name, err)
	}
	defer dir.Close()
	if err := minimalVar(dir); err != nil {
		return fmt.Errorf("initialise stateroot %s: %w", name, err)
	}
	return l.s.bumpMtime()
}

// bumpMtime changes the time of ostree/deploy, by which other programs notice that
// there is something new.
func (s *Sysroot) bumpMtime() error { return s.dir.Lutimes("ostree/deploy", time.Now()) }

// Locked gives the mutators; it is valid inside WithLock only.
type Locked struct{ s *Sysroot }

// Sysroot returns the sysroot that is locked.
func (l *Locked) Sysroot() *Sysroot { return l.s }

// WithLock runs fn while it holds the sysroot's lock, which libostree's tools
// respect as well. An error wraps fsx.ErrLocked where another process holds it
// for longer than Options.LockTimeout.
func (s *Sysroot) WithLock(ctx context.Context, fn func(*Locked) error) error {
	lock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("lock sysroot: %w", err)
	}
	err = fn(&Locked{s: s})
	return errors.Join(err, lock.Unlock())
}

func (s *Sysroot) lock(ctx context.Context) (*fsx.Lock, error) {
	const name = "ostree/lock"
	if s.o.LockWaiting != nil {
		lock, err := s.dir.Lock(ctx, name, false, 0)
		if !errors.Is(err, fsx.ErrLocked) {
			return lock, err
		}
		s.o.LockWaiting()
	}
	return s.dir.Lock(ctx, name, false, s.o.LockTimeout)
}

// syncRoot flushes the sysroot's filesystem.
func (s *Sysroot) syncRoot() error {
	if s.o.DisableFsync {
		return nil
	}
	return s.dir.Syncfs()
}

// syncBoot flushes the filesystem of /boot.
func (s *Sysroot) syncBoot() error {
	if s.o.DisableFsync {
		return nil
	}
	return s.boot.Syncfs()
}

// settle makes the order in force durable before anything that an older one needs
// goes: a process that died right behind its flip left it in memory only, and two
// filesystems, or one without a journal, keep no order between the two. A boot loader
// that has to be told of a flip is, if that is still to be done.
func (s *Sysroot) settle(ctx context.Context) error {
	if s.o.ESP != nil && s.bootIsFAT() && !s.o.DisableFsync {
		if err := s.o.ESP.Syncfs(); err != nil {
			return err
		}
	}
	if err := s.syncBoot(); err != nil || s.noSwitch != nil {
		return err
	}
	kind, backend, err := s.backend(ctx)
	if err != nil {
		return err
	}
	if err := bootloader.Settle(ctx, backend, s.boot); err != nil {
		return fmt.Errorf("finish last boot switch for %s: %w", kind, err)
	}
	return nil
}

// Settle does what a crash kept the last change of the boot order from doing. Every
// change does so first; a boot should, for the sake of boot loaders that are to be told.
func (l *Locked) Settle(ctx context.Context) error { return l.s.settle(ctx) }

// bootIsMount reports that /boot is a filesystem of its own.
func (s *Sysroot) bootIsMount() (bool, error) {
	a, err := s.dir.Lstat(".")
	if err != nil {
		return false, err
	}
	b, err := s.boot.Lstat(".")
	return a.Dev != b.Dev, err
}
