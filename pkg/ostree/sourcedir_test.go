// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// writeFiles makes a tree with equal directories, empty ones and a name for each file
// that is its content.
func writeFiles(t *testing.T, top string, dirs, files int) {
	t.Helper()
	for i := range dirs {
		dir := filepath.Join(top, fmt.Sprint("d", i%7), fmt.Sprint("e", i))
		if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), fmt.Append(nil, i/2, j), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// commitDirs overlays directories, the last of them with or without Last.
func commitDirs(t *testing.T, r *Repo, last bool, workers int, dirs ...string) (Commit, Stats) {
	t.Helper()
	var c Commit
	stats, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) (err error) {
		m := NewMTree()
		for i, dir := range dirs {
			o := CommitOptions{Workers: workers, Last: last && i == len(dirs)-1}
			if err := tx.WriteDir(ctx, testutil.OpenDir(t, dir), m, o); err != nil {
				return err
			}
		}
		c.RootTree, c.RootMeta, err = tx.WriteTree(ctx, m)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, stats
}

// Directories that are stored as they are completed give the same trees and counts, with
// no object more, whoever of the workers is first.
func TestWriteDirLast(t *testing.T) {
	t.Parallel()
	lower, upper := t.TempDir(), t.TempDir()
	writeFiles(t, lower, 40, 9)
	writeFiles(t, upper, 11, 5)
	if err := os.WriteFile(filepath.Join(upper, "d1", "e1", "0"), []byte("replaced"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newTestRepo(t, ModeArchive)
	want, wantStats := commitDirs(t, r, false, 1, lower, upper)
	for _, workers := range []int{1, 2, 9} {
		r2 := newTestRepo(t, ModeArchive)
		got, stats := commitDirs(t, r2, true, workers, lower, upper)
		if got.ContentChecksum() != want.ContentChecksum() {
			t.Errorf("%d workers: tree %s instead of %s", workers, got.RootTree, want.RootTree)
		}
		if stats.MetadataTotal != wantStats.MetadataTotal || stats.MetadataWritten != wantStats.MetadataWritten {
			t.Errorf("%d workers: %+v instead of %+v", workers, stats, wantStats)
		}
		if diff := cmp.Diff(objectList(t, r), objectList(t, r2)); diff != "" {
			t.Errorf("%d workers: other objects:\n%s", workers, diff)
		}
	}
}

func objectList(t *testing.T, r *Repo) (list []string) {
	t.Helper()
	err := r.eachObject(t.Context(), func(n ObjectName) error {
		list = append(list, n.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A tree that was stored is read again when it is changed after all.
func TestWriteDirLastChanged(t *testing.T) {
	t.Parallel()
	lower, upper := t.TempDir(), t.TempDir()
	writeFiles(t, lower, 12, 3)
	writeFiles(t, upper, 5, 4)
	want, _ := commitDirs(t, newTestRepo(t, ModeArchive), false, 0, lower, upper)
	r := newTestRepo(t, ModeArchive)
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		m := NewMTree()
		for _, dir := range []string{lower, upper} {
			if err := tx.WriteDir(ctx, testutil.OpenDir(t, dir), m, CommitOptions{Last: true}); err != nil {
				return err
			}
		}
		tree, _, err := tx.WriteTree(ctx, m)
		if err == nil && tree != want.RootTree {
			t.Errorf("tree %s instead of %s", tree, want.RootTree)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The filter never denies what was added, and passes few others.
func TestObjectFilter(t *testing.T) {
	t.Parallel()
	var s objectFilter
	name := func(i int) ObjectName { return ObjectName{sha(fmt.Append(nil, i)), TypeFile} }
	if !s.empty() || s.mayHave(name(0)) {
		t.Error("the zero value has something")
	}
	const n = 100_000
	for i := range n {
		s.add(name(i))
	}
	wrong := 0
	for i := range n {
		if !s.mayHave(name(i)) {
			t.Fatalf("denies %d", i)
		}
		if s.mayHave(ObjectName{name(i).Checksum, TypeDirTree}) || s.mayHave(name(n+i)) {
			wrong++
		}
	}
	if wrong > n/1000 {
		t.Errorf("passes %d of %d strangers", wrong, n)
	}
}

// What a transaction publishes is what it staged itself: not the detached metadata or
// payload link that an interrupted one left, which nothing can verify.
func TestPublishOnlyStaged(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeBareUser)
	id, err := r.bootID()
	if err != nil {
		t.Fatal(err)
	}
	stage := filepath.Join(r.Dir().Path(), "tmp", stagingPrefix+id+"-abcdef")
	if err := os.MkdirAll(stage, 0o755); err != nil {
		t.Fatal(err)
	}
	stray := []ObjectName{{sha([]byte("a")), TypeCommitMeta}, {sha([]byte("b")), TypeFile}}
	for _, n := range stray {
		if err := os.WriteFile(filepath.Join(stage, n.String()), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := ObjectName{sha([]byte("c")), TypePayloadLink}
	if err := os.Symlink("../"+stray[1].loosePath(r.mode), filepath.Join(stage, link.String())); err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	writeFiles(t, src, 3, 3)
	commitDirs(t, r, true, 0, src)
	if _, err := os.Stat(stage); !os.IsNotExist(err) {
		t.Errorf("the staging directory was not taken over: %v", err)
	}
	for _, n := range append(stray, link) {
		if _, err := os.Lstat(objectFile(r, n)); !os.IsNotExist(err) {
			t.Errorf("%s was published: %v", n, err)
		}
	}
}
