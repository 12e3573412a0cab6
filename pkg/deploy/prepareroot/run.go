// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/sys"
)

// These bound in bytes what is read from the disk: small files, and commits, which carry
// the list of their packages.
const (
	maxConfig = 1 << 20
	maxCommit = 16 << 20
)

// Inputs are what the caller has read before the physical root is looked at.
type Inputs struct {
	Cmdline string // text of /proc/cmdline
	Config  Config
	Places  Places
}

// ReadState reads from the mounted physical root what Plan needs.
func ReadState(in Inputs) (State, error) {
	s := State{Places: in.Places.withDefaults(), Config: in.Config, Dirs: map[string]bool{}}
	target, err := TargetFromCmdline(in.Cmdline)
	if err != nil {
		return State{}, err
	}
	if err := s.argument(in.Cmdline); err != nil {
		return State{}, err
	}
	root := s.Places.Root
	s.Deployment, err = ResolveTarget(target, func(name string) (string, error) {
		return os.Readlink(root + "/" + name)
	})
	if err != nil {
		return State{}, err
	}
	if err := checkInit(in.Cmdline, root+"/"+s.Deployment.Path()); err != nil {
		return State{}, err
	}
	return s, s.read()
}

// argument lets the kernel argument for composefs override the configuration.
func (s *State) argument(cmdline string) error {
	v := cmdlineValue(cmdline, "ostree.prepare-root.composefs")
	if v == "" {
		return nil
	}
	if err := s.Config.Composefs.override(v); err != nil {
		return fmt.Errorf("kernel argument ostree.prepare-root.composefs: %w", err)
	}
	return nil
}

// read reads what the physical root and the deployment have.
func (s *State) read() (err error) {
	root := s.Places.Root
	if s.RootReadOnly, err = sys.PathReadOnly(root); err != nil {
		return fmt.Errorf("read mount flags of %s: %w", root, err)
	}
	if err := s.readComposefs(); err != nil {
		return err
	}
	// Where a root has to be the image, nothing else on the disk has a say in it.
	if s.Config.Composefs.Use != Yes {
		repoConfig, err := readSmall(root+"/ostree/repo/config", maxConfig)
		if err != nil {
			return err
		}
		if s.LegacyReadOnly, err = legacyReadOnly(repoConfig); err != nil {
			return err
		}
	}
	if err := s.readDeployment(root + "/" + s.Deployment.Path()); err != nil {
		return err
	}
	if err := s.readBoot(root); err != nil {
		return err
	}
	return s.readTmp(root)
}

// readBoot looks for a /boot that is a part of the physical root, by what a boot menu
// there looks like, and for the disk below it.
func (s *State) readBoot(root string) error {
	loader, err := os.Lstat(root + "/boot/loader")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read physical root: %w", err)
	}
	s.BootOnRoot = err == nil && loader.Mode()&fs.ModeSymlink != 0 && s.Dirs["boot"]
	s.RootBlock, err = sys.BlockDevice(root)
	if err != nil {
		return fmt.Errorf("read physical root: %w", err)
	}
	return nil
}

// readTmp looks for trees that keep /tmp on the physical root.
func (s *State) readTmp(root string) error {
	link, err := os.Readlink(root + "/" + s.Deployment.Path() + "/tmp")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read deployment: %w", err)
	}
	if strings.TrimPrefix(link, "/") != "sysroot/tmp" {
		return nil
	}
	info, err := os.Lstat(root + "/tmp")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read physical root: %w", err)
	}
	s.TmpInSysroot = err == nil && info.IsDir()
	return nil
}

func (s *State) readDeployment(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("read deployment: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return fmt.Errorf("deployment %s: %w", dir, ErrBadDeployment)
	}
	s.Dev, s.Ino = st.Dev, st.Ino
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read deployment: %w", err)
	}
	for _, e := range entries {
		s.Dirs[e.Name()] = e.IsDir()
	}
	s.HotfixUsr = s.Dirs[".usr-ovl-work"]
	fstab, err := readSmall(dir+"/etc/fstab", maxConfig)
	if err != nil {
		return err
	}
	s.OwnVar = mountsVar(string(fstab))
	return nil
}

// mountsVar tells whether the text of an fstab has an active line for /var.
func mountsVar(fstab string) bool {
	for line := range strings.Lines(fstab) {
		f := strings.Fields(line)
		if len(f) >= 3 && !strings.HasPrefix(f[0], "#") && strings.TrimRight(f[1], "/") == "/var" {
			return true
		}
	}
	return false
}

// readSmall reads a regular file of bounded size without following a final
// link, which could point out of the deployment; an absent file or a link is
// empty.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// Execute carries out a plan in the current mount namespace. It stops at the
// first failure; mounts made until then stay, since the initramfs then drops to
// its emergency shell, where they help to see what happened. log, if not nil,
// is called with each operation before it runs.
func Execute(ops []Op, log func(Op)) error {
	for _, op := range ops {
		if log != nil {
			log(op)
		}
		if err := op.run(); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

func (o Op) run() error {
	switch o.Kind {
	case OpMkdir:
		return os.MkdirAll(o.Target, 0o755)
	case OpPrivate:
		return os.MkdirAll(o.Target, 0o700)
	case OpImage:
		return o.Image.mount(o.Source, o.Target)
	case OpLink:
		if err := os.Symlink(o.Source, o.Target); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case OpMount:
		return sys.Mount(o.Source, o.Target, o.FSType, o.Flags, o.Data)
	case OpDetach:
		return sys.Unmount(o.Target, true)
	case OpWrite:
		return os.WriteFile(o.Target, []byte(o.Data), 0o644)
	}
	return fmt.Errorf("unknown operation %d", o.Kind)
}
