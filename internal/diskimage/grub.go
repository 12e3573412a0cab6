// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"path/filepath"
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
	s.WriteString("serial --unit=0 --speed=115200\n")
	s.WriteString("terminal_input console serial\n")
	s.WriteString("terminal_output console serial\n")
	fmt.Fprintf(&s, "set timeout=%d\n", timeout)
	s.WriteString("set default=0\n")
	// Variables reach another configuration file only when exported.
	s.WriteString("export timeout default\n")
	s.WriteString("configfile /loader/grub.cfg\n")
	return s.String()
}

// writeLoader installs GRUB as grub-bios-setup does, into a file.
func (b *builder) writeLoader(ctx context.Context) error {
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
		"-d", b.GRUBDir, "-O", "i386-pc", "-o", coreName, "-c", early, "-p", "/grub",
	}
	if err := b.tool(ctx, "grub-mkimage", append(args, b.modules()...)...); err != nil {
		return err
	}
	core, err := os.ReadFile(coreName)
	if err != nil {
		return err
	}
	boot, err := os.ReadFile(filepath.Join(b.GRUBDir, "boot.img"))
	if err != nil {
		return err
	}
	start := b.layout.bios().Start
	if err := patchCore(core, start/sectorSize, b.layout.bios().Size); err != nil {
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

// modules leaves out those that this GRUB does not have.
func (b *builder) modules() []string {
	var mods []string
	for m := range strings.FieldsSeq(grubModules) {
		if _, err := os.Stat(filepath.Join(b.GRUBDir, m+".mod")); err == nil {
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
