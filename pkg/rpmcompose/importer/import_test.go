// SPDX-License-Identifier: Apache-2.0

package importer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// rich has one file of every kind that the import treats in its own way.
func rich(t *testing.T) importer.Source {
	return rpmtest.Build(t, rpmtest.Spec{Name: "rich", Install: `
cd %{buildroot}
mkdir -p usr/bin usr/share/rich usr/share/doc/rich etc/rich opt/rich/bin var/lib/rich/data run/rich usr/share/locale/de srv/rich var/lib/rpm usr/share/ro
echo a > usr/bin/plain; echo b > usr/bin/caps; echo c > usr/bin/suid; echo c > usr/bin/suidmail
echo one > usr/share/rich/one; ln usr/share/rich/one usr/share/rich/two; ln usr/share/rich/one usr/share/rich/three
ln -s one usr/share/rich/link
echo doc > usr/share/doc/rich/README; echo l > usr/share/doc/rich/LICENSE
echo de > usr/share/locale/de/rich.mo
echo conf > etc/rich/conf; echo opt > opt/rich/bin/tool
echo state > var/lib/rich/file; ln -s data "var/lib/rich/with blank"
touch etc/rich/ghost var/lib/rpm/x
`, Files: `
%attr(755,root,root) /usr/bin/plain
%attr(755,root,root) %caps(cap_net_raw,cap_net_admin=ep) /usr/bin/caps
%attr(4755,root,root) /usr/bin/suid
%attr(2755,root,mail) /usr/bin/suidmail
/usr/share/rich
%dir %attr(555,root,root) /usr/share/ro
%doc /usr/share/doc/rich/README
%license /usr/share/doc/rich/LICENSE
%lang(de) /usr/share/locale/de/rich.mo
%config(noreplace) /etc/rich/conf
%ghost /etc/rich/ghost
/opt/rich
%dir %attr(750,rich,rich) /var/lib/rich
%dir /var/lib/rich/data
/var/lib/rich/file
"/var/lib/rich/with blank"
/var/lib/rpm/x
%dir /run/rich
%dir /srv/rich
`})
}

// list renders a commit's tree, one path a line.
func list(t *testing.T, repo *ostree.Repo, commit ostree.Checksum) string {
	t.Helper()
	var b strings.Builder
	err := repo.Walk(t.Context(), commit, func(n ostree.Node) error {
		if n.IsDir {
			m, err := repo.LoadDirMeta(n.Meta)
			if err != nil {
				return err
			}
			if m.Mode != 0o40755 {
				fmt.Fprintf(&b, "%s %o\n", n.Path, m.Mode)
			}
			return nil
		}
		h, _, r, err := repo.OpenFile(n.File)
		if err != nil {
			return err
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if h.UID != 0 || h.GID != 0 {
			t.Errorf("%s is owned by %d:%d", n.Path, h.UID, h.GID)
		}
		xattrs := ""
		for _, x := range h.Xattrs {
			xattrs += fmt.Sprintf(" %s=%x", x.Name, x.Value)
		}
		fmt.Fprintf(&b, "%s %o %q%s\n", n.Path, h.Mode, h.Target+string(content), xattrs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestImportPlacesEveryKindOfFile(t *testing.T) {
	t.Parallel()
	src := rich(t)
	repo := rpmtest.Cache(t, t.TempDir())
	res, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := `/usr/bin/caps 100755 "b\n" security.capability=0100000200300000000000000000000000000000
/usr/bin/plain 100755 "a\n"
/usr/bin/suid 104755 "c\n"
/usr/bin/suidmail 100755 "c\n"
/usr/etc/rich/conf 100644 "conf\n"
/usr/lib/opt/rich/bin/tool 100644 "opt\n"
/usr/lib/tmpfiles.d/pkg-rich.conf 100644 "# Directories and links of the package rich, which a tree cannot hold.\nd /run/rich 0755 root root - -\nd /var/lib/rich 0750 rich rich - -\nd /var/lib/rich/data 0755 root root - -\nL /var/lib/rich/with\\x20blank - - - - data\nL /var/opt/rich - - - - ../../usr/lib/opt/rich\nd /var/srv/rich 0755 root root - -\n"
/usr/share/doc/rich/LICENSE 100644 "l\n"
/usr/share/doc/rich/README 100644 "doc\n"
/usr/share/locale/de/rich.mo 100644 "de\n"
/usr/share/rich/link 120777 "one"
/usr/share/rich/one 100644 "one\n"
/usr/share/rich/three 100644 "one\n"
/usr/share/rich/two 100644 "one\n"
`
	got := list(t, repo, res[0].Commit)
	// A directory without u+w would be a trap for whoever deletes the tree.
	got = strings.Replace(got, "/usr/share/ro 40755\n", "", 1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if res[0].Ref != "rpmostree/pkg/rich/1.0-1.noarch" {
		t.Errorf("ref %s", res[0].Ref)
	}
	if len(res[0].Notes) != 1 || res[0].Notes[0].Path != "/var/lib/rich/file" {
		t.Errorf("notes %v", res[0].Notes)
	}
	again, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !again[0].Cached || again[0].Commit != res[0].Commit {
		t.Error("the second import did not use the cache")
	}
	if diff := cmp.Diff(res[0].Notes, again[0].Notes); diff != "" {
		t.Errorf("notes of a cached package (-first +second):\n%s", diff)
	}
}

// More packages than one transaction takes: all are there, in their order, and
// one that is bad fails the import, whichever batch it is in.
func TestImportBatches(t *testing.T) {
	t.Parallel()
	one := rpmtest.Build(t, rpmtest.Spec{Name: "one", Install: "mkdir -p %{buildroot}/usr; echo 1 > %{buildroot}/usr/one", Files: "/usr/one"})
	two := rpmtest.Build(t, rpmtest.Spec{Name: "two", Install: "mkdir -p %{buildroot}/usr; echo 2 > %{buildroot}/usr/two", Files: "/usr/two"})
	sources := slices.Repeat([]importer.Source{one, two}, 130)
	var last progress.Event
	repo := rpmtest.Cache(t, t.TempDir())
	res, err := importer.All(t.Context(), repo, sources, importer.AllOptions{Progress: func(e progress.Event) { last = e }})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range res {
		if want := []string{"/usr/one", "/usr/two"}[i%2]; r.Commit != res[i%2].Commit || i < 2 && !strings.Contains(list(t, repo, r.Commit), want) {
			t.Errorf("package %d is %s", i, r.Ref)
		}
	}
	if last.Kind != progress.End || last.Done != int64(len(sources)) {
		t.Errorf("last event %+v", last)
	}
	for _, at := range []int{0, 150, 259} {
		bad := slices.Clone(sources)
		bad[at].Payload = func() (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }
		if _, err := importer.All(t.Context(), rpmtest.Cache(t, t.TempDir()), bad, importer.AllOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("package %d is bad: %v", at, err)
		}
	}
}

func TestImportFilters(t *testing.T) {
	t.Parallel()
	src := rich(t)
	repo := rpmtest.Cache(t, t.TempDir())
	plain, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{})
	if err != nil {
		t.Fatal(err)
	}
	res, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{Filter: importer.Filter{NoDocs: true, InstallLangs: []string{"en"}}})
	if err != nil {
		t.Fatal(err)
	}
	if res[0].Cached || res[0].Commit == plain[0].Commit {
		t.Fatal("other options used the same cache entry")
	}
	got := list(t, repo, res[0].Commit)
	for _, gone := range []string{"README", "rich.mo"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s was not filtered", gone)
		}
	}
	if !strings.Contains(got, "LICENSE") {
		t.Error("licence was filtered with the documentation")
	}
}

func TestImportRefusesForeignPaths(t *testing.T) {
	t.Parallel()
	src := rpmtest.Build(t, rpmtest.Spec{Name: "foreign", Install: "mkdir -p %{buildroot}/data; echo x > %{buildroot}/data/file", Files: "/data/file"})
	repo := rpmtest.Cache(t, t.TempDir())
	_, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{})
	if !errors.Is(err, importer.ErrPath) || !strings.Contains(err.Error(), "foreign-1.0-1") || !strings.Contains(err.Error(), "/data/file") {
		t.Errorf("got %v", err)
	}
}

// A damaged payload must leave nothing visible.
func TestImportRefusesDamage(t *testing.T) {
	t.Parallel()
	src := rich(t)
	repo := rpmtest.Cache(t, t.TempDir())
	open := src.Payload
	src.Payload = func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(strings.NewReader(string(b[:len(b)/2]))), r.Close()
	}
	if _, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{}); err == nil {
		t.Fatal("half a payload was accepted")
	}
	refs, err := repo.Refs("")
	if err != nil || len(refs) != 0 {
		t.Errorf("refs %v, %v", refs, err)
	}
}

func TestImportCancelled(t *testing.T) {
	t.Parallel()
	src := rich(t)
	repo := rpmtest.Cache(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := importer.All(ctx, repo, []importer.Source{src}, importer.AllOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Real packages: every one is imported, or refused for a reason that is named.
func TestImportCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testutil.Corpus(t, "rpms", "built-from-rpm-tests-specs"), "*", "*.rpm"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d packages, %v", len(files), err)
	}
	repo := rpmtest.Cache(t, t.TempDir())
	refused := 0
	for _, f := range files {
		src := rpmtest.Open(t, f)
		_, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{})
		switch {
		case err == nil:
		case errors.Is(err, importer.ErrPath):
			refused++
		default:
			t.Errorf("%s: %v", filepath.Base(f), err)
		}
	}
	if refused == len(files) {
		t.Error("every package was refused")
	}
	t.Logf("%d packages, %d with paths outside of a tree", len(files), refused)
}

func TestRef(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ nevra, want string }{
		{"bash-5.2.15-2.x86_64", "rpmostree/pkg/bash/5.2.15-2.x86__64"},
		{"vim-2:9.0~rc1+b2-1.noarch", "rpmostree/pkg/vim/2_3A9.0_7Erc1_2Bb2-1.noarch"},
	} {
		n, err := rpm.ParseNEVRA(tc.nevra)
		if err != nil {
			t.Fatal(err)
		}
		if got := importer.Ref(n); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.nevra, got, tc.want)
		}
	}
}

func TestEncodeCaps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, want string
		bad        bool
	}{
		{"cap_net_raw=ep", "0100000200200000000000000000000000000000", false},
		{"cap_net_raw+p", "0000000200200000000000000000000000000000", false},
		{"=", "", false},
		{"cap_perfmon,cap_bpf=ep", "010000020000000000000000c000000000000000", false},
		{"cap_chown=p cap_chown-p cap_kill=i", "0000000200000000200000000000000000000000", false},
		{"cap_net_raw=p cap_kill=ep", "", true},
		{"cap_nonsense=ep", "", true},
		{"cap_net_raw", "", true},
		{"cap_net_raw=z", "", true},
	} {
		got, err := importer.EncodeCaps(tc.text)
		if (err != nil) != tc.bad || fmt.Sprintf("%x", got) != tc.want {
			t.Errorf("%q: %x, %v; want %s", tc.text, got, err, tc.want)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add("/usr/bin/x", uint32(0o100755))
	f.Add("/var/../etc", uint32(0o40755))
	f.Add("/opt/a/b", uint32(0o120777))
	f.Fuzz(func(t *testing.T, p string, mode uint32) {
		w, err := importer.Place(&rpm.File{Path: p, Mode: mode, Link: p}, importer.Filter{})
		if err != nil || w.Kind != importer.InTree {
			return
		}
		if w.Path == "" || w.Path[0] == '/' || filepath.Clean(w.Path) != w.Path || strings.HasPrefix(w.Path, "..") {
			t.Errorf("%q is placed at %q", p, w.Path)
		}
		for _, l := range w.Lines {
			if strings.Contains(l, "\n") {
				t.Errorf("%q makes the line %q", p, l)
			}
		}
	})
}
