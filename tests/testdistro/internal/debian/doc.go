// SPDX-License-Identifier: Apache-2.0

// Package debian reads what the configured apt archive offers: control
// stanzas, relations, versions (deb-version(7), deb-control(5)), package
// indices, and the closure of a selection under Depends and Pre-Depends.
package debian
