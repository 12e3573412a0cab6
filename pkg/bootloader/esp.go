// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
)

// BinaryState tells how a boot loader's file on the EFI system partition compares
// with that of a tree.
type BinaryState string

// The states of a Binary.
const (
	BinaryCurrent  BinaryState = "current"
	BinaryOutdated BinaryState = "outdated" // other content than the tree's
	// These are left alone.
	BinaryNewer    BinaryState = "newer"    // a later version than the tree's, or less revoked
	BinaryUnsigned BinaryState = "unsigned" // it is signed and the tree's is not
	BinaryOther    BinaryState = "other"    // another program than the tree's
)

// Binary is a file on the EFI system partition that a tree brings, too.
type Binary struct {
	Path      string      `json:"path"`   // below the EFI system partition
	Source    string      `json:"source"` // below the tree
	State     BinaryState `json:"state"`
	Installed string      `json:"installed"`         // SHA-256 of what is there
	Version   string      `json:"version,omitempty"` // of what is there, where it says so
	Offered   string      `json:"offered,omitempty"` // of what the tree has
}

const (
	maxBinary = 64 << 20
	sdSource  = "usr/lib/systemd/boot/efi"
)

// efiTrees are where trees keep files for the folder EFI: that of bootupd, and that
// of rpm-ostree.
func efiTrees() []string {
	return []string{"usr/lib/bootupd/updates/EFI", "usr/lib/ostree-boot/efi/EFI"}
}

// PlanBinaries compares the boot loaders on an EFI system partition with those of a
// tree. Only what is installed counts: nothing is added to a partition. The first
// folder of efiTrees that is there counts, and systemd-boot from usr/lib/systemd.
func PlanBinaries(ctx context.Context, tree, esp *fsx.Dir) ([]Binary, error) {
	sources, err := binarySources(tree, esp)
	if err != nil {
		return nil, fmt.Errorf("compare boot loaders: %w", err)
	}
	var out []Binary
	for _, b := range sources {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := compareBinary(&b, tree, esp); err != nil {
			return nil, fmt.Errorf("compare boot loader %s: %w", b.Path, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// binarySources pairs files of the tree with files of the partition, in the order in
// which they are to be replaced, see updateRank.
func binarySources(tree, esp *fsx.Dir) ([]Binary, error) {
	// Where systemd-boot is installed, a tree's GRUB of that name does not count.
	out, err := sdSources(tree, esp)
	if err != nil {
		return nil, err
	}
	for _, root := range efiTrees() {
		names, err := treeFiles(tree, root, 0)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			out = append(out, Binary{Source: name, Path: path.Join("EFI", strings.TrimPrefix(name, root))})
		}
		if len(names) > 0 {
			break
		}
	}
	var there []Binary
	for _, b := range out {
		st, err := esp.Lstat(b.Path)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if st.IsRegular() && !slices.ContainsFunc(there, func(o Binary) bool { return strings.EqualFold(o.Path, b.Path) }) {
			there = append(there, b)
		}
	}
	slices.SortStableFunc(there, func(a, b Binary) int { return updateRank(a) - updateRank(b) })
	return there, nil
}

// sdSources pairs systemd-boot with the names that it is installed under: its own, the
// fallback, and that of the program which shim starts.
func sdSources(tree, esp *fsx.Dir) ([]Binary, error) {
	var out []Binary
	for _, arch := range []string{"x64", "aa64", "ia32", "arm", "riscv64"} {
		source, err := sdBinary(tree, arch)
		if err != nil {
			return nil, err
		}
		if source == "" {
			continue
		}
		out = append(out, Binary{Source: source, Path: "EFI/systemd/systemd-boot" + arch + ".efi"})
		for _, name := range []string{"EFI/systemd/grub" + arch + ".efi", "EFI/BOOT/grub" + arch + ".efi", "EFI/BOOT/BOOT" + strings.ToUpper(arch) + ".EFI"} {
			if is, err := isSystemdBoot(esp, name); err != nil {
				return nil, err
			} else if is {
				out = append(out, Binary{Source: source, Path: name})
			}
		}
	}
	return out, nil
}

// updateRank orders replacements. A new shim may refuse the old program that it
// starts, and no shim a new one of the same vendor: what shim starts comes before it.
// The fallback folder comes last, so that one way is old while the other is changed.
func updateRank(b Binary) int {
	dir, name := path.Split(strings.ToLower(b.Path))
	rank := 0
	if dir == "efi/boot/" {
		rank = 2
	}
	if strings.HasPrefix(name, "shim") || strings.HasPrefix(name, "boot") && path.Ext(name) == ".efi" {
		rank++
	}
	return rank
}

// sdBinary finds systemd-boot in a tree; a signed one is preferred, as bootctl does.
func sdBinary(tree *fsx.Dir, arch string) (string, error) {
	for _, ending := range []string{".efi.signed", ".efi"} {
		name := path.Join(sdSource, "systemd-boot"+arch+ending)
		if ok, err := tree.Exists(name); ok || err != nil {
			return name, err
		}
	}
	return "", nil
}

// treeFiles lists regular files, in order.
func treeFiles(tree *fsx.Dir, dir string, depth int) ([]string, error) {
	list, err := tree.ReadDir(dir)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if depth > 4 || len(list) > maxEntries {
		return nil, fmt.Errorf("%s: too deep, or more than %d files", dir, maxEntries)
	}
	var out []string
	for _, e := range list {
		name := path.Join(dir, e.Name)
		if e.IsDir() {
			below, err := treeFiles(tree, name, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, below...)
			continue
		}
		if e.Type == syscall.S_IFREG {
			out = append(out, name)
		}
	}
	return out, nil
}

const sdMark = "#### LoaderInfo: systemd-boot "

func isSystemdBoot(esp *fsx.Dir, name string) (bool, error) {
	data, err := esp.ReadFile(name, maxBinary)
	if isAbsent(err) {
		return false, nil
	}
	return bytes.Contains(data, []byte(sdMark)), err
}

// sdVersion reads the version that systemd-boot carries.
func sdVersion(data []byte) string {
	_, rest, ok := bytes.Cut(data, []byte(sdMark))
	version, _, end := bytes.Cut(rest[:min(len(rest), 100)], []byte(" ####"))
	if !ok || !end {
		return ""
	}
	return string(version)
}

func compareBinary(b *Binary, tree, esp *fsx.Dir) error {
	have, err := esp.ReadFile(b.Path, maxBinary)
	if err != nil {
		return err
	}
	offer, err := tree.ReadFile(b.Source, maxBinary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(have)
	b.Installed, b.Version, b.Offered = hex.EncodeToString(sum[:]), sdVersion(have), sdVersion(offer)
	switch {
	case bytes.Equal(have, offer):
		b.State = BinaryCurrent
	case major(b.Version) > major(b.Offered) && b.Offered != "":
		b.State = BinaryNewer
	default:
		b.State = compareSigned(have, offer)
	}
	return nil
}

// major reads the number that a version begins with.
func major(version string) int {
	n := 0
	for _, c := range version {
		if c < '0' || c > '9' || n > 1<<20 {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// UpdateBinaries replaces the outdated files of a plan. The new file is written
// beside the old one and synced; then both names change places, which leaves, at
// every moment, each name with a whole file; then the old one goes. One file
// follows the other, those of the fallback folder last.
func UpdateBinaries(ctx context.Context, tree, esp *fsx.Dir, plan []Binary) error {
	// An exchange that a killed process made may be in memory only.
	if err := esp.Syncfs(); err != nil {
		return fmt.Errorf("update boot loaders: %w", err)
	}
	for _, b := range plan {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := dropUnshared(esp, b.Path)
		if err == nil && b.State == BinaryOutdated {
			err = updateBinary(tree, esp, b)
		}
		if err != nil {
			return fmt.Errorf("update boot loader %s: %w", b.Path, err)
		}
	}
	return nil
}

func updateBinary(tree, esp *fsx.Dir, b Binary) error {
	tmp, err := copyBinary(tree, b.Source, esp, b.Path)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("bootloader.binary-written"); err != nil {
		return err
	}
	if err := esp.Exchange(tmp, esp, b.Path); err != nil {
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) {
			err = fmt.Errorf("files on FAT change places with Linux 6.0 and later only: %w", err)
		}
		return errors.Join(err, esp.Remove(tmp))
	}
	if err := failpoint.Hit("bootloader.binary-exchanged"); err != nil {
		return err
	}
	// The old file's clusters must not be free before the name has left them.
	if err := esp.Syncfs(); err != nil {
		return err
	}
	if err := dropUnshared(esp, b.Path); err != nil {
		return err
	}
	return esp.Syncfs()
}

// besides gives the names of copies beside a file, free or not.
func besides(name string) []string {
	var out []string
	for i := range 8 {
		out = append(out, name+hidden+strconv.Itoa(i))
	}
	return out
}

// dropUnshared removes the copies beside a file. An exchange that a power cut split
// leaves two names with the clusters of one file: to remove one would free what the
// other has. They have the same content then, and such a copy stays.
func dropUnshared(esp *fsx.Dir, name string) error {
	content := map[string][]byte{}
	for _, n := range append(besides(name), name) {
		data, err := esp.ReadFile(n, maxBinary)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		content[n] = data
	}
	for _, n := range besides(name) {
		data, ok := content[n]
		if !ok {
			continue
		}
		same := 0
		for _, other := range content {
			if bytes.Equal(data, other) {
				same++
			}
		}
		if same > 1 {
			continue
		}
		if err := esp.Remove(n); err != nil {
			return err
		}
	}
	return nil
}

// copyBinary writes a copy beside a file, complete on the disk, and gives its name.
func copyBinary(tree *fsx.Dir, source string, esp *fsx.Dir, name string) (string, error) {
	src, err := tree.Open(source)
	if err != nil {
		return "", err
	}
	defer src.Close()
	for _, tmp := range besides(name) {
		dst, err := esp.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.Copy(dst, src)
		if err = errors.Join(err, dst.Close()); err != nil {
			return "", errors.Join(err, esp.Remove(tmp))
		}
		return tmp, esp.Syncfs()
	}
	return "", fmt.Errorf("%d copies are left beside it: check the partition with fsck.vfat", len(besides(name)))
}
