// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxLoader bounds a boot loader's file in bytes.
const maxLoader = 32 << 20

// minClusters is the least number of clusters of FAT32, 65525, and some that the
// tables take.
const minClusters = 70000

// Where UEFI looks on a disk without a boot entry of its own.
const removableLoader = "EFI/BOOT/BOOTX64.EFI"

// writeESP makes the EFI system partition: the boot loader, and for a boot loader
// that starts kernels from there the contents of /boot.
func (b *builder) writeESP(ctx context.Context) error {
	part := b.layout.find(partESP)
	if err := b.mkfsFAT(ctx, part, b.espLabel()); err != nil {
		return err
	}
	loader, err := b.loaderFiles()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "hostctl-esp-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // of a temporary directory of the system
	for name, data := range loader {
		name = filepath.Join(tmp, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, data, 0o600)); err != nil {
			return err
		}
	}
	if err := b.copyToFAT(ctx, part, tmp); err != nil {
		return err
	}
	if !b.Boot.fatBoot() {
		return nil
	}
	for _, e := range b.content.bootPaths {
		if e.Type != syscall.S_IFDIR && e.Type != syscall.S_IFREG {
			return fmt.Errorf("copy %s: a FAT filesystem holds only files and folders; install the sysroot for %s", e.Name, b.Boot)
		}
	}
	boot, err := b.Sysroot.OpenDir("boot")
	if err != nil {
		return err
	}
	defer boot.Close()
	return b.copyToFAT(ctx, part, dirPath(boot))
}

func (b *builder) espLabel() string {
	if b.Boot.fatBoot() {
		return fatLabel(b.BootLabel)
	}
	return fatLabel(espLabel)
}

// fatLabel: programs disagree about lower case in the labels of FAT.
func fatLabel(s string) string { return strings.ToUpper(s) }

func (b *builder) mkfsFAT(ctx context.Context, p Partition, label string) error {
	start := strconv.FormatInt(p.Start/sectorSize, 10)
	// By itself the program takes the size of the whole file for a hint, and makes
	// clusters so large that fewer are left than FAT32 must have.
	cluster := int64(1)
	for cluster < 8 && p.Size/(2*cluster*sectorSize) > minClusters {
		cluster *= 2
	}
	return b.tool(ctx, "mkfs.vfat", "-F", "32", "-s", strconv.FormatInt(cluster, 10), "-n", label, "-i", hex.EncodeToString(b.ids.esp[:4]),
		"--offset="+start, "-h", start, b.filePath(), strconv.FormatInt(p.Size/1024, 10))
}

// copyToFAT copies what is in the folder dir.
func (b *builder) copyToFAT(ctx context.Context, p Partition, dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil || len(list) == 0 {
		return err
	}
	args := []string{"-s", "-m", "-o", "-Q", "-i", b.filePath() + "@@" + strconv.FormatInt(p.Start, 10)}
	for _, e := range list {
		args = append(args, dir+"/"+e.Name())
	}
	return b.tool(ctx, "mcopy", append(args, "::/")...)
}

// fatUUID writes a volume identifier as blkid and fstab do.
func fatUUID(id GUID) string {
	h := strings.ToUpper(hex.EncodeToString(id[:4]))
	return h[:4] + "-" + h[4:]
}

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
	data, name, err := b.fromTree("grub-efi-amd64-bin", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
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
