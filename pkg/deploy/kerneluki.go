// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/bootloader/uki"
)

const (
	// ukiDir is where bootc's builders put a unified kernel image.
	ukiDir    = "boot/EFI/Linux"
	ukiEnding = ".efi"
	// addonEnding ends the name of the folder with what the image's stub loads beside it.
	addonEnding = ".extra.d"
)

// findUKI finds the unified kernel image of a tree: in usr/lib/modules/KVER as
// KVER.efi, as another NAME.efi, or as a vmlinuz that is one and has no initramfs
// beside it; else in ukiDir. ErrNoKernel where there is none, ErrInvalidCommit where
// there are several to choose from.
func findUKI(t tree) (kernel, error) {
	_, versions, err := t.list(modulesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kernel{}, err
	}
	var found kernel
	for _, v := range versions {
		if err := found.onlyUKI(ukiIn(t, path.Join(modulesDir, v), v)); err != nil {
			return kernel{}, err
		}
	}
	if found.uki == nil {
		found, err = ukiIn(t, ukiDir, "")
		if err != nil {
			return kernel{}, err
		}
	}
	found.addons, err = listTree(t, found.vmlinuz.source+addonEnding, found.vmlinuz.name+addonEnding, 0)
	return found, err
}

// onlyUKI takes what a search gave, ErrNoKernel for nothing; ErrInvalidCommit where there
// was another image before.
func (k *kernel) onlyUKI(next kernel, err error) error {
	switch {
	case errors.Is(err, ErrNoKernel):
		return nil
	case err != nil:
		return err
	case k.uki != nil:
		return fmt.Errorf("%w: unified kernel images %s and %s", ErrInvalidCommit, k.vmlinuz.source, next.vmlinuz.source)
	}
	*k = next
	return nil
}

// ukiIn finds the unified kernel image in a directory. version is that of the
// directory, "" if it says none.
func ukiIn(t tree, dir, version string) (kernel, error) {
	names, _, err := t.list(dir)
	for _, none := range []error{fs.ErrNotExist, ErrInvalidCommit, syscall.ENOTDIR, syscall.ELOOP} {
		if errors.Is(err, none) {
			return kernel{}, ErrNoKernel
		}
	}
	if err != nil {
		return kernel{}, err
	}
	var found kernel
	for _, name := range ukiNames(names, version) {
		if err := found.onlyUKI(readUKI(t, path.Join(dir, name), version)); err != nil {
			return kernel{}, err
		}
	}
	if found.uki == nil {
		return kernel{}, ErrNoKernel
	}
	return found, nil
}

// ukiNames picks the names of a directory that may be unified kernel images.
func ukiNames(names []string, version string) []string {
	has := map[string]bool{}
	var out []string
	for _, n := range names {
		if has[n] = true; strings.HasSuffix(n, ukiEnding) {
			out = append(out, n)
		}
	}
	switch {
	case has[version+ukiEnding]:
		return []string{version + ukiEnding}
	case len(out) == 0 && has["vmlinuz"] && !has["initramfs.img"] && !has["initramfs"]:
		return []string{"vmlinuz"}
	}
	return out
}

// readUKI reads a file that may be a unified kernel image; ErrNoKernel if it is none.
// One that says which kernel it has must be in that kernel's directory.
func readUKI(t tree, name, version string) (kernel, error) {
	size, err := t.size(name)
	if errors.Is(err, ErrInvalidCommit) {
		return kernel{}, ErrNoKernel // no regular file
	}
	if err != nil {
		return kernel{}, err
	}
	f, err := t.open(name)
	if err != nil {
		return kernel{}, err
	}
	img, err := uki.Read(f, size)
	if err := errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, uki.ErrInvalid) && !strings.HasSuffix(name, ukiEnding) {
			return kernel{}, ErrNoKernel // a kernel for boot loaders of other kinds
		}
		if errors.Is(err, uki.ErrInvalid) {
			err = fmt.Errorf("%w: %s: %w", ErrInvalidCommit, name, err)
		}
		return kernel{}, err
	}
	switch {
	case !img.Linux:
		return kernel{}, ErrNoKernel
	case img.Uname != "" && version != "" && img.Uname != version:
		return kernel{}, fmt.Errorf("%w: %s is kernel %s, which would not load the modules of %s", ErrInvalidCommit, name, sanitize(img.Uname), version)
	case version == "":
		version = img.Uname
	}
	if version == "" {
		version = strings.TrimSuffix(path.Base(name), ukiEnding)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_][-+.~_A-Za-z0-9]{0,127}$`).MatchString(version) {
		return kernel{}, fmt.Errorf("%w: %s: bad kernel version %q", ErrInvalidCommit, name, version)
	}
	return kernel{version: version, uki: &img, vmlinuz: bootFile{source: name, name: version + ukiEnding, size: size}}, nil
}

// findKernel finds the kernel of a tree that this sysroot boots.
func (s *Sysroot) findKernel(t tree) (kernel, error) {
	kind, _, err := s.backend(context.Background())
	if err != nil && !errors.Is(err, bootloader.ErrUnknownKind) {
		return kernel{}, err
	}
	k, err := chooseKernel(t, kind)
	if s.o.NoDeviceTrees {
		k.devicetree, k.dtb = nil, nil
	}
	return k, err
}

// chooseKernel is findKernel for a boot loader: with systemd-boot a unified kernel image
// comes first, with others that can start one where the tree has no other kernel with
// an initramfs. ErrUKI where the only kernel is one that the boot loader cannot start.
func chooseKernel(t tree, kind bootloader.Kind) (kernel, error) {
	k, err := findKernel(t)
	if err != nil && !errors.Is(err, ErrNoKernel) || err == nil && k.initramfs != nil && kind != bootloader.SystemdBoot {
		return k, err
	}
	u, ukiErr := findUKI(t)
	switch {
	case errors.Is(ukiErr, ErrNoKernel):
		return k, err
	case ukiErr != nil:
		return kernel{}, ukiErr
	case kind.StartsUKI():
		return u, nil
	case err == nil && k.vmlinuz.source != u.vmlinuz.source:
		return k, nil
	}
	return kernel{}, fmt.Errorf("%s: %w: %s starts none; systemd-boot does", u.vmlinuz.source, ErrUKI, kind)
}

// checkUKI refuses what could not be given to a unified kernel image at boot.
func (s *Sysroot) checkUKI(k kernel, overlays []string) error {
	if k.uki == nil {
		return nil
	}
	if len(overlays) > 0 {
		return fmt.Errorf("%s: %w: overlay initrds cannot be added to the initramfs inside", k.vmlinuz.source, ErrUKI)
	}
	if !k.uki.HasCmdline {
		return nil
	}
	on, err := bootloader.SecureBoot(s.o.EFIVars)
	if err == nil && on {
		err = fmt.Errorf("%s: %w: it has a command line of its own, and with Secure Boot takes no other, so that neither ostree= nor any argument could be added; "+
			"build it without .cmdline", k.vmlinuz.source, ErrUKI)
	}
	return err
}

// treeKargs are the kernel arguments that a tree brings: those inside its unified
// kernel image, which the menu's replace, then its fragments.
func (s *Sysroot) treeKargs(t tree) (bls.Kargs, error) {
	var own bls.Kargs
	k, err := s.findKernel(t)
	if err == nil && k.uki != nil {
		own = bls.ParseKargs(k.uki.Cmdline)
		if err := checkKargs(own); err != nil {
			return nil, fmt.Errorf("read the command line of %s: %w", k.vmlinuz.source, err)
		}
	}
	more, err := imageKargs(t, kernelArch())
	return append(own, more...), err
}

// bootsUKI tells whether a deployment that is in no menu yet has a unified kernel image.
func (s *Sysroot) bootsUKI(d Deployment) (bool, error) {
	root, err := s.dir.OpenDir(d.Dir())
	if err != nil {
		return false, err
	}
	defer root.Close()
	k, err := s.findKernel(dirTree{root})
	return k.uki != nil, err
}
