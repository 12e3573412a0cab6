// SPDX-License-Identifier: Apache-2.0

// Package solve chooses the packages of a tree: given everything the
// repositories offer and what was asked for, it finds a set that is closed
// under requirements and free of conflicts, or says in sentences why there is
// none. Where a machine with installed packages is given, the answer is what is
// to be installed on it afterwards. It is a CDCL solver with its own
// preferences; it reads no file and keeps no state.
package solve
