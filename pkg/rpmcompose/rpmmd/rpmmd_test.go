// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func TestParseRepos(t *testing.T) {
	t.Parallel()
	text := `# a comment
[main]
gpgcheck=1
[fedora]
name=Fedora $releasever - ${basearch} $unknown
baseurl=https://a/$releasever/$basearch/
  https://b/$releasever/
enabled=1
gpgkey=file:///k1, file:///k2
repo_gpgcheck=true
priority = 10
countme=1
[off]
metalink=https://m/?repo=x&arch=$basearch
enabled=no
gpgcheck=0
excludepkgs=kernel* foo
`
	repos, err := ParseRepos("x.repo", []byte(text), map[string]string{"releasever": "40", "basearch": "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Repo{
		{ID: "fedora", Name: "Fedora 40 - x86_64 $unknown", BaseURLs: []string{"https://a/40/x86_64/", "https://b/40/"}, Enabled: true,
			GPGCheck: true, RepoGPGCheck: true, GPGKeys: []string{"file:///k1", "file:///k2"}, Priority: 10, Cost: 1000},
		{ID: "off", Name: "off", Metalink: "https://m/?repo=x&arch=x86_64", ExcludePkgs: []string{"kernel*", "foo"}, Priority: 99, Cost: 1000},
	}
	if d := cmp.Diff(want, repos); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"x=1", "[a", "[a]\n[a]", "[a]\nfoo", "[a]\nenabled=2", "[a]\npriority=high", "[../a]", "[]"} {
		if _, err := ParseRepos("x.repo", []byte(bad), nil); !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), "x.repo: line") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// createrepo makes a repository of real packages with createrepo_c.
func createrepo(t testing.TB, args ...string) string {
	t.Helper()
	program := testutil.Tool(t, "createrepo_c")
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(testutil.Corpus(t, "rpms", "pulp-fixtures", "rpm", "assets"), "*.rpm"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no packages: %v", err)
	}
	files = append(files, testutil.Corpus(t, "rpms", "createrepo_c", "Archer-3.4.5-6.x86_64.rpm"),
		testutil.Corpus(t, "rpms", "pulp-fixtures", "rpm-new", "assets", "packages", "complex-package-2.3.4-5.el8.x86_64.rpm"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(program, append(args, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestSameAsHeaders makes a repository with every kind of compression and compares what its lists say with
// the package headers.
func TestSameAsHeaders(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"gz", "bz2", "xz", "zstd"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			dir := ""
			if kind == "zstd" { // not every createrepo_c can
				dir = createrepo(t)
				recompress(t, dir)
			} else {
				dir = createrepo(t, "--general-compress-type="+kind)
			}
			m, err := Load(ctx, Repo{ID: "r", BaseURLs: []string{dir}}, testutil.OpenDir(t, t.TempDir()), Options{})
			if err != nil {
				t.Fatal(err)
			}
			lists, err := m.Filelists(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for i := range m.Packages {
				sameAsHeader(t, m, i, lists[i])
			}
		})
	}
}

// recompress stores every list of a repository with zstd.
func recompress(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "repodata/*.xml.gz"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%v %v", files, err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := rpm.Decompress(bytes.NewReader(old), "")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		packed := enc.EncodeAll(text, nil)
		if err := os.WriteFile(file, packed, 0o644); err != nil {
			t.Fatal(err)
		}
		edit(t, filepath.Join(dir, "repodata/repomd.xml"), func(b []byte) []byte {
			text := strings.ReplaceAll(string(b), fmt.Sprintf("%x</checksum>", sha256.Sum256(old)), fmt.Sprintf("%x</checksum>", sha256.Sum256(packed)))
			return []byte(strings.ReplaceAll(text, fmt.Sprintf("<size>%d<", len(old)), fmt.Sprintf("<size>%d<", len(packed))))
		})
	}
}

func sameAsHeader(t *testing.T, m *Metadata, i int, files []string) {
	t.Helper()
	p := &m.Packages[i]
	item, err := m.Item(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fetch.Fetch(context.Background(), m.cache, []fetch.Item{item}, fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := got[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := rpm.ReadPackage(f)
	if err != nil {
		t.Fatal(err)
	}
	if p.NEVRA.String() != h.NEVRA().String() || p.Summary != h.Summary() || p.SourceRPM != h.SourceRPM() || !p.BuildTime.Equal(h.BuildTime()) {
		t.Errorf("%+v differs from %v", p, h.NEVRA())
	}
	texts := func(deps []rpm.Dep) map[string]bool {
		out := map[string]bool{}
		for _, d := range deps {
			if !strings.HasPrefix(d.Name, "rpmlib(") { // lists leave these out
				out[strings.ReplaceAll(d.String(), " 0:", " ")] = true
			}
		}
		return out
	}
	for name, pair := range map[string][2][]rpm.Dep{
		"requires": {h.Requires(), p.Requires}, "provides": {h.Provides(), p.Provides}, "conflicts": {h.Conflicts(), p.Conflicts},
		"obsoletes": {h.Obsoletes(), p.Obsoletes}, "recommends": {h.Recommends(), p.Recommends}, "suggests": {h.Suggests(), p.Suggests},
		"supplements": {h.Supplements(), p.Supplements}, "enhances": {h.Enhances(), p.Enhances},
	} {
		if d := cmp.Diff(texts(pair[0]), texts(pair[1])); d != "" {
			t.Errorf("%s of %s: %s", name, p.NEVRA, d)
		}
	}
	var paths []string
	for _, f := range h.Files() {
		paths = append(paths, f.Path)
	}
	if d := cmp.Diff(paths, files); d != "" {
		t.Errorf("files of %s: %s", p.NEVRA, d)
	}
	for _, path := range paths {
		if owners, err := m.Owners(context.Background(), path); err != nil || len(owners) == 0 {
			t.Errorf("owners of %s: %v, %v", path, owners, err)
		}
	}
}

// signer makes a key, signs repomd.xml of a repository with it and gives the public key.
func signer(t testing.TB, dir string) []byte {
	t.Helper()
	e, err := openpgp.NewEntity("Repo", "", "repo@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "repodata/repomd.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var sig, key bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&sig, []*openpgp.Entity{e}, bytes.NewReader(data), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "repodata/repomd.xml.asc"), sig.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(&key); err != nil {
		t.Fatal(err)
	}
	return key.Bytes()
}

func edit(t testing.TB, file string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func primaryOf(t testing.TB, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "repodata/*-primary.xml*"))
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	return list[0]
}

// TestTrust breaks a signed repository in one way after the other.
func TestTrust(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string, r *Repo)
		want  error
		says  string
	}{
		"good":         {func(*testing.T, string, *Repo) {}, nil, ""},
		"no signature": {func(t *testing.T, dir string, _ *Repo) { _ = os.Remove(filepath.Join(dir, "repodata/repomd.xml.asc")) }, ErrSignature, "repomd.xml.asc"},
		"no key":       {func(_ *testing.T, _ string, r *Repo) { r.Keys = nil }, ErrSignature, "repomd.xml"},
		"other key":    {func(t *testing.T, dir string, r *Repo) { r.Keys = [][]byte{signer(t, createrepo(t))} }, ErrSignature, "repomd.xml"},
		"changed repomd": {func(t *testing.T, dir string, _ *Repo) {
			edit(t, filepath.Join(dir, "repodata/repomd.xml"), func(b []byte) []byte { return append(b, '\n') })
		}, ErrSignature, "repomd.xml"},
		"changed primary": {func(t *testing.T, dir string, _ *Repo) {
			edit(t, primaryOf(t, dir), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}, fetch.ErrChecksum, "primary"},
		"longer primary": {func(t *testing.T, dir string, _ *Repo) {
			edit(t, primaryOf(t, dir), func(b []byte) []byte { return append(b, 0) })
		}, fetch.ErrChecksum, "primary"},
		"missing primary": {func(t *testing.T, dir string, _ *Repo) { _ = os.Remove(primaryOf(t, dir)) }, fetch.ErrNotFound, "primary"},
		"no repository":   {func(t *testing.T, dir string, r *Repo) { r.BaseURLs = []string{dir + "/nowhere"} }, fetch.ErrNotFound, "repomd.xml"},
		"no address":      {func(t *testing.T, dir string, r *Repo) { r.BaseURLs = nil }, ErrSyntax, "baseurl"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := createrepo(t)
			r := Repo{ID: "theirs", BaseURLs: []string{"file://" + dir}, RepoGPGCheck: true, Keys: [][]byte{signer(t, dir)}}
			c.spoil(t, dir, &r)
			_, err := Load(context.Background(), r, testutil.OpenDir(t, t.TempDir()), Options{})
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "theirs") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v about %s", err, c.want, c.says)
			}
		})
	}
}

// TestForeignSignature checks a repository that dnf's developers signed, and one with a bad signature.
func TestForeignSignature(t *testing.T) {
	t.Parallel()
	base := testutil.Corpus(t, "yum-repos", "dnf5", "test", "data")
	r := Repo{ID: "r", BaseURLs: []string{filepath.Join(base, "repos-repomd", "repomd-repo1-gpg")}, RepoGPGCheck: true,
		GPGKeys: []string{"file://" + filepath.Join(base, "keys", "repo-gpg-key.pub")}}
	m, err := Load(context.Background(), r, testutil.OpenDir(t, t.TempDir()), Options{Time: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Packages) != 3 {
		t.Errorf("%d packages", len(m.Packages))
	}
	r.GPGKeys = []string{"file://" + testutil.Corpus(t, "yum-repos", "librepo", "test_data", "key.pub")}
	if _, err := Load(context.Background(), r, testutil.OpenDir(t, t.TempDir()), Options{}); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
}

// TestHTTP loads a repository over HTTP twice, by mirror list and by metalink: the lists come from the
// cache the second time.
func TestHTTP(t *testing.T) {
	t.Parallel()
	dir := createrepo(t)
	key := signer(t, dir)
	var lists atomic.Int32
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("/repo/", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "primary") {
			lists.Add(1)
		}
		http.StripPrefix("/repo", http.FileServer(http.Dir(dir))).ServeHTTP(w, r)
	})
	mux.HandleFunc("/key", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(key) })
	mux.HandleFunc("/mirrors", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# comment\n%s/dead/\n%s/repo/\n", s.URL, s.URL)
	})
	mux.HandleFunc("/metalink", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<?xml version="1.0"?><metalink xmlns="http://www.metalinker.org/"><files><file name="repomd.xml"><resources>
			<url protocol="rsync">rsync://x/repodata/repomd.xml</url><url protocol="http">%s/repo/repodata/repomd.xml</url></resources></file></files></metalink>`, s.URL)
	})
	cache := testutil.OpenDir(t, t.TempDir())
	for _, r := range []Repo{{BaseURLs: []string{s.URL + "/repo"}}, {Mirrorlist: s.URL + "/mirrors"}, {Metalink: s.URL + "/metalink"}} {
		r.ID, r.RepoGPGCheck, r.GPGKeys = "r", true, []string{s.URL + "/key"}
		m, err := Load(context.Background(), r, cache, Options{})
		if err != nil {
			t.Fatal(err)
		}
		item, err := m.Item(&m.Packages[0])
		if err != nil {
			t.Fatal(err)
		}
		if files, err := fetch.Fetch(context.Background(), cache, []fetch.Item{item}, fetch.Options{}); err != nil || files[0].Size != m.Packages[0].Size {
			t.Errorf("%v %v", files, err)
		}
	}
	if n := lists.Load(); n != 1 {
		t.Errorf("the primary list was sent %d times", n)
	}
}

// TestBomb gives a list that unpacks to more than repomd.xml promises.
func TestBomb(t *testing.T) {
	t.Parallel()
	dir := createrepo(t)
	edit(t, filepath.Join(dir, "repodata/repomd.xml"), func(b []byte) []byte {
		i := bytes.Index(b, []byte("<open-size>"))
		j := bytes.Index(b, []byte("</open-size>"))
		return append(append(append([]byte(nil), b[:i]...), "<open-size>100"...), b[j:]...)
	})
	if _, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{dir}}, testutil.OpenDir(t, t.TempDir()), Options{}); !errors.Is(err, fetch.ErrChecksum) {
		t.Error(err)
	}
}

func TestHostilePrimary(t *testing.T) {
	t.Parallel()
	pkg := func(s string) string {
		return `<metadata packages="1"><package type="rpm"><name>a</name><arch>noarch</arch><version epoch="0" ver="1" rel="1"/>` +
			`<checksum type="sha256" pkgid="YES">` + strings.Repeat("0", 64) + `</checksum>` + s + `</package></metadata>`
	}
	good := `<location href="a.rpm"/>`
	if list, err := ParsePrimary([]byte(pkg(good+`<summary>a &lt; b &#x263a;<![CDATA[<&]]></summary><url><!-- x --></url>`)), "r"); err != nil || list[0].Summary != "a < b ☺<&" {
		t.Fatalf("%+v %v", list, err)
	}
	for name, text := range map[string]string{
		"empty":          "",
		"other root":     "<x/>",
		"climbs out":     pkg(`<location href="../../etc/passwd"/>`),
		"absolute":       pkg(`<location href="/etc/passwd"/>`),
		"no location":    pkg(``),
		"cut off":        pkg(good)[:200],
		"entity":         pkg(good + `<summary>&x;</summary>`),
		"document type":  `<!DOCTYPE x [<!ENTITY a "b">]>` + pkg(good),
		"deep":           pkg(good + strings.Repeat("<a>", 100)),
		"comparison":     pkg(good + `<format><rpm:requires><rpm:entry name="x" flags="NE"/></rpm:requires></format>`),
		"epoch":          pkg(good + `<format><rpm:requires><rpm:entry name="x" flags="EQ" epoch="99999999999" ver="1"/></rpm:requires></format>`),
		"nameless":       pkg(good + `<format><rpm:requires><rpm:entry flags="EQ" ver="1"/></rpm:requires></format>`),
		"size":           pkg(good + `<size package="-1"/>`),
		"text in text":   pkg(good + `<summary>a<b/></summary>`),
		"checksum":       strings.Replace(pkg(good), "sha256", "md5", 1),
		"short checksum": strings.Replace(pkg(good), "00</checksum>", "</checksum>", 1),
	} {
		if _, err := ParsePrimary([]byte(text), "r"); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// A list without packages must not make us hold all of it.
func TestEndlessPart(t *testing.T) {
	t.Parallel()
	endless := io.LimitReader(zeros{}, 1<<40)
	_, err := readPrimary(endless, func() ([]byte, error) { return nil, errors.New("read again") }, partSize)
	if !errors.Is(err, ErrSyntax) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkPrimary(b *testing.B) {
	m, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{testutil.Corpus(b, "yum-repos", "osbuild-testrepo-centos-stream9")}}, testutil.OpenDir(b, b.TempDir()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	data, err := m.readText(context.Background(), "primary")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ParsePrimary(data, "r"); err != nil {
			b.Fatal(err)
		}
	}
}
