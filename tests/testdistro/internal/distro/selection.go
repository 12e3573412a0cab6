// SPDX-License-Identifier: Apache-2.0

package distro

import "strings"

// wanted is what the distribution is made for; the rest comes in through
// dependencies. Essential packages are added to it.
const wanted = `
systemd systemd-sysv systemd-resolved systemd-timesyncd libpam-systemd libnss-systemd
libnss-resolve libnss-myhostname udev dbus polkitd kmod
linux-image-amd64 dracut grub-pc-bin grub-efi-amd64-bin grub2-common
e2fsprogs dosfstools fdisk parted dmsetup
iproute2 iputils-ping nftables netbase openssh-server openssh-client
ca-certificates curl rsync tcpdump
podman crun netavark aardvark-dns conmon uidmap fuse-overlayfs slirp4netns
python3 perl git sudo vim-tiny less procps psmisc gpg gpg-agent
zstd cpio tar gzip xz-utils bzip2 zip unzip
tzdata jq strace tmux lsof file acl attr libsasl2-modules bubblewrap
bash-completion man-db pciutils
`

// unlisted are in the repositories too, but not in the standard tree: what the
// tests of other boot loaders and filesystems install.
const unlisted = `
systemd-boot-efi extlinux syslinux-common mtools xfsprogs btrfs-progs
`

// extrasV1 and extrasV2 are what package testdistro-extras pulls in: so a
// package leaves and another one arrives between the states.
var (
	extrasV1 = []string{"nano"}
	extrasV2 = []string{"tree"}
)

// dropped packages serve dpkg, debconf or the sysvinit transition, or are
// replaced by packages of our own.
const dropped = `
dpkg dpkg-dev apt apt-utils debconf debconf-2.0 cdebconf libdebconfclient0 ucf
adduser init-system-helpers base-files base-passwd linux-base install-info
initramfs-tools linux-initramfs-tool update-inetd xml-core sgml-base
debian-archive-keyring lsb-base runit-helper pkg-config python3-debconf
sensible-utils mime-support media-types dh-python
`

func words(s string) []string { return strings.Fields(s) }

func set(list ...string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// standardDirs belong to package filesystem alone; converted packages do not
// list them.
const standardDirs = `
/usr /usr/bin /usr/games /usr/include /usr/lib /usr/lib64 /usr/lib/x86_64-linux-gnu
/usr/libexec /usr/sbin /usr/src /usr/local /usr/local/bin /usr/local/etc /usr/local/games
/usr/local/include /usr/local/lib /usr/local/man /usr/local/sbin /usr/local/share
/usr/local/src /usr/share /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man
/usr/share/man/man1 /usr/share/man/man2 /usr/share/man/man3 /usr/share/man/man4
/usr/share/man/man5 /usr/share/man/man6 /usr/share/man/man7 /usr/share/man/man8
/usr/share/misc /usr/share/licenses /usr/share/perl5 /usr/share/bash-completion
/usr/share/bash-completion/completions /usr/share/zsh /usr/share/zsh/vendor-completions
/usr/share/dbus-1 /usr/share/polkit-1 /usr/lib/systemd /usr/lib/systemd/system
/usr/lib/tmpfiles.d /usr/lib/sysusers.d /usr/lib/sysctl.d /usr/lib/udev
/usr/lib/udev/rules.d /usr/lib/modules /usr/lib/modprobe.d
/etc /etc/alternatives /etc/default /etc/cron.d /etc/cron.daily /etc/cron.weekly
/etc/cron.monthly /etc/kernel /etc/logrotate.d /etc/modprobe.d /etc/opt /etc/pam.d
/etc/profile.d /etc/security /etc/skel /etc/ssl /etc/sysctl.d /etc/xdg
/var /var/backups /var/cache /var/lib /var/lib/misc /var/local /var/log /var/opt
/var/mail /var/spool /var/tmp
/boot /home /media /mnt /opt /srv
/proc /sys /dev /run /tmp /root
`

var standardDirSet = set(words(standardDirs)...)

func isStandardDir(p string) bool { return standardDirSet[p] }
