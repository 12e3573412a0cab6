// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// ErrNoDatabase is wrapped where a tree has no package database in a known place.
var ErrNoDatabase = errors.New("no package database")

// Places lists where trees keep their package database, in the order in which they are tried.
func Places() []string {
	return []string{"usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpm"}
}

// ReadTree reads the package database of an operating system tree, wherever it is. Without one the error
// wraps [ErrNoDatabase].
func ReadTree(ctx context.Context, root *fsx.Dir) ([]*rpm.Package, error) {
	for _, place := range Places() {
		d, err := root.OpenDirInRoot(place)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read package database: %w", err)
		}
		ok, err := d.Exists(FileName)
		if err != nil || !ok {
			_ = d.Close()
			continue
		}
		pkgs, err := Read(ctx, d)
		return pkgs, errors.Join(err, d.Close())
	}
	return nil, fmt.Errorf("read package database of %s: %w", root.Path(), ErrNoDatabase)
}

// Read lists the packages of the database in dir, sorted by name, version and architecture. Nothing is
// written: no lock, no journal. The database must not be changed meanwhile, as in a deployed tree.
//
// An error names the package's number and wraps [rpm.ErrFormat] for a malformed header.
func Read(ctx context.Context, dir *fsx.Dir) ([]*rpm.Package, error) {
	pkgs, err := read(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("read package database %s: %w", dir.Path(), err)
	}
	slices.SortStableFunc(pkgs, func(a, b *rpm.Package) int { return rpm.CompareNEVRA(a.NEVRA(), b.NEVRA()) })
	return pkgs, nil
}

func read(ctx context.Context, dir *fsx.Dir) (pkgs []*rpm.Package, err error) {
	dsn, cleanup, err := source(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	rows, err := db.QueryContext(ctx, `SELECT hnum, blob FROM Packages ORDER BY hnum`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var hnum int64
		var blob []byte
		if err := rows.Scan(&hnum, &blob); err != nil {
			return nil, err
		}
		p, err := rpm.ParsePackage(blob)
		if err != nil {
			return nil, fmt.Errorf("package number %d: %w", hnum, err)
		}
		pkgs = append(pkgs, p)
	}
	return pkgs, rows.Err()
}

// source gives the address of a database that can be opened without writing beside the original. One with
// changes waiting in a write-ahead log, as rpm leaves them on a running system, is read from a copy.
func source(dir *fsx.Dir) (dsn string, cleanup func() error, err error) {
	st, err := dir.Lstat(FileName)
	if err != nil {
		return "", nil, err
	}
	if !st.IsRegular() {
		return "", nil, fmt.Errorf("%s is not a regular file: %w", FileName, rpm.ErrFormat)
	}
	wal, err := dir.Lstat(FileName + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && wal.Size == 0 {
		path := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), FileName)
		return "file:" + path + "?mode=ro&immutable=1&_pragma=trusted_schema(0)", func() error { return nil }, nil
	}
	if err != nil {
		return "", nil, err
	}
	tmp, err := os.MkdirTemp("", "rpmdb-")
	if err != nil {
		return "", nil, err
	}
	cleanup = func() error { return os.RemoveAll(tmp) }
	for _, name := range []string{FileName, FileName + "-wal"} {
		if err := copyOut(dir, name, filepath.Join(tmp, name)); err != nil {
			return "", nil, errors.Join(err, cleanup())
		}
	}
	return "file:" + filepath.Join(tmp, FileName) + "?_pragma=trusted_schema(0)", cleanup, nil
}

func copyOut(dir *fsx.Dir, name, dst string) error {
	in, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
