// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
)

// otherRoot makes the root partition of an image anew with another filesystem, from
// the sysroot that the image was built from. Unlike the image itself that takes a
// loop device and a mount: no program fills an XFS with hard links otherwise.
const otherRoot = `
image=$1 sysroot=$2 kind=$3
set -- $(sfdisk --dump "$image" | sed -n 's/.*start= *\([0-9]*\), size= *\([0-9]*\),.*name="root".*/\1 \2/p')
loop=$(losetup --find --show --offset $(($1 * 512)) --sizelimit $(($2 * 512)) "$image")
mnt=$(mktemp -d)
trap 'umount "$mnt" 2>/dev/null || :; losetup --detach "$loop"; rmdir "$mnt"' EXIT
wipefs --quiet --all "$loop"
mkfs.$kind -q -f -L root "$loop"
mount "$loop" "$mnt"
cp -a "$sysroot/." "$mnt"
find "$mnt/boot" -mindepth 1 -delete
for d in "$mnt"/ostree/deploy/*/deploy/*/; do chattr +i "$d"; done
`

func (l *Lab) convertRoot(ctx context.Context, image, sysroot string) error {
	if l.RootFS == "" || l.RootFS == "ext4" {
		return nil
	}
	fmt.Fprintf(l.Out, "# the root of %s becomes %s\n", l.show([]string{image}), l.RootFS)
	if out, err := Command(ctx, "sh", "-euc", otherRoot, "sh", image, sysroot, l.RootFS).CombinedOutput(); err != nil {
		return fmt.Errorf("make %s root: %w: %s", l.RootFS, err, out)
	}
	return nil
}
