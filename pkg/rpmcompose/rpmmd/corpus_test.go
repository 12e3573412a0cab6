// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"encoding/xml"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
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
