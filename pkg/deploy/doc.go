// SPDX-License-Identifier: Apache-2.0

// Package deploy manages the deployments of an OSTree sysroot: bootable trees
// side by side on one filesystem, and the boot menu that selects among them.
//
// The disk is the only state. Load reads it; planners (Retention.Order,
// PlanRollback, PlanCleanup, …) are pure functions from what was read to what
// should be; mutators hang off Locked and carry it out. Write is the one commit
// point: everything before it leaves garbage that Cleanup recognises, everything
// after it is idempotent. The layout is libostree's, see docs/formats/sysroot.md.
//
//	Deploy + Write          a new tree, bootable at once
//	Stage … FinalizeStaged  the same in two parts: the second runs at shutdown, so
//	                        that the /etc merge sees the last state of /etc
package deploy

import "errors"

// Conditions that callers test for.
var (
	ErrNotSysroot       = errors.New("not an initialised sysroot")
	ErrNoStateroot      = errors.New("no such stateroot")
	ErrNoDeployment     = errors.New("no such deployment")
	ErrBooted           = errors.New("deployment is booted")
	ErrPinned           = errors.New("deployment is pinned")
	ErrNoRollback       = errors.New("no deployment to roll back to")
	ErrNotBooted        = errors.New("no deployment of this sysroot is booted")
	ErrNoKernel         = errors.New("commit has no kernel in usr/lib/modules")
	ErrPartialCommit    = errors.New("commit is incomplete in the repository")
	ErrUKI              = errors.New("unified kernel image cannot be booted here")
	ErrBootSpace        = errors.New("not enough space in /boot")
	ErrBootMissing      = errors.New("what the boot loader reads is not mounted")
	ErrReadOnly         = errors.New("filesystem is read-only")
	ErrDiskSpace        = errors.New("not enough space in the sysroot")
	ErrEtcConflict      = errors.New("local changes of /etc conflict with new defaults")
	ErrNothingStaged    = errors.New("no staged deployment")
	ErrStagedLocked     = errors.New("staged deployment is locked against finalisation")
	ErrBrokenMenu       = errors.New("boot menu has entries that cannot be read")
	ErrInvalidCommit    = errors.New("commit cannot be deployed")
	ErrInvalidKargs     = errors.New("invalid kernel argument")
	ErrInvalidStateFile = errors.New("invalid state file")
)
