// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/osrelease"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// installKernels puts the kernels of all deployments into /boot and returns the
// menu that names them.
func (s *Sysroot) installKernels(ctx context.Context, g generation, titles []string) (bootloader.Menu, error) {
	m := bootloader.Menu{Version: g.version}
	prefix := ""
	on, err := s.repo.Config().BoolOr("sysroot", "bootprefix", false)
	if err != nil {
		return m, err
	}
	if on && !s.bootIsFAT() { // without the link boot -> . such a path would be wrong
		prefix = "/boot"
	}
	durable := durableBootDirs(g.State)
	for i, d := range g.order {
		root, err := s.dir.OpenDir(d.Dir())
		if err != nil {
			return m, err
		}
		k, err := s.installKernel(ctx, d, root, durable)
		if err == nil && i == 0 {
			m.UEnv, err = ubootVariables(root)
		}
		root.Close()
		if err != nil {
			return m, fmt.Errorf("install kernel of %s: %w", d.Name(), err)
		}
		if err := s.installOverlays(ctx, d, overlaysOf(g.Written())); err != nil {
			return m, fmt.Errorf("install overlays of %s: %w", d.Name(), err)
		}
		m.Entries = append(m.Entries, s.menuEntry(g, i, titles[i], k, prefix))
	}
	m.Entries = append(m.Entries, g.foreign...)
	return m, nil
}

const maxUEnv = 64 << 10

// ubootVariables reads what a tree adds to the variables of U-Boot.
func ubootVariables(root *fsx.Dir) ([]byte, error) {
	data, err := root.ReadFileInRoot("usr/lib/ostree-boot/uEnv.txt", maxUEnv)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// durableBootDirs are the kernel directories that the menu in force uses. They
// were synced before it came into force; any other may be torn by a crash.
func durableBootDirs(st State) map[string]bool {
	out := map[string]bool{}
	for _, d := range st.Written() {
		out[d.bootDir()] = true
	}
	return out
}

func (s *Sysroot) installKernel(ctx context.Context, d Deployment, root *fsx.Dir, durable map[string]bool) (kernel, error) {
	k, err := s.findKernel(dirTree{root})
	if err != nil {
		return k, err
	}
	inUse, files := durable[d.bootDir()], k.files()
	if inUse {
		// Somebody deleted a file of a kernel that is in use: put it back, and leave the
		// others alone.
		if files, err = s.missingFiles(d, k); err != nil || len(files) == 0 {
			return k, err
		}
	} else if err := s.boot.RemoveAll(d.bootDir()); err != nil {
		return k, err
	}
	task := progress.Event{Task: "Installing kernel", TotalBytes: k.size(), Text: k.version}
	task.Kind = progress.Begin
	s.o.Progress.Emit(task)
	if err := s.copyKernel(ctx, d, files, root, inUse || k.uki != nil); err != nil {
		return k, err
	}
	task.Kind, task.Bytes = progress.End, task.TotalBytes
	s.o.Progress.Emit(task)
	durable[d.bootDir()] = true // for the rest of this run: complete, if not synced yet
	return k, failpoint.Hit("deploy.kernel-installed")
}

// missingFiles lists the files of a kernel in use that are not there. They were durable
// before the menu that uses them, so that their size is enough; CheckKernels reads them.
func (s *Sysroot) missingFiles(d Deployment, k kernel) (out []bootFile, err error) {
	for _, f := range k.files() {
		st, err := s.boot.Lstat(path.Join(d.bootDir(), f.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil || !st.IsRegular() || st.Size != f.size {
			out = append(out, f)
		}
	}
	return out, nil
}

// copyKernel copies files of a kernel, those that the menu in force uses with verify: a
// power cut before the next sync must not leave the size without the bytes, as nothing
// would look at more again.
func (s *Sysroot) copyKernel(ctx context.Context, d Deployment, files []bootFile, root *fsx.Dir, verify bool) error {
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(d.bootDir(), f.name)
		if err := s.boot.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := s.copyToBoot(root, f, name, verify); err != nil {
			return err
		}
		if err := failpoint.Hit("deploy.kernel-file"); err != nil {
			return err
		}
	}
	return nil
}

// copyToBoot copies a file; verify syncs it, reads it again and compares.
func (s *Sysroot) copyToBoot(root *fsx.Dir, f bootFile, name string, verify bool) error {
	src, err := root.Open(f.source)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := name + ".tmp" // only matters where a kernel in use is repaired
	dst, err := s.boot.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(dst, io.TeeReader(src, sum)); err != nil {
		return errors.Join(err, dst.Close())
	}
	if err := dst.Close(); err != nil {
		return err
	}
	if verify {
		if err := s.sameOnDisk(tmp, sum); err != nil {
			return fmt.Errorf("copy %s: %w", f.source, err)
		}
	}
	return s.boot.Rename(tmp, s.boot, name)
}

var errWrittenWrong = errors.New("the copy in /boot differs: the disk or the memory is faulty")

// sameOnDisk flushes a file in /boot, reads it again and compares its digest: one
// flipped bit, and the firmware refuses an image that is signed as a whole.
func (s *Sysroot) sameOnDisk(name string, want hash.Hash) error {
	if !s.o.DisableFsync {
		if err := s.boot.FsyncName(name); err != nil {
			return err
		}
	}
	got := sha256.New()
	if err := hashFile(got, dirTree{s.boot}, name); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		return errors.Join(errWrittenWrong, s.boot.Remove(name))
	}
	return nil
}

// bootSumDir matches STATEROOT-BOOTCSUM below /boot/ostree; nothing else there
// belongs to kernels.
func isKernelDir(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9_][-._A-Za-z0-9]*-[0-9a-f]{64}$`).MatchString(name)
}

// titles builds the menu titles of order: what os-release calls the system, the
// version unless the name has it, and the index, with the stateroot where there
// are several.
func (s *Sysroot) titles(order []Deployment) ([]string, error) {
	several := false
	for _, d := range order {
		several = several || d.Stateroot != order[0].Stateroot
	}
	out := make([]string, len(order))
	for i, d := range order {
		name, err := s.prettyName(d)
		if err != nil {
			return nil, err
		}
		if d.Version != "" && !strings.Contains(name, d.Version) {
			name += " " + d.Version
		}
		tag := "ostree"
		if several {
			tag += ":" + d.Stateroot
		}
		out[i] = fmt.Sprintf("%s (%s:%d)", sanitize(name), tag, i)
	}
	return out, nil
}

const maxOSRelease = 64 << 10

func (s *Sysroot) prettyName(d Deployment) (string, error) {
	root, err := s.dir.OpenDir(d.Dir())
	if err != nil {
		return "", err
	}
	defer root.Close()
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := root.ReadFileInRoot(name, maxOSRelease)
		if err != nil {
			continue // absent or odd: a title is not worth failing for
		}
		if v := osrelease.Value(string(data), "PRETTY_NAME"); v != "" {
			return v, nil
		}
	}
	return d.Stateroot, nil
}

// sanitize keeps a title on one line.
func sanitize(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
}
