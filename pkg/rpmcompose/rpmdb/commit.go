// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// maxDatabase bounds the database of a commit, in bytes: what a large
// installation has, several times over.
const maxDatabase = 1 << 30

// ReadCommit reads the package database of a commit, wherever in the tree it is,
// through a copy in the folder for temporary files. Without one the error wraps
// [ErrNoDatabase].
func ReadCommit(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum) ([]*rpm.Package, error) {
	pkgs, err := readCommit(ctx, repo, commit)
	if err != nil {
		return nil, fmt.Errorf("read package database of commit %s: %w", commit, err)
	}
	return pkgs, nil
}

func readCommit(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum) (pkgs []*rpm.Package, err error) {
	for _, place := range Places() {
		// The place itself may be a link to another one.
		n, err := repo.LookupFollow(commit, place)
		if errors.Is(err, ostree.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if pkgs, err = readCopy(ctx, repo, commit, n.Path); !errors.Is(err, ostree.ErrNotFound) {
			return pkgs, err
		}
	}
	return nil, ErrNoDatabase
}

// readCopy reads the database in a directory of a commit; ErrNotFound where there is none.
func readCopy(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum, place string) (pkgs []*rpm.Package, err error) {
	tmp, err := os.MkdirTemp("", "rpmdb-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := extract(repo, commit, path.Join(place, FileName), tmp); err != nil {
		return nil, err
	}
	// A log with changes that the database lacks yet, which Read understands.
	if err := extract(repo, commit, path.Join(place, FileName+"-wal"), tmp); err != nil && !errors.Is(err, ostree.ErrNotFound) {
		return nil, err
	}
	d, err := fsx.OpenDir(tmp)
	if err != nil {
		return nil, err
	}
	pkgs, err = Read(ctx, d)
	return pkgs, errors.Join(err, d.Close())
}

func extract(repo *ostree.Repo, commit ostree.Checksum, name, dir string) (err error) {
	n, err := repo.Lookup(commit, name)
	if err != nil {
		return err
	}
	if n.IsDir {
		return fmt.Errorf("%s is a directory: %w", name, rpm.ErrFormat)
	}
	h, size, content, err := repo.OpenFile(n.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if !h.IsRegular() || size > maxDatabase {
		return fmt.Errorf("%s: not a regular file of at most %d bytes: %w", name, maxDatabase, rpm.ErrFormat)
	}
	out, err := os.OpenFile(filepath.Join(dir, path.Base(name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}
