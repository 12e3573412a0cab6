// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
)

// joinUKI puts kernel, initramfs and os-release of the revision $2 behind its own stub,
// as one file in the tree $3. The stub takes what is between the addresses for itself.
const joinUKI = `
repo=$1 rev=$2 tree=$3
kver=$(ostree --repo="$repo" ls "$rev" /usr/lib/modules | sed -n 's,.* /usr/lib/modules/,,p')
dir=/usr/lib/modules/$kver
parts=$(mktemp -d)
trap 'rm -r "$parts"' EXIT
part() { ostree --repo="$repo" cat "$rev" "$1" > "$parts/$2"; }
part "$dir/vmlinuz" linux
part "$dir/initramfs.img" initrd
part /usr/lib/os-release osrel
part /usr/lib/systemd/boot/efi/linuxx64.efi.stub stub
printf %s "$kver" > "$parts/uname"
mkdir -p "$tree$dir"
objcopy --add-section .osrel="$parts/osrel" --change-section-vma .osrel=0x100000 \
	--add-section .uname="$parts/uname" --change-section-vma .uname=0x110000 \
	--add-section .linux="$parts/linux" --change-section-vma .linux=0x2000000 \
	--add-section .initrd="$parts/initrd" --change-section-vma .initrd=0x6000000 \
	"$parts/stub" "$tree$dir/$kver.efi"
`

// WithUKIs returns the lab with another repository, whose two commits have a unified
// kernel image beside the kernel; it is made once. The tree must have systemd's stub.
func (l *Lab) WithUKIs(ctx context.Context) (*Lab, error) {
	return l.variant(ctx, "uki", func(own *Lab) error {
		parent := "none"
		for i, rev := range []string{l.Ref + "^", l.Ref} {
			next, err := own.addUKI(ctx, rev, []string{"1", "1.1"}[i], parent)
			if err != nil {
				return err
			}
			parent = next
		}
		return own.Release(ctx, parent)
	})
}

// addUKI commits a revision with its unified kernel image.
func (l *Lab) addUKI(ctx context.Context, rev, version, parent string) (string, error) {
	old, err := l.Rev(rev)
	if err != nil {
		return "", err
	}
	tree, err := os.MkdirTemp(l.Dir, "uki-tree-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tree)
	if err := os.Chmod(tree, 0o755); err != nil {
		return "", err
	}
	if err := l.script(ctx, "a unified kernel image for "+rev, joinUKI, l.Repo, old, tree); err != nil {
		return "", err
	}
	err = l.Run(ctx, "ostree", "--repo="+l.Repo, "commit", "--branch=uki", "--parent="+parent, "--tree=ref="+old, "--tree=dir="+tree,
		"--owner-uid=0", "--owner-gid=0", "--add-metadata-string=version="+version, "--bind-ref="+l.Ref,
		"--gpg-sign="+l.KeyID, "--gpg-homedir="+l.keyHome())
	if err != nil {
		return "", err
	}
	return l.Rev("uki")
}
