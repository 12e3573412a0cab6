// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// messages gives what libostree would say about each finding.
func messages(list []Finding) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.Message())
	}
	slices.Sort(out)
	return out
}

// The words for damage are those of ostree, the marks too.
func TestInteropFsck(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	for _, mode := range []Mode{ModeArchive, ModeBareUser} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			r := newTestRepo(t, mode)
			c1 := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1", "y": "same", "z": "3"})
			c2 := commitFiles(t, r, "a", c1, map[string]string{"x": "2", "y": "same", "w": "3"})
			// Bytes that unpack to something else.
			other, err := os.ReadFile(objectFile(r, ObjectName{contentSum(t, r, "1"), TypeFile}))
			if err != nil {
				t.Fatal(err)
			}
			bad := ObjectName{contentSum(t, r, "2"), TypeFile}
			if err := os.WriteFile(objectFile(r, bad), other, 0o644); err != nil {
				t.Fatal(err)
			}
			removeObject(t, r, ObjectName{contentSum(t, r, "same"), TypeFile})
			theirs := copyRepo(t, r)
			out, err := runFails(t, "ostree", repoPath(theirs), "fsck", "-q", "--delete")
			if err == nil {
				t.Fatal("fsck of ostree found nothing")
			}
			var phases []FsckPhase
			res, err := r.Fsck(t.Context(), FsckOptions{Reachable: true, Delete: true, Phase: func(p FsckPhase, _ int) { phases = append(phases, p) }})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(out) {
				if strings.Contains(line, "bject missing") || strings.Contains(line, "Corrupted") {
					// ostree names the commits in the order of a hash table.
					want = append(want, strings.Replace(strings.TrimSpace(line), both(c2, c1), both(c1, c2), 1))
				}
			}
			slices.Sort(want)
			got := messages(res.Findings)
			for i := range got {
				got[i] = strings.Replace(got[i], both(c2, c1), both(c1, c2), 1)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("messages (-ostree +ours):\n%s", diff)
			}
			if diff := cmp.Diff([]FsckPhase{FsckRefs, FsckCollectionRefs, FsckCommits, FsckObjects}, phases); diff != "" {
				t.Errorf("phases:\n%s", diff)
			}
			if diff := cmp.Diff(storedObjects(t, theirs), storedObjects(t, r)); diff != "" {
				t.Errorf("objects (-ostree +ours):\n%s", diff)
			}
			for _, c := range []Checksum{c1, c2} {
				if a, b := readRepoFile(t, theirs, partialName(c)), readRepoFile(t, r, partialName(c)); string(a) != string(b) {
					t.Errorf("mark %q, ostree's %q", b, a)
				}
			}
			again, err := r.Fsck(t.Context(), FsckOptions{})
			if err != nil || len(again.Findings) > 0 || again.FsckPartial != 2 || again.Partial != 2 || again.Commits != 2 {
				t.Errorf("second fsck: %+v, %v", again, err)
			}
		})
	}
}

func both(a, b Checksum) string { return a.String() + ", " + b.String() }

// One corrupt object ends the check, if asked; unreachable ones do not count, if asked.
func TestFsckStopAtFirst(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	files := map[string]string{}
	for i := range 40 {
		files["f"+strings.Repeat("x", i)] = strings.Repeat("content", i+1)
	}
	commitFiles(t, r, "a", Checksum{}, files)
	for _, content := range files {
		damage(t, r, ObjectName{contentSum(t, r, content), TypeFile})
	}
	all, err := r.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(all.Findings) != len(files) {
		t.Fatalf("%d findings, %v", len(all.Findings), err)
	}
	first, err := r.Fsck(t.Context(), FsckOptions{StopAtFirst: true, Workers: 1})
	if n := len(first.Findings); err != nil || n == 0 || n > 2 {
		t.Errorf("%d findings, %v", n, err)
	}
	if err := r.RemoveRef(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := r.dropCommits([]Checksum{mustCommits(t, r)[0]}); err != nil {
		t.Fatal(err)
	}
	if res, err := r.Fsck(t.Context(), FsckOptions{Reachable: true}); err != nil || len(res.Findings) > 0 {
		t.Errorf("fsck of what is reachable: %v, %v", res.Findings, err)
	}
}

func mustCommits(t *testing.T, r *Repo) []Checksum {
	t.Helper()
	list, err := r.Commits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// boundCommit commits an empty tree that is bound to refs.
func boundCommit(t *testing.T, r *Repo, collection string, refs ...string) (c Checksum) {
	t.Helper()
	var md gvariant.Dict
	md.Set(keyRefBinding, gvariant.Strings(refs))
	if collection != "" {
		md.Set(keyCollectionBinding, gvariant.String(collection))
	}
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) (err error) {
		root := NewMTree()
		if err := root.SetMeta(DirMeta{Mode: 0o40755}); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, root)
		if err == nil {
			c, err = tx.WriteCommit(ctx, Commit{Metadata: md, RootTree: tree, RootMeta: meta})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Wrong bindings are found, in the words of ostree.
func TestInteropFsckBindings(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	const id, other = "org.example.Main", "org.example.Other"
	for name, c := range map[string]struct {
		bound   []string
		binding string
		ref     string
		mirror  CollectionRef
		options string
		want    FindingKind
	}{
		"good":               {bound: []string{"a", "b"}, binding: id, ref: "a", options: "--verify-bindings"},
		"unbound ref":        {bound: []string{"a", "b"}, binding: id, ref: "c", options: "--verify-bindings", want: WrongBinding},
		"bound to none":      {bound: []string{}, binding: id, ref: "c", options: "--verify-bindings", want: WrongBinding},
		"no collection":      {bound: []string{"a"}, ref: "a", options: "--verify-bindings", want: WrongBinding},
		"another collection": {bound: []string{"a"}, binding: id, mirror: CollectionRef{other, "a"}, options: "--verify-bindings", want: WrongBinding},
		"absent back ref":    {bound: []string{"a", "b"}, binding: id, ref: "a", options: "--verify-back-refs", want: WrongBackRef},
		"back ref elsewhere": {bound: []string{"a", "old"}, binding: id, ref: "a", options: "--verify-back-refs", want: WrongBackRef},
		"good back refs":     {bound: []string{"a"}, binding: id, ref: "a", options: "--verify-back-refs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTestRepo(t, ModeArchive)
			if err := r.SetConfigValue("core", "collection-id", id); err != nil {
				t.Fatal(err)
			}
			r = reopen(t, r)
			commit := boundCommit(t, r, c.binding, c.bound...)
			var err error
			if c.ref != "" {
				err = r.SetRef(t.Context(), c.ref, commit)
			} else {
				err = r.SetCollectionRef(t.Context(), c.mirror, commit)
			}
			if slices.Contains(c.bound, "old") {
				err = errors.Join(err, r.SetRef(t.Context(), "old", boundCommit(t, r, id, "old")))
			}
			if err != nil {
				t.Fatal(err)
			}
			out, failure := runFails(t, "ostree", repoPath(r), "fsck", c.options)
			res, err := r.Fsck(t.Context(), FsckOptions{VerifyBindings: true, VerifyBackRefs: c.options == "--verify-back-refs"})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if failure != nil || len(res.Findings) > 0 {
					t.Errorf("findings %v, ostree %v\n%s", res.Findings, failure, out)
				}
				return
			}
			if len(res.Findings) == 0 || res.Findings[0].Kind != c.want {
				t.Fatalf("findings = %v, want %s", res.Findings, c.want)
			}
			if failure == nil || !strings.Contains(out, "error: "+res.Findings[0].Message()+"\n") {
				t.Errorf("ours   %s\nostree %s", res.Findings[0].Message(), out)
			}
		})
	}
}

// Parents that are not there become tombstones, once.
func TestFsckTombstones(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	c1 := commitAt(t, r, "a", "1", 1)
	c2 := commitAt(t, r, "a", "2", 2)
	if _, err := r.Prune(t.Context(), PruneOptions{RefsOnly: true}); err != nil {
		t.Fatal(err)
	}
	res, err := r.Fsck(t.Context(), FsckOptions{AddTombstones: true})
	if diff := cmp.Diff([]Checksum{c1}, res.Tombstones); diff != "" || err != nil {
		t.Errorf("tombstones: %v\n%s", err, diff)
	}
	if res, err = r.Fsck(t.Context(), FsckOptions{AddTombstones: true}); err != nil || len(res.Tombstones) > 0 {
		t.Errorf("second time: %v, %v", res.Tombstones, err)
	}
	if out := run(t, "ostree", repoPath(r), "config", "get", "core.tombstone-commits"); out != "true" {
		t.Errorf("core.tombstone-commits = %q", out)
	}
	run(t, "ostree", repoPath(r), "fsck")
	if ok, err := r.Has(ObjectName{c2, TypeCommit}); !ok || err != nil {
		t.Error("the commit above is gone")
	}
}
