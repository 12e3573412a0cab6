// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// commitFiles commits a map of paths to content on top of parent.
func commitFiles(t *testing.T, r *Repo, ref string, parent Checksum, files map[string]string) (c Checksum) {
	t.Helper()
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		root := NewMTree()
		if err := root.SetMeta(DirMeta{Mode: 0o40755}); err != nil {
			return err
		}
		for p, content := range files {
			dir, name := filepath.Split(p)
			m := root
			for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
				if part == "" {
					continue
				}
				sub, err := m.Dir(part, true)
				if err != nil {
					return err
				}
				m = sub
				if err := m.SetMeta(DirMeta{Mode: 0o40755}); err != nil {
					return err
				}
			}
			sum, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, int64(len(content)), strings.NewReader(content))
			if err != nil {
				return err
			}
			if err := m.SetFile(name, sum); err != nil {
				return err
			}
		}
		tree, meta, err := tx.WriteTree(ctx, root)
		if err != nil {
			return err
		}
		c, err = tx.WriteCommit(ctx, Commit{Parent: parent, Subject: ref, Timestamp: 1, RootTree: tree, RootMeta: meta})
		if err != nil || ref == "" {
			return err
		}
		return tx.SetRef(ref, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrune(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	ctx := t.Context()
	r := newTestRepo(t, ModeArchive)
	c1 := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1", "d/y": "shared"})
	c2 := commitFiles(t, r, "a", c1, map[string]string{"x": "2", "d/y": "shared"})
	c3 := commitFiles(t, r, "a", c2, map[string]string{"x": "3", "d/y": "shared"})
	remote := commitFiles(t, r, "origin:b", Checksum{}, map[string]string{"z": "remote"})

	res, err := r.Prune(ctx, PruneOptions{})
	if err != nil || res.Deleted != 0 {
		t.Errorf("prune of everything that has a commit = %+v, %v", res, err)
	}
	dry, err := r.Prune(ctx, PruneOptions{RefsOnly: true, Depth: 1, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	res, err = r.Prune(ctx, PruneOptions{RefsOnly: true, Depth: 1})
	if err != nil || res != dry || res.Deleted != 3 { // the commit, its tree, its file
		t.Errorf("prune = %+v, %v, dry run %+v", res, err, dry)
	}
	for c, want := range map[Checksum]bool{c1: false, c2: true, c3: true, remote: true} {
		if got, err := r.Has(ObjectName{c, TypeCommit}); got != want || err != nil {
			t.Errorf("commit %s: present %t, want %t", c, got, want)
		}
	}
	run(t, "ostree", repoPath(r), "fsck")
	if _, err := r.Resolve("a^^^"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the parent of a pruned commit resolves: %v", err)
	}
	// A damaged directory of a kept commit must stop prune before it deletes.
	commit, err := r.LoadCommit(c3)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.objects.Remove(ObjectName{commit.RootTree, TypeDirTree}.loosePath(r.mode)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prune(ctx, PruneOptions{RefsOnly: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("prune of a damaged repository: %v", err)
	}
	if ok, _ := r.Has(ObjectName{c2, TypeCommit}); !ok {
		t.Error("the failed prune has deleted")
	}
}

func TestFsck(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeArchive, ModeBareUser} {
		r := newTestRepo(t, mode)
		c := commitFiles(t, r, "a", Checksum{}, map[string]string{"gone": "1", "bad": "2", "good": "3"})
		object := func(content string) string {
			n := ObjectName{contentSum(t, r, content), TypeFile}
			return filepath.Join(r.Dir().Path(), "objects", n.loosePath(mode))
		}
		if err := os.Remove(object("1")); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(object("2"))
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		if err := os.WriteFile(object("2"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"dangling": strings.Repeat("ab", 32), "broken": "nonsense"} {
			if err := r.Dir().WriteFile("refs/heads/"+name, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		res, err := r.Fsck(t.Context(), FsckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, string(f.Kind)+" "+f.Ref+" "+f.Object.Type.String())
			if f.Kind == MissingObject && !slices.Equal(f.Commits, []Checksum{c}) {
				t.Errorf("commit of the missing object = %v", f.Commits)
			}
		}
		want := []string{"corrupt-object  file", "dangling-ref refs/heads/dangling commit", "invalid-ref refs/heads/broken type-0", "missing-object  file"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: findings (-want +got):\n%s", mode, diff)
		}
	}
}

func contentSum(t *testing.T, r *Repo, content string) Checksum {
	t.Helper()
	c, err := r.hashContent(FileHeader{Mode: 0o100644}, int64(len(content)), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDiff(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	a := commitFiles(t, r, "a", Checksum{}, map[string]string{"same": "1", "edit": "2", "gone": "3", "dir/x": "4", "old/deep/y": "5", "kind": "6"})
	b := commitFiles(t, r, "b", Checksum{}, map[string]string{"same": "1", "edit": "2b", "dir/x": "4", "dir/new": "7", "kind/z": "8"})
	changes, err := r.Diff(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Kind.String()+" "+c.Path)
	}
	want := []string{"A /dir/new", "M /edit", "D /gone", "M /kind", "A /kind/z", "D /old", "D /old/deep", "D /old/deep/y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestDiffOfTwoRepositories(t *testing.T) {
	t.Parallel()
	ra, rb := newTestRepo(t, ModeArchive), newTestRepo(t, ModeBareUser)
	a := commitFiles(t, ra, "a", Checksum{}, map[string]string{"same": "1", "gone": "3"})
	b := commitFiles(t, rb, "b", Checksum{}, map[string]string{"same": "1", "new": "3"})
	changes, err := DiffTrees(t.Context(), ra, a, rb, b)
	if err != nil || len(changes) != 2 || changes[0].Path != "/gone" || changes[1].Path != "/new" {
		t.Errorf("%v %v", changes, err)
	}
}

// Sixty objects make a tree of more paths than anything can hold.
func TestDiffOfATreeWithoutEnd(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	empty := commitFiles(t, r, "a", Checksum{}, nil)
	var wide Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		c, err := r.LoadCommit(empty)
		if err != nil {
			return err
		}
		tree := DirTree{}
		for range 60 {
			data, err := tree.Marshal()
			if err != nil {
				return err
			}
			sum, err := tx.WriteMetadata(ctx, TypeDirTree, data)
			if err != nil {
				return err
			}
			sub := TreeDir{Tree: sum, Meta: c.RootMeta}
			tree = DirTree{}
			for _, sub.Name = range []string{"a", "b", "c"} {
				tree.Dirs = append(tree.Dirs, sub)
			}
			c.RootTree = sum
		}
		wide, err = tx.WriteCommit(ctx, c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	d := &differ{ctx: ctx, left: 1 << 12, room: 1 << 30}
	n, err := r.Lookup(wide, "/")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.one(diffNode{r, n, 0}, Added); !errors.Is(err, ErrInvalid) {
		t.Errorf("by number: %v", err)
	}
	d = &differ{ctx: ctx, left: 1 << 30, room: 1 << 16}
	if err := d.one(diffNode{r, n, 0}, Added); !errors.Is(err, ErrInvalid) {
		t.Errorf("by size: %v", err)
	}
}

// A repository with a summary serves ostree over HTTP.
func TestInteropPull(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	c := commitDir(t, r, makeTree(t), "os/stable", CommitOptions{})
	if err := r.WriteSummary(t.Context(), SummaryOptions{Expires: time.Unix(2e9, 0)}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(r.Dir().Path())))
	t.Cleanup(srv.Close)
	client := "--repo=" + filepath.Join(t.TempDir(), "client")
	run(t, "ostree", client, "init", "--mode=bare-user")
	run(t, "ostree", client, "remote", "add", "--no-gpg-verify", "origin", srv.URL)
	if out := run(t, "ostree", client, "remote", "refs", "origin"); out != "origin:os/stable" {
		t.Errorf("remote refs = %q", out)
	}
	run(t, "ostree", client, "pull", "origin", "os/stable")
	if out := run(t, "ostree", client, "rev-parse", "origin:os/stable"); out != c.String() {
		t.Errorf("pulled %s, want %s", out, c)
	}
	run(t, "ostree", client, "fsck")
	view := run(t, "ostree", repoPath(r), "summary", "--view")
	for _, want := range []string{"* os/stable", "Latest Commit (", c.String(), "Version (ostree.commit.version): 1", "Repository Mode (ostree.summary.mode): archive-z2"} {
		if !strings.Contains(view, want) {
			t.Errorf("summary view lacks %q:\n%s", want, view)
		}
	}
}

// Our reader understands the summary that ostree writes, and the other way round.
func TestInteropSummary(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	c := commitFiles(t, r, "b", Checksum{}, map[string]string{"x": "1"})
	commitFiles(t, r, "a/b", Checksum{}, map[string]string{"x": "2"})
	read := func() Summary {
		data, err := r.Dir().ReadFile("summary", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSummary(data)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	run(t, "ostree", repoPath(r), "summary", "-u")
	theirs := read()
	var extra gvariant.Dict
	extra.Set("x.test", gvariant.String("extra"))
	sign := func(_ context.Context, data []byte) (d gvariant.Dict, err error) {
		d.Set("ostree.sign.dummy", gvariant.ByteSlices([][]byte{data[:4]}))
		return d, nil
	}
	if err := r.WriteSummary(t.Context(), SummaryOptions{Metadata: extra, Sign: sign}); err != nil {
		t.Fatal(err)
	}
	ours := read()
	if v, ok := ours.Metadata.Str("x.test"); v != "extra" || !ok {
		t.Errorf("metadata = %v", ours.Metadata.Keys())
	}
	refs := func(s Summary) (out []any) {
		for _, x := range s.Refs {
			ts, _ := x.Metadata.Uint64BE("ostree.commit.timestamp")
			out = append(out, x.Name, x.Commit.String(), x.CommitSize, ts)
		}
		return out
	}
	if diff := cmp.Diff(refs(theirs), refs(ours)); diff != "" {
		t.Errorf("refs (-ostree +ours):\n%s", diff)
	}
	if x, ok := ours.Ref("b"); !ok || x.Commit != c {
		t.Errorf("ref b = %+v", x)
	}
	if ok, _ := r.Dir().Exists("summary.sig"); !ok {
		t.Error("summary.sig is absent")
	}
	if err := r.WriteSummary(t.Context(), SummaryOptions{}); err != nil {
		t.Fatal(err)
	}
	if ok, _ := r.Dir().Exists("summary.sig"); ok {
		t.Error("a stale summary.sig is left")
	}
}
