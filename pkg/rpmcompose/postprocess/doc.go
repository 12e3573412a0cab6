// SPDX-License-Identifier: Apache-2.0

// Package postprocess turns an installed tree into one that can be committed and
// booted: units, release files, package database, the user's own files and
// scripts, kernel and initramfs, accounts, the content of /var as tmpfiles.d
// lines, and the final layout of the top level. What would make two runs differ
// is removed or set to a fixed value.
//
// [Run] works in two parts. Everything that edits files or runs programs of the
// tree happens in a sandbox, whose overlay keeps it away from the files that the
// tree shares with the package cache; what follows only adds, removes and
// renames entries of the tree itself, or writes a new file and renames it.
package postprocess
