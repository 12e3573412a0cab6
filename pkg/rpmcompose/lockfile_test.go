// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

func lockTexts(t *testing.T, name, text string) []string {
	t.Helper()
	list, err := ReadLockfile(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range list {
		out = append(out, l.String())
	}
	return out
}

const tableLockJSON = `{"metadata": {"generated": "2024-01-02T00:00:00Z", "rpmmd_repos": {"a": {"generated": "2024-01-02T00:00:00Z"}}},
"packages": {"foo": {"evra": "1:1.0-1.fc40.x86_64", "digest": "sha256:ab", "metadata": {"sourcerpm": "foo"}}, "bar": {"evr": "2-1"}}}`

func TestReadLockfile(t *testing.T) {
	t.Parallel()
	want := []string{"bar-2-1", "foo-1:1.0-1.fc40.x86_64"}
	if diff := cmp.Diff(want, lockTexts(t, "l.json", tableLockJSON)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	yaml := "# c\npackages:\n  foo:\n    evra: 1:1.0-1.fc40.x86_64\n  bar:\n    evr: 2-1\n    metadata: {type: pin}\n"
	if diff := cmp.Diff(want, lockTexts(t, "l.yaml", yaml)); diff != "" {
		t.Errorf("YAML (-want +got):\n%s", diff)
	}
	plan := `{"ref": "x", "added-later": 1, "packages": [{"name": "g", "evr": "1-1", "arch": "x86_64"}, {"name": "g", "evr": "1-1", "arch": "i686"}]}`
	if diff := cmp.Diff([]string{"g-1-1.x86_64", "g-1-1.i686"}, lockTexts(t, "plan.json", plan)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	for text, part := range map[string]string{
		`{`:                  "l.json: line 1: parse JSON",
		"{\n\"packages\"\n}": "l.json: line 3: parse JSON",
		`{}`:                 `l.json: key "packages" is missing`,
		`{"packages": {"a": {"evr": "1-1", "evra": "1-1.x"}}}`: `package a: needs one of the keys`,
		`{"packages": {"a": {}}}`:                              `package a: needs one of the keys`,
		`{"packages": {"a": {"evr": "1"}}}`:                    `package a: "1" is not [EPOCH:]VERSION-RELEASE`,
		`{"packages": {"a": {"evr": "1:-"}}}`:                  `package a: "1:-" is not [EPOCH:]VERSION-RELEASE`,
		`{"packages": {"a": {"evra": "1.0-1"}}}`:               `package a: evra "1.0-1" is not VERSION-RELEASE.ARCH`,
		`{"packages": {"a": {"evr": "1-1", "digest": "x"}}}`:   `package a: digest "x" is not ALGORITHM:HEX`,
		`{"packages": {"a": {"evr": "1-1", "digset": "x"}}}`:   `unknown field "digset"`,
		`{"packages": {}, "extra": 1}`:                         `unknown field "extra"`,
		`{"packages": [{"name": "g", "evr": "1-1"}]}`:          `package 0 ("g"): name, evr and arch are needed`,
		`{"packages": [{"name": "g", "evr": "1-1", "arch": "x"}, {"name": "g", "evr": "1-1", "arch": "x"}]}`: `package g-1-1.x is listed twice`,
	} {
		_, err := ReadLockfile("l.json", []byte(text))
		if !errors.Is(err, ErrLockfile) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "l.json") {
			t.Errorf("%s: %v, want %q", text, err, part)
		}
	}
}

// All lockfiles of Fedora CoreOS.
func TestCorpusLockfiles(t *testing.T) {
	t.Parallel()
	root := os.DirFS(testutil.Corpus(t, "treefiles"))
	names, err := fs.Glob(root, "fedora-coreos-config/*/manifest-lock.*")
	if err != nil || len(names) < 10 {
		t.Fatalf("%v %v", names, err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		list, err := ReadLockfile(name, data)
		if err != nil {
			t.Error(err)
		}
		if len(list) < 300 && strings.HasSuffix(name, ".json") {
			t.Errorf("%s: %d packages", name, len(list))
		}
	}
}

func TestMergeLocksLastWinsByName(t *testing.T) {
	t.Parallel()
	base, err := ReadLockfile("base.json", []byte(`{"packages": [{"name": "g", "evr": "1-1", "arch": "x86_64"}, {"name": "g", "evr": "1-1", "arch": "i686"}, {"name": "h", "evr": "1-1", "arch": "noarch"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	over, err := ReadLockfile("over.json", []byte(`{"packages": {"g": {"evr": "2-1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(MergeLocks(base, over))
	if got != "[h-1-1.noarch g-2-1]" {
		t.Error(got)
	}
}

// yumRepo writes a repository of packages without payload, each given as
// "NAME VERSION-RELEASE ARCH" and, if any, " requires NAME".
func yumRepo(t *testing.T, id string, packages ...string) rpmmd.Repo {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">`, len(packages))
	for _, p := range packages {
		f := strings.Fields(p)
		version, release, _ := strings.Cut(f[1], "-")
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(id+p)))
		fmt.Fprintf(&b, `<package type="rpm"><name>%s</name><arch>%s</arch><version epoch="0" ver="%s" rel="%s"/>
<checksum type="sha256" pkgid="YES">%s</checksum><size package="1" installed="1" archive="1"/><location href="%s.rpm"/><format>
<rpm:provides><rpm:entry name="%s" flags="EQ" epoch="0" ver="%s" rel="%s"/></rpm:provides>`, f[0], f[2], version, release, sum, f[0], f[0], version, release)
		if len(f) == 5 {
			fmt.Fprintf(&b, `<rpm:requires><rpm:entry name="%s"/></rpm:requires>`, f[4])
		}
		b.WriteString("</format></package>\n")
	}
	b.WriteString("</metadata>")
	dir := t.TempDir()
	testutil.Must(t, os.Mkdir(filepath.Join(dir, "repodata"), 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "repodata/primary.xml"), []byte(b.String()), 0o644))
	repomd := fmt.Sprintf(`<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision><data type="primary">
<checksum type="sha256">%x</checksum><location href="repodata/primary.xml"/><size>%d</size></data></repomd>`, sha256.Sum256([]byte(b.String())), b.Len())
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "repodata/repomd.xml"), []byte(repomd), 0o644))
	return rpmmd.Repo{ID: id, Name: id, BaseURLs: []string{dir}, Enabled: true, Priority: 99, Cost: 1000}
}

func resolveText(t *testing.T, text string, lock *Lock, repos ...rpmmd.Repo) ([]string, error) {
	t.Helper()
	m, err := treefile.Load(fstest.MapFS{"t.toml": {Data: []byte("ref = 'r'\nselinux = false\n" + text)}}, "t.toml", treefile.Options{Basearch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Resolve(t.Context(), m, Sources{Repos: repos, Cache: testutil.OpenDir(t, t.TempDir()), Lock: lock})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range p.Packages {
		out = append(out, k.NEVRA()+"@"+k.Repo)
	}
	return out, nil
}

func lockOf(t *testing.T, strict bool, text string) *Lock {
	t.Helper()
	list, err := ReadLockfile("my.lock", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &Lock{Packages: list, Strict: strict}
}

func TestResolveHonoursLocks(t *testing.T) {
	t.Parallel()
	main := yumRepo(t, "main", "app 1-1 x86_64 requires lib", "app 2-1 x86_64 requires lib", "lib 1-1 x86_64", "lib 2-1 x86_64", "other 2-1 noarch")
	pool := yumRepo(t, "pool", "lib 0.9-1 x86_64", "other 1-1 noarch", "extra 1-1 noarch")
	const tree = "repos = ['main']\nlockfile-repos = ['pool']\npackages = ['app']\n"
	for name, c := range map[string]struct {
		tree string
		lock *Lock
		want string
	}{
		"no lock, no pool":         {tree, nil, "[lib-2-1.x86_64@main app-2-1.x86_64@main]"},
		"loose":                    {tree, lockOf(t, false, `{"packages": {"lib": {"evr": "1-1"}}}`), "[lib-1-1.x86_64@main app-2-1.x86_64@main]"},
		"from the pool":            {tree, lockOf(t, false, `{"packages": {"lib": {"evra": "0.9-1.x86_64"}}}`), "[lib-0.9-1.x86_64@pool app-2-1.x86_64@main]"},
		"an unneeded lock is none": {tree, lockOf(t, false, `{"packages": {"gone": {"evr": "7-7"}}}`), "[lib-2-1.x86_64@main app-2-1.x86_64@main]"},
		"strict":                   {tree, lockOf(t, true, `{"packages": {"lib": {"evr": "0:1-1"}, "app": {"evr": "1-1"}, "other": {"evr": "2-1"}}}`), "[lib-1-1.x86_64@main app-1-1.x86_64@main]"},
	} {
		got, err := resolveText(t, c.tree, c.lock, main, pool)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v %v, want %s", name, got, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		tree, want string
		lock       *Lock
	}{
		"missing":       {tree, "lib-3-1 is locked by my.lock, but no repository has it", lockOf(t, false, `{"packages": {"lib": {"evr": "3-1"}}}`)},
		"other content": {tree, "lib-1-1 is locked by my.lock, but repository main has it with sha256:", lockOf(t, false, `{"packages": {"lib": {"evr": "1-1", "digest": "sha256:00"}}}`)},
		"other arch":    {tree, "lib-1-1.i686 is locked by my.lock", lockOf(t, false, `{"packages": {"lib": {"evra": "1-1.i686"}}}`)},
		"strict":        {tree, "only packages of the lockfiles are eligible (strict)", lockOf(t, true, `{"packages": {"app": {"evr": "1-1"}}}`)},
		"pool unlocked": {"repos = ['main']\nlockfile-repos = ['pool']\npackages = ['extra']\n", "extra", lockOf(t, false, `{"packages": {"lib": {"evr": "1-1"}}}`)},
	} {
		got, err := resolveText(t, c.tree, c.lock, main, pool)
		var unsolvable *solve.Unsolvable
		if !errors.As(err, &unsolvable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %v, want %q", name, got, err, c.want)
		}
	}
}

// A plan's own JSON makes the same plan again, whatever the repository gained.
func TestPlanIsALockfile(t *testing.T) {
	t.Parallel()
	const tree = "repos = ['main']\npackages = ['app']\n"
	old := yumRepo(t, "main", "app 1-1 x86_64 requires lib", "lib 1-1 x86_64")
	m, err := treefile.Load(fstest.MapFS{"t.toml": {Data: []byte("ref = 'r'\nselinux = false\n" + tree)}}, "t.toml", treefile.Options{Basearch: "x86_64"})
	testutil.Must(t, err)
	p, err := Resolve(t.Context(), m, Sources{Repos: []rpmmd.Repo{old}, Cache: testutil.OpenDir(t, t.TempDir())})
	testutil.Must(t, err)
	text, err := p.JSON()
	testutil.Must(t, err)
	grown := yumRepo(t, "main", "app 1-1 x86_64 requires lib", "lib 1-1 x86_64", "app 2-1 x86_64", "lib 2-1 x86_64")
	got, err := resolveText(t, tree, lockOf(t, true, string(text)), grown)
	if err != nil || fmt.Sprint(got) != "[lib-1-1.x86_64@main app-1-1.x86_64@main]" {
		t.Errorf("%v %v", got, err)
	}
}

func TestOverrideReplaceAndRepoPackages(t *testing.T) {
	t.Parallel()
	main := yumRepo(t, "main", "app 2-1 x86_64 requires lib", "lib 2-1 x86_64", "tool 2-1 noarch")
	test := yumRepo(t, "test", "lib 1-1 x86_64", "tool 1-1 noarch")
	got, err := resolveText(t, `repos = ['main', 'test']
packages = ['app']
[[ex-override-replace]]
from = { repo = 'test' }
packages = ['lib']
[[repo-packages]]
repo = 'test'
packages = ['tool']
`, nil, main, test)
	if want := "[lib-1-1.x86_64@test app-2-1.x86_64@main tool-1-1.noarch@test]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v %v, want %s", got, err, want)
	}
}

func FuzzReadLockfile(f *testing.F) {
	f.Add([]byte(tableLockJSON), false)
	f.Add([]byte("packages:\n  a: {evr: 1-1}\n"), true)
	f.Add([]byte(`{"packages": [{"name": "g", "evr": "1-1", "arch": "x86_64", "checksum": "sha256:00"}]}`), false)
	f.Fuzz(func(t *testing.T, data []byte, yaml bool) {
		name := "l.json"
		if yaml {
			name = "l.yaml"
		}
		list, err := ReadLockfile(name, data)
		if err != nil && !errors.Is(err, ErrLockfile) {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Name == "" || l.EVR.Release == "" || l.File != name {
				t.Fatalf("%+v", l)
			}
		}
	})
}

// addModules gives a repository a list of modules.
func addModules(t *testing.T, r rpmmd.Repo, text string) {
	t.Helper()
	dir := filepath.Join(r.BaseURLs[0], "repodata")
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "modules.yaml"), []byte(text), 0o644))
	repomd, err := os.ReadFile(filepath.Join(dir, "repomd.xml"))
	testutil.Must(t, err)
	data := fmt.Sprintf(`<data type="modules"><checksum type="sha256">%x</checksum><location href="repodata/modules.yaml"/><size>%d</size></data></repomd>`,
		sha256.Sum256([]byte(text)), len(text))
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "repomd.xml"), []byte(strings.Replace(string(repomd), "</repomd>", data, 1)), 0o644))
}

func TestResolveModules(t *testing.T) {
	t.Parallel()
	main := yumRepo(t, "main", "app 1-1 x86_64 requires lib", "lib 1-1 x86_64", "lib 2-1 x86_64", "tool 2-1 noarch")
	stream := func(stream, platform, artifacts string) string {
		return "---\ndocument: modulemd\nversion: 2\ndata:\n  name: mod\n  stream: '" + stream + "'\n  version: 1\n  context: c\n  arch: x86_64\n" +
			"  dependencies:\n  - requires: {platform: [" + platform + "]}\n  profiles:\n    server: {rpms: [tool]}\n  artifacts: {rpms: [" + artifacts + "]}\n"
	}
	addModules(t, main, stream("1", "f40", "'lib-0:1-1.x86_64'")+stream("2", "f41", "'lib-0:2-1.x86_64', 'tool-0:2-1.noarch'"))
	const tree = "repos = ['main']\npackages = ['app']\n"
	for keys, want := range map[string]string{
		"modules = { enable = ['mod:1'] }\n":                                           "[lib-1-1.x86_64@main app-1-1.x86_64@main]",
		"modules = { enable = ['mod:2'] }\n":                                           "[lib-2-1.x86_64@main app-1-1.x86_64@main]",
		"platform-module = 'platform:f41'\nmodules = { install = ['mod:2/server'] }\n": "[lib-2-1.x86_64@main app-1-1.x86_64@main tool-2-1.noarch@main]",
	} {
		got, err := resolveText(t, tree+keys, nil, main)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v %v, want %s", keys, got, err, want)
		}
	}
	for keys, want := range map[string]string{
		"modules = { enable = ['mod:2'] }\nplatform-module = 'platform:f40'\n": "mod",
		"modules = { enable = ['none:2'] }\n":                                  "none",
		"modules = { install = ['mod:2/client'] }\n":                           `t.toml:5: key ` + "`modules`" + `: request cannot be met: module mod:2 has no profile "client"`,
		"platform-module = 'f40'\n":                                            "t.toml:5: key `platform-module`: \"f40\" is not platform:STREAM",
		"":                                                                     "lib", // no stream in use: its packages are hidden
	} {
		if got, err := resolveText(t, tree+keys, nil, main); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v, want %q", keys, got, err, want)
		}
	}
}

func TestReposDefaultToTheEnabledOnes(t *testing.T) {
	t.Parallel()
	on, off := yumRepo(t, "on", "app 1-1 noarch"), yumRepo(t, "off", "app 2-1 noarch")
	off.Enabled = false
	got, err := resolveText(t, "packages = ['app']\n", nil, on, off)
	if err != nil || fmt.Sprint(got) != "[app-1-1.noarch@on]" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := resolveText(t, "packages = ['app']\n", nil, off); !errors.Is(err, ErrTreefile) {
		t.Errorf("none enabled: %v", err)
	}
}
