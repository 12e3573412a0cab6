// SPDX-License-Identifier: Apache-2.0

// Package rpmcompose turns a treefile and package repositories into a commit.
//
//	Resolve  reads repository metadata and solves: no package is downloaded
//	Plan     the answer, a value; its JSON is the lockfile
//	Execute  downloads, imports, assembles, runs scriptlets, commits
//
// Until Execute's commit only the cache and the work directory are written.
package rpmcompose

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// Conditions of a compose.
var (
	// ErrUnchanged: the plan's input hash equals that of the ref's last commit.
	ErrUnchanged = errors.New("unchanged")
	// ErrTreefile: the treefile asks for what cannot be done.
	ErrTreefile = errors.New("treefile cannot be composed")
)

// composerRevision is part of the input hash; it is raised when the same plan
// would give another tree than before.
const composerRevision = 3

// PlannedPackage is one package of a plan.
type PlannedPackage struct {
	Name     string   `json:"name"`
	EVR      string   `json:"evr"`
	Arch     string   `json:"arch"`
	Repo     string   `json:"repo"`
	Checksum string   `json:"checksum"` // ALGORITHM:HEX of the package file
	Size     int64    `json:"size"`     // of the package file, in bytes
	URLs     []string `json:"urls"`     // not part of the input hash
}

// NEVRA gives NAME-EVR.ARCH.
func (p PlannedPackage) NEVRA() string { return p.Name + "-" + p.EVR + "." + p.Arch }

// PlannedRepo is the state of a repository that a plan was made from.
type PlannedRepo struct {
	ID       string `json:"id"`
	Revision string `json:"revision"`
	Checksum string `json:"checksum"` // SHA-256 of repomd.xml
}

// Plan is everything that decides a tree. It is not changed after Resolve.
type Plan struct {
	Ref       string           `json:"ref"`
	Arch      string           `json:"arch"`
	InputHash string           `json:"inputhash"`
	Repos     []PlannedRepo    `json:"repos"`
	Packages  []PlannedPackage `json:"packages"` // in the order of installation
	// Advisories are recorded in the commit; they are no part of the input hash.
	Advisories []PlannedAdvisory `json:"advisories,omitempty"`

	manifest *treefile.Manifest
}

// Manifest returns the treefile of the plan.
func (p *Plan) Manifest() *treefile.Manifest { return p.manifest }

// JSON gives the lockfile form.
func (p *Plan) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return append(b, '\n'), nil
}

// Bytes returns the sum of the package files' sizes.
func (p *Plan) Bytes() int64 {
	var n int64
	for _, pkg := range p.Packages {
		n += pkg.Size
	}
	return n
}

// inputHash covers the manifest with its external files and the checksums of
// the packages: where they were found and in which order they are listed does
// not matter.
func inputHash(m *treefile.Manifest, packages []PlannedPackage) (string, error) {
	canonical, err := m.Canonical()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	field(h, fmt.Appendf(nil, "composer %d", composerRevision))
	field(h, canonical)
	lines := make([]string, len(packages))
	for i, p := range packages {
		lines[i] = p.NEVRA() + " " + p.Checksum
	}
	slices.Sort(lines)
	for _, l := range lines {
		field(h, []byte(l))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// field writes a length before the bytes, so that no two lists of fields hash alike.
func field(h hash.Hash, b []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	h.Write(n[:])
	h.Write(b)
}
