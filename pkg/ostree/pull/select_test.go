// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// TestSubpaths pulls parts of a tree, then the whole.
func TestSubpaths(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 12})
	for _, local := range []bool{false, true} {
		remote := serve(t, src).remote()
		if local {
			remote.URL = src.Dir().Path()
		}
		dst := newRepo(t, ostree.ModeArchive)
		for _, step := range []struct {
			paths   []string
			want    map[string]bool // directory/file
			partial bool
		}{
			{[]string{"/d0", "/d1/f0004"}, map[string]bool{"d0/f0003": true, "d1/f0004": true, "d1/f0001": false, "d2/f0002": false}, true},
			{[]string{"/d1/f0001/"}, map[string]bool{"d1/f0001": true, "d2/f0002": false}, true},
			{nil, map[string]bool{"d2/f0002": true}, false},
		} {
			_, err := Pull(t.Context(), dst, remote, Request{Refs: []string{ref}, Subpaths: step.paths})
			testutil.Must(t, err)
			for name, want := range step.want {
				n := fileOf(t, src, c, filepath.Dir(name), filepath.Base(name))
				if has, _ := dst.Has(n); has != want {
					t.Errorf("local %v, after %q: %s stored: %v", local, step.paths, name, has)
				}
			}
			if partial, _ := dst.CommitPartial(c); partial != step.partial {
				t.Errorf("local %v, after %q: partial %v", local, step.paths, partial)
			}
		}
		if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
			t.Error(diff)
		}
	}
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), serve(t, src).remote(), Request{Refs: []string{ref}, Subpaths: []string{"d0"}})
	if !errors.Is(err, ostree.ErrInvalid) {
		t.Errorf("relative subpath: %v", err)
	}
}

// TestLocalCache takes from a cache what it has.
func TestLocalCache(t *testing.T) {
	t.Parallel()
	src, cache, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 20})
	s := serve(t, src)
	_, err := Pull(t.Context(), cache, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	commit(t, src, spec{ref: ref, files: 22})
	s.forget()
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, LocalCaches: []*ostree.Repo{cache}})
	testutil.Must(t, err)
	if res.Content != 2 || res.ImportedContent != 23 {
		t.Errorf("received %d, imported %d", res.Content, res.ImportedContent)
	}
	have := objects(t, cache)
	for path := range s.forget() {
		if have[path] {
			t.Errorf("%s was requested although the cache has it", path)
		}
	}
	if diff := cmp.Diff(len(objects(t, dst)), 22+3+5+1); diff != "" {
		t.Errorf("objects: %s", diff)
	}
}

// TestBareUserOnlyFiles refuses bits that a user should not get from elsewhere.
func TestBareUserOnlyFiles(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	var setuid ostree.Checksum
	_, err := src.Update(t.Context(), func(ctx context.Context, x *ostree.Txn) error {
		c, err := buildTree(ctx, x, spec{files: 1})
		if err != nil {
			return err
		}
		f, err := x.WriteContent(ctx, ostree.FileHeader{Mode: 0o104755}, 1, bytes.NewReader([]byte("x")))
		if err != nil {
			return err
		}
		raw, err := ostree.DirTree{Files: []ostree.TreeFile{{Name: "su", Checksum: f}}}.Marshal()
		if err != nil {
			return err
		}
		if c.RootTree, err = x.WriteMetadata(ctx, ostree.TypeDirTree, raw); err != nil {
			return err
		}
		if setuid, err = x.WriteCommit(ctx, c); err != nil {
			return err
		}
		return x.SetRef(ref, setuid)
	})
	testutil.Must(t, err)
	commit(t, src, spec{ref: "os/good", files: 5})
	s := serve(t, src)
	for _, remote := range []Remote{s.remote(), {Name: "o", URL: src.Dir().Path(), NoGPGVerify: true}} {
		dst := newRepo(t, ostree.ModeArchive)
		_, err := Pull(t.Context(), dst, remote, Request{Refs: []string{ref}, BareUserOnlyFiles: true})
		if err == nil || !strings.Contains(err.Error(), "invalid mode 04755 with bits 04000") {
			t.Errorf("setuid file: %v", err)
		}
		_, err = Pull(t.Context(), dst, remote, Request{Refs: []string{"os/good"}, BareUserOnlyFiles: true})
		testutil.Must(t, err)
	}
}

// TestTrust: a damaged object is noticed unless the caller says that it trusts.
func TestTrust(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 5})
	bad := src.Dir().Path() + pathOf(fileOf(t, src, c, "d1", "f0001"))
	data, err := os.ReadFile(bad)
	testutil.Must(t, err)
	data[20] ^= 1 // of the owner
	testutil.Must(t, os.WriteFile(bad, data, 0o644))
	web, dir := serve(t, src).remote(), Remote{Name: "o", URL: src.Dir().Path(), NoGPGVerify: true}
	for _, tc := range []struct {
		name   string
		remote Remote
		mode   ostree.Mode
		req    Request
		passes bool
	}{
		{"web", web, ostree.ModeArchive, Request{}, false},
		{"web trusted", web, ostree.ModeArchive, Request{Trusted: true, Mirror: true}, true},
		{"web trusted, no mirror", web, ostree.ModeArchive, Request{Trusted: true}, false},
		{"web trusted, unpacked", web, ostree.ModeBareUser, Request{Trusted: true, Mirror: true}, false},
		{"web trusted and not", web, ostree.ModeArchive, Request{Trusted: true, Untrusted: true, Mirror: true}, false},
		{"local", dir, ostree.ModeBareUser, Request{}, true},
		{"local link", dir, ostree.ModeArchive, Request{}, true},
		{"local untrusted", dir, ostree.ModeArchive, Request{Untrusted: true}, false},
	} {
		tc.req.Refs = []string{ref}
		_, err := Pull(t.Context(), newRepo(t, tc.mode), tc.remote, tc.req)
		if (err == nil) != tc.passes || err != nil && !errors.Is(err, ostree.ErrCorrupt) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestMirrorOfCollections puts refs where they belong and copies the summary.
func TestMirrorOfCollections(t *testing.T) {
	t.Parallel()
	d := testutil.OpenDir(t, t.TempDir())
	src, err := ostree.Create(d, ostree.ModeArchive, ostree.Options{DisableFsync: true, CollectionID: "org.example.Os"})
	testutil.Must(t, err)
	t.Cleanup(func() { src.Close() })
	var meta gvariant.Dict
	meta.Set("ostree.collection-binding", gvariant.String("org.example.Os"))
	meta.Set("ostree.ref-binding", gvariant.Strings([]string{ref}))
	c := commit(t, src, spec{ref: ref, files: 3, meta: meta})
	testutil.Must(t, src.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	remote := serve(t, src).remote()
	remote.CollectionID = "org.example.Os"
	dst := newRepo(t, ostree.ModeArchive)
	res, err := Pull(t.Context(), dst, remote, Request{Mirror: true})
	testutil.Must(t, err)
	if diff := cmp.Diff(map[string]ostree.Checksum{"(org.example.Os, " + ref + ")": c}, res.Refs); diff != "" {
		t.Error(diff)
	}
	got, err := os.ReadFile(dst.Dir().Path() + "/refs/mirrors/org.example.Os/" + ref)
	testutil.Must(t, err)
	if string(got) != c.String()+"\n" {
		t.Errorf("mirrored ref: %q", got)
	}
	a, err := os.ReadFile(src.Dir().Path() + "/summary")
	testutil.Must(t, err)
	b, err := os.ReadFile(dst.Dir().Path() + "/summary")
	testutil.Must(t, err)
	if !bytes.Equal(a, b) {
		t.Error("the summary was not copied")
	}
	req := Request{CollectionRefs: []CollectionRef{{CollectionRef: ostree.CollectionRef{Collection: "org.example.Os", Ref: ref}}}}
	plain := newRepo(t, ostree.ModeArchive)
	res, err = Pull(t.Context(), plain, remote, req)
	testutil.Must(t, err)
	if res.Refs["o:"+ref] != c {
		t.Errorf("refs: %v", res.Refs)
	}
	req.CollectionRefs[0].Collection = "org.example.Other"
	if _, err := Pull(t.Context(), plain, remote, req); !errors.Is(err, ErrNotFound) {
		t.Errorf("ref of an unknown collection: %v", err)
	}
}

// TestTombstones takes over why history ends.
func TestTombstones(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	testutil.Must(t, src.EnableTombstones())
	first := commit(t, src, spec{ref: ref, files: 1})
	commit(t, src, spec{ref: ref, files: 2, parent: first})
	testutil.Must(t, os.Remove(src.Dir().Path()+pathOf(ostree.ObjectName{Checksum: first, Type: ostree.TypeCommit})))
	testutil.Must(t, src.WriteTombstone(first))
	dst := newRepo(t, ostree.ModeArchive)
	_, err := Pull(t.Context(), dst, serve(t, src).remote(), Request{Refs: []string{ref}, Depth: DepthAll})
	testutil.Must(t, err)
	if has, err := dst.HasTombstone(first); !has || err != nil {
		t.Errorf("tombstone: %v %v", has, err)
	}
}

// TestRepairFromARemote restores what was lost.
func TestRepairFromARemote(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 10})
	s := serve(t, src)
	dst := newRepo(t, ostree.ModeArchive)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	com, err := src.LoadCommit(c)
	testutil.Must(t, err)
	testutil.Must(t, os.Remove(dst.Dir().Path()+pathOf(fileOf(t, src, c, "d1", "f0001"))))
	testutil.Must(t, os.Remove(dst.Dir().Path()+pathOf(ostree.ObjectName{Checksum: com.RootTree, Type: ostree.TypeDirTree})))
	testutil.Must(t, os.WriteFile(dst.Dir().Path()+pathOf(fileOf(t, src, c, "d2", "f0002")), []byte("damaged"), 0o644))
	from, err := OpenObjects(t.Context(), dst, s.remote(), quick(), nil)
	testutil.Must(t, err)
	t.Cleanup(func() { testutil.Must(t, from.Close()) })
	res, err := dst.Repair(t.Context(), ostree.RepairOptions{Sources: []ostree.ObjectSource{from}})
	testutil.Must(t, err)
	if len(res.Restored) != 2 || len(res.Replaced) != 1 || len(res.Remaining) != 0 {
		t.Errorf("restored %v, replaced %v, remaining %v", res.Restored, res.Replaced, res.Remaining)
	}
	if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
		t.Error(diff)
	}
	for _, typ := range []ostree.ObjectType{ostree.TypeFile, ostree.TypeDirTree} {
		n := ostree.ObjectName{Checksum: ostree.Checksum{1}, Type: typ}
		if _, err := from.FetchObject(t.Context(), n); !errors.Is(err, ostree.ErrNotFound) {
			t.Errorf("absent object: %v", err)
		}
	}
}
