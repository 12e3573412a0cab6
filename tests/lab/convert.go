// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Extlinux is a value of Boot beyond those of diskimage: no image can be made with
// it, since its installer asks the kernel where the file lies.
const Extlinux = "bios-extlinux"

// attach gives $loop the partition $2 of the image $1, and $mnt a place to mount it.
// Unlike making the image itself, what follows takes a loop device and a mount.
const attach = `
image=$1 sysroot=$3 kind=$4
set -- $(sfdisk --dump "$image" | sed -n 's/.*start= *\([0-9]*\), size= *\([0-9]*\),.*name="'"$2"'".*/\1 \2/p')
loop=$(losetup --find --show --offset $(($1 * 512)) --sizelimit $(($2 * 512)) "$image")
mnt=$(mktemp -d)
trap 'umount "$mnt" 2>/dev/null || :; losetup --detach "$loop"; rmdir "$mnt"' EXIT
wipefs --quiet --all "$loop"
`

// otherRoot makes the root anew with another filesystem, from the sysroot that the
// image was built from: no program fills an XFS with hard links otherwise.
const otherRoot = attach + `
mkfs.$kind -q -f -L root "$loop"
mount "$loop" "$mnt"
cp -a "$sysroot/." "$mnt"
find "$mnt/boot" -mindepth 1 -delete
for d in "$mnt"/ostree/deploy/*/deploy/*/; do chattr +i "$d"; done
`

// otherLoader replaces GRUB by the tree's EXTLINUX: the code in the disk's first
// sector and in /boot, and the mark of the partition that this code looks for.
// EXTLINUX reads no ext4 with 64-bit block numbers.
const otherLoader = attach + `
mkfs.ext4 -q -O ^64bit -L boot "$loop"
mount "$loop" "$mnt"
cp -a "$sysroot/boot/." "$mnt"
rm -r "$mnt/grub"
tree=$(echo "$sysroot"/ostree/deploy/*/deploy/*/)
for m in menu libcom32 libutil; do cp "$tree/usr/lib/syslinux/modules/bios/$m.c32" "$mnt/syslinux"; done
"$tree/usr/bin/extlinux" --install "$mnt/syslinux"
dd if="$tree/usr/lib/EXTLINUX/gptmbr.bin" of="$image" bs=440 count=1 conv=notrunc status=none
sfdisk --quiet --part-attrs "$image" 2 LegacyBIOSBootable
`

// convert makes of an image what the composer cannot.
func (l *Lab) convert(ctx context.Context, image, sysroot string) error {
	if l.RootFS != "" && l.RootFS != "ext4" {
		if err := l.script(ctx, "the root becomes "+l.RootFS, otherRoot, image, "root", sysroot, l.RootFS); err != nil {
			return err
		}
	}
	if l.Boot != Extlinux {
		return nil
	}
	return l.script(ctx, "the boot loader becomes EXTLINUX", otherLoader, image, "boot", sysroot, "")
}

func (l *Lab) script(ctx context.Context, what, text string, args ...string) error {
	fmt.Fprintf(l.Out, "# %s\n", what)
	argv := append([]string{"sh", "-euc", text, "sh"}, args...)
	if out, err := Command(ctx, argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", what, err, out)
	}
	return nil
}

// extlinuxConfig leads to the menu of the deployments. Their labels are titles, with
// spaces, as libostree writes them: EXTLINUX ends a label at a space and finds none by
// that name. Its menu program then takes the first, which is the default.
const extlinuxConfig = `SERIAL 0 115200
UI menu.c32
PROMPT 0
TIMEOUT 10
INCLUDE /loader/syslinux.cfg
`

// leadToMenu makes the file by which the first deployment recognises EXTLINUX.
func (l *Lab) leadToMenu(sysroot string) error {
	if l.Boot != Extlinux {
		return nil
	}
	dir := filepath.Join(sysroot, "boot", "syslinux")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "syslinux.cfg"), []byte(extlinuxConfig), 0o644)
}

func (l *Lab) bootArgs() []string {
	switch l.Boot {
	case "", Extlinux:
		return nil
	}
	return []string{"--boot", l.Boot}
}
