// SPDX-License-Identifier: Apache-2.0

package treediff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
)

func newRepo(t *testing.T, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	r, err := ostree.Create(testutil.OpenDir(t, t.TempDir()), mode, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// entry is a path of a tree: a link with Target, a directory with a name that ends
// in a slash, else a file.
type entry struct {
	name, content, target, label string
	mode, uid                    uint32
}

func write(t *testing.T, r *ostree.Repo, c ostree.Commit, entries ...entry) ostree.Checksum {
	t.Helper()
	dir := t.TempDir()
	want := map[string]entry{}
	for _, e := range entries {
		p := filepath.Join(dir, e.name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case strings.HasSuffix(e.name, "/"):
			testutil.Must(t, os.MkdirAll(p, 0o755))
		case e.target != "":
			testutil.Must(t, os.Symlink(e.target, p))
		default:
			testutil.Must(t, os.WriteFile(p, []byte(e.content), 0o644))
		}
		want["/"+strings.TrimSuffix(e.name, "/")] = e
	}
	root := testutil.OpenDir(t, dir)
	var sum ostree.Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		m := ostree.NewMTree()
		o := ostree.CommitOptions{SkipXattrs: true, Filter: func(p string, h *ostree.FileHeader) (bool, error) {
			e := want[p]
			h.UID, h.GID = e.uid, 0
			if e.mode != 0 {
				h.Mode = h.Mode&syscall.S_IFMT | e.mode
			}
			if e.label != "" {
				h.Xattrs = []ostree.Xattr{{Name: "security.selinux", Value: []byte(e.label)}}
			}
			return false, nil
		}}
		err := txn.WriteDir(ctx, root, m, o)
		if err != nil {
			return err
		}
		if c.RootTree, c.RootMeta, err = txn.WriteTree(ctx, m); err != nil {
			return err
		}
		sum, err = txn.WriteCommit(ctx, c)
		return err
	})
	testutil.Must(t, err)
	return sum
}

func compare(t *testing.T, ra *ostree.Repo, a ostree.Checksum, rb *ostree.Repo, b ostree.Checksum, o Options) *Diff {
	t.Helper()
	d, err := Compare(t.Context(), Side{ra, a.String()}, Side{rb, b.String()}, o)
	testutil.Must(t, err)
	return d
}

func TestFiles(t *testing.T) {
	t.Parallel()
	ra, rb := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeBareUser)
	rpmdbFile := "usr/share/rpm/" + rpmdb.FileName + "-shm"
	a := write(t, ra, ostree.Commit{Timestamp: 1},
		entry{name: "same", content: "1"}, entry{name: "edit", content: "12"}, entry{name: "grow", content: "1"}, entry{name: "mode", content: "m"},
		entry{name: "owner", content: "o"}, entry{name: "label", content: "l", label: "a"}, entry{name: "both", content: "x", uid: 1}, entry{name: "cut", content: "12", uid: 1}, entry{name: "link", target: "a"},
		entry{name: "kind", content: "k"}, entry{name: "dir/"}, entry{name: "gone/sub/f", content: "123"}, entry{name: rpmdbFile, content: "1"})
	b := write(t, rb, ostree.Commit{Timestamp: math.MaxUint64},
		entry{name: "same", content: "1"}, entry{name: "edit", content: "34"}, entry{name: "grow", content: "123"}, entry{name: "mode", content: "m", mode: 0o4755},
		entry{name: "owner", content: "o", uid: 5}, entry{name: "label", content: "l", label: "b"}, entry{name: "both", content: "y"}, entry{name: "cut", content: "1"}, entry{name: "link", target: "b"},
		entry{name: "kind", target: "x"}, entry{name: "dir/", mode: 0o700}, entry{name: "new", content: "1234"}, entry{name: rpmdbFile, content: "2"})
	d := compare(t, ra, a, rb, b, Options{})
	var got []string
	for _, c := range d.Files.List {
		got = append(got, fmt.Sprint(c.Change, " ", c.Path, " ", strings.Join(c.What, ",")))
	}
	want := []string{"modified /both content,owner", "modified /cut content,owner", "modified /dir mode", "modified /edit content", "removed /gone ", "removed /gone/sub ", "removed /gone/sub/f ",
		"modified /grow content", "modified /kind type", "modified /label label", "modified /link target", "modified /mode mode", "added /new ", "modified /owner owner"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if f := d.Files; f.Ignored != 1 || f.Added != (FileCount{1, 4}) || f.Removed != (FileCount{3, 3}) || f.Modified.Count != 10 {
		t.Errorf("%+v", f)
	}
	if all := compare(t, ra, a, rb, b, Options{AllFiles: true}); len(all.Files.List) != len(got)+1 {
		t.Errorf("--all-files: %d", len(all.Files.List))
	}
	if d.Same || d.Packages != nil || d.To.Timestamp.Year() != 9999 || !d.Sizes.Fetch.Estimated || d.Sizes.New.Bytes != 1+2+3+1+1+1+1+4+1 { // "cut" is "same"
		t.Errorf("%+v %+v", d.To, d.Sizes)
	}
	if back := compare(t, rb, b, ra, a, Options{}); back.Sizes.Fetch.Estimated || back.Sizes.Fetch.Bytes == 0 {
		t.Errorf("into an archive: %+v", back.Sizes)
	}
	same := compare(t, ra, a, ra, a, Options{})
	if !same.Same || len(same.Files.List) != 0 || same.Sizes.Fetch != (Fetch{}) {
		t.Errorf("a commit and itself: %+v", same)
	}
}

// A commit that tells its sizes is believed where the repository is no archive.
func TestToldSizes(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeBareUser)
	a := write(t, r, ostree.Commit{}, entry{name: "f", content: "1"})
	file, err := r.Lookup(write(t, r, ostree.Commit{}, entry{name: "f", content: "2"}), "/f")
	testutil.Must(t, err)
	told := func(n uint64) []byte { // checksum, both sizes as LEB128, type
		b := slices.Clone(file.File[:])
		for range 2 {
			for v := n; ; v >>= 7 {
				if v < 0x80 {
					b = append(b, byte(v))
					break
				}
				b = append(b, byte(v)|0x80)
			}
		}
		return append(b, byte(ostree.TypeFile))
	}
	for size, want := range map[uint64]func(int64) bool{
		5000:           func(n int64) bool { return n > 5000 && n < 6000 },
		math.MaxUint64: func(n int64) bool { return n == math.MaxInt64 },
	} {
		var c ostree.Commit
		c.Metadata.Set("ostree.sizes", gvariant.ByteSlices([][]byte{told(size)}))
		d := compare(t, r, a, r, write(t, r, c, entry{name: "f", content: "2"}), Options{})
		if d.Sizes.Fetch.Estimated || !want(d.Sizes.Fetch.Bytes) {
			t.Errorf("%d: %+v", size, d.Sizes.Fetch)
		}
	}
}

func packages(rows ...string) ostree.Commit {
	var list []gvariant.Value
	for _, row := range rows {
		f := strings.Fields(row)
		list = append(list, gvariant.Tuple(gvariant.String(f[0]), gvariant.String(f[1]), gvariant.String(f[2]), gvariant.String("1"), gvariant.String("noarch")))
	}
	var c ostree.Commit
	c.Metadata.Set("rpmostree.rpmdb.pkglist", gvariant.Array("(sssss)", list...))
	return c
}

func advisoryRow(id string, kind, severity uint32, pkgs ...string) gvariant.Value {
	var more gvariant.Dict
	more.Set("cve_references", gvariant.Array("(ss)", gvariant.Tuple(gvariant.String("https://x"), gvariant.String("CVE-1"))))
	return gvariant.Tuple(gvariant.String(id), gvariant.Uint32(kind), gvariant.Uint32(severity), gvariant.Strings(pkgs), more.Value())
}

// Commits without a package database have their list; kernels are found, and what a
// host layered is told from its base.
func TestCommitsWithoutDatabase(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	old := packages("a 0 1", "b 1 1", "c 0 1")
	old.Metadata.Set("version", gvariant.String("1"))
	old.Metadata.Set(advisoriesKey, gvariant.Array("(suuasa{sv})", advisoryRow("OLD", 1, 4, "b-1:1-1.noarch"), advisoryRow("SUPERSEDED", 2, 9, "a-1-1.noarch"), advisoryRow("KEPT", 1, 1, "b-1:1-1.noarch")))
	a := write(t, r, old, entry{name: "usr/lib/modules/6.9/vmlinuz"}, entry{name: "usr/lib/modules/6.10/vmlinuz"}, entry{name: "usr/lib/modules/7/x"})
	next := packages("a 0 2", "b 0 2", "d 0 1")
	next.Parent = a
	next.Metadata.Set("rpmostree.clientlayer", gvariant.Bool(true))
	next.Metadata.Set("ostree.ref-binding", gvariant.Strings([]string{"x/y"}))
	next.Metadata.Set("ostree.linux", gvariant.String("6.11"))
	b := write(t, r, next, entry{name: "f"})
	var detached gvariant.Dict
	detached.Set(advisoriesKey, gvariant.Array("(suuasa{sv})", advisoryRow("Z", 1, 3, "a-2-1.noarch"), advisoryRow("NEW", 99, 0, "a-2-1.noarch"), advisoryRow("KEPT", 1, 1, "b-2-1.noarch")))
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error { return txn.SetCommitMeta(ctx, b, detached) })
	testutil.Must(t, err)
	d := compare(t, r, a, r, b, Options{})
	want := &Packages{
		Upgraded:   []PackageChange{{Name: "a", Old: &Package{NEVRA: "a-1-1.noarch", Version: "1-1", Arch: "noarch"}, New: &Package{NEVRA: "a-2-1.noarch", Version: "2-1", Arch: "noarch"}}},
		Downgraded: []PackageChange{{Name: "b", Old: &Package{NEVRA: "b-1:1-1.noarch", Version: "1:1-1", Arch: "noarch"}, New: &Package{NEVRA: "b-2-1.noarch", Version: "2-1", Arch: "noarch"}}},
		Added:      []PackageChange{{Name: "d", New: &Package{NEVRA: "d-1-1.noarch", Version: "1-1", Arch: "noarch"}}},
		Removed:    []PackageChange{{Name: "c", Old: &Package{NEVRA: "c-1-1.noarch", Version: "1-1", Arch: "noarch"}}},
	}
	if diff := cmp.Diff(want, d.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	refs := []Reference{{"https://x", "CVE-1"}}
	wantAdvisories := Advisories{
		Added: []Advisory{{ID: "NEW", Type: "unknown", Packages: []string{"a-2-1.noarch"}, References: refs}, {ID: "Z", Type: "security", Severity: "important", Packages: []string{"a-2-1.noarch"}, References: refs}},
		Lost:  []Advisory{{ID: "OLD", Type: "security", Severity: "critical", Packages: []string{"b-1:1-1.noarch"}, References: refs}},
	}
	if diff := cmp.Diff(wantAdvisories, d.Advisories); diff != "" {
		t.Errorf("advisories (-want +got):\n%s", diff)
	}
	if d.From.Kernel != "6.10" || d.To.Kernel != "6.11" || d.From.Base != nil || d.To.Base == nil || *d.To.Base != a || d.To.Refs[0] != "x/y" || d.From.Version != "1" || d.From.PackageCount != 3 {
		t.Errorf("%+v %+v", d.From, d.To)
	}
}

func TestDamagedMetadata(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	good := write(t, r, packages("a 0 1"), entry{name: "f"})
	for key, want := range map[string]error{advisoriesKey: ErrAdvisories, "rpmostree.rpmdb.pkglist": pkglist.ErrInvalid, "ostree.sizes": ostree.ErrInvalid} {
		c := packages("a 0 1")
		c.Metadata.Set(key, gvariant.String("x"))
		bad := write(t, r, c, entry{name: "f"})
		if _, err := Compare(t.Context(), Side{r, good.String()}, Side{r, bad.String()}, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", key, err)
		}
	}
	broken := write(t, r, packages("a 0 1"), entry{name: "usr/share/rpm/" + rpmdb.FileName, content: "no database"})
	if _, err := Compare(t.Context(), Side{r, good.String()}, Side{r, broken.String()}, Options{}); err == nil || !strings.Contains(err.Error(), broken.String()) {
		t.Errorf("broken database: %v", err)
	}
}

func TestReachedAdvisories(t *testing.T) {
	t.Parallel()
	pkg := func(name, version string) pkglist.Package {
		return pkglist.Package{Name: name, EVR: rpm.EVR{Version: version, Release: "1"}, Arch: "noarch"}
	}
	advisory := func(id string, p pkglist.Package) rpmmd.Advisory {
		return rpmmd.Advisory{ID: id, Packages: []rpm.NEVRA{{Name: p.Name, EVR: p.EVR, Arch: p.Arch}}, Severity: "Low"}
	}
	known := []rpmmd.Advisory{advisory("before", pkg("a", "1")), advisory("reached", pkg("a", "2")), advisory("between", pkg("a", "1.5")), advisory("ahead", pkg("a", "3")),
		advisory("other", pkg("x", "2")), advisory("added", pkg("n", "1")), advisory("not yet", pkg("n", "2")), advisory("between", pkg("a", "1.6"))}
	var got []string
	for _, a := range reached(known, []pkglist.Pair{{Old: pkg("a", "1"), New: pkg("a", "2")}}, []pkglist.Package{pkg("n", "1")}) {
		got = append(got, a.ID+" "+strings.Join(a.Packages, ","))
	}
	if want := []string{"added n-1-1.noarch", "between a-1.5-1.noarch,a-1.6-1.noarch", "reached a-2-1.noarch"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A changelog of a year that JSON does not have must not keep the rest from being told.
func TestTimesOfChangelogs(t *testing.T) {
	t.Parallel()
	pkg := func(times ...byte) *rpm.Package {
		texts := make([]string, len(times))
		entries := []rpm.Entry{rpm.StringsEntry(rpm.TagChangelogName, texts...), rpm.StringsEntry(rpm.TagChangelogText, texts...)}
		when := rpm.Entry{Tag: rpm.TagChangelogTime, Type: rpm.TypeInt64, Count: uint32(len(times))}
		for _, b := range times {
			when.Data = append(when.Data, b, 0, 0, 0, 0, 0, 0, 1)
		}
		return rpmtest.Installed(t, "x", append(entries, when)...)
	}
	got := newEntries(pkg(0), pkg(0, 0x7f, 0xff))
	if len(got) != 2 {
		t.Fatal(got)
	}
	if data, err := json.Marshal(got); err != nil || !strings.Contains(string(data), "1970-01-01") {
		t.Errorf("%s %v", data, err)
	}
	if newEntries(nil, pkg(0)) != nil {
		t.Error("entries without a database")
	}
}

func TestMergedPaths(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"bin/x": "usr/bin/x", "usr/bin/x": "usr/bin/x", "etc/c": "usr/etc/c", "boot/k": "usr/lib/ostree-boot/k", "lib64": "usr/lib64", "opt/x": "opt/x"} {
		if got := merged(path); got != want {
			t.Errorf("merged(%q) = %q", path, got)
		}
	}
}

func FuzzParseAdvisories(f *testing.F) {
	f.Add(gvariant.Array("(suuasa{sv})", advisoryRow("A", 1, 2, "p-1-1.noarch")).Bytes())
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(_ *testing.T, data []byte) {
		if v, err := gvariant.Parse("a(suuasa{sv})", data); err == nil {
			_, _ = parseAdvisories(v)
		}
	})
}
