// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

// unpackFixture unpacks an archive of the corpus and gives the folder.
func unpackFixture(t *testing.T, name string) string {
	t.Helper()
	testutil.Tool(t, "tar")
	needRoot(t)
	archive := testutil.Corpus(t, "ostree/ostreedev-tests", name)
	dir := t.TempDir()
	run(t, "tar", "-C", dir, "--xattrs", "--same-owner", "-xaf", archive)
	return dir
}

const splitCommit = "d614c428015227259031b0f19b934dade908942fd71c49047e0daa70e7800a5d"

func TestSplitXattrs(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	dir := filepath.Join(unpackFixture(t, "bare-split-xattrs-basic.tar.xz"), "repo")
	r, err := Open(testutil.OpenDir(t, dir), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	commit := mustSum(t, splitCommit)
	if res, err := r.Fsck(t.Context(), FsckOptions{}); err != nil || len(res.Findings) > 0 || res.Commits != 1 || res.Objects < 6 {
		t.Errorf("fsck: %+v, %v", res, err)
	}
	info, content, err := r.OpenPath(commit, "/foolink")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(content)
	if err = errors.Join(err, content.Close()); err != nil || info.Path != "/foo" || int64(len(text)) != info.Size {
		t.Errorf("foolink leads to %s with %d bytes: %v", info.Path, len(text), err)
	}
	if info, err = r.LookupFollow(commit, "bar"); err != nil || !cmp.Equal(info.Xattrs, []Xattr{{"user.mykey", []byte("myvalue")}}) {
		t.Errorf("attributes of bar: %v, %v", info.Xattrs, err)
	}
	for _, flags := range [][]string{nil, {"-U"}, {"-H"}} {
		comparePeer(t, aliased(t, r, commit), peerCase{flags: flags})
	}
	copyClosure(t, r, newTestRepo(t, ModeArchive), commit)
	_, err = r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		_, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, 1, strings.NewReader("x"))
		return err
	})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "Writing content object: Not allowed due to repo mode") {
		t.Errorf("writing content: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "objects", ObjectName{info.File, TypeFileXattrsLink}.loosePath(r.mode))); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.OpenFile(info.File); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) {
		t.Errorf("file without its attributes: %v", err)
	}
}

// What is written on demand to such a repository lacks its attributes, as with
// libostree: its fsck complains.
func TestSplitXattrsWrite(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(src, "foo"), nil, 0o644), os.Symlink("foo", filepath.Join(src, "link"))); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "repo")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := Create(testutil.OpenDir(t, at), ModeBareSplitXattrs, Options{WriteSplitXattrs: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := commitDir(t, r, src, "b", CommitOptions{})
	theirs := filepath.Join(t.TempDir(), "repo")
	run(t, "ostree", "--repo="+theirs, "init", "--mode=bare-split-xattrs")
	cmd := exec.Command("ostree", "--repo="+theirs, "commit", "-b", "b", src)
	cmd.Env = append(os.Environ(), "OSTREE_EXP_WRITE_BARE_SPLIT_XATTRS=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("ostree", "--repo="+theirs, "fsck").CombinedOutput(); err == nil {
		t.Errorf("libostree accepts what it wrote:\n%s", out)
	}
	res, err := r.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(res.Findings) == 0 || res.Findings[0].Kind != CorruptObject {
		t.Errorf("fsck of %s: %+v, %v", c, res, err)
	}
}

// copyClosure copies a commit, verified, to another repository, for libostree to check.
func copyClosure(t *testing.T, from, to *Repo, c Checksum) {
	t.Helper()
	set, err := from.Reachable(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = to.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		for n := range set {
			if n.Type != TypeFile {
				data, err := from.LoadRaw(n)
				if err == nil {
					err = tx.WriteMetadataExpected(ctx, n, data)
				}
				if err != nil {
					return err
				}
				continue
			}
			h, size, rc, err := from.OpenFile(n.Checksum)
			if err == nil {
				err = errors.Join(tx.WriteContentExpected(ctx, n.Checksum, h, size, rc), rc.Close())
			}
			if err != nil {
				return err
			}
		}
		return tx.SetRef("copied", c)
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "ostree", repoPath(to), "fsck", "-q")
}

// aliased gives a repository a ref for comparePeer.
func aliased(t *testing.T, r *Repo, c Checksum) *Repo {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir.Path(), "refs/heads/base"), []byte(c.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return r
}

func FuzzXattrsObject(f *testing.F) {
	f.Add(xattrsValue([]Xattr{{"user.a", []byte("1")}, {"user.b", nil}}).Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		x, err := ParseXattrs(data)
		if err != nil {
			return
		}
		if again := xattrsValue(x).Bytes(); !bytes.Equal(again, data) {
			t.Errorf("%x becomes %x", data, again)
		}
	})
}

func TestParent(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	tmp := t.TempDir()
	mk := func(name string) *Repo { return createRepo(t, filepath.Join(tmp, name), ModeBareUser) }
	top := mk("top")
	c := commitFiles(t, top, "b", Checksum{}, map[string]string{"d/one": "1", "two": "2"})
	mk("mid")
	run(t, "ostree", "--repo="+filepath.Join(tmp, "mid"), "config", "set", "core.parent", filepath.Join(tmp, "top"))
	mk("low")
	run(t, "ostree", "--repo="+filepath.Join(tmp, "low"), "config", "set", "core.parent", filepath.Join(tmp, "mid"))
	low, err := Open(testutil.OpenDir(t, filepath.Join(tmp, "low")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer low.Close()
	checkInherited(t, low, c, tmp)
	// Given by the caller instead of the config.
	given, err := Open(testutil.OpenDir(t, filepath.Join(tmp, "mid")), Options{Parent: top})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := given.Has(ObjectName{c, TypeCommit}); !found || err != nil {
		t.Errorf("with a given parent: %v, %v", found, err)
	}
	if err := given.Close(); err != nil {
		t.Error(err)
	}
	if _, err := top.LoadCommit(c); err != nil {
		t.Errorf("a given parent was closed: %v", err)
	}
	run(t, "ostree", "--repo="+filepath.Join(tmp, "top"), "config", "set", "core.parent", filepath.Join(tmp, "low"))
	for _, name := range []string{"low", "mid", "top"} {
		if _, err := Open(testutil.OpenDir(t, filepath.Join(tmp, name)), Options{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s, a parent of itself: %v", name, err)
		}
	}
}

// checkInherited reads through two parents and writes only what both lack.
func checkInherited(t *testing.T, low *Repo, c Checksum, tmp string) {
	t.Helper()
	if local, err := low.HasLocal(ObjectName{c, TypeCommit}); local || err != nil {
		t.Errorf("local: %v, %v", local, err)
	}
	o := CheckoutOptions{UserMode: true, RequireHardlinks: true}
	if err := low.Checkout(t.Context(), c, testutil.OpenDir(t, tmp), "out", o); err != nil {
		t.Fatal(err)
	}
	run(t, "ostree", "--repo="+filepath.Join(tmp, "low"), "checkout", "-U", "-H", c.String(), filepath.Join(tmp, "theirs"))
	if diff := cmp.Diff(layout(t, filepath.Join(tmp, "theirs")), layout(t, filepath.Join(tmp, "out"))); diff != "" {
		t.Errorf("layout differs (-libostree +ours):\n%s", diff)
	}
	if refs, err := low.Refs(""); err != nil || len(refs) > 0 {
		t.Errorf("refs: %v, %v", refs, err)
	}
	stats, err := low.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		if err := tx.SetRef("mine", c); err != nil {
			return err
		}
		_, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, 3, strings.NewReader("new"))
		return err
	})
	if err != nil {
		t.Errorf("write beside a parent: %+v, %v", stats, err)
	}
	if res, err := low.Fsck(t.Context(), FsckOptions{}); err != nil || len(res.Findings) > 0 {
		t.Errorf("fsck: %+v, %v", res, err)
	}
	run(t, "ostree", repoPath(low), "fsck", "-q")
	if _, err := low.LoadDirTree(Checksum{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an object that nobody has: %v", err)
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	src := t.TempDir()
	d := testutil.OpenDir(t, src)
	err := errors.Join(d.MkdirAll("a/b", 0o755), d.WriteFile("a/b/f", []byte("text"), 0o640), d.Symlink("f", "a/b/l"), d.Symlink("../b/l", "a/b/ll"),
		d.Symlink("/a/b/ll", "abs"), d.Symlink("../../../../a/b/f", "up"), d.Symlink("loop", "loop"), d.Symlink("a/b", "dir"), d.Symlink("gone", "dangling"))
	if err != nil {
		t.Fatal(err)
	}
	c := commitDir(t, r, src, "b", CommitOptions{})
	for _, p := range []string{"a/b/f", "/a/b/l", "a/b/ll", "abs", "up", "a//b/../b/f"} {
		info, rc, err := r.OpenPath(c, p)
		if err != nil || info.Path != "/a/b/f" || info.Size != 4 {
			t.Errorf("%s: %+v, %v", p, info, err)
			continue
		}
		data, err := io.ReadAll(rc)
		if err = errors.Join(err, rc.Close()); string(data) != "text" || err != nil {
			t.Errorf("%s: %q, %v", p, data, err)
		}
	}
	for p, want := range map[string]error{"/": ErrIsDir, "dir": ErrIsDir, "loop": ErrLinkLoop, "dangling": ErrNotFound, "a/x": ErrNotFound, "a/b/f/x": ErrNotDir, "dir/f": ErrNotDir} {
		if _, _, err := r.OpenPath(c, p); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
	}
	var missing *fs.PathError
	if _, err := r.Lookup(c, "/a/none/x"); !errors.As(err, &missing) || missing.Path != "/a/none" {
		t.Errorf("the absent part: %+v", missing)
	}
	n, err := r.Lookup(c, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	var walked, children []string
	err = r.WalkFrom(t.Context(), n, func(n Node) error { walked = append(walked, n.Path); return nil })
	list, lerr := r.Children(n)
	for _, n := range list {
		children = append(children, n.Path)
	}
	want := []string{"/a/b/f", "/a/b/l", "/a/b/ll"}
	if err != nil || lerr != nil || !cmp.Equal(children, want) || !cmp.Equal(walked, append([]string{"/a/b"}, want...)) {
		t.Errorf("children %v, walked %v: %v %v", children, walked, err, lerr)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	testutil.Tool(t, "tar")
	needRoot(t)
	src := makeTree(t)
	long := filepath.Join(src, strings.Repeat("long/", 30))
	d := testutil.OpenDir(t, src)
	if err := errors.Join(os.MkdirAll(long, 0o755), d.Symlink(strings.Repeat("target/", 30), "usr/longlink"), d.WriteFile("usr/big-owner", []byte("x"), 0o600), d.Lchown("usr/big-owner", 3000000, 4000000)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{ModeBare, ModeArchive} {
		r := newTestRepo(t, mode)
		c := commitDir(t, r, src, "b", CommitOptions{})
		for _, o := range []ExportOptions{{}, {Subpath: "usr/lib"}, {Prefix: "pre/"}, {Subpath: "/usr", Prefix: "pre"}} {
			var ours bytes.Buffer
			o.SkipXattrs = true
			if err := r.ExportTar(t.Context(), c, &ours, o); err != nil {
				t.Fatal(err)
			}
			theirs := filepath.Join(t.TempDir(), "theirs.tar")
			args := []string{repoPath(r), "export", "--no-xattrs", "--prefix=" + o.Prefix, "b", "-o", theirs}
			if o.Subpath != "" {
				args = append(args, "--subpath="+o.Subpath)
			}
			run(t, "ostree", args...)
			f, err := os.Open(theirs)
			if err != nil {
				t.Fatal(err)
			}
			want := tarEntries(t, f)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, tarEntries(t, &ours)); diff != "" || len(want) == 0 {
				t.Errorf("%s %+v: archives differ (-libostree +ours):\n%s", mode, o, diff)
			}
		}
		checkXattrExport(t, r, c)
	}
}

// tarEntries lists an archive with all of each header and the hash of the content.
func tarEntries(t *testing.T, src io.Reader) (out []string) {
	t.Helper()
	tr := tar.NewReader(src)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%c %q -> %q %o %d:%d %q:%q %d %v %v %v %s", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid,
			h.Uname, h.Gname, h.Size, h.ModTime.Unix(), h.PAXRecords, h.Format, mustHash(t, tr)))
	}
}

// checkXattrExport commits what GNU tar unpacks from an archive with attributes.
func checkXattrExport(t *testing.T, r *Repo, c Checksum) {
	t.Helper()
	tmp := t.TempDir()
	var buf bytes.Buffer
	if err := r.ExportTar(t.Context(), c, &buf, ExportOptions{Padded: true}); err != nil {
		t.Fatal(err)
	}
	if buf.Len()%10240 != 0 {
		t.Errorf("archive of %d bytes is not padded", buf.Len())
	}
	cmd := exec.Command("tar", "-C", tmp, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf", "-")
	cmd.Stdin = &buf
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	diff, err := r.Diff(t.Context(), c, commitDir(t, r, tmp, "again", CommitOptions{}))
	if err != nil || len(diff) > 0 {
		t.Errorf("unpacked archive: %+v, %v", diff, err)
	}
}

// The fixture's trees have names that lead out of the checkout.
func TestHostileTree(t *testing.T) {
	t.Parallel()
	dir := unpackFixture(t, "ostree-path-traverse.tar.gz")
	repos, err := filepath.Glob(filepath.Join(dir, "*", "repo", "config"))
	if err != nil || len(repos) == 0 {
		t.Fatalf("no repository in the fixture: %v, %v", repos, err)
	}
	r, err := Open(testutil.OpenDir(t, filepath.Dir(repos[0])), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	refs, err := r.Refs("")
	if err != nil || len(refs) == 0 {
		t.Fatalf("refs: %v, %v", refs, err)
	}
	for ref, c := range refs {
		out := t.TempDir()
		for _, o := range []CheckoutOptions{{UserMode: true}, {ForceCopy: true}, {UserMode: true, UncompressedCache: true}} {
			if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, out), "x", o); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", ref, err)
			}
			if err := r.ExportTar(t.Context(), c, io.Discard, ExportOptions{}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("export %s: %v", ref, err)
			}
			if err := os.RemoveAll(filepath.Join(out, "x")); err != nil {
				t.Fatal(err)
			}
		}
		if left, err := os.ReadDir(out); len(left) > 0 || err != nil {
			t.Errorf("%s: beside the checkout: %v, %v", ref, left, err)
		}
	}
}

// A deletion must not reach above its directory.
func TestHostileWhiteouts(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	for _, name := range []string{".wh..", ".wh...", ".wh.", ".ostree-wh.", ".ostree-wh..."} {
		c := commitFiles(t, r, "b", Checksum{}, map[string]string{"d/" + name: "x"})
		out := t.TempDir()
		if err := os.WriteFile(filepath.Join(out, "keep"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		o := CheckoutOptions{UserMode: true, Union: UnionOverwrite, Whiteouts: true, PassthroughWhiteouts: true}
		if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, out), ".", o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(out, "keep")); err != nil {
			t.Error(err)
		}
	}
}

// Either program links what the other unpacked into the cache of an archive
// repository.
func TestUncompressedCache(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	for _, first := range []string{"ours", "theirs"} {
		r := newTestRepo(t, ModeArchive)
		c := commitFiles(t, r, "b", Checksum{}, map[string]string{"d/one": "1", "empty": ""})
		tmp := t.TempDir()
		order := []string{"ours", "theirs"}
		if first == "theirs" {
			order = []string{"theirs", "ours"}
		}
		for i, who := range order {
			if who == "theirs" {
				run(t, "ostree", repoPath(r), "checkout", "-U", "b", filepath.Join(tmp, who))
			} else if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, tmp), who, CheckoutOptions{UserMode: true, UncompressedCache: true}); err != nil {
				t.Fatal(err)
			}
			if st := lstat(t, filepath.Join(tmp, who, "d/one")); int(st.Nlink) != i+2 {
				t.Errorf("%s first: the file of %s has %d links", first, who, st.Nlink)
			}
			if st := lstat(t, filepath.Join(tmp, who, "empty")); st.Nlink != 1 {
				t.Errorf("%s: the empty file has %d links", who, st.Nlink)
			}
		}
	}
	r := newTestRepo(t, ModeArchive)
	c := commitFiles(t, r, "b", Checksum{}, map[string]string{"one": "1"})
	run(t, "ostree", repoPath(r), "config", "set", "core.enable-uncompressed-cache", "false")
	off, err := Open(testutil.OpenDir(t, r.Dir().Path()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer off.Close()
	if err := off.Checkout(t.Context(), c, testutil.OpenDir(t, t.TempDir()), "x", CheckoutOptions{UserMode: true, UncompressedCache: true}); err != nil {
		t.Fatal(err)
	}
	if found, err := off.Dir().Exists(cacheDirName); found || err != nil {
		t.Errorf("a cache that is off: %v, %v", found, err)
	}
}

func lstat(t *testing.T, p string) fsx.Stat {
	t.Helper()
	st, err := testutil.OpenDir(t, filepath.Dir(p)).Lstat(filepath.Base(p))
	if err != nil {
		t.Fatal(err)
	}
	return st
}
