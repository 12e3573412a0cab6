// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func TestCreateOpen(t *testing.T) {
	t.Parallel()
	for _, mode := range allModes {
		r := newTestRepo(t, mode)
		if r.Mode() != mode {
			t.Errorf("mode = %s, want %s", r.Mode(), mode)
		}
		again, err := Create(r.Dir(), mode, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
	}
	r := newTestRepo(t, ModeArchive)
	if _, err := Create(r.Dir(), ModeBare, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("create over another mode: %v", err)
	}
	if _, err := Open(testutil.OpenDir(t, t.TempDir()), Options{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("open of an empty directory: %v", err)
	}
	for _, text := range []string{"[core]\nrepo_version=2\nmode=bare\n", "[core]\nrepo_version=1\nmode=odd\n", "[core]\nrepo_version=1\nfsync=maybe\n",
		"[core]\nrepo_version=1\nmin-free-space-percent=100\n", "[core]\nrepo_version=1\nmin-free-space-size=5XB\n"} {
		if err := r.Dir().WriteFile("config", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(r.Dir(), Options{}); err == nil {
			t.Errorf("config %q is accepted", text)
		}
	}
}

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	cfg := r.Config()
	if err := cfg.SetString("core", "min-free-space-size", "900TB"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		_, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, 1, strings.NewReader("x"))
		return err
	})
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("write below the reserve: %v", err)
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	c1 := commitFiles(t, r, "a/b", Checksum{}, map[string]string{"x": "1"})
	c2 := commitFiles(t, r, "origin:a/b", c1, map[string]string{"x": "2"})
	if err := r.Dir().Symlink("a/b", "refs/heads/alias"); err != nil {
		t.Fatal(err)
	}
	for rev, want := range map[string]Checksum{
		"a/b": c1, "alias": c1, "origin:a/b": c2, "origin:a/b^": c1, c2.String(): c2, c2.String()[:12]: c2, c2.String()[:12] + "^": c1,
	} {
		if got, err := r.Resolve(rev); got != want || err != nil {
			t.Errorf("resolve %q = %s, %v, want %s", rev, got, err, want)
		}
	}
	for rev, want := range map[string]error{"none": ErrNotFound, "o:none": ErrNotFound, "../x": ErrInvalid, "a//b": ErrInvalid,
		"": ErrInvalid, ":a": ErrInvalid, "a/b^^": ErrNotFound, ".hid": ErrInvalid, "a/b/c": ErrNotFound} {
		if _, err := r.Resolve(rev); !errors.Is(err, want) {
			t.Errorf("resolve %q: %v, want %v", rev, err, want)
		}
	}
	for prefix, want := range map[string]map[string]Checksum{
		"": {"a/b": c1, "alias": c1, "origin:a/b": c2}, "a": {"a/b": c1}, "origin:": {"origin:a/b": c2}, "origin:a/b": {"origin:a/b": c2}, "al": {},
	} {
		got, err := r.Refs(prefix)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("refs %q: %v\n%s", prefix, err, diff)
		}
	}
	update := func(fn func(tx *Txn) error) error {
		_, err := r.Update(t.Context(), func(_ context.Context, tx *Txn) error { return fn(tx) })
		return err
	}
	if err := update(func(tx *Txn) error { return tx.SetRef("a/b/c", c1) }); !errors.Is(err, ErrExists) {
		t.Errorf("ref below a ref: %v", err)
	}
	if err := update(func(tx *Txn) error { return tx.SetRef("a", c1) }); !errors.Is(err, ErrExists) {
		t.Errorf("ref above a ref: %v", err)
	}
	if err := update(func(tx *Txn) error { return tx.SetRef("new", sha(nil)) }); !errors.Is(err, ErrNotFound) {
		t.Errorf("ref to an absent commit: %v", err)
	}
	if err := update(func(tx *Txn) error { return errors.Join(tx.DeleteRef("a/b"), tx.SetRef("a", c2)) }); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Resolve("a"); got != c2 || err != nil {
		t.Errorf("a = %s, %v", got, err)
	}
}

func TestPartial(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	c := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1"})
	for _, mark := range []bool{true, false} {
		_, err := r.Update(t.Context(), func(_ context.Context, tx *Txn) error {
			if mark {
				return tx.MarkPartial(c)
			}
			return tx.ClearPartial(c)
		})
		if got, perr := r.CommitPartial(c); got != mark || err != nil || perr != nil {
			t.Errorf("partial = %t, %v, %v, want %t", got, err, perr, mark)
		}
	}
}

// What does not match its name, or is no object, must not enter.
func TestHostileWrites(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeArchive, ModeBareUser} {
		r := newTestRepo(t, mode)
		h := FileHeader{Mode: 0o100644}
		filez := func(declared int64, body string) []byte {
			src := newTestRepo(t, ModeArchive)
			var c Checksum
			if _, err := src.Update(t.Context(), func(ctx context.Context, tx *Txn) (err error) {
				c, err = tx.WriteContent(ctx, h, int64(len(body)), strings.NewReader(body))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			data, err := src.objects.ReadFile(ObjectName{c, TypeFile}.loosePath(ModeArchive), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			prefix, err := h.archivePrefix(declared)
			if err != nil {
				t.Fatal(err)
			}
			return append(prefix, data[len(prefix):]...)
		}
		content := strings.Repeat("bomb", 1000)
		good := filez(4000, content)
		sum := contentSum(t, r, content)
		archived := map[string][]byte{
			"longer than declared": filez(3999, content), "shorter than declared": filez(4001, content), "trailing bytes": append(bytes.Clone(good), 0),
			"cut": good[:len(good)-3], "empty": nil, "huge header": {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, "other content": filez(4, "evil"),
		}
		_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
			for name, data := range archived {
				if err := tx.WriteArchived(ctx, sum, bytes.NewReader(data)); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %s: %v", mode, name, err)
				}
			}
			for _, n := range []int64{1, 3} {
				if _, err := tx.WriteContent(ctx, h, n, strings.NewReader("ab")); !errors.Is(err, ErrCorrupt) {
					t.Errorf("content of 2 bytes declared as %d: %v", n, err)
				}
			}
			if err := tx.WriteContentExpected(ctx, sum, h, 2, strings.NewReader("ab")); !errors.Is(err, ErrCorrupt) {
				t.Errorf("content of another checksum: %v", err)
			}
			if err := tx.WriteMetadataExpected(ctx, ObjectName{sum, TypeDirTree}, []byte{0}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("metadata of another checksum: %v", err)
			}
			for _, typ := range []ObjectType{TypeDirTree, TypeDirMeta, TypeCommit} {
				if _, err := tx.WriteMetadata(ctx, typ, []byte("junk")); !errors.Is(err, ErrCorrupt) {
					t.Errorf("junk as %s: %v", typ, err)
				}
			}
			if _, err := tx.WriteCommit(ctx, Commit{RootTree: sum, RootMeta: sum}); !errors.Is(err, ErrNotFound) {
				t.Errorf("commit of an absent tree: %v", err)
			}
			if ok, err := tx.Has(ObjectName{sum, TypeFile}); ok || err != nil {
				t.Errorf("a refused object is present (%v)", err)
			}
			return tx.WriteArchived(ctx, sum, bytes.NewReader(good))
		})
		if err != nil {
			t.Fatal(err)
		}
		_, size, rc, err := r.OpenFile(sum)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if string(data) != content || size != 4000 || err != nil || rc.Close() != nil {
			t.Errorf("%s: read back %d bytes, %v", mode, len(data), err)
		}
	}
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	sum := sha(nil)
	// Written by hand, as Marshal refuses them.
	tree := func(names ...string) []byte {
		files := make([]gvariant.Value, len(names))
		for i, n := range names {
			files[i] = gvariant.Tuple(gvariant.String(n), gvariant.ByteSlice(sum[:]))
		}
		return gvariant.Tuple(gvariant.Array("(say)", files...), gvariant.Array("(sayay)",
			gvariant.Tuple(gvariant.String("dir"), gvariant.ByteSlice(sum[:]), gvariant.ByteSlice(sum[:])))).Bytes()
	}
	if _, err := ParseDirTree(tree("a", "b")); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{""}, {"."}, {".."}, {"a/b"}, {"/"}, {"b", "a"}, {"a", "a"}, {"dir"}} {
		if _, err := ParseDirTree(tree(names...)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("names %q: %v", names, err)
		}
	}
	for _, name := range []string{"nul\x00", "\xff"} {
		if _, err := (DirTree{Files: []TreeFile{{name, sum}}}).Marshal(); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
}

func TestWriteDirRefuses(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	src := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(src, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	write := func(o CommitOptions) error {
		_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
			return tx.WriteDir(ctx, testutil.OpenDir(t, src), NewMTree(), o)
		})
		return err
	}
	if err := write(CommitOptions{}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "/pipe") {
		t.Errorf("pipe: %v", err)
	}
	skip := func(p string, _ *FileHeader) (bool, error) { return p == "/pipe", nil }
	if err := write(CommitOptions{Filter: skip}); err != nil {
		t.Errorf("pipe that is skipped: %v", err)
	}
	if err := os.WriteFile(filepath.Join(src, "bad\xffname"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(CommitOptions{Filter: skip}); !errors.Is(err, ErrInvalid) {
		t.Errorf("name that is no UTF-8: %v", err)
	}
}

// Filter and label change what is recorded; the order of workers does not.
func TestWriteDirOptions(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	src := makeTree(t)
	o := CommitOptions{
		Filter: func(p string, h *FileHeader) (bool, error) {
			h.UID, h.GID = 42, 43
			return p == "/usr/share", nil
		},
		Label: func(p string, mode uint32) (string, error) { return "label:" + p, nil },
	}
	var sums []Checksum
	for _, workers := range []int{1, 2, 7} {
		o.Workers = workers
		sums = append(sums, commitDir(t, r, src, "b", o))
	}
	if sums[0] != sums[1] || sums[1] != sums[2] {
		t.Errorf("commits differ: %v", sums)
	}
	if _, err := r.Lookup(sums[0], "/usr/share"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a skipped directory is there: %v", err)
	}
	for _, p := range []string{"/usr/bin/tool", "/usr/lib/link", "/usr/big"} {
		n, err := r.Lookup(sums[0], p)
		if err != nil {
			t.Fatal(err)
		}
		h, _, rc, err := r.OpenFile(n.File)
		if err != nil {
			t.Fatal(err)
		}
		_ = rc.Close()
		if want := (Xattr{"security.selinux", []byte("label:" + p + "\x00")}); h.UID != 42 || !cmp.Equal(h.Xattrs[0], want) {
			t.Errorf("%s: %+v", p, h)
		}
	}
}

// A tree checked out by hard links is committed again without reading a file.
func TestDevIno(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, mode := range []Mode{ModeBare, ModeBareUser} {
		r := newTestRepo(t, mode)
		c := commitDir(t, r, makeTree(t), "b", CommitOptions{})
		var cache DevInoCache
		out := t.TempDir()
		o := CheckoutOptions{DevIno: &cache, UserMode: mode == ModeBareUser, RequireHardlinks: true}
		if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, out), "tree", o); err != nil {
			t.Fatal(err)
		}
		if cache.Len() == 0 {
			t.Fatal("nothing was linked")
		}
		tree := filepath.Join(out, "tree")
		again, _ := commitDirStats(t, r, tree, "b", CommitOptions{DevIno: &cache})
		if mode == ModeBare && again != c {
			t.Errorf("commit of the checkout = %s, want %s", again, c)
		}
		// A new file where a linked one was has another inode.
		if err := os.Remove(filepath.Join(tree, "usr/bin/tool")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, "usr/bin/tool"), []byte("changed"), 0o755); err != nil {
			t.Fatal(err)
		}
		changed := commitDir(t, r, tree, "b", CommitOptions{DevIno: &cache})
		diff, err := r.Diff(t.Context(), again, changed)
		if err != nil || len(diff) != 1 || diff[0].Path != "/usr/bin/tool" {
			t.Errorf("%s: diff = %+v, %v", mode, diff, err)
		}
	}
}

func TestCheckoutUnion(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeBareUser, ModeArchive} {
		r := newTestRepo(t, mode)
		ctx := t.Context()
		a := commitFiles(t, r, "a", Checksum{}, map[string]string{"d/one": "1", "both": "a"})
		b := commitFiles(t, r, "b", Checksum{}, map[string]string{"d/two": "2", "both": "b"})
		check := func(name string, u UnionMode, wantErr error, both string) {
			t.Helper()
			out := t.TempDir()
			o := CheckoutOptions{UserMode: true}
			if err := r.Checkout(ctx, a, testutil.OpenDir(t, out), "t", o); err != nil {
				t.Fatal(err)
			}
			o.Union = u
			if err := r.Checkout(ctx, b, testutil.OpenDir(t, out), "t", o); !errors.Is(err, wantErr) {
				t.Errorf("%s %s: %v, want %v", mode, name, err, wantErr)
			}
			data, err := os.ReadFile(filepath.Join(out, "t/both"))
			if string(data) != both || err != nil {
				t.Errorf("%s %s: both = %q, %v", mode, name, data, err)
			}
			if wantErr == nil {
				if err := r.Checkout(ctx, b, testutil.OpenDir(t, filepath.Join(out, "t")), ".", o); err != nil {
					t.Errorf("%s %s: again: %v", mode, name, err)
				}
			}
			left, err := filepath.Glob(filepath.Join(out, "t/.tmp*"))
			if len(left) > 0 || err != nil {
				t.Errorf("%s %s: left over: %v", mode, name, left)
			}
		}
		check("none", UnionNone, ErrExists, "a")
		check("overwrite", UnionOverwrite, nil, "b")
		check("add", UnionAddFiles, nil, "a")
		check("identical", UnionIdentical, ErrExists, "a")
		same := t.TempDir()
		for range 2 {
			o := CheckoutOptions{UserMode: true, Union: UnionIdentical}
			if err := r.Checkout(ctx, a, testutil.OpenDir(t, same), "t", o); err != nil {
				t.Error(err)
			}
		}
		// A link that waits where a directory is to come must not lead outside.
		evil, outside := t.TempDir(), t.TempDir()
		if err := os.Symlink(outside, filepath.Join(evil, "d")); err != nil {
			t.Fatal(err)
		}
		if err := r.Checkout(ctx, a, testutil.OpenDir(t, evil), ".", CheckoutOptions{UserMode: true, Union: UnionOverwrite}); !errors.Is(err, ErrExists) {
			t.Errorf("checkout through a link: %v", err)
		}
		if left, err := os.ReadDir(outside); len(left) > 0 || err != nil {
			t.Errorf("outside of the checkout: %v, %v", left, err)
		}
	}
}

func TestTxnOver(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	var kept *Txn
	if _, err := r.Update(t.Context(), func(_ context.Context, tx *Txn) error { kept = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.WriteMetadata(t.Context(), TypeDirTree, []byte{0}); !errors.Is(err, ErrInvalid) {
		t.Errorf("write after the end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.Update(ctx, func(_ context.Context, tx *Txn) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled transaction: %v", err)
	}
}
