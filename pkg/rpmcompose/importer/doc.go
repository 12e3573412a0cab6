// SPDX-License-Identifier: Apache-2.0

// Package importer turns package files into commits of the package cache, a
// bare repository: one commit per package on the ref rpmostree/pkg/NAME/EVR.ARCH.
// A package is imported once; composes then hard-link its files.
//
// Everything is imported as root's. Owners are names in a package and ids exist
// only once the tree's users do, so [Place] reports what must be applied later.
//
// Where paths go:
//
//	/usr /bin /sbin /lib* /boot   as they are; links such as /bin are resolved by assemble
//	/etc                          usr/etc
//	/opt/NAME                     usr/lib/opt/NAME, and a tmpfiles.d link
//	/var /run                     directories and links become tmpfiles.d lines, files are dropped
//	/root /home /srv /mnt /media  the same below /var
//	/dev /proc /sys /tmp          dropped
//	anything else                 an error wrapping ErrPath
package importer
