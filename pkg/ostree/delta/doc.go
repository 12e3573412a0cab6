// SPDX-License-Identifier: Apache-2.0

// Package delta reads, applies and writes static deltas: files that hold what
// turns the objects of one commit into those of another, so that an update is a
// few large downloads. What it writes libostree applies, and the other way round.
//
// # Layout
//
//	deltas/AB/CDEF…/superblock    what the delta holds, its commit, perhaps its parts
//	deltas/AB/CDEF…/0, 1, …       the parts, unless they are inside the superblock
//	delta-indexes/AB/CDEF….index  the deltas that lead to one commit
//
// # Applying
//
// [Parse] reads a superblock. An [Applier] executes parts inside a transaction of
// the repository, in any order and several at once. The data of a part stand
// before the operations that use them, so a part is first unpacked: into memory as far
// as 32 MiB for all parts suffice, beyond that into an unnamed file of the repository. Nothing
// of a part is executed before its checksum has been verified, and every object
// is verified again when it is written. Objects that the transaction has already
// are not written again. [ApplyOffline] does the whole from local files.
//
// # Generating
//
// [Generate] finds for each new file a similar one of the old commit and encodes
// it as a bsdiff patch, as copies of ranges, or whole, whichever is best. Files
// are worked on in parallel; the result does not depend on scheduling. Parts get
// their names first and the superblock last, each by a rename, so a crash never
// leaves a superblock without its parts.
//
// Format: docs/formats/delta.md.
package delta
