// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	_ "modernc.org/sqlite" // the database driver "sqlite"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Write creates rpmdb.sqlite in dir with all packages, in the order of their names. The same packages and
// times give the same bytes. The file is complete, synced and without journal when it gets its name; one
// that was there is replaced. Its journal mode is "delete", so that it can be read where nothing can be
// written.
//
// An error names the package; two packages with the same name, version and architecture are refused.
func Write(ctx context.Context, dir *fsx.Dir, pkgs []Installed) error {
	records, err := prepare(pkgs)
	if err != nil {
		return fmt.Errorf("write package database: %w", err)
	}
	// SQLite resolves the path that it is given, which fails for a directory of
	// an overlay in another mount namespace: it works elsewhere, and the result
	// is copied.
	tmp, err := os.MkdirTemp("", "rpmdb-")
	if err != nil {
		return fmt.Errorf("write package database: %w", err)
	}
	err = writeIn(ctx, dir, filepath.Join(tmp, FileName), records)
	return errors.Join(err, os.RemoveAll(tmp))
}

func writeIn(ctx context.Context, dir *fsx.Dir, path string, records []record) error {
	if err := build(ctx, path, records); err != nil {
		return fmt.Errorf("write package database: %w", err)
	}
	if err := install(dir, path); err != nil {
		return fmt.Errorf("write package database: %w", err)
	}
	// Journals of a database that was replaced would be applied to the new one.
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if ok, err := dir.Exists(FileName + suffix); err != nil || !ok {
			continue
		}
		if err := dir.Remove(FileName + suffix); err != nil {
			return fmt.Errorf("write package database: %w", err)
		}
	}
	return dir.Fsync()
}

// install puts the finished file into its place in one step.
func install(dir *fsx.Dir, path string) error {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := dir.CreateAtomic(FileName, 0o644)
	if err != nil {
		return err
	}
	defer dst.Cancel()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Commit()
}

// record is a package as the database holds it.
type record struct {
	pkg  *rpm.Package
	blob []byte
}

// prepare makes the blobs and sorts them.
func prepare(pkgs []Installed) ([]record, error) {
	out := make([]record, 0, len(pkgs))
	for i := range pkgs {
		blob, err := pkgs[i].Blob()
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", pkgs[i].Package.NEVRA(), err)
		}
		// The index tables come from what is stored, so that both cannot disagree.
		p, err := rpm.ParsePackage(blob)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", pkgs[i].Package.NEVRA(), err)
		}
		out = append(out, record{p, blob})
	}
	slices.SortStableFunc(out, func(a, b record) int { return rpm.CompareNEVRA(a.pkg.NEVRA(), b.pkg.NEVRA()) })
	for i := 1; i < len(out); i++ {
		if out[i].pkg.NEVRA() == out[i-1].pkg.NEVRA() {
			return nil, fmt.Errorf("package %s stands twice", out[i].pkg.NEVRA())
		}
	}
	return out, nil
}

// Blob gives the header as stored in the database, with what an installation adds.
func (i Installed) Blob() ([]byte, error) {
	files := len(i.Package.Header.Strings(rpm.TagBasenames))
	states := make([]byte, files)
	if i.FileStates != nil && len(i.FileStates) != files {
		return nil, fmt.Errorf("%d file states for %d files", len(i.FileStates), files)
	}
	for n, s := range i.FileStates {
		states[n] = byte(s)
	}
	tid := i.InstallTID
	if tid == 0 {
		tid = uint32(i.InstallTime.Unix())
	}
	extra := []rpm.Entry{
		rpm.Uint32Entry(rpm.TagInstallTime, uint32(i.InstallTime.Unix())),
		rpm.Uint32Entry(rpm.TagInstallTID, tid),
		rpm.Uint32Entry(rpm.TagInstallColor, i.InstallColor),
	}
	if files > 0 {
		extra = append(extra, rpm.CharEntry(rpm.TagFileStates, states))
	}
	if prefixes := i.Package.Header.Strings(rpm.TagPrefixes); len(prefixes) > 0 {
		// Relocatable packages go where they were built for.
		for n := range prefixes {
			prefixes[n] = strings.TrimRight(prefixes[n], "/")
		}
		extra = append(extra, rpm.StringsEntry(rpm.TagInstPrefixes, prefixes...))
	}
	return i.Package.Blob(extra...)
}

// build fills a new database file. It is written once and renamed when complete, so a journal and syncs
// would only cost time.
func build(ctx context.Context, path string, records []record) (err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(off)&_pragma=synchronous(off)&_pragma=temp_store(memory)&_pragma=page_size(4096)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fill(ctx, tx, records); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	// Tables grew side by side; this puts the pages of each together.
	_, err = db.ExecContext(ctx, "VACUUM")
	return err
}

func fill(ctx context.Context, tx *sql.Tx, records []record) error {
	if _, err := tx.ExecContext(ctx, createPackages); err != nil {
		return err
	}
	for i, r := range records {
		if _, err := tx.ExecContext(ctx, `INSERT INTO 'Packages' VALUES(?, ?)`, i+1, r.blob); err != nil {
			return fmt.Errorf("package %s: %w", r.pkg.NEVRA(), err)
		}
	}
	for _, t := range tables() {
		if err := fillTable(ctx, tx, t, records); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return nil
}

// batch is how many rows one statement inserts; the bound of SQLite is 32766 values.
const batch = 256

func fillTable(ctx context.Context, tx *sql.Tx, t table, records []record) error {
	if _, err := tx.ExecContext(ctx, t.create()); err != nil {
		return err
	}
	full, err := tx.PrepareContext(ctx, insertRows(t.name, batch))
	if err != nil {
		return err
	}
	defer full.Close()
	args := make([]any, 0, 3*batch)
	for i, r := range records {
		for _, row := range t.rows(r.pkg) {
			args = append(args, row.key, i+1, row.idx)
			if len(args) < 3*batch {
				continue
			}
			if _, err := full.ExecContext(ctx, args...); err != nil {
				return err
			}
			args = args[:0]
		}
	}
	if len(args) > 0 {
		if _, err := tx.ExecContext(ctx, insertRows(t.name, len(args)/3), args...); err != nil {
			return err
		}
	}
	for _, stmt := range t.createIndexes() {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

func insertRows(table string, n int) string {
	return fmt.Sprintf(`INSERT INTO '%s' VALUES(?,?,?)%s`, table, strings.Repeat(",(?,?,?)", n-1))
}
