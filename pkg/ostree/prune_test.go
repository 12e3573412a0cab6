// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// commitAt commits one file at a time, in seconds, on top of a ref.
func commitAt(t *testing.T, r *Repo, ref, content string, at uint64) (c Checksum) {
	t.Helper()
	parent, err := r.Resolve(ref)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	_, err = r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		root := NewMTree()
		sum, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, int64(len(content)), strings.NewReader(content))
		if err = errors.Join(err, root.SetMeta(DirMeta{Mode: 0o40755}), root.SetFile("f", sum)); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, root)
		if err != nil {
			return err
		}
		c, err = tx.WriteCommit(ctx, Commit{Parent: parent, Timestamp: at, RootTree: tree, RootMeta: meta})
		if err != nil {
			return err
		}
		return tx.SetRef(ref, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pruneHistory has two local branches of six commits, a remote one and garbage.
func pruneHistory(t *testing.T) *Repo {
	r := newTestRepo(t, ModeArchive)
	for i := range 6 {
		for _, ref := range []string{"stable", "dev/x", "origin:up"} {
			commitAt(t, r, ref, fmt.Sprint(ref, i), 1000+uint64(i))
		}
	}
	commitAt(t, r, "gone", "garbage", 5000)
	if err := r.RemoveRef(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	return r
}

func storedObjects(t *testing.T, r *Repo) []string {
	t.Helper()
	var names []string
	root := filepath.Join(r.Dir().Path(), "objects")
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(p, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// With every option the same objects go and the same numbers come out as in ostree.
func TestInteropPrune(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	base := pruneHistory(t)
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	for args, o := range map[string]PruneOptions{
		"":                                    {},
		"--refs-only --depth=0":               {RefsOnly: true},
		"--refs-only --depth=2":               {RefsOnly: true, Depth: 2},
		"--refs-only":                         {RefsOnly: true, Depth: -1},
		"--refs-only --no-prune":              {RefsOnly: true, Depth: -1, DryRun: true},
		"--refs-only --depth=1 --commit-only": {RefsOnly: true, Depth: 1, CommitOnly: true},
		"--keep-younger-than=@1003":           {Depth: -1, KeepYoungerThan: at(1003)},
		"--keep-younger-than=@9999":           {Depth: -1, KeepYoungerThan: at(9999)},
		"--keep-younger-than=@1004 --retain-branch-depth=stable=4":    {Depth: -1, KeepYoungerThan: at(1004), BranchDepth: map[string]int{"stable": 4}},
		"--retain-branch-depth=origin:up=1 --depth=0":                 {BranchDepth: map[string]int{"origin:up": 1}},
		"--only-branch=dev/x --depth=1":                               {OnlyBranches: []string{"dev/x"}, Depth: 1},
		"--only-branch=dev/x --retain-branch-depth=stable=1":          {OnlyBranches: []string{"dev/x"}, Depth: -1, BranchDepth: map[string]int{"stable": 1}},
		"--only-branch=dev/x --keep-younger-than=@1004 --commit-only": {OnlyBranches: []string{"dev/x"}, KeepYoungerThan: at(1004), Depth: -1, CommitOnly: true},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			theirs, ours := copyRepo(t, base), copyRepo(t, base)
			out := run(t, "ostree", append([]string{repoPath(theirs), "prune"}, strings.Fields(args)...)...)
			res, err := ours.Prune(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(storedObjects(t, theirs), storedObjects(t, ours)); diff != "" {
				t.Errorf("objects (-ostree +ours):\n%s", diff)
			}
			counts := func(name string) int {
				m := regexp.MustCompile(name).FindStringSubmatch(out)
				if m == nil {
					return 0
				}
				n, _ := strconv.Atoi(m[1])
				return n
			}
			if want := counts(`objects: (\d+)`); res.Objects != want || want == 0 {
				t.Errorf("objects = %d, ostree %d", res.Objects, want)
			}
			if want := counts(`elete[d:]+ (\d+) objects`); res.Deleted != want {
				t.Errorf("deleted = %d, ostree %d", res.Deleted, want)
			}
			if want := counts(`(\d+) bytes`); want > 0 && int(res.DeletedBytes) != want {
				t.Errorf("bytes = %d, ostree %d", res.DeletedBytes, want)
			}
		})
	}
}

func TestPruneOnlyBranchAbsent(t *testing.T) {
	t.Parallel()
	r := pruneHistory(t)
	if _, err := r.Prune(t.Context(), PruneOptions{OnlyBranches: []string{"bacon"}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("prune of an absent branch: %v", err)
	}
}

// A deleted commit leaves a tombstone that ostree reads, and none when it comes back.
func TestDeleteCommit(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	c1 := commitAt(t, r, "a", "1", 1)
	c2 := commitAt(t, r, "a", "2", 2)
	if err := r.DeleteCommit(t.Context(), c2); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "is referenced by 'a'") {
		t.Errorf("deletion of a commit with a ref: %v", err)
	}
	if err := r.SetCollectionRef(t.Context(), CollectionRef{"org.example.A", "m"}, c1); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteCommit(t.Context(), c1); !errors.Is(err, ErrExists) {
		t.Errorf("deletion of a mirrored commit: %v", err)
	}
	if err := r.RemoveCollectionRef(t.Context(), CollectionRef{"org.example.A", "m"}); err != nil {
		t.Fatal(err)
	}
	theirs := copyRepo(t, r)
	if err := r.DeleteCommit(t.Context(), c1); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteCommit(t.Context(), c1); !errors.Is(err, ErrNotFound) {
		t.Errorf("second deletion: %v", err)
	}
	run(t, "ostree", repoPath(theirs), "prune", "--delete-commit="+c1.String(), "--commit-only")
	n := ObjectName{c1, TypeTombstone}.loosePath(r.mode)
	if a, b := readRepoFile(t, theirs, "objects/"+n), readRepoFile(t, r, "objects/"+n); string(a) != string(b) {
		t.Errorf("tombstone %q, ostree's %q", b, a)
	}
	if dead, err := r.HasTombstone(c1); !dead || err != nil {
		t.Errorf("tombstone: %t, %v", dead, err)
	}
	commit := loadCommit(t, r, c2)
	commit.Parent = Checksum{}
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		// The same content again: the first commit comes back.
		_, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, 1, strings.NewReader("1"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if again := rewriteCommit(t, r, "1", 1); again != c1 {
		t.Fatalf("rewritten as %s", again)
	}
	if dead, err := r.HasTombstone(c1); dead || err != nil {
		t.Errorf("tombstone of a commit that is back: %t, %v", dead, err)
	}
}

func rewriteCommit(t *testing.T, r *Repo, content string, at uint64) Checksum {
	t.Helper()
	c := commitAt(t, r, "again", content, at)
	if err := r.RemoveRef(t.Context(), "again"); err != nil {
		t.Fatal(err)
	}
	return c
}

// A payload link stays with its file and goes with it.
func TestPrunePayloadLink(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeBareUser)
	testutil.Must(t, r.SetConfigValue("core", keyPayloadThreshold, "0"))
	r = openRepo(t, r.Dir().Path())
	kept, gone := commitAt(t, r, "a", "kept", 1), commitAt(t, r, "b", "gone", 1)
	if err := r.RemoveRef(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	links := map[string]bool{}
	for c, stays := range map[Checksum]bool{kept: true, gone: false} {
		tree, err := r.LoadDirTree(loadCommit(t, r, c).RootTree)
		if err != nil {
			t.Fatal(err)
		}
		file := ObjectName{tree.Files[0].Checksum, TypeFile}.loosePath(r.mode)
		n := ObjectName{sha([]byte(map[bool]string{true: "kept", false: "gone"}[stays])), TypePayloadLink}
		link := n.loosePath(r.mode)
		if err := errors.Join(r.makeObjectDir(n), r.objects.Symlink("../"+file, link)); err != nil {
			t.Fatal(err)
		}
		links[link] = stays
	}
	if _, err := r.Prune(t.Context(), PruneOptions{RefsOnly: true}); err != nil {
		t.Fatal(err)
	}
	for link, want := range links {
		if got, err := r.objects.Exists(link); got != want || err != nil {
			t.Errorf("link %s: %t, %v, want %t", link, got, err, want)
		}
	}
	if res, err := r.Fsck(t.Context(), FsckOptions{}); err != nil || len(res.Findings) > 0 {
		t.Errorf("fsck: %v, %v", res.Findings, err)
	}
}

func TestCommits(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	want := []Checksum{commitAt(t, r, "a", "1", 1), commitAt(t, r, "b", "2", 1)}
	slices.SortFunc(want, Checksum.Compare)
	got, err := r.Commits(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("commits: %v\n%s", err, diff)
	}
}
