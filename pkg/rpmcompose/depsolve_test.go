// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

func corpusRepo(t testing.TB, id string, parts ...string) rpmmd.Repo {
	t.Helper()
	return rpmmd.Repo{ID: id, BaseURLs: []string{testutil.Corpus(t, parts...)}, Enabled: true, Priority: 99, Cost: 1000}
}

func depsolved(t *testing.T, cache *fsx.Dir, req DepsolveRequest) (*Depsolved, []string, error) {
	t.Helper()
	if req.Arch == "" {
		req.Arch = "x86_64"
	}
	res, err := Depsolve(context.Background(), req, Sources{Cache: cache})
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, p := range res.Packages {
		names = append(names, p.NEVRA())
	}
	slices.Sort(names)
	return res, names, nil
}

func TestDepsolveSpecs(t *testing.T) {
	t.Parallel()
	cache := testutil.OpenDir(t, t.TempDir())
	base := corpusRepo(t, "base", "yum-repos", "osbuild-testrepo-centos-stream9")
	for spec, want := range map[string]string{
		"bash": "bash-", "bash.x86_64": "bash-", "bash >= 5": "bash-", "/usr/bin/grep": "grep-", "sssd-k*": "sssd-kcm-",
		"@core": "NetworkManager-", "@^minimal-environment": "NetworkManager-", "config(bash)": "bash-", "(sed if bash)": "",
		"/usr/lib/systemd/systemd": "systemd-", // only the file lists know it
	} {
		_, got, err := depsolved(t, cache, DepsolveRequest{Repos: []rpmmd.Repo{base}, Specs: []string{spec}})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if !slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, want) }) && want != "" {
			t.Errorf("%s: no %s in %v", spec, want, got)
		}
	}
	for spec, want := range map[string]string{
		"no-such-package": "no package has that name",
		"bash > 99":       "there is bash-5.1.8",
		"@no-such-group":  "no-such-group",
		"@mod:1":          "no repository has module",
	} {
		if _, _, err := depsolved(t, cache, DepsolveRequest{Repos: []rpmmd.Repo{base}, Specs: []string{spec}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
	var u *solve.Unsolvable
	_, _, err := depsolved(t, cache, DepsolveRequest{Repos: []rpmmd.Repo{base}, Specs: []string{"bash"}, Exclude: []string{"ncurses-libs"}})
	if !errors.As(err, &u) || len(u.Reasons) > 4 || !strings.Contains(err.Error(), "it is excluded") {
		t.Errorf("excluded requirement: %v", err)
	}
}

func TestDepsolveRepositoryRules(t *testing.T) {
	t.Parallel()
	cache := testutil.OpenDir(t, t.TempDir())
	const where = "yum-repos/osbuild-testrepo-centos-stream9"
	a, b := corpusRepo(t, "a", where), corpusRepo(t, "b", where)
	check := func(what, repo string) {
		t.Helper()
		res, _, err := depsolved(t, cache, DepsolveRequest{Repos: []rpmmd.Repo{a, b}, Specs: []string{"setup"}})
		if err != nil || res.Packages[len(res.Packages)-1].Repo != repo {
			t.Errorf("%s: %v, %v", what, res, err)
		}
	}
	b.Priority = 10
	check("priority", "b")
	b.Priority, b.Cost = 99, 10
	check("cost", "b")
	b.ExcludePkgs = []string{"set*"}
	check("excludepkgs", "a")
	b.ExcludePkgs, a.IncludePkgs = nil, []string{"bash-5.*"}
	check("includepkgs", "b")
}

// Without a choice the default stream's packages count; a stream that is
// enabled hides those of the others, and of no module.
func TestDepsolveModules(t *testing.T) {
	t.Parallel()
	cache := testutil.OpenDir(t, t.TempDir())
	all := corpusRepo(t, "all", "yum-repos", "dnf4", "modules", "modules", "_all", "x86_64")
	plain := corpusRepo(t, "plain", "yum-repos", "dnf4", "modules", "modules", "_non-modular", "x86_64")
	find := func(list []string, name string) string {
		for _, n := range list {
			if p, err := rpm.ParseNEVRA(n); err == nil && p.Name == name {
				return p.EVR.String()
			}
		}
		return ""
	}
	for _, c := range []struct {
		name string
		req  DepsolveRequest
		want string // version of httpd, or an error's words
	}{
		{"enabled", DepsolveRequest{Specs: []string{"httpd"}, Modules: rpmmd.ModuleChoice{Enable: []string{"httpd:2.2", "base-runtime:f26"}}}, "2.2.15-59"},
		{"as a spec", DepsolveRequest{Specs: []string{"@httpd:2.4/default", "@base-runtime:f26"}}, "2.4.25-8"},
		{"unknown stream", DepsolveRequest{Specs: []string{"httpd"}, Modules: rpmmd.ModuleChoice{Enable: []string{"httpd:9"}}}, "has no stream"},
		{"unknown profile", DepsolveRequest{Specs: []string{"@httpd:2.4/nonesuch"}}, "no profile"},
		{"two streams", DepsolveRequest{Specs: []string{"@httpd:2.4", "@httpd:2.2"}}, "two streams"},
	} {
		c.req.Repos = []rpmmd.Repo{all, plain}
		_, got, err := depsolved(t, cache, c.req)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if v := find(got, "httpd"); v != c.want {
			t.Errorf("%s: httpd %q, want %q, in %v", c.name, v, c.want, got)
		}
	}
}

// largeRepo holds the metadata of a real repository and 21 renamed copies:
// 24,750 packages.
func largeRepo(b *testing.B) rpmmd.Repo {
	b.Helper()
	dir := b.TempDir()
	files, err := filepath.Glob(testutil.Corpus(b, "yum-repos", "osbuild-testrepo-centos-stream9") + "/repodata/*-primary.xml.gz")
	if err != nil || len(files) != 1 {
		b.Fatal(files, err)
	}
	f, err := os.Open(files[0])
	testutil.Must(b, err)
	defer f.Close()
	z, err := rpm.Decompress(f, "")
	testutil.Must(b, err)
	text, err := io.ReadAll(z)
	testutil.Must(b, err)
	first, last := bytes.Index(text, []byte("<package ")), bytes.LastIndex(text, []byte("</package>"))+len("</package>")
	var out bytes.Buffer
	out.WriteString(`<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm">`)
	out.Write(text[first:last])
	for i := range 21 {
		copied := text[first:last]
		for _, r := range [][2]string{{"<name>", "<name>c%d-"}, {`entry name="`, `entry name="c%d-`}, {"<file>", "<file>/c%d"}} {
			copied = bytes.ReplaceAll(copied, []byte(r[0]), fmt.Appendf(nil, r[1], i))
		}
		out.Write(copied)
	}
	out.WriteString("</metadata>")
	enc, err := zstd.NewWriter(nil)
	testutil.Must(b, err)
	packed := enc.EncodeAll(out.Bytes(), nil)
	testutil.Must(b, os.Mkdir(filepath.Join(dir, "repodata"), 0o755))
	testutil.Must(b, os.WriteFile(filepath.Join(dir, "repodata", "primary.xml.zst"), packed, 0o644))
	testutil.Must(b, os.WriteFile(filepath.Join(dir, "repodata", "repomd.xml"), fmt.Appendf(nil,
		`<repomd><data type="primary"><checksum type="sha256">%x</checksum><location href="repodata/primary.xml.zst"/></data></repomd>`, sha256.Sum256(packed)), 0o644))
	return rpmmd.Repo{ID: "large", BaseURLs: []string{dir}, Enabled: true, Priority: 99, Cost: 1000}
}

// BenchmarkDepsolve24750 is a whole run for a tree of about 250 packages whose
// metadata was read before: reading the parsed lists, solving, ordering.
func BenchmarkDepsolve24750(b *testing.B) {
	req := DepsolveRequest{Repos: []rpmmd.Repo{largeRepo(b)}, Arch: "x86_64", Specs: []string{"kernel", "systemd", "NetworkManager", "openssh-server",
		"dracut", "grub2-efi-x64", "shim-x64", "selinux-policy-targeted", "chrony", "sudo", "dnf", "firewalld", "cockpit-ws", "tuned", "lvm2", "sssd", "realmd"}}
	src := Sources{Cache: testutil.OpenDir(b, b.TempDir())}
	if _, err := Depsolve(context.Background(), req, src); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		runtime.GC()
		before := testutil.CPUTime(b)
		res, err := Depsolve(context.Background(), req, src)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((testutil.CPUTime(b) - before).Seconds(), "cpu-s")
		b.ReportMetric(float64(len(res.Packages)), "packages")
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		b.ReportMetric(float64(s.HeapAlloc)/(1<<20), "heap-MB")
	}
}
