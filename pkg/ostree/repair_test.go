// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

// brokenRepo gives a repository, an intact copy and two commits: the second one's
// tree has lost or damaged objects of every kind.
type brokenRepo struct {
	r, good    *Repo
	old, c     Checksum
	lost, torn []ObjectName
}

func breakRepo(t *testing.T, mode Mode) brokenRepo {
	t.Helper()
	b := brokenRepo{r: newTestRepo(t, mode)}
	b.old = commitFiles(t, b.r, "a", Checksum{}, map[string]string{"x": "1", "d/y": "shared"})
	b.c = commitFiles(t, b.r, "a", b.old, map[string]string{"x": "2", "d/y": "shared", "e/f/z": "3", "e/f/w": "4"})
	b.good = copyRepo(t, b.r)
	e, err := b.r.Lookup(b.c, "e/f")
	if err != nil {
		t.Fatal(err)
	}
	b.lost = []ObjectName{{contentSum(t, b.r, "3"), TypeFile}, {e.Tree, TypeDirTree}}
	b.torn = []ObjectName{{contentSum(t, b.r, "2"), TypeFile}, {loadCommit(t, b.r, b.c).RootTree, TypeDirTree}}
	for _, n := range b.lost {
		removeObject(t, b.r, n)
	}
	for _, n := range b.torn {
		damage(t, b.r, n)
	}
	return b
}

// repoSource serves a repository's objects as a remote would.
type repoSource struct{ r *Repo }

func (s repoSource) FetchObject(_ context.Context, n ObjectName) (io.ReadCloser, error) {
	f, err := os.Open(objectFile(s.r, n))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}

// badSource gives nonsense for everything.
type badSource struct{}

func (badSource) FetchObject(context.Context, ObjectName) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader([]byte("nonsense, and rather much of it"))), nil
}

func mustBeWhole(t *testing.T, r *Repo) {
	t.Helper()
	res, err := r.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(res.Findings) > 0 || res.Partial > 0 {
		t.Errorf("fsck: %+v, %v", res, err)
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	for _, mode := range []Mode{ModeArchive, ModeBareUser, ModeBareUserOnly} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			b := breakRepo(t, mode)
			res, err := b.r.Repair(t.Context(), RepairOptions{Repos: []*Repo{b.good}, Sources: []ObjectSource{badSource{}}})
			if err != nil {
				t.Fatal(err)
			}
			// The directory below the damaged one and its file were not even known to be lost.
			if diff := cmp.Diff(sortObjects(slices.Clone(b.torn)), sortObjects(res.Replaced)); diff != "" {
				t.Errorf("replaced (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(sortObjects(slices.Clone(b.lost)), sortObjects(res.Restored)); diff != "" {
				t.Errorf("restored (-want +got):\n%s", diff)
			}
			mustBeWhole(t, b.r)
			if diff := cmp.Diff(storedObjects(t, b.good), storedObjects(t, b.r)); diff != "" {
				t.Errorf("objects (-before +after):\n%s", diff)
			}
			run(t, "ostree", repoPath(b.r), "fsck")
			if list, err := b.r.Dir().ReadDir("tmp"); err != nil || slices.ContainsFunc(list, func(e fsx.Entry) bool { return e.Name != "cache" }) {
				t.Errorf("left in tmp: %v, %v", list, err)
			}
		})
	}
}

// A remote gives archive objects, whatever the mode; commits that an fsck of ostree
// marked become whole, and what nobody has is told.
func TestRepairFromSource(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	b := breakRepo(t, ModeArchive)
	client := newTestRepo(t, ModeBareUser)
	run(t, "ostree", repoPath(client), "pull-local", "--depth=-1", b.good.Dir().Path(), "a")
	file := ObjectName{contentSum(t, client, "4"), TypeFile}
	removeObject(t, client, file)
	only := ObjectName{contentSum(t, client, "1"), TypeFile}
	removeObject(t, client, only)
	if out, err := runFails(t, "ostree", repoPath(client), "fsck"); err == nil {
		t.Fatalf("fsck of ostree found nothing:\n%s", out)
	}
	for _, c := range []Checksum{b.old, b.c} {
		if state, err := client.partialState(c); state != partialFsck || err != nil {
			t.Errorf("commit %s: state %d, %v", c, state, err)
		}
	}
	removeObject(t, b.good, only)
	dry, err := client.Repair(t.Context(), RepairOptions{DryRun: true})
	if !errors.Is(err, ErrUnrepaired) || len(dry.Remaining) != 2 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	res, err := client.Repair(t.Context(), RepairOptions{Sources: []ObjectSource{badSource{}, repoSource{b.good}}})
	if !errors.Is(err, ErrUnrepaired) || len(res.Remaining) != 1 || res.Remaining[0].Object != only {
		t.Errorf("repair = %+v, %v", res, err)
	}
	if diff := cmp.Diff([]Checksum{b.c}, res.Cleared); diff != "" {
		t.Errorf("cleared (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]ObjectName{file}, res.Restored); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	res, err = client.Repair(t.Context(), RepairOptions{Repos: []*Repo{copyRepo(t, b.r)}})
	if err != nil || len(res.Cleared) != 1 {
		t.Errorf("second repair = %+v, %v", res, err)
	}
	mustBeWhole(t, client)
	run(t, "ostree", repoPath(client), "fsck")
}

// A commit that a ref names comes back with its signatures, but never before its
// closure is whole.
func TestRepairCommit(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	c := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1", "y": "2"})
	signed := false
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		d, err := signNothing(&signed)(ctx, nil)
		return errors.Join(err, tx.SetCommitMeta(ctx, c, d))
	})
	if err != nil {
		t.Fatal(err)
	}
	good, less := copyRepo(t, r), copyRepo(t, r)
	for _, n := range []ObjectName{{c, TypeCommit}, {c, TypeCommitMeta}, {contentSum(t, r, "1"), TypeFile}} {
		removeObject(t, r, n)
	}
	removeObject(t, less, ObjectName{contentSum(t, r, "1"), TypeFile})
	res, err := r.Repair(t.Context(), RepairOptions{Repos: []*Repo{less}})
	if !errors.Is(err, ErrUnrepaired) {
		t.Errorf("repair without the content: %+v, %v", res, err)
	}
	if ok, _ := r.Has(ObjectName{c, TypeCommit}); ok {
		t.Error("the commit is there without its content")
	}
	if res, err = r.Repair(t.Context(), RepairOptions{Repos: []*Repo{less, good}}); err != nil {
		t.Errorf("repair = %+v, %v", res, err)
	}
	mustBeWhole(t, r)
	if d, err := r.CommitMeta(c); d.Len() != 1 || err != nil {
		t.Errorf("signatures: %v, %v", d.Keys(), err)
	}
}

// A checkout that shares the damaged file is reported.
func TestRepairShared(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeBareUserOnly)
	commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1"})
	good := copyRepo(t, r)
	n := ObjectName{contentSum(t, r, "1"), TypeFile}
	for i := range 2 {
		if err := os.Link(objectFile(r, n), fmt.Sprintf("%s/checkout%d", t.TempDir(), i)); err != nil {
			t.Fatal(err)
		}
	}
	damage(t, r, n)
	res, err := r.Repair(t.Context(), RepairOptions{Repos: []*Repo{good}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]SharedObject{{n, 2}}, res.Shared); diff != "" {
		t.Errorf("shared (-want +got):\n%s", diff)
	}
	mustBeWhole(t, r)
}
