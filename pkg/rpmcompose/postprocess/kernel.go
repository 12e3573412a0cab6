// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

const modulesDir = "usr/lib/modules"

// Names of the kernel's files in its directory below usr/lib/modules.
const (
	kernelName    = "vmlinuz"
	initramfsName = "initramfs.img"
)

// kernelRun is what makes the files beside a kernel.
type kernelRun struct {
	version string
	depmod  scripts.Command
	dracut  *scripts.Command // nil: no initramfs
	modules []string         // of dracut, that it must add
}

func (r *runner) kernel(ctx context.Context, work *fsx.Dir) error {
	if r.o.NoKernel {
		return nil
	}
	// Before dracut sees it: an identity that a scriptlet made differs every time.
	if err := r.normalise(); err != nil {
		return err
	}
	k, err := r.planKernel()
	if err != nil {
		return err
	}
	r.res.Kernel = k.version
	c, err := r.openKernelCache(k)
	if err != nil {
		return err
	}
	if r.res.KernelCached, err = c.take(k.version); r.res.KernelCached || err != nil {
		return err
	}
	sandbox := r.o.Sandbox
	// The files change with what they are made of, not with the day of the compose:
	// the time is that of the tree's files.
	sandbox.SourceDateEpoch = 0
	sandbox.Changes = func(upper *fsx.Dir) error { return c.keep(upper, k.version) }
	return scripts.With(ctx, r.root, work, sandbox, func(ctx context.Context, s *scripts.Sandbox) error {
		if _, err := s.Run(ctx, k.depmod); err != nil || k.dracut == nil {
			return err
		}
		r.o.Progress.Emit(progress.Event{Task: "initramfs", Kind: progress.Begin, Text: k.version})
		defer r.o.Progress.Emit(progress.Event{Task: "initramfs", Kind: progress.End, Text: k.version})
		return k.initramfs(ctx, s)
	})
}

func (r *runner) planKernel() (kernelRun, error) {
	k := kernelRun{}
	var err error
	if k.version, err = adoptKernel(r.root); err != nil {
		return k, err
	}
	prog, err := program(r.root, "depmod")
	if err != nil {
		return k, err
	}
	k.depmod = scripts.Command{Name: "depmod", Args: []string{prog, "-a", k.version}}
	if !r.o.NoInitramfs {
		if err := r.planInitramfs(&k); err != nil {
			return k, err
		}
	}
	hide, err := hiddenFromKernel(r.root)
	if err != nil {
		return k, err
	}
	show, err := r.shownToKernel()
	if err != nil {
		return k, err
	}
	for _, c := range []*scripts.Command{&k.depmod, k.dracut} {
		if c != nil {
			c.Hide, c.Keep, c.Show = hide, []string{kernelScratch}, show
		}
	}
	return k, nil
}

// adoptKernel finds the one kernel, and moves it to its modules if it is in boot
// only.
func adoptKernel(tree *fsx.Dir) (string, error) {
	found, err := listKernels(tree)
	if err != nil {
		return "", err
	}
	switch len(found) {
	case 0:
		return "", ErrNoKernel
	case 1:
	default:
		return "", fmt.Errorf("%w: %s", ErrManyKernels, strings.Join(found, ", "))
	}
	version := found[0]
	dir := path.Join(modulesDir, version)
	st, err := tree.Lstat(path.Join(dir, kernelName))
	if err == nil && st.IsRegular() {
		return version, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, name := range []string{kernelName, "System.map", "config"} {
		from, to := "boot/"+name+"-"+version, path.Join(dir, name)
		if ok, err := tree.Exists(from); err != nil || !ok {
			if err != nil {
				return "", err
			}
			continue
		}
		if err := tree.Rename(from, tree, to); err != nil {
			return "", err
		}
	}
	return version, nil
}

// listKernels gives the versions that have modules and an image.
func listKernels(tree *fsx.Dir) ([]string, error) {
	var out []string
	dirs, err := tree.ReadDir(modulesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		for _, image := range []string{path.Join(modulesDir, d.Name, kernelName), "boot/" + kernelName + "-" + d.Name} {
			ok, err := tree.Exists(image)
			if err != nil {
				return nil, err
			}
			if ok && !slices.Contains(out, d.Name) {
				out = append(out, d.Name)
			}
		}
	}
	return out, nil
}

// program finds a program of the tree.
func program(tree *fsx.Dir, name string) (string, error) {
	for _, dir := range []string{"usr/bin", "usr/sbin"} {
		ok, err := tree.Exists(path.Join(dir, name))
		if err != nil {
			return "", err
		}
		if ok {
			return "/" + path.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("program %s is not in the tree: %w", name, fs.ErrNotExist)
}

// planInitramfs lets the tree's dracut make a generic image that depends on the
// tree's content alone.
func (r *runner) planInitramfs(k *kernelRun) error {
	prog, err := program(r.root, "dracut")
	if err != nil {
		return err
	}
	if k.modules, err = r.dracutModules(r.root); err != nil {
		return err
	}
	compress := "gzip"
	if _, err := program(r.root, "zstd"); err == nil {
		// dracut's own level, 15, takes eight times as long for one percent less.
		compress = "zstd -9 -q -T0"
	}
	argv := []string{prog, "--no-hostonly", "--no-hostonly-cmdline", "--reproducible", "--compress", compress, "--force", "--tmpdir", "/var/tmp", "--kver", k.version}
	if len(k.modules) > 0 {
		argv = append(argv, "--add", strings.Join(k.modules, " "))
	}
	argv = append(append(argv, r.o.InitramfsArgs...), "/"+k.image())
	limit := r.o.InitramfsTimeout
	if limit <= 0 {
		limit = DefaultInitramfsTimeout
	}
	k.dracut = &scripts.Command{Name: "dracut", Args: argv, Timeout: limit}
	return nil
}

func (k *kernelRun) image() string { return path.Join(modulesDir, k.version, initramfsName) }

func (k *kernelRun) initramfs(ctx context.Context, s *scripts.Sandbox) error {
	res, err := s.Run(ctx, *k.dracut)
	if err != nil {
		return err
	}
	// dracut reports a module that it could not add, and goes on.
	for _, m := range k.modules {
		if strings.Contains(res.Text, "Module '"+m+"' cannot be found") || strings.Contains(res.Text, "Module '"+m+"' will not be installed") {
			return fmt.Errorf("dracut did not add its module %s; its output:\n%s", m, res.Text)
		}
	}
	st, err := s.Root().Lstat(k.image())
	if err != nil {
		return err
	}
	if st.Size == 0 {
		return fmt.Errorf("dracut made an empty /%s", k.image())
	}
	return s.Root().Chmod(k.image(), 0o600)
}

// dracutModules gives the modules to add, and fails where the tree lacks one.
func (r *runner) dracutModules(tree *fsx.Dir) ([]string, error) {
	have := map[string]bool{}
	entries, err := tree.ReadDir("usr/lib/dracut/modules.d")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		have[strings.TrimLeft(e.Name, "0123456789")] = true
	}
	want := r.o.DracutModules
	if want == nil {
		switch {
		case have["hostctl"]:
			want = []string{"hostctl"}
		case have["ostree"]:
			want = []string{"ostree"}
		default:
			return nil, errors.New("tree has no dracut module that prepares the root: neither hostctl nor ostree")
		}
	}
	for _, m := range want {
		if !have[m] {
			return nil, fmt.Errorf("tree has no dracut module %s", m)
		}
	}
	return want, nil
}

// boot keeps what packages left in /boot besides the kernel where tools that
// install boot loaders look for it; /boot itself is a mount point.
func (r *runner) boot() error {
	entries, err := r.root.ReadDir("boot")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	if err := r.root.RemoveAll("usr/lib/ostree-boot"); err != nil {
		return err
	}
	return r.root.Rename("boot", r.root, "usr/lib/ostree-boot")
}
