// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// SuperblockName is the name of the superblock in a delta's directory.
const SuperblockName = "superblock"

// ParseName reads FROM-TO or TO in hexadecimal, as ostree.DeltaName prints it; the
// error wraps ostree.ErrInvalid.
func ParseName(s string) (n ostree.DeltaName, err error) {
	from, to, both := strings.Cut(s, "-")
	if !both {
		n.To, err = ostree.ParseChecksum(s)
		return n, err
	}
	if n.From, err = ostree.ParseChecksum(from); err != nil {
		return n, err
	}
	n.To, err = ostree.ParseChecksum(to)
	return n, err
}

// Exists reports whether the repository has the delta, that is its superblock.
func Exists(r *ostree.Repo, n ostree.DeltaName) (bool, error) {
	return r.Dir().Exists(n.Path() + "/" + SuperblockName)
}

// Load reads the superblock of a delta of the repository; the error wraps
// ostree.ErrNotFound where there is none.
func Load(r *ostree.Repo, n ostree.DeltaName) (*Delta, error) {
	d, err := LoadFile(r.Dir(), n.Path()+"/"+SuperblockName)
	if err != nil {
		return nil, fmt.Errorf("load delta %s: %w", n, err)
	}
	if d.Name != n {
		return nil, fmt.Errorf("load delta %s: %w: superblock of %s", n, ErrCorrupt, d.Name)
	}
	return d, nil
}

// LoadFile reads a superblock from a file of dir.
func LoadFile(dir *fsx.Dir, name string) (*Delta, error) {
	data, err := dir.ReadFile(name, MaxSuperblockSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", name, ostree.ErrNotFound)
	}
	if errors.Is(err, fsx.ErrTooLarge) {
		return nil, fmt.Errorf("read %s: %w: %w", name, ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Delete removes a delta: its superblock first, so that nobody finds one whose
// parts are gone. An absent delta is an error wrapping ostree.ErrNotFound.
func Delete(r *ostree.Repo, n ostree.DeltaName) error {
	dir := r.Dir()
	found, err := dir.Exists(n.Path())
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("delete delta %s: %w", n, ostree.ErrNotFound)
	}
	if err := dir.Remove(n.Path() + "/" + SuperblockName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete delta %s: %w", n, err)
	}
	if err := dir.RemoveAll(n.Path()); err != nil {
		return fmt.Errorf("delete delta %s: %w", n, err)
	}
	return nil
}
