// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// moreRepo has what a tree of the bench lacks, and a newer demo.
func moreRepo(t *testing.T) rpmmd.Repo {
	t.Helper()
	dir := t.TempDir()
	for _, s := range []rpmtest.Spec{
		{Name: "addon", Tags: "Requires: addon-lib, demo = 1.0, /usr/bin/demo-tool\nRecommends: addon-extra"},
		{Name: "addon-lib"}, {Name: "addon-extra"},
		{Name: "needy", Tags: "Requires: demo >= 2.0"},
		{Name: "volunteer", Tags: "Supplements: demo"},
		{Name: "clash", Tags: "Conflicts: demo"},
		{Name: "devel", Tags: "Requires: what-nobody-has"}, {Name: "devel", Version: "2.0", Tags: "Requires: what-nobody-has"},
		{Name: "demo", Version: "2.0"},
	} {
		file := rpmtest.BuildFile(t, s)
		testutil.Must(t, os.Rename(file, filepath.Join(dir, filepath.Base(file))))
	}
	if out, err := exec.Command("createrepo_c", dir).CombinedOutput(); err != nil {
		t.Fatalf("createrepo_c: %v\n%s", err, out)
	}
	return rpmmd.Repo{ID: "more", Name: "more", BaseURLs: []string{dir}, Priority: 99, Cost: 1000}
}

func testExtensions(t *testing.T, b *bench) {
	res := b.mustCompose("extended", "", nil)
	base, err := rpmdb.ReadCommit(t.Context(), b.repo, res.Commit)
	testutil.Must(t, err)
	src := b.src
	src.Repos = append(slices.Clone(src.Repos), moreRepo(t))
	resolve := func(text string) (*ExtensionsPlan, error) {
		x, err := ParseExtensions("x.yaml", []byte(text))
		testutil.Must(t, err)
		m := &treefile.Manifest{Repos: []string{"main"}, Basearch: "x86_64", Recommends: true, Sources: []string{"t.toml"}}
		return ResolveExtensions(t.Context(), m, x, base, src)
	}
	files := func(p *ExtensionsPlan) (out []string) {
		for _, k := range p.Packages {
			out = append(out, k.File+" "+string(k.Kind))
		}
		return out
	}
	for text, want := range map[string][]string{
		"extensions: {a: {packages: [addon], repos: [more]}}": {"addon-1.0-1.noarch.rpm os-extension", "addon-extra-1.0-1.noarch.rpm os-extension", "addon-lib-1.0-1.noarch.rpm os-extension"},
		// The newer demo does not replace the tree's.
		"repos: [more]\nextensions: {a: {packages: [addon-lib]}, b: {packages: [none], architectures: [s390x]}}": {"addon-lib-1.0-1.noarch.rpm os-extension"},
		"repos: [more]\nextensions: {a: {kind: development, packages: [devel]}, b: {packages: [addon-lib]}}":     {"addon-lib-1.0-1.noarch.rpm os-extension", "devel-2.0-1.noarch.rpm development"},
		"repos: [more]\nextensions: {a: {kind: development, packages: [demo, devel], match-base-evr: demo}}":     {"demo-1.0-1.noarch.rpm development", "devel-1.0-1.noarch.rpm development"},
		"extensions: {a: {packages: [none], architectures: [s390x], repos: [nowhere]}}":                          nil,
	} {
		p, err := resolve(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, files(p)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for text, want := range map[string]error{
		"repos: [more]\nextensions: {a: {packages: [needy]}}":                              new(solve.Unsolvable),
		"repos: [more]\nextensions: {a: {packages: [clash]}}":                              new(solve.Unsolvable),
		"repos: [more]\nextensions: {a: {kind: development, packages: [none]}}":            new(solve.Unsolvable),
		"extensions: {a: {packages: [demo]}}":                                              ErrExtensions,
		"repos: [more]\nextensions: {a: {packages: [addon-lib], match-base-evr: unknown}}": ErrExtensions,
		"repos: [nowhere]\nextensions: {a: {packages: [addon-lib]}}":                       ErrTreefile,
	} {
		_, err := resolve(text)
		var u *solve.Unsolvable
		if want == ErrExtensions || want == ErrTreefile {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v", text, err)
			}
		} else if !errors.As(err, &u) {
			t.Errorf("%s: %v", text, err)
		}
	}
	testExtensionFiles(t, src, resolve)
}

func testExtensionFiles(t *testing.T, src Sources, resolve func(string) (*ExtensionsPlan, error)) {
	dst := testutil.OpenDir(t, t.TempDir())
	testutil.Must(t, dst.WriteFile("mine.rpm", nil, 0o644))
	write := func(text string, want bool) {
		t.Helper()
		p, err := resolve(text)
		testutil.Must(t, err)
		changed, err := p.Write(t.Context(), src, dst)
		if err != nil || changed != want {
			t.Fatalf("changed %t, %v", changed, err)
		}
		for _, k := range p.Packages {
			f, err := dst.Open(k.File)
			testutil.Must(t, err)
			pkg, err := rpm.ReadPackage(f)
			if err != nil || pkg.Name() != k.Name {
				t.Errorf("%s: %v", k.File, err)
			}
			testutil.Must(t, f.Close())
		}
	}
	const one, two = "repos: [more]\nextensions: {a: {packages: [addon]}}", "repos: [more]\nextensions: {b: {packages: [volunteer]}}"
	write(one, true)
	write(one, false)
	testutil.Must(t, dst.Remove("addon-1.0-1.noarch.rpm"))
	write(one, true)
	write(two, true)
	var names []string
	entries, err := dst.ReadDir(".")
	testutil.Must(t, err)
	for _, e := range entries {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{extensionsState, extensionsIndex, "mine.rpm", "volunteer-1.0-1.noarch.rpm"}, names); diff != "" {
		t.Error(diff)
	}
	// The index of others cannot make it remove what is elsewhere.
	testutil.Must(t, dst.WriteFile(extensionsIndex, []byte(`{"rpms":[{"file":"../x.rpm"},{"file":"extensions.json"},{"file":"mine.rpm"}]}`), 0o644))
	if got, err := previousFiles(dst); err != nil || len(got) != 1 || !got["mine.rpm"] {
		t.Errorf("former files: %v, %v", got, err)
	}
}

func TestParseExtensions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "`extensions` is missing",
		"extensions: {}":                      "`extensions` is missing",
		"extensions: {a: {packages: []}}":     "`packages` is missing",
		"extensions: {a: {packages: ['']}}":   "empty name",
		"extensions:\n  a:\n    package: [x]": "line 3",
		"extensions: {a: {packages: [x], kind: other}}": `kind "other"`,
		"extensions: {a: {packages: x}}":                "line 1",
		"extensions: {a: {packages: [x]}}\n---\nb: 1":   "more than one document",
		strings.Repeat(" ", maxExtensionsFile+1):        "more than",
	} {
		if _, err := ParseExtensions("x.yaml", []byte(text)); !errors.Is(err, ErrExtensions) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.yaml") {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
	x, err := ParseExtensions("x", []byte("modules: {enable: ['a:1']}\nextensions: {x: {packages: [p], modules: {enable: ['b:2', 'a:1'], install: ['c:3/d']}}}"))
	testutil.Must(t, err)
	got, err := x.resolve("x86_64", nil)
	testutil.Must(t, err)
	m := got.manifest(&treefile.Manifest{Modules: treefile.Modules{Enable: []string{"t:1"}, Install: []string{"u:1/server"}}}, []string{"r"})
	want := treefile.Modules{Enable: []string{"a:1", "b:2", "t:1", "u:1"}, Install: []string{"c:3/d"}}
	if diff := cmp.Diff(want, m.Modules); diff != "" || !slices.Equal(m.Repos, []string{"r"}) {
		t.Errorf("modules %s, repositories %v", diff, m.Repos)
	}
}

// TestExtensionsOfOthers reads the lists of a real system.
func TestExtensionsOfOthers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testutil.Corpus(t, "treefiles", "openshift-os", "extensions"), "*.yaml"))
	testutil.Must(t, err)
	if len(files) < 4 {
		t.Fatalf("found %v", files)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		testutil.Must(t, err)
		x, err := ParseExtensions(name, data)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := x.resolve("x86_64", map[string]string{"kernel": "1-2"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e := got.Extensions["kernel-devel"]; !slices.Equal(e.Packages, []string{"kernel-devel-1-2", "kernel-headers-1-2"}) || got.Extensions["kernel"].Kind != DevelopmentExtension {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func FuzzExtensions(f *testing.F) {
	f.Add([]byte("repos: [a]\nextensions:\n  x:\n    packages: [p]\n    kind: development\n    match-base-evr: k\n    architectures: [x86_64]\n"), "x86_64")
	f.Fuzz(func(_ *testing.T, data []byte, arch string) {
		if x, err := ParseExtensions("x", data); err == nil {
			_, _ = x.resolve(arch, map[string]string{"k": "1-1"})
		}
	})
}
