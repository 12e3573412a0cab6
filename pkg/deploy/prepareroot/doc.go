// SPDX-License-Identifier: Apache-2.0

// Package prepareroot turns the mounted physical root of an OSTree system into
// the root that the init system switches to. It runs in the initramfs, after
// the root filesystem is mounted and before the switch:
//
//	deployment             the new /, with /usr read-only
//	deployment/etc         writable
//	/ostree/deploy/OS/var  on /var, shared by all deployments of the stateroot
//	physical root          on /sysroot, read-only where the configuration says so
//
// The work has three steps. [ReadState] reads what the kernel arguments, the
// configuration and the disk say; [Plan] turns that into a list of operations
// without touching anything; [Execute] carries the list out. Mounts exist only
// in memory, so a crash at any point leaves the disk as it was.
package prepareroot
