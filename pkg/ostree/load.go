// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Has reports whether an object is stored, durably, here or in a parent.
func (r *Repo) Has(n ObjectName) (bool, error) {
	found, err := r.HasLocal(n)
	if found || err != nil {
		return found, err
	}
	return r.hasInParents(n)
}

// LoadRaw gives a metadata object's bytes, from a parent where the repository lacks
// it. Those of a dirtree, dirmeta and commit are verified against the checksum
// (ErrCorrupt); absent is ErrNotFound.
func (r *Repo) LoadRaw(n ObjectName) ([]byte, error) {
	data, err := loadMeta(r.objects, n.loosePath(r.mode), n)
	if r.parent != nil && errors.Is(err, ErrNotFound) {
		return r.parent.LoadRaw(n)
	}
	return data, err
}

// LoadUnverified is LoadRaw without the comparison with the checksum: for what is
// only described, or taken over as it is from a repository that is trusted.
func (r *Repo) LoadUnverified(n ObjectName) ([]byte, error) {
	data, err := readMeta(r.objects, n.loosePath(r.mode), n)
	if r.parent != nil && errors.Is(err, ErrNotFound) {
		return r.parent.LoadUnverified(n)
	}
	return data, err
}

func loadMeta(d *fsx.Dir, path string, n ObjectName) ([]byte, error) {
	data, err := readMeta(d, path, n)
	if err != nil {
		return nil, err
	}
	if sum := Checksum(sha256.Sum256(data)); n.Type.hashed() && sum != n.Checksum {
		return nil, fmt.Errorf("read object %s: %w", n, &checksumError{sum})
	}
	return data, nil
}

func readMeta(d *fsx.Dir, path string, n ObjectName) ([]byte, error) {
	if !n.Type.IsMeta() {
		return nil, fmt.Errorf("read object %s: %w: not a metadata type", n, ErrInvalid)
	}
	data, err := d.ReadFile(path, MaxMetadataSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, worded(ErrNotFound, "No such metadata object %s", n)
	}
	if errors.Is(err, fsx.ErrTooLarge) {
		return nil, fmt.Errorf("read object %s: %w: %w", n, ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", n, err)
	}
	return data, nil
}

// loadParsed reads a metadata object and parses it.
func loadParsed[T any](load func(ObjectName) ([]byte, error), n ObjectName, parse func([]byte) (T, error)) (T, error) {
	data, err := load(n)
	if err != nil {
		var zero T
		return zero, err
	}
	v, err := parse(data)
	if err != nil {
		return v, fmt.Errorf("read object %s: %w", n, err)
	}
	return v, nil
}

// LoadCommit reads and verifies a commit.
func (r *Repo) LoadCommit(c Checksum) (Commit, error) {
	return loadParsed(r.LoadRaw, ObjectName{c, TypeCommit}, ParseCommit)
}

// LoadDirTree reads and verifies a dirtree.
func (r *Repo) LoadDirTree(c Checksum) (DirTree, error) {
	return loadParsed(r.LoadRaw, ObjectName{c, TypeDirTree}, ParseDirTree)
}

// LoadDirMeta reads and verifies a dirmeta.
func (r *Repo) LoadDirMeta(c Checksum) (DirMeta, error) {
	return loadParsed(r.LoadRaw, ObjectName{c, TypeDirMeta}, ParseDirMeta)
}

// CommitMeta reads a commit's detached metadata, which holds its signatures;
// empty if there is none. It is not verified by any checksum.
func (r *Repo) CommitMeta(c Checksum) (gvariant.Dict, error) {
	d, err := loadParsed(r.LoadRaw, ObjectName{c, TypeCommitMeta}, parseCommitMeta)
	if errors.Is(err, ErrNotFound) {
		return gvariant.Dict{}, nil
	}
	return d, err
}

// parseCommitMeta reads a{sv}; a file of no bytes is the empty dictionary.
func parseCommitMeta(data []byte) (gvariant.Dict, error) {
	d, err := gvariant.ParseDict(data)
	if err != nil {
		return d, fmt.Errorf("%w: commitmeta: %w", ErrCorrupt, err)
	}
	return d, nil
}

// CommitPartial reports whether the commit is marked as one whose closure may be
// incomplete: a pull is under way, was cut short or left parts out. The mark that
// counts is that of the repository, among the parents, which has the commit.
func (r *Repo) CommitPartial(c Checksum) (bool, error) {
	partial, err := r.dir.Exists(partialName(c))
	if partial || err != nil || r.parent == nil {
		return partial, err
	}
	if local, err := r.HasLocal(ObjectName{c, TypeCommit}); local || err != nil {
		return false, err
	}
	return r.parent.CommitPartial(c)
}

func partialName(c Checksum) string { return "state/" + c.String() + ".commitpartial" }
