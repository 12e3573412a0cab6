// SPDX-License-Identifier: Apache-2.0

// Package treefile reads the manifest of a tree: which repositories and
// packages make it up and how it is post-processed. The keys are those of
// rpm-ostree's treefile; they may be written in TOML, YAML or JSON, told apart
// by the file's extension, and a file of one format may include a file of
// another.
//
// Load is strict: an unknown key, a wrong type or a contradiction is one error
// that names file and line. All files are read through an fs.FS, and no name in
// a treefile can leave it lexically; hand in (*os.Root).FS() where symbolic
// links must not leave it either.
//
// The flow inside the package is: bytes -> tree of nodes with positions
// (format_*.go) -> check against the key table (schema.go) -> merge of includes
// (load.go) -> variables (vars.go) -> Manifest (decode.go) -> digests of the
// external files (external.go).
package treefile
