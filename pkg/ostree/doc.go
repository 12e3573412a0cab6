// SPDX-License-Identifier: Apache-2.0

// Package ostree reads and writes OSTree repositories: content-addressed
// objects, refs, transactions, checkouts, prune, fsck and summaries. What it
// writes libostree reads, and the other way round.
//
// # Layout
//
//	config                       key file, [core] repo_version=1 and mode
//	objects/ab/cdef….commit      metadata objects, and .file or .filez content
//	refs/heads/NAME              64 hex digits and a newline
//	refs/remotes/REMOTE/NAME     the same, for what was pulled
//	state/CSUM.commitpartial     the commit is here, its closure may not be
//	tmp/staging-BOOTID-XXXXXX/   objects of a running transaction; NAME-lock beside it
//	summary, summary.sig         for clients that pull over HTTP
//	.lock                        file lock: shared by writers, exclusive for prune
//
// # Crash safety
//
// A transaction writes its objects into a staging directory named after the
// kernel's boot id. To commit it syncs the filesystem once, renames the objects
// into objects/ without replacing anything, syncs the directories it touched,
// does the same for the commit objects, and only then replaces refs, each by a
// rename. A crash before the refs leaves
// the staging directory, which the next Open drops, and perhaps some complete
// unreferenced objects, which Prune drops. An object counts as present only in
// objects/, where nothing arrives before its bytes are durable, or when the
// running transaction wrote it. A commit that is present and not marked partial
// has its whole closure; a dirtree that is present promises nothing about what is
// below it. Several refs of one transaction are not switched
// as a set.
//
// A directory that a commit consumes is emptied after the refs are replaced; until
// then its files may be linked into the staging directory or objects/. What a killed
// transaction left under two names is therefore not taken over.
//
// # Concurrency
//
// A Repo and a Txn are safe for concurrent use; an MTree is not. Readers take no
// lock. Prune waits for running transactions, and they for it.
package ostree
