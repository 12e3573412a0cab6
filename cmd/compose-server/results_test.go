// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

// releases composes two versions of a small tree on one ref, as any user would.
type releases struct {
	t              *testing.T
	dir, rpms      string
	repo, sboms    string
	first, second  map[string]any // the compose JSON
	checkouts      [2]string
	ostree, rpmBin string
}

const demoChangelog = `* Wed Jan 01 2025 Packager <p@example.org> - 2:1.0-1
- first
`

func composeReleases(t *testing.T) *releases {
	t.Helper()
	rpmtest.Needs(t, "bwrap", "createrepo_c", "modifyrepo_c")
	dir := t.TempDir()
	r := &releases{t: t, dir: dir, rpms: filepath.Join(dir, "rpms"), repo: filepath.Join(dir, "repo"), sboms: filepath.Join(dir, "sboms"),
		ostree: testutil.Tool(t, "ostree"), rpmBin: testutil.Tool(t, "rpm")}
	testutil.Must(t, os.Mkdir(r.rpms, 0o755))
	install := `cd %{buildroot}; mkdir -p etc usr/lib usr/share/demo; printf 'NAME=D\nID=demoos\nVERSION_ID=7\nVERSION=1\n' > usr/lib/os-release
echo %{version} > etc/demo.conf; echo same > usr/share/demo/same; `
	files := "/usr/lib/os-release\n/etc/demo.conf\n/usr/share/demo\n"
	demo := rpmtest.Spec{Name: "demo", Tags: "Epoch: 2\nVendor: Example <Inc>\nURL: https://example.org/demo\nRequires: (lib(x) if gone), /usr/share/helper, lib(x) >= 1",
		Install: install + "echo v1 > usr/share/demo/old; echo mode > usr/share/demo/mode", Files: files, Extra: "%changelog\n" + demoChangelog}
	newer := demo
	newer.Version, newer.Install = "1.1", install+"echo v2 > usr/share/demo/new; echo mode > usr/share/demo/mode; chmod 600 usr/share/demo/mode; ln -s same usr/share/demo/link"
	newer.Extra = "%changelog\n* Tue Jul 01 2025 Packager <p@example.org> - 2:1.1-1\n- fix <script>`x`</script>\n- blue | [a](b)\n\n" + demoChangelog
	lib := rpmtest.Spec{Name: "lib", Tags: "Provides: lib(x) = 1.5", Install: "mkdir -p %{buildroot}/usr/share; echo h > %{buildroot}/usr/share/helper", Files: "/usr/share/helper"}
	gone := rpmtest.Spec{Name: "gone", Install: "mkdir -p %{buildroot}/usr/share/gone; echo g > %{buildroot}/usr/share/gone/g", Files: "/usr/share/gone"}
	fresh := rpmtest.Spec{Name: "fresh", Install: "mkdir -p %{buildroot}/usr/share; echo f > %{buildroot}/usr/share/fresh", Files: "/usr/share/fresh"}
	r.add(rpmtest.HostPrograms(t), demo, lib, gone)
	r.first = r.compose(1, "'base', 'demo', 'gone'")
	r.add(newer, fresh)
	r.second = r.compose(2, "'base', 'demo', 'fresh'")
	return r
}

func (r *releases) add(specs ...rpmtest.Spec) {
	r.t.Helper()
	for _, s := range specs {
		file := rpmtest.BuildFile(r.t, s)
		testutil.Must(r.t, os.Rename(file, filepath.Join(r.rpms, filepath.Base(file))))
	}
	testutil.Run(r.t, "createrepo_c", r.rpms)
	info := filepath.Join(r.dir, "updateinfo.xml")
	testutil.Must(r.t, os.WriteFile(info, []byte(`<updates><update type="security"><id>SEC-1</id><title>demo</title><severity>Important</severity>
<references><reference type="bugzilla" href="https://bugs.example.org/1" title="CVE-2025-1 demo"/></references>
<pkglist><collection><package name="demo" epoch="2" version="1.1" release="1" arch="noarch"/></collection></pkglist></update></updates>`), 0o644))
	testutil.Run(r.t, "modifyrepo_c", info, filepath.Join(r.rpms, "repodata"))
}

func (r *releases) compose(n int, packages string) (out map[string]any) {
	r.t.Helper()
	tree := treeDir(r.t, map[string]string{
		"demo.repo": "[demo]\nname=demo\nbaseurl=file://" + r.rpms + "\ngpgcheck=0\n",
		"t.toml":    "ref = 'demo/x86_64'\nrepos = ['demo']\npackages = [" + packages + "]\ncontainer = true\nselinux = false\nautomatic-version-prefix = '7'\n",
	})
	result := filepath.Join(r.dir, "result.json")
	if code, stdout, stderr := program(r.t, "tree", filepath.Join(tree, "t.toml"), "--repo", r.repo, "--cachedir", filepath.Join(r.dir, "cache"),
		"--write-composejson-to", result, "--sbom-dir", r.sboms); code != 0 {
		r.t.Fatalf("compose: %d\n%s%s", code, stdout, stderr)
	}
	data, err := os.ReadFile(result)
	testutil.Must(r.t, err)
	testutil.Must(r.t, json.Unmarshal(data, &out))
	r.checkouts[n-1] = filepath.Join(r.dir, fmt.Sprint("checkout", n))
	testutil.Run(r.t, r.ostree, "--repo="+r.repo, "checkout", "-U", "demo/x86_64", r.checkouts[n-1])
	return out
}

// rpm asks the rpm program about the tree of a release.
func (r *releases) rpm(n int, args ...string) []string {
	r.t.Helper()
	out := testutil.Run(r.t, append([]string{r.rpmBin, "--dbpath", filepath.Join(r.checkouts[n-1], "usr/share/rpm")}, args...)...)
	return strings.FieldsFunc(out, func(c rune) bool { return c == '\n' })
}

func (r *releases) diff(args ...string) string {
	r.t.Helper()
	code, stdout, stderr := program(r.t, append([]string{"diff", "--repo", r.repo}, args...)...)
	if code != 0 {
		r.t.Fatalf("diff %v: %d %s", args, code, stderr)
	}
	return stdout
}

// Two releases of a tree, and what the program tells about them, against what rpm and
// ostree tell.
func TestReleases(t *testing.T) {
	t.Parallel()
	r := composeReleases(t)
	var d treediff.Diff
	testutil.Must(t, json.Unmarshal([]byte(r.diff("--json", "--all-files", "demo/x86_64^", "demo/x86_64")), &d))
	t.Run("packages", func(t *testing.T) { r.checkPackages(t, d) })
	t.Run("files", func(t *testing.T) { r.checkFiles(t, d) })
	t.Run("text", func(t *testing.T) { r.checkText(t) })
	t.Run("static delta", func(t *testing.T) { r.checkDelta(t, d) })
	t.Run("exit code", func(t *testing.T) {
		if code, _, stderr := program(t, "diff", "--repo", r.repo, "--exit-code", "demo/x86_64"); code != 1 || stderr != "" {
			t.Errorf("%d %q", code, stderr)
		}
		if code, stdout, _ := program(t, "diff", "--repo", r.repo, "--exit-code", "demo/x86_64", "demo/x86_64"); code != 0 || !strings.Contains(stdout, "The trees are the same.") {
			t.Errorf("%d %s", code, stdout)
		}
	})
	t.Run("advisories", func(t *testing.T) { r.checkAdvisories(t, d) })
	t.Run("compose JSON", func(t *testing.T) { r.checkComposeJSON(t) })
	t.Run("bill of materials", func(t *testing.T) { r.checkSBOM(t) })
}

func (r *releases) checkPackages(t *testing.T, d treediff.Diff) {
	qa := func(n int) []string {
		list := r.rpm(n, "-qa", "--qf", "%{NEVRA}\n")
		slices.Sort(list)
		return list
	}
	minus := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
	}
	var old, next []string
	for _, l := range packageLists(d.Packages) {
		for _, c := range l.list {
			if c.Old != nil {
				old = append(old, c.Old.NEVRA)
			}
			if c.New != nil {
				next = append(next, c.New.NEVRA)
			}
		}
	}
	slices.Sort(old)
	slices.Sort(next)
	if diff := cmp.Diff(minus(qa(1), qa(2)), old); diff != "" || len(old) != 2 {
		t.Errorf("old packages (-rpm +ours):\n%s", diff)
	}
	if diff := cmp.Diff(minus(qa(2), qa(1)), next); diff != "" || len(next) != 2 {
		t.Errorf("new packages (-rpm +ours):\n%s", diff)
	}
	var got []string
	for _, e := range d.Packages.Upgraded[0].Changelog {
		got = append(got, fmt.Sprintf("%d %s", e.Time.Unix(), e.Author))
	}
	query := []string{"-q", "--qf", "[%{CHANGELOGTIME} %{CHANGELOGNAME}\n]", "demo"}
	if want := minus(r.rpm(2, query...), r.rpm(1, query...)); len(want) != 1 || !slices.Equal(got, want) {
		t.Errorf("changelog %q, rpm has %q", got, want)
	}
}

// checkFiles compares with `ostree diff`, which does not list what a removed
// directory had, nor directories whose metadata changed.
func (r *releases) checkFiles(t *testing.T, d treediff.Diff) {
	removed := map[string]bool{}
	var got []string
	for _, c := range d.Files.List {
		if c.Change == "removed" && c.Old.Type == "dir" {
			removed[c.Path] = true
		}
		if removed[filepath.Dir(c.Path)] || c.Change == "modified" && c.New.Type == "dir" && c.Old.Type == "dir" {
			continue
		}
		got = append(got, changeLetter(c)+"    "+c.Path)
	}
	want := strings.Split(strings.TrimSpace(testutil.Run(t, r.ostree, "--repo="+r.repo, "diff", "demo/x86_64^", "demo/x86_64")), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 6 {
		t.Errorf("files (-ostree +ours):\n%s", diff)
	}
	for _, c := range d.Files.List {
		if c.Path == "/usr/share/demo/mode" && (!slices.Equal(c.What, []string{"mode"}) || c.Package != "demo" || c.Old.Mode != "0644" || c.New.Mode != "0600") {
			t.Errorf("%+v", c)
		}
	}
	all := testutil.Run(t, r.ostree, "--repo="+r.repo, "diff", "--stats", "demo/x86_64^", "demo/x86_64")
	var a, b, common int
	if _, err := fmt.Sscanf(all, "[A] Object Count: %d\n[B] Object Count: %d\nCommon Object Count: %d", &a, &b, &common); err != nil || d.Sizes.Fetch.Objects != b-common {
		t.Errorf("%d objects to fetch; ostree: %s %v", d.Sizes.Fetch.Objects, all, err)
	}
}

// checkDelta compares with the files of a delta that ostree makes.
func (r *releases) checkDelta(t *testing.T, d treediff.Diff) {
	if d.Sizes.Delta != nil {
		t.Error("a delta that is not there")
	}
	testutil.Run(t, r.ostree, "--repo="+r.repo, "static-delta", "generate", "--from=demo/x86_64^", "--to=demo/x86_64")
	var want int64
	testutil.Must(t, filepath.WalkDir(filepath.Join(r.repo, "deltas"), func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		want += st.Size()
		return err
	}))
	testutil.Must(t, json.Unmarshal([]byte(r.diff("--json", "demo/x86_64")), &d))
	if d.Sizes.Delta == nil || *d.Sizes.Delta != want || want == 0 {
		t.Errorf("delta %v, its files have %d bytes", d.Sizes.Delta, want)
	}
	if text := r.diff("demo/x86_64"); !strings.Contains(text, " as static delta\n") {
		t.Error(text)
	}
}

func (r *releases) checkText(t *testing.T) {
	text := r.diff("demo/x86_64")
	for _, want := range []string{
		"From  7    ", "To    7.1  ", "Upgraded (1):\n  demo.noarch 2:1.0-1 -> 2:1.1-1\n", "Removed (1):\n  gone-1.0-1.noarch\n", "Added (1):\n  fresh-1.0-1.noarch\n",
		"  SEC-1  security important  demo-2:1.1-1.noarch\n", "    * 2025-07-01 Packager <p@example.org> - 2:1.1-1\n", "      - blue | [a](b)\n",
		" of the package database not listed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "/usr/share/demo/") {
		t.Errorf("files of a changed package:\n%s", text)
	}
	if full := r.diff("--full", "demo/x86_64"); !strings.Contains(full, "  M  /usr/share/demo/mode                 mode 0644 -> 0600\n") {
		t.Errorf("--full:\n%s", full)
	}
	md := r.diff("--markdown", "--full", "demo/x86_64")
	for _, want := range []string{
		"# Changes from 7 to 7.1\n", "| demo.noarch | `2:1.0-1` | `2:1.1-1` |\n", "- **SEC-1** (security important)\n", "[CVE-2025-1 demo](<https://bugs.example.org/1>)",
		"  - fix &lt;script>\\`x\\`&lt;/script>\n", `  - blue \| \[a\](b)`, "| M | `/usr/share/demo/mode` | mode 0644 -> 0600 |\n",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in:\n%s", want, md)
		}
	}
}

func (r *releases) checkAdvisories(t *testing.T, d treediff.Diff) {
	if a := d.Advisories; len(a.Added) != 1 || len(a.Lost) != 0 || a.Added[0].ID != "SEC-1" || a.Added[0].References[0].Title != "CVE-2025-1 demo" {
		t.Errorf("%+v", a)
	}
	var back treediff.Diff
	testutil.Must(t, json.Unmarshal([]byte(r.diff("--json", "demo/x86_64", "demo/x86_64^")), &back))
	if a := back.Advisories; len(a.Added) != 0 || len(a.Lost) != 1 || len(back.Packages.Downgraded[0].Changelog) != 1 {
		t.Errorf("backwards: %+v", back)
	}
	info := filepath.Join(r.dir, "info.xml")
	testutil.Must(t, os.WriteFile(info, []byte(`<updates><update type="bugfix"><id>BUG-1</id><title>step</title>
<pkglist><collection><package name="demo" epoch="2" version="1.0.5" release="1" arch="noarch"/></collection></pkglist></update>
<update type="bugfix"><id>BUG-2</id><pkglist><collection><package name="demo" epoch="2" version="1.0" release="1" arch="noarch"/><package name="demo" epoch="2" version="1.2" release="1" arch="noarch"/></collection></pkglist></update></updates>`), 0o644))
	testutil.Must(t, json.Unmarshal([]byte(r.diff("--json", "--updateinfo", info, "demo/x86_64")), &back))
	if a := back.Advisories; len(a.Added) != 1 || a.Added[0].ID != "BUG-1" || a.Added[0].Type != "bugfix" {
		t.Errorf("from updateinfo: %+v", a)
	}
}

func (r *releases) checkComposeJSON(t *testing.T) {
	if _, ok := r.first["pkgdiff"]; ok {
		t.Error("the first commit has a package difference")
	}
	got, err := json.Marshal(r.second["pkgdiff"])
	testutil.Must(t, err)
	want := `[["fresh",0,{"NewPackage":["fresh","1.0-1","noarch"]}],["gone",1,{"PreviousPackage":["gone","1.0-1","noarch"]}],` +
		`["demo",2,{"NewPackage":["demo","2:1.1-1","noarch"],"PreviousPackage":["demo","2:1.0-1","noarch"]}]]`
	if string(got) != want {
		t.Errorf("pkgdiff\n%s, want\n%s", got, want)
	}
	// The keys of rpm-ostree, no more and no less; ours have a prefix.
	keys := []string{"ostree-commit", "ostree-content-bytes-written", "ostree-content-checksum", "ostree-n-cache-hits", "ostree-n-content-total",
		"ostree-n-content-written", "ostree-n-metadata-total", "ostree-n-metadata-written", "ostree-timestamp", "ostree-version", "pkgdiff", "ref", "rpm-ostree-inputhash"}
	theirs := slices.DeleteFunc(slices.Sorted(maps.Keys(r.second)), func(k string) bool { return strings.HasPrefix(k, "hostctl-") })
	if diff := cmp.Diff(keys, theirs); diff != "" {
		t.Errorf("keys (-rpm-ostree +ours):\n%s", diff)
	}
	log := testutil.Run(t, r.ostree, "--repo="+r.repo, "log", "demo/x86_64")
	for _, key := range []string{"ostree-commit", "ostree-content-checksum", "ostree-version"} {
		if s, _ := r.second[key].(string); s == "" || !strings.Contains(log, s) {
			t.Errorf("%s is %q; ostree log:\n%s", key, s, log)
		}
	}
	if n, ok := r.second["ostree-n-cache-hits"].(float64); !ok || n == 0 {
		t.Errorf("cache hits: %v", r.second["ostree-n-cache-hits"])
	}
}

func (r *releases) checkSBOM(t *testing.T) {
	sum, _ := r.second["ostree-commit"].(string)
	paths, _ := r.second["hostctl-sbom"].(map[string]any)
	for _, format := range []string{"spdx", "cyclonedx"} {
		name, _ := paths[format].(string)
		written, err := os.ReadFile(name)
		testutil.Must(t, err)
		for _, rev := range []string{"demo/x86_64", sum[:10]} {
			if _, doc, _ := program(t, "sbom", "--repo", r.repo, "--format", format, rev); doc != string(written) {
				t.Errorf("%s of %s differs from the one that the compose wrote", format, rev)
			}
		}
	}
	var doc struct {
		Packages []struct {
			SPDXID, Name, VersionInfo, Supplier, Homepage string
			ExternalRefs                                  []struct{ ReferenceLocator string }
			Checksums                                     []struct{ ChecksumValue string }
		}
		Relationships []struct{ SpdxElementID, RelationshipType, RelatedSpdxElement string }
		CreationInfo  struct{ Created time.Time }
	}
	text, err := os.ReadFile(filepath.Join(r.sboms, sum+".spdx.json"))
	testutil.Must(t, err)
	testutil.Must(t, json.Unmarshal(text, &doc))
	var got, needs []string
	for _, p := range doc.Packages[1:] {
		got = append(got, p.Name+" "+p.VersionInfo+" "+p.Checksums[0].ChecksumValue)
	}
	want := r.rpm(2, "-qa", "--qf", "%{NAME} %{EVR} %{SHA256HEADER}\n")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-rpm +ours):\n%s", diff)
	}
	for _, rel := range doc.Relationships {
		if rel.RelationshipType == "DEPENDS_ON" && strings.HasPrefix(rel.SpdxElementID, "SPDXRef-Package-demo-") {
			needs = append(needs, rel.RelatedSpdxElement)
		}
	}
	if !slices.Equal(needs, []string{"SPDXRef-Package-lib-1.0-1.noarch"}) {
		t.Errorf("demo needs %v", needs)
	}
	for _, p := range doc.Packages {
		if p.Name == "demo" && (p.Supplier != "Organization: Example <Inc>" || p.Homepage != "https://example.org/demo" ||
			p.ExternalRefs[0].ReferenceLocator != "pkg:rpm/demoos/demo@1.1-1?arch=noarch&distro=demoos-7&epoch=2") {
			t.Errorf("%+v", p)
		}
	}
	if got := r.second["ostree-timestamp"]; doc.CreationInfo.Created.Format(time.RFC3339) != got {
		t.Errorf("created %v, commit of %v", doc.CreationInfo.Created, got)
	}
}
