// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"bytes"
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
		return b.systemdFiles()
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

// enrollKeys is where systemd-boot looks for keys that the firmware is to take over.
const enrollKeys = "loader/keys/"

// systemdFiles are systemd-boot and the keys that the tree has for the firmware. A tree's
// own system partition is taken as it is where systemd-boot is on it, behind shim perhaps.
func (b *builder) systemdFiles() (map[string][]byte, error) {
	ready, err := b.readyFolder()
	if err != nil {
		return nil, err
	}
	files, complete := map[string][]byte{}, false
	for name, data := range ready {
		if strings.HasPrefix(name, enrollKeys) {
			files[name] = data
		}
		complete = complete || ready[removableLoader] != nil && bytes.Contains(data, []byte("#### LoaderInfo: systemd-boot "))
	}
	if complete {
		for name, data := range ready {
			if strings.HasPrefix(name, "EFI/") { // loader.conf is not the tree's: it has the switch
				files[name] = data
			}
		}
		return files, nil
	}
	data, _, err := b.fromTree("systemd-boot-efi", "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed",
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	if err != nil {
		return nil, err
	}
	// The second name is where bootctl looks for updates of its own.
	files[removableLoader], files["EFI/systemd/systemd-bootx64.efi"] = data, data
	return files, nil
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
	files, err := b.readyFolder()
	if err != nil {
		return nil, err
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

// readyFolder reads what a tree has for the system partition; nil if it has nothing.
func (b *builder) readyFolder() (map[string][]byte, error) {
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
