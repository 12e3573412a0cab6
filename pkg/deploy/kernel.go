// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/uki"
)

const modulesDir = "usr/lib/modules"

// bootFile is one file that a deployment needs in /boot.
type bootFile struct {
	source string // below the deployment or the commit
	name   string // below /boot/ostree/STATEROOT-BOOTCSUM
	size   int64
}

// kernel is what a tree boots with: the files of usr/lib/modules/KVER, or those of
// an older place.
type kernel struct {
	version    string
	bootsum    string // the boot checksum where file names carry it, see legacyKernel
	vmlinuz    bootFile
	initramfs  *bootFile  // nil: the kernel has it built in
	devicetree *bootFile  // one file, or
	dtb        []bootFile // a directory of them, sorted
	hmac       *bootFile  // integrity check of the kernel, not part of the checksum

	uki    *uki.Image // vmlinuz is a unified kernel image; nil: it is not
	addons []bootFile // what its stub loads beside it
}

// hasInitramfs tells that something in an initramfs will mount the root.
func (k kernel) hasInitramfs() bool { return k.initramfs != nil || k.uki != nil && k.uki.Initrd }

// files lists everything to install.
func (k kernel) files() []bootFile {
	out := append(append([]bootFile{k.vmlinuz}, k.dtb...), k.addons...)
	for _, f := range []*bootFile{k.initramfs, k.devicetree, k.hmac} {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out
}

func (k kernel) size() int64 {
	var n int64
	for _, f := range k.files() {
		n += f.size
	}
	return n
}

// tree is what findKernel and checksum read: a checkout or a commit in the
// repository, so that a preview sees what the real run will see.
type tree interface {
	// list gives the names in a directory; fs.ErrNotExist where there is none.
	list(dir string) (files, dirs []string, err error)
	// size gives the size of a regular file; fs.ErrNotExist where there is none.
	size(name string) (int64, error)
	open(name string) (io.ReadCloser, error)
}

// findKernel finds the kernel of a tree. A tree with several is ErrInvalidCommit:
// choosing one would be a guess. One in an older place counts where
// usr/lib/modules has none, or none with the initramfs that the older place has.
func findKernel(t tree) (kernel, error) {
	k, err := modulesKernel(t)
	if err == nil && k.initramfs != nil || err != nil && !errors.Is(err, ErrNoKernel) {
		return k, err
	}
	old, oldErr := legacyKernel(t)
	if oldErr == nil && (err != nil || old.initramfs != nil) {
		return old, nil
	}
	if errors.Is(oldErr, ErrNoKernel) {
		return k, err
	}
	return k, oldErr
}

func modulesKernel(t tree) (kernel, error) {
	_, versions, err := t.list(modulesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return kernel{}, ErrNoKernel
	}
	if err != nil {
		return kernel{}, err
	}
	found := ""
	for _, v := range versions {
		_, err := t.size(path.Join(modulesDir, v, "vmlinuz"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return kernel{}, err
		}
		if found != "" {
			return kernel{}, fmt.Errorf("%w: kernels %s and %s in %s", ErrInvalidCommit, found, v, modulesDir)
		}
		found = v
	}
	if found == "" {
		return kernel{}, ErrNoKernel
	}
	return readKernel(t, found)
}

func readKernel(t tree, version string) (kernel, error) {
	dir := path.Join(modulesDir, version)
	k := kernel{version: version}
	for _, x := range []struct {
		source, name string
		set          func(*bootFile)
	}{
		{"vmlinuz", "vmlinuz-" + version, func(f *bootFile) { k.vmlinuz = *f }},
		{"initramfs", "initramfs-" + version + ".img", func(f *bootFile) { k.initramfs = f }},
		{"initramfs.img", "initramfs-" + version + ".img", func(f *bootFile) { k.initramfs = f }},
		{"devicetree", "devicetree-" + version, func(f *bootFile) { k.devicetree = f }},
		{".vmlinuz.hmac", ".vmlinuz-" + version + ".hmac", func(f *bootFile) { k.hmac = f }},
	} {
		size, err := t.size(path.Join(dir, x.source))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return kernel{}, err
		}
		x.set(&bootFile{source: path.Join(dir, x.source), name: x.name, size: size})
	}
	if k.devicetree != nil {
		return k, nil
	}
	var err error
	k.dtb, err = listTree(t, path.Join(dir, "dtb"), "dtb", 0)
	return k, err
}

// listTree lists regular files recursively in byte order, with bounded depth.
func listTree(t tree, dir, name string, depth int) ([]bootFile, error) {
	files, dirs, err := t.list(dir)
	if errors.Is(err, fs.ErrNotExist) && depth == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if depth > 16 {
		return nil, fmt.Errorf("%w: %s is nested too deep", ErrInvalidCommit, dir)
	}
	isDir := map[string]bool{}
	for _, d := range dirs {
		isDir[d] = true
	}
	var out []bootFile
	for _, e := range mergeSorted(files, dirs) {
		source, dest := path.Join(dir, e), path.Join(name, e)
		if isDir[e] {
			sub, err := listTree(t, source, dest, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, sub...)
			continue
		}
		size, err := t.size(source)
		if err != nil {
			return nil, err
		}
		out = append(out, bootFile{source: source, name: dest, size: size})
	}
	return out, nil
}

func mergeSorted(a, b []string) []string {
	out := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// checksum computes the boot checksum: SHA-256 over kernel, initramfs, device trees
// and addons, one after the other.
func (k kernel) checksum(t tree) (string, error) {
	if k.bootsum != "" {
		return k.bootsum, nil
	}
	h := sha256.New()
	list := []bootFile{k.vmlinuz}
	if k.initramfs != nil {
		list = append(list, *k.initramfs)
	}
	if k.devicetree != nil {
		list = append(list, *k.devicetree)
	}
	for _, f := range append(append(list, k.dtb...), k.addons...) {
		if err := hashFile(h, t, f.source); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashFile(h hash.Hash, t tree, name string) error {
	f, err := t.open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(h, f)
	return errors.Join(err, f.Close())
}

// dirTree is a checkout on disk.
type dirTree struct{ dir *fsx.Dir }

func (t dirTree) list(dir string) (files, dirs []string, err error) {
	list, err := t.dir.ReadDir(dir)
	for _, e := range list {
		if e.IsDir() {
			dirs = append(dirs, e.Name)
		} else {
			files = append(files, e.Name)
		}
	}
	return files, dirs, err
}

func (t dirTree) size(name string) (int64, error) {
	st, err := t.dir.Lstat(name)
	if err != nil {
		return 0, err
	}
	if !st.IsRegular() {
		return 0, fmt.Errorf("%w: %s is no regular file", ErrInvalidCommit, name)
	}
	return st.Size, nil
}

func (t dirTree) open(name string) (io.ReadCloser, error) {
	return t.dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
