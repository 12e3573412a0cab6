// SPDX-License-Identifier: Apache-2.0

// Package rpmdb writes and reads the database of installed packages, rpmdb.sqlite, in the form that rpm
// 4.16 and later use: a table Packages with one header blob per package, and one index table per searchable
// tag.
package rpmdb

import (
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// FileName is the database's name in its directory.
const FileName = "rpmdb.sqlite"

// Installed is one package to record.
type Installed struct {
	Package *rpm.Package
	// InstallTime is the same for a whole tree as a rule, so that the database is reproducible.
	InstallTime time.Time
	// InstallTID groups the packages of one transaction; the install time if 0.
	InstallTID uint32
	// InstallColor is the transaction's colour: 3 on multilib x86_64, 0 elsewhere.
	InstallColor uint32
	// FileStates has one entry per file of the package; nil means that all are normal.
	FileStates []rpm.FileState
}
