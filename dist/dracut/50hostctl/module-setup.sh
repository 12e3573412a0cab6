#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Puts into the initramfs what turns the mounted disk into the booted deployment.

hostctl_prepare_root=/usr/lib/hostctl/hostctl-prepare-root

# An image built where hostctl is installed is for booting a deployment.
check() {
    [[ -x ${dracutsysrootdir-}$hostctl_prepare_root ]] && return 0
    return 255
}

depends() {
    echo systemd-initrd
}

# The transient modes and an unlocked /usr need overlayfs, composefs EROFS and before
# Linux 6.12 a loop device, too.
installkernel() {
    hostonly='' instmods overlay erofs loop
}

install() {
    inst_simple "$hostctl_prepare_root"
    local conf
    for conf in /usr/lib/ostree/prepare-root.conf /etc/ostree/prepare-root.conf /etc/ostree/initramfs-root-binding.key; do
        [[ -f ${dracutsysrootdir-}$conf ]] && inst_simple "$conf"
    done
    inst_simple "$systemdsystemunitdir/hostctl-prepare-root.service"
    # Ends a trial that would end in the emergency shell, or where an initramfs has
    # none and emergency.target cannot be started, nowhere.
    inst_simple "$systemdsystemunitdir/hostctl-trial-reboot.service"
    local target
    for target in initrd.target initrd-root-device.target initrd-root-fs.target; do
        mkdir -p "${initdir}${systemdsystemconfdir}/$target.d"
        printf '[Unit]\nOnFailure=hostctl-trial-reboot.service\n' >"${initdir}${systemdsystemconfdir}/$target.d/50-hostctl.conf"
    done
    mkdir -p "${initdir}${systemdsystemconfdir}/emergency.target.wants"
    ln_r "$systemdsystemunitdir/hostctl-trial-reboot.service" \
        "$systemdsystemconfdir/emergency.target.wants/hostctl-trial-reboot.service"
    mkdir -p "${initdir}${systemdsystemconfdir}/initrd-root-fs.target.wants"
    ln_r "$systemdsystemunitdir/hostctl-prepare-root.service" \
        "$systemdsystemconfdir/initrd-root-fs.target.wants/hostctl-prepare-root.service"
}
