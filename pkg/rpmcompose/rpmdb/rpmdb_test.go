// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// someInstalled reads a few real packages.
func someInstalled(t *testing.T) []Installed {
	t.Helper()
	files := binaryPackages(t, testutil.Corpus(t, "rpms", "built-from-rpm-tests-specs"))
	var list []string
	for _, f := range files {
		list = append(list, f)
	}
	slices.Sort(list)
	var out []Installed
	for _, name := range list {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := rpm.ReadPackage(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		out = append(out, Installed{Package: p, InstallTime: time.Unix(1700000000, 0)})
	}
	return out
}

func TestWriteIsDeterministic(t *testing.T) {
	t.Parallel()
	pkgs := someInstalled(t)
	var first []byte
	for n := range 2 {
		dir := t.TempDir()
		if err := Write(context.Background(), testutil.OpenDir(t, dir), pkgs); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("left in the directory: %v, %v", entries, err)
		}
		data, err := os.ReadFile(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && !bytes.Equal(data, first) {
			t.Fatal("the same packages in another order give other bytes")
		}
		if data[18] != 1 || data[19] != 1 {
			t.Fatalf("journal mode bytes %d %d: the file needs a writable directory to be read", data[18], data[19])
		}
		first = data
		slices.Reverse(pkgs)
	}
}

func TestReadWritesNothing(t *testing.T) {
	t.Parallel()
	pkgs := someInstalled(t)
	root := t.TempDir()
	place := filepath.Join(root, "usr/share/rpm")
	if err := os.MkdirAll(place, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(context.Background(), testutil.OpenDir(t, place), pkgs); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/lib/sysimage"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Inside a tree an absolute link means the tree's root.
	if err := os.Symlink("/usr/share/rpm", filepath.Join(root, "usr/lib/sysimage/rpm")); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTree(context.Background(), testutil.OpenDir(t, root))
	if err != nil {
		t.Fatal(err)
	}
	names := func(list []*rpm.Package) (out []string) {
		for _, p := range list {
			out = append(out, p.NEVRA().String())
		}
		return out
	}
	var want []*rpm.Package
	for _, i := range pkgs {
		want = append(want, i.Package)
	}
	slices.SortFunc(want, func(a, b *rpm.Package) int { return rpm.CompareNEVRA(a.NEVRA(), b.NEVRA()) })
	if d := cmp.Diff(names(want), names(got)); d != "" {
		t.Error(d)
	}
	for i, p := range got {
		if d := cmp.Diff(want[i].Requires(), p.Requires()); d != "" {
			t.Errorf("%s: %s", p.NEVRA(), d)
		}
		if _, err := rpm.VerifyHeader(p, nil, rpm.VerifyOptions{}); err != nil {
			t.Errorf("%s: %v", p.NEVRA(), err)
		}
	}
	entries, err := os.ReadDir(place)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// TestReadLive reads a database whose last change still waits in the write-ahead log, as on a running
// system.
func TestReadLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pkgs := someInstalled(t)
	if err := Write(context.Background(), testutil.OpenDir(t, dir), pkgs); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, FileName)+"?_pragma=journal_mode(wal)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("DELETE FROM Packages WHERE hnum = 1"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, FileName+"-wal")); err != nil || st.Size() == 0 {
		t.Fatalf("no log to read: %v", err)
	}
	got, err := Read(context.Background(), testutil.OpenDir(t, dir))
	if err != nil || len(got) != len(pkgs)-1 {
		t.Errorf("%d of %d packages, %v", len(got), len(pkgs)-1, err)
	}
}

func TestReadTreeWithoutDatabase(t *testing.T) {
	t.Parallel()
	if _, err := ReadTree(context.Background(), testutil.OpenDir(t, t.TempDir())); !errors.Is(err, ErrNoDatabase) {
		t.Fatal(err)
	}
}

func TestReadBroken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(context.Background(), testutil.OpenDir(t, dir)); err == nil {
		t.Fatal("garbage was read")
	}
}

func TestTwice(t *testing.T) {
	t.Parallel()
	pkgs := someInstalled(t)
	if err := Write(context.Background(), testutil.OpenDir(t, t.TempDir()), append(pkgs, pkgs[0])); err == nil {
		t.Fatal("the same package was recorded twice")
	}
}

// TestRichNames has expectations that were read from databases written by rpm 4.18.
func TestRichNames(t *testing.T) {
	t.Parallel()
	for dep, want := range map[string][]string{
		"(python3-dbus if NetworkManager)":                        {"!NetworkManager", "python3-dbus"},
		"((hiding and attic) if light-treason)":                   {"!light-treason", "attic", "hiding"},
		"(bobloblaw >= 1.1 if maritimelaw else anyone < 0.5.1-2)": {"!maritimelaw", "anyone", "bobloblaw", "maritimelaw"},
		"(libcrypt.so.1()(64bit) if python3(x86-64))":             {"!python3(x86-64)", "libcrypt.so.1()(64bit)"},
		"(a or b > 1)": {"a", "b"},
		"(":            {},
		"(a if":        {"a"},
	} {
		if d := cmp.Diff(want, richNames(dep)); d != "" {
			t.Errorf("%s: %s", dep, d)
		}
	}
}

// TestRPMVerifies installs real packages with rpm, replaces its database by ours and lets rpm compare the
// files: it must find nothing.
func TestRPMVerifies(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "rpm")
	testutil.Root(t, "installing packages needs root")
	files := binaryPackages(t, testutil.Corpus(t, "rpms", "pulp-fixtures", "rpm", "assets"), testutil.Corpus(t, "rpms", "go-rpmutils"))
	root := t.TempDir()
	args := []string{"--root", root, "--dbpath", "/db", "-D", "_db_backend sqlite", "--nosignature", "-i", "--nodeps", "--noscripts", "--notriggers", "--ignorearch", "--replacefiles"}
	for _, f := range files {
		args = append(args, f)
	}
	if out, err := exec.Command(testutil.Tool(t, "rpm"), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	db := filepath.Join(root, "db")
	theirs, err := Read(context.Background(), testutil.OpenDir(t, db))
	if err != nil || len(theirs) != len(files) {
		t.Fatalf("%d of %d packages, %v", len(theirs), len(files), err)
	}
	var ours []Installed
	for _, p := range theirs {
		ours = append(ours, fromFile(t, files[p.NEVRA().String()], p))
	}
	if err := Write(context.Background(), testutil.OpenDir(t, db), ours); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testutil.Tool(t, "rpm"), "--root", root, "--dbpath", "/db", "-D", "_db_backend sqlite", "-Va", "--nodeps").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("rpm -Va: %v\n%s", err, out)
	}
}
