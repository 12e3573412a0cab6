// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func commitTree(t *testing.T, repo *ostree.Repo, dir string) (sum ostree.Checksum) {
	t.Helper()
	root := testutil.OpenDir(t, dir)
	_, err := repo.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := txn.WriteDir(ctx, root, m, ostree.CommitOptions{SkipXattrs: true}); err != nil {
			return err
		}
		var c ostree.Commit
		var err error
		if c.RootTree, c.RootMeta, err = txn.WriteTree(ctx, m); err != nil {
			return err
		}
		sum, err = txn.WriteCommit(ctx, c)
		return err
	})
	testutil.Must(t, err)
	return sum
}

func names(pkgs []*rpm.Package) (out []string) {
	for _, p := range pkgs {
		out = append(out, p.NEVRA().String())
	}
	return out
}

func TestReadCommit(t *testing.T) {
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	repo, err := ostree.Create(testutil.OpenDir(t, t.TempDir()), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	t.Cleanup(func() { _ = repo.Close() })
	dir := t.TempDir()
	testutil.Must(t, os.MkdirAll(filepath.Join(dir, "usr/lib/sysimage"), 0o755))
	testutil.Must(t, os.MkdirAll(filepath.Join(dir, "usr/share/rpm"), 0o755))
	if _, err := ReadCommit(t.Context(), repo, commitTree(t, repo, dir)); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("an empty tree: %v", err)
	}
	place := testutil.OpenDir(t, filepath.Join(dir, "usr/share/rpm"))
	testutil.Must(t, Write(t.Context(), place, someInstalled(t)))
	testutil.Must(t, os.Symlink("../../share/rpm", filepath.Join(dir, "usr/lib/sysimage/rpm")))
	want, err := Read(t.Context(), place)
	testutil.Must(t, err)
	got, err := ReadCommit(t.Context(), repo, commitTree(t, repo, dir))
	if err != nil || len(got) == 0 || cmp.Diff(names(want), names(got)) != "" {
		t.Errorf("%v, want %v: %v", names(got), names(want), err)
	}
	file := filepath.Join(dir, "usr/share/rpm", FileName)
	testutil.Must(t, os.Remove(file))
	testutil.Must(t, os.Symlink("/etc/passwd", file))
	if _, err := ReadCommit(t.Context(), repo, commitTree(t, repo, dir)); !errors.Is(err, rpm.ErrFormat) {
		t.Errorf("a link instead of the database: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(scratch, "rpmdb-*")); err != nil || len(left) > 0 {
		t.Errorf("the folder for temporary files has %v, %v", left, err)
	}
}
