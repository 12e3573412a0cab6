// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// grubModules are linked into the core, so that /boot needs no module files.
const grubModules = "biosdisk part_gpt part_msdos ext2 fat search search_fs_uuid search_label search_fs_file " +
	"normal configfile linux gzio zstd xzio serial terminal echo test true ls cat loadenv sleep reboot halt minicmd regexp"

// Places in GRUB's boot sector and in the first sector of its core, from GRUB's
// include/grub/i386/pc/boot.h.
const (
	bootDriveCheck = 0x66
	bootKernelLBA  = 0x5c
	partitionArea  = 0x1b8
	blockListEnd   = sectorSize - 12
	// coreSegment is where the rest of the core is loaded: segment 0x800, one
	// sector further.
	coreSegment = 0x820
)

// earlyConfig runs before GRUB knows a filesystem.
func (b *builder) earlyConfig() string {
	return "search.fs_uuid " + b.ids.boot.String() + " root\n" +
		"set prefix=($root)/grub\n"
}

// espConfig is the file that GRUB finds on the EFI system partition: it never
// changes, /boot's stub follows.
func (b *builder) espConfig() string {
	return "search --no-floppy --fs-uuid --set=root " + b.ids.boot.String() + "\n" +
		"set prefix=($root)/grub\n" +
		"configfile $prefix/grub.cfg\n"
}

var prefixString = regexp.MustCompile(`\x00/(EFI/[A-Za-z0-9._-]+)\x00`)

// grubPrefix reads from a ready-made GRUB for UEFI the folder of the EFI system
// partition in which it looks for grub.cfg: each distribution builds its own in.
func grubPrefix(image []byte) (string, error) {
	m := prefixString.FindSubmatch(image)
	if m == nil {
		return "", errors.New("no folder /EFI/NAME built in as GRUB's prefix")
	}
	return string(m[1]), nil
}

// stubName is where GRUB's prefix leads.
const stubName = "grub/grub.cfg"

// WriteStub puts the file that GRUB opens into the boot folder of a sysroot,
// unless one is there. It hands over to the menu that every deployment change
// writes anew; updates never touch the stub. A sysroot needs it before its first
// deployment, which recognises the boot loader by it. timeout is in seconds.
func WriteStub(boot *fsx.Dir, timeout int) error {
	there, err := boot.Exists(stubName)
	if err != nil || there {
		return err
	}
	if err := boot.MkdirAll(path.Dir(stubName), 0o755); err != nil {
		return err
	}
	return boot.WriteFileAtomic(stubName, []byte(stubConfig(timeout)), 0o644)
}

func stubConfig(timeout int) string {
	var s strings.Builder
	s.WriteString("# Hands over to the menu of the deployments.\n")
	// A machine without a serial port says so and goes on with its screen.
	// UEFI's console includes the serial port already.
	s.WriteString("if [ \"$grub_platform\" = pc ]; then\n")
	s.WriteString("\tserial --unit=0 --speed=115200\n")
	s.WriteString("\tterminal_input console serial\n")
	s.WriteString("\tterminal_output console serial\n")
	s.WriteString("fi\n")
	fmt.Fprintf(&s, "set timeout=%d\n", timeout)
	s.WriteString("set default=0\n")
	// Variables reach another configuration file only when exported.
	s.WriteString("export timeout default\n")
	s.WriteString("configfile /loader/grub.cfg\n")
	return s.String()
}

// modulesDir opens the folder of GRUB's BIOS modules.
func (b *builder) modulesDir() (*fsx.Dir, error) {
	if b.GRUBDir != "" {
		return fsx.OpenDir(b.GRUBDir)
	}
	if b.Tree != nil {
		d, err := b.Tree.OpenDirInRoot(DefaultGRUBDir[1:])
		if !errors.Is(err, fs.ErrNotExist) {
			return d, err
		}
	}
	return fsx.OpenDir(DefaultGRUBDir)
}

// writeLoader installs GRUB as grub-bios-setup does, into a file.
func (b *builder) writeLoader(ctx context.Context) error {
	modules, err := b.modulesDir()
	if err != nil {
		return fmt.Errorf("open GRUB's modules: %w", err)
	}
	defer modules.Close()
	tmp, err := os.MkdirTemp("", "hostctl-grub-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // of a temporary directory of the system
	early, coreName := filepath.Join(tmp, "early.cfg"), filepath.Join(tmp, "core.img")
	if err := os.WriteFile(early, []byte(b.earlyConfig()), 0o600); err != nil {
		return err
	}
	args := []string{
		"-d", dirPath(modules), "-O", "i386-pc", "-o", coreName, "-c", early, "-p", "/grub",
	}
	if err := b.tool(ctx, "grub-mkimage", append(args, available(modules)...)...); err != nil {
		return err
	}
	core, err := os.ReadFile(coreName)
	if err != nil {
		return err
	}
	boot, err := modules.ReadFile("boot.img", sectorSize)
	if err != nil {
		return err
	}
	start := b.layout.find(partBIOS).Start
	if err := patchCore(core, start/sectorSize, b.layout.find(partBIOS).Size); err != nil {
		return err
	}
	if err := patchBoot(boot, start/sectorSize); err != nil {
		return err
	}
	if _, err := b.f.WriteAt(core, start); err != nil {
		return err
	}
	// Only the code: the rest of the sector is the partition table's.
	_, err = b.f.WriteAt(boot[:partitionArea], 0)
	return err
}

// available leaves out the modules that this GRUB does not have.
func available(dir *fsx.Dir) []string {
	var mods []string
	for m := range strings.FieldsSeq(grubModules) {
		if ok, err := dir.Exists(m + ".mod"); ok && err == nil {
			mods = append(mods, m)
		}
	}
	return mods
}

// patchBoot tells the boot sector where the core starts.
func patchBoot(boot []byte, sector int64) error {
	if len(boot) != sectorSize {
		return fmt.Errorf("boot.img has %d bytes, not %d", len(boot), sectorSize)
	}
	binary.LittleEndian.PutUint64(boot[bootKernelLBA:], uint64(sector))
	// Two no-ops over the jump that trusts the BIOS to name the boot drive.
	boot[bootDriveCheck], boot[bootDriveCheck+1] = 0x90, 0x90
	return nil
}

// patchCore tells the core's first sector where the others are: one run.
func patchCore(core []byte, sector, room int64) error {
	if len(core) <= sectorSize || int64(len(core)) > room {
		return fmt.Errorf("GRUB core has %d bytes, room for %d", len(core), room)
	}
	sectors := (len(core)+sectorSize-1)/sectorSize - 1
	block := core[blockListEnd:sectorSize]
	binary.LittleEndian.PutUint64(block, uint64(sector+1))
	binary.LittleEndian.PutUint16(block[8:], uint16(sectors))
	binary.LittleEndian.PutUint16(block[10:], coreSegment)
	return nil
}
