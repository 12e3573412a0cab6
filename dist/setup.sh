#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the system packages that building, composing and testing need.
# Usage: dist/setup.sh [build|compose|test]   (each includes the ones before)
#        dist/setup.sh bench                  (compose and dnf, to compare with)
set -eu
cd "$(dirname "$0")/.."

want=${1:-test}
die() { echo "setup: $*" >&2; exit 1; }

# build: Go itself is looked for below. compose: what compose-server, disk
# images and the demo run (on Debian with the test distribution, which apt and
# dpkg feed). test: the peers that the tests compare with, and a C compiler for
# the race detector.
build_cmds="make git"
compose_cmds="bwrap rpm rpmbuild rpmsign createrepo_c modifyrepo_c gpg mkfs.ext4 debugfs mkfs.vfat mcopy grub-mkimage ostree qemu-system-x86_64 qemu-img"
test_cmds="gcc objcopy pkg-config strace openssl xz zstd bzip2 cpio setfattr dbus-daemon gdbus testsolv gjs python3 getfattr sfdisk dpkg grub-script-check grub-editenv unshare tar matchpathcon mkfs.xfs mkfs.btrfs filefrag skopeo mtype fsck.vfat qemu-storage-daemon xfs_repair btrfs parallel"
debian_build="make git ca-certificates"
debian_compose="bubblewrap rpm createrepo-c gpg gpg-agent e2fsprogs dosfstools mtools grub-pc-bin grub-common ostree qemu-system-x86 qemu-utils"
debian_test="gcc binutils libc6-dev libostree-dev ostree-tests ostree-boot pkg-config strace openssl xz-utils zstd bzip2 cpio dbus-daemon dbus-session-bus-common libglib2.0-bin libsolv-tools gjs python3-gi attr fdisk util-linux tar selinux-utils selinux-policy-default xfsprogs btrfs-progs ovmf skopeo parallel"
bench_cmds="dnf"
debian_bench="dnf"
fedora_bench="dnf"
fedora_build="make git ca-certificates"
fedora_compose="bubblewrap rpm-build systemd-rpm-macros rpm-sign createrepo_c gnupg2 e2fsprogs dosfstools mtools grub2-tools grub2-pc-modules ostree qemu-system-x86-core qemu-img"
fedora_test="gcc binutils glibc-devel ostree-devel ostree-tests pkgconf-pkg-config strace openssl xz zstd bzip2 cpio dbus-daemon dbus-common glib2 libsolv-tools gjs python3-gobject-base attr dpkg util-linux tar libselinux-utils selinux-policy-targeted xfsprogs btrfs-progs edk2-ovmf skopeo parallel"

case $want in
build) cmds=$build_cmds; debian=$debian_build; fedora=$fedora_build ;;
compose) cmds="$build_cmds $compose_cmds"; debian="$debian_build $debian_compose"; fedora="$fedora_build $fedora_compose" ;;
test) cmds="$build_cmds $compose_cmds $test_cmds"; debian="$debian_build $debian_compose $debian_test"; fedora="$fedora_build $fedora_compose $fedora_test" ;;
bench) cmds="$build_cmds $compose_cmds $bench_cmds"; debian="$debian_build $debian_compose $debian_bench"; fedora="$fedora_build $fedora_compose $fedora_bench" ;;
*) die "unknown set \"$want\"; say build, compose, test or bench" ;;
esac

PATH=$PWD/build/go/bin:$PATH:/usr/sbin:/sbin:/usr/local/go/bin
export PATH
missing=
for c in $cmds; do
	command -v "$c" >/dev/null 2>&1 && continue
	# Fedora calls GRUB's programs grub2-*.
	case $c in grub-*) command -v "grub2-${c#grub-}" >/dev/null 2>&1 && continue ;; esac
	missing="$missing $c"
done
[ -d /usr/lib/grub/i386-pc ] || [ "$want" = build ] || missing="$missing grub(i386-pc)"
[ "$want" != test ] || /usr/bin/python3 -c 'from gi.repository import GLib' >/dev/null 2>&1 || missing="$missing python3(GLib)"
[ "$want" != test ] || pkg-config --exists ostree-1 2>/dev/null || missing="$missing libostree(headers)"
[ "$want" != test ] || [ -d /usr/libexec/installed-tests/libostree ] || missing="$missing ostree-tests"
[ "$want" != test ] || [ -x /usr/lib/ostree/ostree-prepare-root ] || missing="$missing ostree-prepare-root"
[ "$want" != test ] || ls /usr/share/OVMF/OVMF_CODE*.fd /usr/share/edk2/ovmf/OVMF_CODE.fd 2>/dev/null | grep -q . || missing="$missing ovmf"
[ "$want" != test ] || ls /etc/selinux/*/contexts/files/file_contexts >/dev/null 2>&1 || missing="$missing selinux-policy"

go_ok() {
	command -v go >/dev/null 2>&1 || return 1
	# Go 1.21 and later fetch the toolchain that go.mod asks for by themselves.
	v=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
	major=${v%%.*}; rest=${v#*.}; minor=${rest%%.*}; minor=${minor%%[!0-9]*}
	[ "${major:-0}" -gt 1 ] || [ "${minor:-0}" -ge 21 ]
}

sudo=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 && sudo=sudo
fi
install() {
	[ "$(id -u)" -eq 0 ] || [ -n "$sudo" ] || die "missing:$missing; run this as root or with sudo, or install: $*"
	if command -v apt-get >/dev/null 2>&1; then
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq update
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
	elif command -v dnf >/dev/null 2>&1; then
		$sudo dnf -q -y install "$@"
	else
		die "missing:$missing; this script knows apt and dnf only, please install them yourself"
	fi
}

if [ -n "$missing" ]; then
	echo "setup: installing what is missing:$missing"
	if command -v apt-get >/dev/null 2>&1; then
		# shellcheck disable=SC2086
		install $debian
	else
		# shellcheck disable=SC2086
		install $fedora
	fi
fi
if ! go_ok; then
	missing=" go"
	if command -v apt-get >/dev/null 2>&1; then
		install golang-go
	else
		install golang
	fi
fi

# A distribution's Go may be too old to fetch the toolchain that go.mod asks for
# by itself, but it can download that toolchain's module. The Makefile puts
# build/go/bin in front of PATH.
if ! go_ok; then
	want=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
	module=golang.org/toolchain@v0.0.1-go$want.linux-$(go env GOARCH)
	echo "setup: $(go version | cut -d' ' -f3) is too old, downloading go$want"
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	(cd "$tmp" && GOMODCACHE=$tmp/mod GOFLAGS=-modcacherw go mod download "$module") ||
		die "Go 1.21 or later is needed; install it, put it into PATH and run this again"
	mkdir -p build
	rm -rf build/go
	mv "$tmp/mod/$module" build/go
	chmod +x build/go/bin/* build/go/pkg/tool/*/*
	hash -r # the shell remembers where the old one was
	go_ok || die "Go 1.21 or later is needed; install it, put it into PATH and run this again"
fi
