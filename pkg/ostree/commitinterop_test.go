// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// commitWith commits what fill puts into a tree, as real does.
func commitWith(t *testing.T, r *Repo, ref string, fill func(context.Context, *Txn, *MTree) error) (Checksum, Stats, error) {
	t.Helper()
	var c Checksum
	s, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		m := NewMTree()
		if err := fill(ctx, tx, m); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		if c, err = tx.WriteCommit(ctx, Commit{Subject: "s", Timestamp: 1, RootTree: tree, RootMeta: meta}); err != nil {
			return err
		}
		return tx.SetRef(ref, c)
	})
	return c, s, err
}

// realCommit commits with libostree into a repository of the same mode.
func realCommit(t *testing.T, mode Mode, args ...string) (repo string, c Checksum) {
	t.Helper()
	repo = filepath.Join(t.TempDir(), "real")
	run(t, "ostree", "--repo="+repo, "init", "--mode="+mode.String())
	return repo, realCommitTo(t, repo, args...)
}

func realCommitTo(t *testing.T, repo string, args ...string) Checksum {
	t.Helper()
	args = append([]string{"--repo=" + repo, "commit", "-s", "s", "--timestamp=@1", "--no-bindings", "--parent=none"}, args...)
	return mustSum(t, run(t, "ostree", args...))
}

// same checks a commit against that of libostree, and that libostree's fsck likes
// the repository.
func same(t *testing.T, r *Repo, got, want Checksum, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("commit %s, of libostree %s\n%s", got, want, run(t, "ostree", repoPath(r), "ls", "-R", "-X", got.String()))
	}
	run(t, "ostree", repoPath(r), "fsck", "-q")
}

func tarOf(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "a.tar")
	run(t, "tar", append(append([]string{"-C", dir, "-cf", out}, args...), ".")...)
	return out
}

func writeTarFile(ctx context.Context, tx *Txn, m *MTree, file string, o CommitOptions, to TarOptions) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return tx.WriteTar(ctx, f, m, o, to)
}

// linkTree has the files of makeTree without two attributes on one file, whose order
// in a tar libostree gets wrong, and with hard links.
func linkTree(t *testing.T) string {
	t.Helper()
	src := makeTree(t)
	d := testutil.OpenDir(t, src)
	err := d.Link("usr/bin/tool", d, "usr/bin/a-link")
	if err == nil {
		err = d.Link("usr/lib/link", d, "usr/lib/linked link")
	}
	if err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(src, strings.Repeat("long/", 40))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(long, strings.Repeat("n", 120)), []byte("long"), 0o644); err != nil {
		t.Fatal(err)
	}
	return src
}

// A tar of every format gives the commit that libostree makes of it, in every mode.
func TestInteropTar(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := linkTree(t)
	for name, args := range map[string][]string{
		"gnu": {"--format=gnu"}, "pax": {"--format=pax"}, "xattrs": {"--format=pax", "--xattrs", "--xattrs-include=user.dir"},
		"gzip": {"-z"}, "xz": {"-J"}, "bzip2": {"-j"}, "zstd": {"--zstd"},
	} {
		file := tarOf(t, src, args...)
		modes := []Mode{ModeArchive}
		if name == "xattrs" {
			modes = allModes
		}
		for _, mode := range modes {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				t.Parallel()
				_, want := realCommit(t, mode, "-b", "x", "--tree=tar="+file)
				r := newTestRepo(t, mode)
				got, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
					return writeTarFile(ctx, tx, m, file, CommitOptions{}, TarOptions{})
				})
				same(t, r, got, want, err)
			})
		}
	}
}

func TestInteropCpio(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	testutil.Tool(t, "cpio")
	needRoot(t)
	src := linkTree(t)
	for _, format := range []string{"newc", "crc", "odc"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "a.cpio")
			run(t, "sh", "-c", fmt.Sprintf("cd '%s' && find . -print0 | cpio -0 --quiet -o -H %s >'%s'", src, format, file))
			_, want := realCommit(t, ModeArchive, "-b", "x", "--tree=tar="+file)
			r := newTestRepo(t, ModeArchive)
			got, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
				return writeTarFile(ctx, tx, m, file, CommitOptions{}, TarOptions{})
			})
			same(t, r, got, want, err)
		})
	}
}

// Parents that the archive lacks, renamed paths, and options on top.
func TestInteropTarOptions(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := linkTree(t)
	all, part := tarOf(t, src), filepath.Join(t.TempDir(), "part.tar")
	run(t, "tar", "-C", src, "--owner=7", "--group=8", "-cf", part, "usr/lib/-dash", "usr/bin/tool")
	uid, gid := uint32(1), uint32(2)
	for name, c := range map[string]struct {
		file, filter string
		auto         bool
		args         []string
		o            func() CommitOptions
	}{
		"autocreate": {file: part, auto: true},
		"prefix":     {file: all, auto: true, filter: "^,foo/"},
		"anchored":   {file: all, auto: true, filter: "^usr/bin/,usr/sbin/"},
		"groups":     {file: all, auto: true, filter: `(b)in(/),\2s\1\0`},
		"owner": {
			file: part, auto: true, args: []string{"--owner-uid=1", "--owner-gid=2"},
			o: func() CommitOptions { return CommitOptions{Overrides: &Overrides{UID: &uid, GID: &gid}} },
		},
		"canonical": {
			file: all, args: []string{"--canonical-permissions"},
			o: func() CommitOptions { return CommitOptions{CanonicalPermissions: true} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-b", "x", "--tree=tar=" + c.file}, c.args...)
			to := TarOptions{AutocreateParents: c.auto}
			if c.auto {
				args = append(args, "--tar-autocreate-parents")
			}
			if c.filter != "" {
				args = append(args, "--tar-pathname-filter="+c.filter)
				var err error
				if to.Rename, err = TarPathFilter(c.filter); err != nil {
					t.Fatal(err)
				}
			}
			var o CommitOptions
			if c.o != nil {
				o = c.o()
			}
			_, want := realCommit(t, ModeArchive, args...)
			r := newTestRepo(t, ModeArchive)
			got, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
				return writeTarFile(ctx, tx, m, c.file, o, to)
			})
			same(t, r, got, want, err)
		})
	}
}

// Overrides, sizes and the flags give the same commit from a directory as with
// libostree, in every mode.
func TestInteropOverrides(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := makeTree(t)
	stat, skip := filepath.Join(t.TempDir(), "stat"), filepath.Join(t.TempDir(), "skip")
	for name, text := range map[string]string{
		stat: "+2048 /usr/bin/tool\n=384 /usr/empty\n=448 /usr/share\n512 /var\n",
		skip: "/usr/big\n/usr/share/empty\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	uid := uint32(5)
	for name, c := range map[string]struct {
		args []string
		o    func() CommitOptions
	}{
		"stat and skip": {[]string{"--statoverride=" + stat, "--skip-list=" + skip}, func() CommitOptions {
			return CommitOptions{Overrides: &Overrides{
				AddMode: map[string]uint32{"/usr/bin/tool": 0o4000, "/var": 0o1000},
				SetMode: map[string]uint32{"/usr/empty": 0o600, "/usr/share": 0o700},
				Skip:    map[string]bool{"/usr/big": true, "/usr/share/empty": true},
			}}
		}},
		"read-only": {[]string{"--mode-ro-executables", "--owner-uid=5"}, func() CommitOptions {
			return CommitOptions{Overrides: &Overrides{UID: &uid, ReadOnlyExecutables: true}}
		}},
		"canonical": {[]string{"--canonical-permissions"}, func() CommitOptions { return CommitOptions{CanonicalPermissions: true} }},
		"no xattrs": {[]string{"--no-xattrs"}, func() CommitOptions { return CommitOptions{SkipXattrs: true} }},
	} {
		for _, mode := range allModes {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				t.Parallel()
				_, want := realCommit(t, mode, append([]string{"-b", "x", "--tree=dir=" + src}, c.args...)...)
				r := newTestRepo(t, mode)
				got, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
					return tx.WriteDir(ctx, testutil.OpenDir(t, src), m, c.o())
				})
				same(t, r, got, want, err)
			})
		}
	}
}

// Trees laid over each other: of directories, a tar and commits, with and without
// options.
func TestInteropOverlay(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	lower, upper := makeTree(t), filepath.Join(t.TempDir(), "upper")
	for name, text := range map[string]string{"usr/empty": "no more", "usr/share/new": "n", "var/tmp/x/y": "z"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(upper, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(upper, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	uid := uint32(42)
	file := tarOf(t, upper)
	for _, owner := range []bool{false, true} {
		for _, mode := range allModes {
			t.Run(fmt.Sprintf("%s/%t", mode, owner), func(t *testing.T) {
				t.Parallel()
				o, args := CommitOptions{}, []string(nil)
				if owner {
					o.Overrides, args = &Overrides{UID: &uid}, []string{"--owner-uid=42"}
				}
				repo, low := realCommit(t, mode, "-b", "low", "--tree=dir="+lower)
				want := []Checksum{
					realCommitTo(t, repo, append(args, "-b", "a", "--tree=ref=low", "--tree=dir="+upper)...),
					realCommitTo(t, repo, append(args, "-b", "b", "--base=low", "--tree=tar="+file)...),
					realCommitTo(t, repo, append(args, "-b", "c", "--tree=dir="+upper, "--tree=ref=low")...),
				}
				r := newTestRepo(t, mode)
				if c := commitDir(t, r, lower, "low", CommitOptions{}); !sameTrees(t, r, c, run(t, "ostree", "--repo="+repo, "ls", "-R", "-C", "low")) {
					t.Fatalf("commit %s differs from %s", c, low)
				}
				base, err := r.Resolve("low")
				if err != nil {
					t.Fatal(err)
				}
				dir := func(ctx context.Context, tx *Txn, m *MTree) error {
					return tx.WriteDir(ctx, testutil.OpenDir(t, upper), m, o)
				}
				ref := func(ctx context.Context, tx *Txn, m *MTree) error { return tx.WriteCommitTree(ctx, base, m, o) }
				plain := func(ctx context.Context, tx *Txn, m *MTree) error {
					return tx.WriteCommitTree(ctx, base, m, CommitOptions{})
				}
				arch := func(ctx context.Context, tx *Txn, m *MTree) error {
					return writeTarFile(ctx, tx, m, file, o, TarOptions{})
				}
				for i, steps := range [][]func(context.Context, *Txn, *MTree) error{{ref, dir}, {plain, arch}, {dir, ref}} {
					got, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
						for _, s := range steps {
							if err := s(ctx, tx, m); err != nil {
								return err
							}
						}
						return nil
					})
					same(t, r, got, want[i], err)
				}
			})
		}
	}
}

func sameTrees(t *testing.T, r *Repo, c Checksum, listing string) bool {
	t.Helper()
	return run(t, "ostree", repoPath(r), "ls", "-R", "-C", c.String()) == listing
}

// The sizes that libostree reads are those of the objects.
func TestInteropSizes(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := makeTree(t)
	r := newTestRepo(t, ModeArchive)
	commitDir(t, r, src, "earlier", CommitOptions{}) // so that objects are met, not written
	got, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
		return tx.WriteDir(ctx, testutil.OpenDir(t, src), m, CommitOptions{GenerateSizes: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.LoadCommit(got)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := c.Sizes()
	if err != nil {
		t.Fatal(err)
	}
	repo, want := realCommit(t, ModeArchive, "-b", "x", "--generate-sizes", "--tree=dir="+src)
	real, err := Open(testutil.OpenDir(t, repo), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	if c, err = real.LoadCommit(want); err != nil {
		t.Fatal(err)
	}
	theirs, err := c.Sizes()
	if err != nil || len(ours) != len(theirs) {
		t.Fatalf("%d entries, of libostree %d, %v", len(ours), len(theirs), err)
	}
	for i, s := range ours {
		st, err := r.objects.Lstat(s.Object.loosePath(r.mode))
		if s.Object != theirs[i].Object || s.Unpacked != theirs[i].Unpacked || err != nil || uint64(st.Size) != s.Archived {
			t.Errorf("entry %+v on disk %d, of libostree %+v (%v)", s, st.Size, theirs[i], err)
		}
	}
	if out := run(t, "ostree", repoPath(r), "show", "--print-sizes", "x"); !strings.Contains(out, fmt.Sprintf("0/%d", len(ours))) {
		t.Error(out)
	}
	for most, want := range map[int]error{len(ours): nil, len(ours) - 1: ErrNotFound} {
		got, _, err := commitWith(t, r, "y", func(ctx context.Context, tx *Txn, m *MTree) error {
			return tx.WriteDir(ctx, testutil.OpenDir(t, src), m, CommitOptions{GenerateSizes: true, MaxSizes: most})
		})
		testutil.Must(t, err)
		c, err := r.LoadCommit(got)
		testutil.Must(t, err)
		if _, err := c.Sizes(); !errors.Is(err, want) {
			t.Errorf("at most %d of %d: %v", most, len(ours), err)
		}
	}
}

// Files linked by a checkout are found again, consumed trees vanish and become
// objects where the mode lets them.
func TestInteropConsume(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := makeTree(t)
	for _, mode := range allModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			r := newTestRepo(t, mode)
			c := commitDir(t, r, src, "x", CommitOptions{})
			top := testutil.OpenDir(t, filepath.Dir(r.Dir().Path()))
			if err := r.Checkout(t.Context(), c, top, "co", CheckoutOptions{UserMode: mode == ModeBareUser}); err != nil {
				t.Fatal(err)
			}
			co := filepath.Join(top.Path(), "co")
			if err := os.WriteFile(filepath.Join(co, "new"), []byte("adopt me"), 0o644); err != nil {
				t.Fatal(err)
			}
			kept := testutil.OpenDir(t, co)
			before, err := kept.Lstat("new")
			if err != nil {
				t.Fatal(err)
			}
			_, want := realCommit(t, mode, "-b", "y", "--tree=dir="+co)
			cache, err := r.ScanLinks(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, s, err := commitWith(t, r, "y", func(ctx context.Context, tx *Txn, m *MTree) error {
				return tx.WriteDir(ctx, kept, m, CommitOptions{DevIno: cache, Consume: true})
			})
			if err != nil {
				t.Fatal(err)
			}
			if mode != ModeBareUser { // whose links carry the real metadata
				same(t, r, got, want, nil)
			}
			run(t, "ostree", repoPath(r), "fsck", "-q")
			if list, err := os.ReadDir(co); err != nil || len(list) > 0 {
				t.Errorf("left over: %v, %v", list, err)
			}
			if mode != ModeArchive && s.CacheHits == 0 {
				t.Errorf("stats = %+v", s)
			}
			n, err := r.Lookup(got, "/new")
			if err != nil {
				t.Fatal(err)
			}
			st, err := r.objects.Lstat(ObjectName{n.File, TypeFile}.loosePath(mode))
			adopted := st.Ino == before.Ino
			if want := mode == ModeBare || mode == ModeBareUserOnly; err != nil || adopted != want {
				t.Errorf("adopted = %t, %v", adopted, err)
			}
		})
	}
}

func TestBootable(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	src := filepath.Join(t.TempDir(), "src")
	if err := os.MkdirAll(filepath.Join(src, "usr/lib/modules/6.1-x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "usr/lib/modules/6.1-x/vmlinuz"), []byte("k"), 0o644); err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(t.TempDir(), "real")
	run(t, "ostree", "--repo="+repo, "init", "--mode=archive", "--collection-id=org.example.C")
	want := mustSum(t, run(t, "ostree", "--repo="+repo, "commit", "-s", "s", "--timestamp=@1", "-b", "b", "--bind-ref=a", "--bootable", src))
	r := newTestRepo(t, ModeArchive)
	var got Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		m := NewMTree()
		if err := tx.WriteDir(ctx, testutil.OpenDir(t, src), m, CommitOptions{}); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		var md gvariant.Dict
		AddBindings(&md, "org.example.C", "b", "a")
		if err := tx.AddBootable(ctx, &md, tree); err != nil {
			return err
		}
		got, err = tx.WriteCommit(ctx, Commit{Metadata: md, Subject: "s", Timestamp: 1, RootTree: tree, RootMeta: meta})
		if err != nil {
			return err
		}
		if yes, err := tx.SameTree(got, tree, meta); !yes || err != nil {
			t.Errorf("SameTree = %t, %v", yes, err)
		}
		return nil
	})
	if err != nil || got != want {
		c, _ := r.LoadCommit(got)
		keys := slices.Clone(c.Metadata.Keys())
		t.Errorf("commit %s, of libostree %s, %v: %v\n%s", got, want, err, keys, run(t, "ostree", "--repo="+repo, "show", "--raw", want.String()))
	}
}
