// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// aheadSource is a repository with three objects: of one, two and three bytes.
func aheadSource(t *testing.T) (src *Repo, list []Checksum) {
	t.Helper()
	src = newTestRepo(t, ModeBareUser)
	_, err := src.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
		for n := range 3 {
			c, err := txn.WriteContent(ctx, FileHeader{Mode: 0o100644}, int64(n+1), strings.NewReader(strings.Repeat("x", n+1)))
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return nil
	})
	testutil.Must(t, err)
	return src, list
}

func objectsOf(t *testing.T, r *Repo, list []Checksum) (found [3]bool) {
	t.Helper()
	for i, c := range list {
		var err error
		found[i], err = r.Has(ObjectName{c, TypeFile})
		testutil.Must(t, err)
	}
	return found
}

// What a tree has stays, whether it was stored ahead or found again; the rest goes,
// from the counts, too.
func TestWriteAhead(t *testing.T) {
	t.Parallel()
	src, list := aheadSource(t)
	r := newTestRepo(t, ModeArchive)
	dir := t.TempDir()
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("xx"), 0o644))
	uid, gid := uint32(0), uint32(0)
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
		_, err := txn.WriteContent(ctx, FileHeader{Mode: 0o100644}, 1, strings.NewReader("x"))
		return err
	})
	testutil.Must(t, err)
	stats, err := r.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
		if err := txn.WriteAhead(ctx, src, append(list, list...)); err != nil {
			return err
		}
		m := NewMTree()
		if err := txn.WriteDir(ctx, testutil.OpenDir(t, dir), m, CommitOptions{Overrides: &Overrides{UID: &uid, GID: &gid}, SkipXattrs: true}); err != nil {
			return err
		}
		_, _, err := txn.WriteTree(ctx, m)
		return err
	})
	testutil.Must(t, err)
	if got, want := objectsOf(t, r, list), [3]bool{true, true, false}; got != want {
		t.Errorf("objects are there: %v, want %v: one before, one of the tree, one in vain", got, want)
	}
	if stats.ContentWritten != 1 || stats.ContentBytes != 2 {
		t.Errorf("stats %+v, want one file of two bytes written", stats)
	}
	rep, err := r.Fsck(t.Context(), FsckOptions{})
	testutil.Must(t, err)
	if len(rep.Findings) > 0 {
		t.Errorf("fsck: %v", rep.Findings)
	}
}

// A transaction that fails leaves nothing that was stored ahead for the next one.
func TestWriteAheadFails(t *testing.T) {
	t.Parallel()
	src, list := aheadSource(t)
	r := newTestRepo(t, ModeArchive)
	failure := errors.New("no tree")
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
		return errors.Join(txn.WriteAhead(ctx, src, list), failure)
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(r.Dir().Path(), "tmp/staging-*/*/*"))
	testutil.Must(t, err)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	_, err = r.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
		return txn.WriteAhead(ctx, src, []Checksum{sha([]byte("nothing"))})
	})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("object that the source lacks: %v", err)
	}
	damage(t, src, ObjectName{list[0], TypeFile})
	_, err = r.Update(t.Context(), func(ctx context.Context, txn *Txn) error { return txn.WriteAhead(ctx, src, list[:1]) })
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged object: %v", err)
	}
}
