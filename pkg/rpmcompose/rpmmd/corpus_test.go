// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func TestCentOSBaseOS(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	repo := Repo{ID: "baseos", BaseURLs: []string{testutil.Corpus(t, "yum-repos", "osbuild-testrepo-centos-stream9")}}
	m, err := Load(ctx, repo, testutil.OpenDir(t, t.TempDir()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Packages) != 1125 {
		t.Fatalf("%d packages", len(m.Packages))
	}
	sameAsEncodingXML(t, m)
	owners, err := m.Owners(ctx, "/usr/bin/bash")
	if err != nil || len(owners) == 0 {
		t.Fatalf("owners of bash: %v, %v", owners, err)
	}
	for _, o := range owners {
		if m.Packages[o].NEVRA.Name != "bash" {
			t.Errorf("owner %v", m.Packages[o].NEVRA)
		}
	}
	lists, err := m.Filelists(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, files := range lists {
		for _, f := range m.Packages[i].Files {
			if !contains(files, f) {
				t.Fatalf("%v: %s is in primary but not in filelists", m.Packages[i].NEVRA, f)
			}
		}
	}
	comps, err := m.Comps(ctx)
	if err != nil || len(comps.Groups) < 10 {
		t.Fatalf("groups: %v, %v", comps, err)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// sameAsEncodingXML compares the scanner with the standard library's reader.
func sameAsEncodingXML(t *testing.T, m *Metadata) {
	t.Helper()
	data, err := m.readText(context.Background(), "primary")
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name  string `xml:"name,attr"`
		Flags string `xml:"flags,attr"`
		Epoch string `xml:"epoch,attr"`
		Ver   string `xml:"ver,attr"`
		Rel   string `xml:"rel,attr"`
		Pre   string `xml:"pre,attr"`
	}
	var x struct {
		Packages []struct {
			Name     string   `xml:"name"`
			Summary  string   `xml:"summary"`
			Requires []entry  `xml:"format>requires>entry"`
			Provides []entry  `xml:"format>provides>entry"`
			Files    []string `xml:"format>file"`
		} `xml:"package"`
	}
	if err := xml.Unmarshal(data, &x); err != nil {
		t.Fatal(err)
	}
	if len(x.Packages) != len(m.Packages) {
		t.Fatalf("%d packages, %d with encoding/xml", len(m.Packages), len(x.Packages))
	}
	text := func(es []entry) (out []string) {
		ops := map[string]string{"EQ": " = ", "LT": " < ", "GT": " > ", "LE": " <= ", "GE": " >= "}
		for _, e := range es {
			s := e.Name
			if e.Flags != "" {
				if s += ops[e.Flags]; e.Epoch != "" && e.Epoch != "0" {
					s += e.Epoch + ":"
				}
				if s += e.Ver; e.Rel != "" {
					s += "-" + e.Rel
				}
			}
			out = append(out, s)
		}
		return out
	}
	own := func(ds []rpm.Dep) (out []string) {
		for _, d := range ds {
			out = append(out, d.String())
		}
		return out
	}
	for i, want := range x.Packages {
		got := &m.Packages[i]
		if got.NEVRA.Name != want.Name || got.Summary != want.Summary {
			t.Fatalf("package %d is %q %q, want %q %q", i, got.NEVRA.Name, got.Summary, want.Name, want.Summary)
		}
		for _, d := range []string{
			cmp.Diff(text(want.Requires), own(got.Requires)), cmp.Diff(text(want.Provides), own(got.Provides)), cmp.Diff(want.Files, got.Files),
		} {
			if d != "" {
				t.Fatalf("%s: %s", want.Name, d)
			}
		}
	}
}

// TestCorpusRepositories loads every repository of the collection. Those made broken on purpose must give
// an error that says so; nothing may be accepted or refused by accident.
func TestCorpusRepositories(t *testing.T) {
	t.Parallel()
	root := testutil.Corpus(t, "yum-repos")
	found := 0
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "repomd.xml" || filepath.Base(filepath.Dir(p)) != "repodata" {
			return err
		}
		found++
		base := filepath.Dir(filepath.Dir(p))
		rel, _ := filepath.Rel(root, base)
		m, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{base}}, testutil.OpenDir(t, t.TempDir()), Options{})
		n := refused
		if m != nil {
			n = len(m.Packages)
		}
		if want, known := repositories[rel]; known && n != want {
			t.Errorf("%s: %d packages, want %d: %v", rel, n, want, err)
		}
		if err != nil && !errors.Is(err, ErrSyntax) && !errors.Is(err, fetch.ErrChecksum) && !errors.Is(err, fetch.ErrNotFound) && !strings.Contains(err.Error(), "unsupported") {
			t.Errorf("%s: %v", rel, err)
		}
		return nil
	})
	if err != nil || found < 10 {
		t.Fatalf("%d repositories, %v", found, err)
	}
}

// refused stands for the number of packages of a repository that must not load.
const refused = -1

// repositories says what some of the collection must give; the rest only must not fail oddly.
var repositories = map[string]int{
	"createrepo_c/tests/testdata/repo_00":                      0,
	"createrepo_c/tests/testdata/repo_02":                      2,
	"createrepo_c/tests/testdata/repo_with_duplicate_packages": 4,
	"dnf4/repos/rpm":                               9,
	"libdnf/tests/gpg-asc":                         refused, // no primary list
	"libdnf/tests/gpg-no-asc":                      refused, // empty repomd.xml
	"libdnf/tests/hawkey/yum":                      2,
	"librepo/test_data/repo_yum_01":                1,
	"librepo/test_data/repo_yum_03":                21,
	"osbuild-testrepo-centos-stream9":              1125,
	"dnf5/test/data/repos-repomd/repomd-repo1-gpg": 3,
}
