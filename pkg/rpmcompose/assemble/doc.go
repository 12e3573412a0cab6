// SPDX-License-Identifier: Apache-2.0

// Package assemble joins imported packages into one directory by hard link.
//
// The union is computed in memory first: symbolic links that stand for
// directories (/bin, /lib, and whatever else a package ships as one) are
// resolved whatever the order of packages, equal files merge, and different
// files under one path are reported, all of them, with both packages' names.
// Only then is anything written: the union as a tree of the package cache, and
// its checkout. Every file of the result shares its inode with the cache; see
// package scripts for how it may be changed.
package assemble
