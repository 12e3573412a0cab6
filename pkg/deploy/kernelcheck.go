// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/hostctl/hostctl/internal/fsx"
)

// KernelProblem is a file in /boot that is not what its deployment brings.
type KernelProblem struct {
	Deployment Deployment `json:"deployment"`
	File       string     `json:"file"` // below /boot
	Missing    bool       `json:"missing"`

	source bootFile // empty for an overlay, of which there is no other copy
}

func (p KernelProblem) String() string {
	if p.Missing {
		return fmt.Sprintf("deployment %s: /boot/%s is missing", p.Deployment.Name(), p.File)
	}
	return fmt.Sprintf("deployment %s: /boot/%s is damaged", p.Deployment.Name(), p.File)
}

// CheckKernels compares what the boot menu in force loads from /boot byte by byte with
// what the deployments bring: kernels, initramfs, device trees, and overlays with their
// names. count is the number of files. Writing a menu trusts the size of files that the
// one in force uses, as they were durable before it was; a filesystem that loses them
// later is found here.
func (s *Sysroot) CheckKernels(ctx context.Context) (bad []KernelProblem, count int, err error) {
	st, err := s.Load(ctx)
	if err != nil {
		return nil, 0, err
	}
	if st.BootProblem != "" {
		return nil, 0, fmt.Errorf("check kernels: %s", st.BootProblem)
	}
	seen := map[string]bool{}
	for _, d := range st.Written() {
		found, n, err := s.checkKernel(ctx, d, seen)
		if err != nil {
			return nil, 0, fmt.Errorf("check the kernel of %s: %w", d.Name(), err)
		}
		bad, count = append(bad, found...), count+n
	}
	return bad, count, nil
}

func (s *Sysroot) checkKernel(ctx context.Context, d Deployment, seen map[string]bool) (bad []KernelProblem, n int, err error) {
	root, err := s.dir.OpenDir(d.Dir())
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	k, err := findKernel(dirTree{root})
	if err != nil {
		return nil, 0, err
	}
	add := func(name string, ok bool, source bootFile) error {
		seen[name] = true
		n++
		if ok {
			return nil
		}
		there, err := s.boot.Exists(name)
		bad = append(bad, KernelProblem{Deployment: d, File: name, Missing: !there, source: source})
		return err
	}
	for _, f := range k.files() {
		name := path.Join(d.bootDir(), f.name)
		if seen[name] {
			continue
		}
		ok, err := s.sameInBoot(ctx, root, f, name)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, 0, err
		}
		if err := add(name, ok, f); err != nil {
			return nil, 0, err
		}
	}
	for _, sum := range d.overlays {
		if !isSHA256(sum) || seen[overlayPath(sum)] {
			continue
		}
		ok, err := s.overlayInstalled(sum)
		if err != nil {
			return nil, 0, err
		}
		if err := add(overlayPath(sum), ok, bootFile{}); err != nil {
			return nil, 0, err
		}
	}
	return bad, n, nil
}

// sameInBoot compares a file in /boot with the tree's. One that cannot be read is another.
func (s *Sysroot) sameInBoot(ctx context.Context, root *fsx.Dir, f bootFile, name string) (bool, error) {
	st, err := s.boot.Lstat(name)
	if err != nil || !st.IsRegular() || st.Size != f.size {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	want, got := sha256.New(), sha256.New()
	if err := hashFile(want, dirTree{root}, f.source); err != nil {
		return false, err
	}
	if err := hashFile(got, dirTree{s.boot}, name); err != nil {
		s.log.Warn("a file in /boot cannot be read", "file", name, "error", err)
		return false, ctx.Err()
	}
	return bytes.Equal(want.Sum(nil), got.Sum(nil)), nil
}

// errNoCopy reports a file that only /boot had.
var errNoCopy = errors.New("there is no other copy; deploy again without this overlay")

// RepairKernels copies what CheckKernels found from the trees to /boot again, each file
// whole at every moment, and returns what it could not repair.
func (l *Locked) RepairKernels(ctx context.Context, list []KernelProblem) error {
	var all error
	for _, p := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.s.repairKernel(p); err != nil {
			all = errors.Join(all, fmt.Errorf("repair /boot/%s: %w", p.File, err))
		}
	}
	return all
}

func (s *Sysroot) repairKernel(p KernelProblem) error {
	if p.source.source == "" {
		return errNoCopy
	}
	root, err := s.dir.OpenDir(p.Deployment.Dir())
	if err != nil {
		return err
	}
	defer root.Close()
	dir := path.Dir(p.File)
	if err := s.boot.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := s.copyToBoot(root, p.source, p.File, true); err != nil || s.o.DisableFsync {
		return err
	}
	return s.boot.FsyncName(dir)
}
