// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Bounds of what a tree puts on the EFI system partition.
const (
	maxLoader      = 32 << 20 // bytes of a file
	maxLoaderFiles = 200
	maxLoaderDepth = 8
)

const (
	// removableLoader is where UEFI looks on a disk without a boot entry of its own.
	removableLoader = "EFI/BOOT/BOOTX64.EFI"
	// readyESP is what packages of Fedora's kind have in /boot/efi, as a tree keeps it.
	readyESP = "usr/lib/ostree-boot/efi"
)

// loaderFiles are the boot loader's files of the EFI system partition, by path.
func (b *builder) loaderFiles() (map[string][]byte, error) {
	if b.Tree == nil {
		return nil, fmt.Errorf("find the boot loader for %s: no tree to take it from", b.Boot)
	}
	if b.Boot == UEFISystemdBoot {
		data, _, err := b.fromTree("systemd-boot-efi", "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed",
			"usr/lib/systemd/boot/efi/systemd-bootx64.efi")
		if err != nil {
			return nil, err
		}
		// The second name is where bootctl looks for updates of its own.
		return map[string][]byte{removableLoader: data, "EFI/systemd/systemd-bootx64.efi": data}, nil
	}
	if files, err := b.readyFiles(); err != nil || files != nil {
		return files, err
	}
	data, name, err := b.fromTree("grub-efi-amd64-bin (or grub2-efi-x64 and shim-x64)", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
		"usr/lib/grub/x86_64-efi/monolithic/grubx64.efi")
	if err != nil {
		return nil, err
	}
	prefix, err := grubPrefix(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return map[string][]byte{removableLoader: data, path.Join(prefix, "grub.cfg"): []byte(b.espConfig())}, nil
}

// fromTree reads the first of the names that the tree has.
func (b *builder) fromTree(pkg string, names ...string) (data []byte, name string, err error) {
	for _, name := range names {
		data, err := b.Tree.ReadFileInRoot(name, maxLoader)
		if !errors.Is(err, fs.ErrNotExist) {
			return data, name, err
		}
	}
	return nil, "", fmt.Errorf("find the boot loader for %s: the tree has no /%s; add package %s to the treefile",
		b.Boot, names[len(names)-1], pkg)
}

// readyFiles reads a tree's own system partition as it is, with what Secure Boot
// needs, and adds the configuration beside every GRUB: a signed one looks for it in
// its own folder. nil if the tree has none that starts.
func (b *builder) readyFiles() (map[string][]byte, error) {
	dir, err := b.Tree.OpenDirInRoot(readyESP)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	files := map[string][]byte{}
	if err := readFolder(dir, "", 0, files); err != nil {
		return nil, fmt.Errorf("read /%s: %w", readyESP, err)
	}
	found := false
	for name := range files {
		if strings.EqualFold(path.Base(name), "grubx64.efi") {
			files[path.Join(path.Dir(name), "grub.cfg")] = []byte(b.espConfig())
			found = true
		}
	}
	if files[removableLoader] == nil || !found {
		return nil, nil
	}
	return files, nil
}

// readFolder adds the regular files below dir, whose path is at, to files.
func readFolder(dir *fsx.Dir, at string, depth int, files map[string][]byte) error {
	entries, err := dir.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(at, e.Name)
		if e.IsDir() {
			if depth == maxLoaderDepth {
				return fmt.Errorf("%s: more than %d folders deep", name, maxLoaderDepth)
			}
			if err := readSubfolder(dir, e.Name, name, depth+1, files); err != nil {
				return err
			}
			continue
		}
		if len(files) == maxLoaderFiles {
			return fmt.Errorf("%s: more than %d files", name, maxLoaderFiles)
		}
		data, err := dir.ReadFile(e.Name, maxLoader)
		if err != nil {
			return err
		}
		files[name] = data
	}
	return nil
}

func readSubfolder(dir *fsx.Dir, base, at string, depth int, files map[string][]byte) error {
	sub, err := dir.OpenDir(base)
	if err != nil {
		return err
	}
	defer sub.Close()
	return readFolder(sub, at, depth, files)
}
