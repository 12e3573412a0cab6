// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// minClusters is the least number of clusters of FAT32, 65525, and some that the
// tables take.
const minClusters = 70000

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
