// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// binaryPackages finds package files of different names that rpm can install beside each other.
func binaryPackages(t testing.TB, dirs ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(p, ".rpm") {
				return err
			}
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			pkg, err := rpm.ReadPackage(f)
			if err != nil || pkg.IsSource() || pkg.Header.Has(rpm.TagRPMFormat) {
				return nil
			}
			out[pkg.NEVRA().String()] = p
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// installed makes a database with rpm itself and gives its directory.
func installed(t testing.TB, files []string) string {
	t.Helper()
	root := t.TempDir()
	args := []string{"--root", root, "--dbpath", "/db", "-D", "_db_backend sqlite", "--nosignature", "--nodigest",
		"--install", "--justdb", "--force", "--nodeps", "--noscripts", "--notriggers", "--ignorearch", "--ignoreos", "--ignoresize", "--noorder"}
	for i, f := range files { // rpm takes names as patterns
		link := filepath.Join(root, fmt.Sprintf("%d.rpm", i))
		if err := os.Symlink(f, link); err != nil {
			t.Fatal(err)
		}
		args = append(args, link)
	}
	out, err := exec.Command(testutil.Tool(t, "rpm"), args...).CombinedOutput()
	if err != nil {
		t.Logf("rpm: %v\n%.2000s", err, out)
	}
	return filepath.Join(root, "db")
}

// dump gives every table with package numbers replaced by names, sorted.
func dump(t testing.TB, dir string) (tables map[string][]string, schema []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	query := func(q string, dst []any, row func()) {
		rows, err := db.Query(q)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(dst...); err != nil {
				t.Fatal(err)
			}
			row()
		}
	}
	names := map[int64]string{}
	var hnum, idx int64
	var blob []byte
	query("SELECT hnum, blob FROM Packages", []any{&hnum, &blob}, func() {
		p, err := rpm.ParsePackage(blob)
		if err != nil {
			t.Fatal(err)
		}
		names[hnum] = p.NEVRA().String()
	})
	var list []string
	var name, text string
	query("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'", []any{&name, &text}, func() {
		schema = append(schema, text)
		if strings.HasPrefix(text, "CREATE TABLE") && name != "Packages" && name != "sqlite_sequence" {
			list = append(list, name)
		}
	})
	slices.Sort(schema)
	tables = map[string][]string{}
	for _, n := range list {
		var key []byte
		query("SELECT key, hnum, idx FROM '"+n+"'", []any{&key, &hnum, &idx}, func() {
			tables[n] = append(tables[n], fmt.Sprintf("%s %q %d", names[hnum], key, idx))
		})
		slices.Sort(tables[n])
	}
	return tables, schema
}

// TestSameAsRPM lets rpm record real packages and compares its database with ours: every header blob byte
// for byte, every index table row for row, and the statements that made them.
func TestSameAsRPM(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "rpm")
	files := binaryPackages(t, testutil.Corpus(t, "rpms"), testutil.Corpus(t, "rpmdb-hollow", "fedora35"), testutil.Corpus(t, "rpmdb-hollow", "centos7-plain"))
	var list []string
	for _, f := range files {
		list = append(list, f)
	}
	slices.Sort(list)
	ref := installed(t, list)
	theirs, err := Read(context.Background(), testutil.OpenDir(t, ref))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("rpm recorded %d of %d packages", len(theirs), len(files))
	if len(theirs) < len(files)/2 {
		t.Fatal("too few")
	}
	var ours []Installed
	for _, p := range theirs {
		i := fromFile(t, files[p.NEVRA().String()], p)
		blob, err := i.Blob()
		if err != nil {
			t.Errorf("%s: %v", p.NEVRA(), err)
			continue
		}
		if i.Package.Signature.Has(rpm.TagOpenPGP) {
			// rpm 4.18 drops the signatures that rpm 6 made; later versions keep them as we do.
			ours = append(ours, i)
			continue
		}
		if want := p.Header.Blob(); string(blob) != string(want) {
			t.Errorf("%s: header differs: %s", p.NEVRA(), headerDiff(t, want, blob))
		}
		ours = append(ours, i)
	}
	dir := t.TempDir()
	if err := Write(context.Background(), testutil.OpenDir(t, dir), ours); err != nil {
		t.Fatal(err)
	}
	wantTables, wantSchema := dump(t, ref)
	gotTables, gotSchema := dump(t, dir)
	if d := cmp.Diff(wantSchema, gotSchema); d != "" {
		t.Errorf("schema: %s", d)
	}
	rpmAgrees(t, ref, dir)
	if len(wantTables) != len(gotTables) {
		t.Errorf("%d tables, want %d", len(gotTables), len(wantTables))
	}
	for name, want := range wantTables {
		if d := cmp.Diff(want, gotTables[name]); d != "" {
			t.Errorf("table %s: %.3000s", name, d)
		}
	}
}

// skipped is what rpm says about headers that were broken on purpose; it names them by number.
var skipped = regexp.MustCompile(`skipping h# *[0-9]+`)

// rpmAgrees lets rpm answer questions about both databases.
func rpmAgrees(t *testing.T, ref, dir string) {
	t.Helper()
	ask := func(db string, args ...string) string {
		out, err := exec.Command(testutil.Tool(t, "rpm"), append([]string{"--dbpath", db, "-D", "_db_backend sqlite"}, args...)...).CombinedOutput()
		if err != nil && args[0] != "-qV" { // the files are not installed, so -V complains
			t.Errorf("rpm %q: %v\n%.500s", args, err, out)
		}
		lines := strings.Split(skipped.ReplaceAllString(string(out), "skipping"), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	for _, args := range [][]string{
		{"-qa"},
		{"-qai"},
		{"-qa", "--qf", "%{NEVRA} %{INSTALLTIME} %{INSTALLTID} %{RSAHEADER:pgpsig} %{SIGMD5} %{SHA1HEADER} [%{FILESTATES} ]\n"},
		{"-qf", "/usr/bin/bash", "/etc/passwd"},
		{"-q", "--whatprovides", "/bin/sh", "libc.so.6()(64bit)"},
		{"-q", "--whatrequires", "bash", "/bin/sh"},
		{"-q", "--triggeredby", "glibc"},
		{"-qa", "--filetriggers"},
		{"-qV", "bash"},
	} {
		if d := cmp.Diff(ask(ref, args...), ask(dir, args...)); d != "" {
			t.Errorf("rpm %q: %.2000s", args, d)
		}
	}
	if out := ask(dir, "-qa"); strings.Count(out, "\n") < 300 {
		t.Errorf("rpm lists only\n%s", out)
	}
}

// fromFile reads a package file and takes over what rpm decided at installation.
func fromFile(t *testing.T, file string, p *rpm.Package) Installed {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pkg, err := rpm.ReadPackage(f)
	if err != nil {
		t.Fatal(err)
	}
	i := Installed{Package: pkg, InstallTime: p.InstallTime()}
	tid, _ := p.Header.Uint(rpm.TagInstallTID)
	color, _ := p.Header.Uint(rpm.TagInstallColor)
	i.InstallTID, i.InstallColor = uint32(tid), uint32(color)
	for _, s := range p.Header.Uint32s(rpm.TagFileStates) {
		i.FileStates = append(i.FileStates, rpm.FileState(s))
	}
	return i
}

func headerDiff(t *testing.T, a, b []byte) string {
	t.Helper()
	entries := func(blob []byte) (out []string) {
		h, err := rpm.ParseHeader(blob)
		if err != nil {
			return []string{err.Error()}
		}
		for _, e := range h.Entries() {
			out = append(out, fmt.Sprintf("%d type %d count %d %.40x", e.Tag, e.Type, e.Count, e.Data))
		}
		return out
	}
	return cmp.Diff(entries(a), entries(b))
}
