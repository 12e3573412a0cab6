// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// bench is a repository of a few real packages and a place to compose them in.
type bench struct {
	t    *testing.T
	dir  string
	repo *ostree.Repo
	yum  rpmmd.Repo
	src  Sources
	env  Env // options beside the sources
}

const updateinfo = `<updates>
<update type="security"><id>SEC-1</id><title>demo</title><severity>Important</severity>
<references><reference type="bugzilla" href="https://bugs/2" title="again CVE-2024-1"/><reference type="bugzilla" href="https://bugs/1" title="CVE-2024-1 demo"/></references>
<pkglist><collection><package name="demo" epoch="0" version="1.0" release="1" arch="noarch"/></collection></pkglist></update>
<update type="security"><id>SEC-2</id><title>other</title><pkglist><collection><package name="demo" epoch="0" version="0.9" release="1" arch="noarch"/></collection></pkglist></update>
<update type="bugfix"><id>FIX-1</id><title>demo</title><pkglist><collection><package name="demo" epoch="0" version="1.0" release="1" arch="noarch"/></collection></pkglist></update>
</updates>`

func newBench(t *testing.T) *bench {
	t.Helper()
	rpmtest.Needs(t, "bwrap", "createrepo_c", "modifyrepo_c")
	b := &bench{t: t, dir: t.TempDir()}
	rpms := filepath.Join(b.dir, "rpms")
	testutil.Must(t, os.Mkdir(rpms, 0o755))
	demo := rpmtest.Spec{Name: "demo", Tags: "Recommends: extra", Install: `cd %{buildroot}
mkdir -p etc usr/bin usr/share/demo usr/share/doc/demo usr/share/locale/de usr/share/locale/fr usr/lib/sysusers.d
echo package > etc/demo.conf; echo same > usr/share/demo/same; printf 'u demod 777 "Demo"\ng helpers 778\n' > usr/lib/sysusers.d/demo.conf
echo data > usr/share/demo/data; printf 'NAME=D\nVERSION="7 and 7"\n' > usr/lib/os-release; echo tool > usr/bin/demo-tool
echo doc > usr/share/doc/demo/README; echo de > usr/share/locale/de/demo.mo; echo fr > usr/share/locale/fr/demo.mo`,
		Files: "/etc/demo.conf\n/usr/share/demo/same\n%attr(644,demod,demod) /usr/share/demo/data\n/usr/lib/sysusers.d/demo.conf\n/usr/lib/os-release\n" +
			"%attr(755,root,root) /usr/bin/demo-tool\n%doc /usr/share/doc/demo/README\n%lang(de) /usr/share/locale/de/demo.mo\n%lang(fr) /usr/share/locale/fr/demo.mo"}
	extra := rpmtest.Spec{Name: "extra", Install: "mkdir -p %{buildroot}/usr/share; echo x > %{buildroot}/usr/share/extra", Files: "/usr/share/extra"}
	altfiles := rpmtest.Spec{Name: "nss-altfiles", Install: "mkdir -p %{buildroot}/usr/lib64; echo x > %{buildroot}/usr/lib64/libnss_altfiles.so.2", Files: "/usr/lib64/libnss_altfiles.so.2"}
	for _, s := range []rpmtest.Spec{rpmtest.HostPrograms(t), demo, extra, altfiles} {
		file := rpmtest.BuildFile(t, s)
		testutil.Must(t, os.Rename(file, filepath.Join(rpms, filepath.Base(file))))
	}
	info := filepath.Join(b.dir, "updateinfo.xml")
	testutil.Must(t, os.WriteFile(info, []byte(updateinfo), 0o644))
	comps := filepath.Join(b.dir, "comps.xml")
	testutil.Must(t, os.WriteFile(comps, []byte("<comps><group><id>more</id><name>More</name><packagelist><packagereq type='mandatory'>extra</packagereq></packagelist></group></comps>"), 0o644))
	for _, argv := range [][]string{{"createrepo_c", "-g", comps, rpms}, {"modifyrepo_c", info, rpms + "/repodata"}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	b.yum = rpmmd.Repo{ID: "main", Name: "main", BaseURLs: []string{rpms}, Enabled: true, Priority: 99, Cost: 1000}
	var err error
	b.repo, err = ostree.Create(rpmtest.Dir(t, b.dir, "repo"), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	t.Cleanup(func() { b.repo.Close() })
	b.src = Sources{Repos: []rpmmd.Repo{b.yum}, Cache: rpmtest.Dir(t, b.dir, "cache")}
	return b
}

// compose makes a tree of both packages with more keys; files stand beside the
// treefile.
func (b *bench) compose(ref, keys string, files map[string]string) (Result, error) {
	b.t.Helper()
	dir := b.t.TempDir()
	text := "ref = '" + ref + "'\nrepos = ['main']\npackages = ['base', 'demo']\ncontainer = true\nselinux = false\n" + keys
	testutil.Must(b.t, os.WriteFile(filepath.Join(dir, "t.toml"), []byte(text), 0o644))
	for name, data := range files {
		testutil.Must(b.t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644))
	}
	m, err := treefile.Load(os.DirFS(dir), "t.toml", treefile.Options{Basearch: "x86_64"})
	testutil.Must(b.t, err)
	plan, err := Resolve(b.t.Context(), m, b.src)
	if err != nil {
		return Result{}, err
	}
	env := b.env
	env.Sources, env.Repo, env.TreefileDir = b.src, b.repo, dir
	return Execute(b.t.Context(), plan, env)
}

func (b *bench) mustCompose(ref, keys string, files map[string]string) Result {
	b.t.Helper()
	res, err := b.compose(ref, keys, files)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// file reads a file of a commit.
func (b *bench) file(c ostree.Checksum, name string) string {
	b.t.Helper()
	n, err := b.repo.Lookup(c, name)
	if err != nil {
		b.t.Fatal(err)
	}
	_, _, r, err := b.repo.OpenFile(n.File)
	testutil.Must(b.t, err)
	defer r.Close()
	data, err := io.ReadAll(r)
	testutil.Must(b.t, err)
	return string(data)
}

// overlay commits files under a ref, to be used as a layer.
func (b *bench) overlay(ref string, files map[string]string) {
	b.t.Helper()
	dir := b.t.TempDir()
	for name, data := range files {
		testutil.Must(b.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		testutil.Must(b.t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644))
	}
	commitFolder(b.t, b.repo, dir, ref)
}

// commitFolder commits a folder as it is.
func commitFolder(t *testing.T, r *ostree.Repo, dir, ref string) (c ostree.Checksum) {
	t.Helper()
	root := testutil.OpenDir(t, dir)
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := txn.WriteDir(ctx, root, m, ostree.CommitOptions{}); err != nil {
			return err
		}
		var obj ostree.Commit
		var err error
		if obj.RootTree, obj.RootMeta, err = txn.WriteTree(ctx, m); err != nil {
			return err
		}
		if c, err = txn.WriteCommit(ctx, obj); err != nil {
			return err
		}
		return txn.SetRef(ref, c)
	})
	testutil.Must(t, err)
	return c
}

// The keys of a treefile, each in a small tree that is composed and looked at.
func TestTreefileKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, test := range map[string]func(*testing.T, *bench){
		"layers": testLayers, "accounts": testAccountKeys, "metadata": testMetadataKeys, "os-release": testOSReleaseAndTreefileInTheTree,
		"content": testContentKeys, "packages": testPackageKeys, "image": testContainerImage, "extensions": testExtensions,
		"composefs": testComposefs, "ahead": testAhead, "modes": testModes, "sizes": testSizes,
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they share the cache
			own := *b
			own.t = t
			test(t, &own)
		})
	}
}

func testLayers(t *testing.T, b *bench) {
	b.overlay("layer/add", map[string]string{"etc/layer.conf": "layer\n", "usr/share/demo/same": "same\n", "usr/share/layer/x": "x\n", "usr/etc/other.conf": "other\n"})
	b.overlay("layer/clash", map[string]string{"etc/demo.conf": "layer\n"})
	keys := "ostree-layers = ['layer/add']\npostprocess = ['''#!/bin/sh\ncat /usr/share/layer/x > /usr/share/seen\n''']\n"
	res := b.mustCompose("layered/a", keys, nil)
	for name, want := range map[string]string{"/usr/etc/layer.conf": "layer\n", "/usr/etc/other.conf": "other\n", "/usr/share/seen": "x\n", "/usr/etc/demo.conf": "package\n"} {
		if got := b.file(res.Commit, name); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
	if _, err := b.compose("layered/a", keys, nil); !errors.Is(err, ErrUnchanged) {
		t.Errorf("the same again: %v", err)
	}
	b.overlay("layer/add", map[string]string{"usr/share/layer/x": "new\n"})
	if res := b.mustCompose("layered/a", keys, nil); b.file(res.Commit, "/usr/share/seen") != "new\n" {
		t.Error("a layer's new commit was not seen")
	}
	if _, err := b.compose("layered/b", "ostree-layers = ['layer/clash']\n", nil); err == nil || !strings.Contains(err.Error(), "add layer layer/clash (key `ostree-layers`)") {
		t.Errorf("conflict: %v", err)
	}
	if res := b.mustCompose("layered/b", "ostree-override-layers = ['layer/clash']\n", nil); b.file(res.Commit, "/usr/etc/demo.conf") != "layer\n" {
		t.Error("the override layer did not win")
	}
	if _, err := b.compose("layered/c", "\n\nostree-layers = ['layer/none']\n", nil); !errors.Is(err, ErrTreefile) || !strings.Contains(err.Error(), "t.toml:8: key `ostree-layers`") {
		t.Errorf("no such layer: %v", err)
	}
}

func testAccountKeys(t *testing.T, b *bench) {
	files := map[string]string{"passwd": "root:x:0:0:root:/root:/bin/sh\ndemod:x:600:600:Demo:/:/sbin/nologin\n", "group": "root:x:0:\ndemod:x:600:\nwheel:x:10:\n"}
	const both = "check-passwd = { type = 'file', filename = 'passwd' }\ncheck-groups = { type = 'file', filename = 'group' }\n"
	res := b.mustCompose("file", "preserve-passwd = true\n"+both, files)
	n, err := b.repo.Lookup(res.Commit, "/usr/share/demo/data")
	testutil.Must(t, err)
	h, _, r, err := b.repo.OpenFile(n.File)
	testutil.Must(t, err)
	r.Close()
	if h.UID != 600 || h.GID != 600 {
		t.Errorf("the file belongs to %d:%d, not to the ids of the treefile's list", h.UID, h.GID)
	}
	if p := b.file(res.Commit, "/usr/etc/shadow"); !strings.Contains(p, "demod:*:") {
		t.Errorf("shadow %q", p)
	}
	for keys, want := range map[string]string{
		"preserve-passwd = false\n" + both:                                                                 "user demod has uid 777, gid 777 instead of uid 600, gid 600 (t.toml:7: check-passwd)",
		"check-passwd = { type = 'data', entries = { demod = 5 } }\n":                                      "user demod has uid 777, gid 777 instead of uid 5, gid 5",
		"check-groups = { type = 'data', entries = { ghost = 777 } }\n":                                    "group ghost (gid 777) is gone, but /usr/share/demo/data belongs to it",
		"check-passwd = { type = 'data', entries = { demod = [777, 777] } }\n":                             "",
		"check-groups = { type = 'data', entries = { ghost = 777 } }\nignore-removed-groups = ['ghost']\n": "",
		"check-groups = { type = 'data', entries = { unused = 4444 } }\n":                                  "",
	} {
		_, err := b.compose("data", keys, files)
		if want == "" && err != nil || want != "" && (!errors.Is(err, assemble.ErrDrift) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", keys, err, want)
		}
	}
}

func testMetadataKeys(t *testing.T, b *bench) {
	keys := func(c ostree.Checksum) (inline, detached []string) {
		commit, err := b.repo.LoadCommit(c)
		testutil.Must(t, err)
		meta, err := b.repo.CommitMeta(c)
		if err != nil && !errors.Is(err, ostree.ErrNotFound) {
			t.Fatal(err)
		}
		pick := func(list []string) (out []string) {
			for _, k := range list {
				if k == keyRepos || k == keyAdvisories || k == keyContainerCmd || k == keyInitramfsArgs {
					out = append(out, k)
				}
			}
			return out
		}
		return pick(commit.Metadata.Keys()), pick(meta.Keys())
	}
	for _, c := range []struct {
		text             string
		inline, detached []string
	}{
		{"", []string{keyRepos, keyAdvisories}, nil},
		{"repo-metadata = 'detached'\nadvisories-metadata = 'detached'\ncontainer-cmd = ['/bin/sh', '-l']\ninitramfs-args = ['--add', 'x y']\n", []string{keyContainerCmd, keyInitramfsArgs}, []string{keyRepos, keyAdvisories}},
		{"repo-metadata = 'disabled'\nadvisories-metadata = 'disabled'\n", nil, nil},
	} {
		res := b.mustCompose("m", c.text, nil)
		inline, detached := keys(res.Commit)
		if diff := cmp.Diff([][]string{c.inline, c.detached}, [][]string{inline, detached}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
	commit, err := b.repo.LoadCommit(b.mustCompose("n", "add-commit-metadata = { a = [1, 'x'], m = { k = true, f = 1.5 } }\ninitramfs-args = ['--add', 'x y']\n", nil).Commit)
	testutil.Must(t, err)
	for key, want := range map[string]string{
		keyAdvisories:    "[('SEC-1', 1, 3, ['demo-1.0-1.noarch'], {'cve_references': <[('https://bugs/1', 'CVE-2024-1 demo')]>})]",
		keyInitramfsArgs: "['--add', 'x y']",
		"m":              "{'f': <1.5>, 'k': <true>}",
		"a":              "[<uint64 72057594037927936>, <'x'>]",
	} {
		v, _ := commit.Metadata.Get(key)
		if got := v.Text(gvariant.TextOptions{}); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

func testOSReleaseAndTreefileInTheTree(t *testing.T, b *bench) {
	res := b.mustCompose("r", "automatic-version-prefix = '7.<date:%Y>'\nmutate-os-release = '7'\n", nil)
	version := fmt.Sprintf("7.%d.0", res.Timestamp.UTC().Year())
	if res.Version != version {
		t.Errorf("version %s", res.Version)
	}
	if got := b.file(res.Commit, "/usr/lib/os-release"); got != "NAME=D\nVERSION=\""+version+" and "+version+"\"\nOSTREE_VERSION='"+version+"'\n" {
		t.Errorf("os-release %q", got)
	}
	m, err := treefile.Parse("treefile.json", []byte(b.file(res.Commit, "/usr/share/rpm-ostree/treefile.json")))
	testutil.Must(t, err)
	if e := m.Entries(); len(e) == 0 || e[0].Key != "ref" || e[0].Value != "r" {
		t.Errorf("treefile in the tree: %v", e)
	}
	if b.file(res.Commit, "/usr/lib/sysimage/rpm-ostree-base-db/rpmdb.sqlite") != b.file(res.Commit, "/usr/share/rpm/rpmdb.sqlite") {
		t.Error("the base database differs")
	}
}

// has tells whether a commit has a path.
func (b *bench) has(c ostree.Checksum, name string) bool {
	b.t.Helper()
	_, err := b.repo.Lookup(c, name)
	if err != nil && !errors.Is(err, ostree.ErrNotFound) {
		b.t.Fatal(err)
	}
	return err == nil
}

func (b *bench) mode(c ostree.Checksum, name string) uint32 {
	b.t.Helper()
	n, err := b.repo.Lookup(c, name)
	testutil.Must(b.t, err)
	h, _, r, err := b.repo.OpenFile(n.File)
	testutil.Must(b.t, err)
	r.Close()
	return h.Mode & 0o7777
}

func testContentKeys(t *testing.T, b *bench) {
	plain := b.mustCompose("plain", "tmp-is-dir = false\n", nil).Commit
	much := b.mustCompose("much", `
documentation = false
install-langs = ["de"]
recommends = false
machineid-compat = false
readonly-executables = true
bootstrap_packages = ["nss-altfiles"]
etc-group-members = ["helpers"]
remove-files = ["/etc/demo.conf", "usr/share/demo/same"]
remove-from-packages = [["demo", "/usr/share/demo/d.*"]]
add-files = [["motd", "/etc/motd"], ["tool", "/usr/bin/tool"]]
postprocess = ["#!/bin/sh\ncat /etc/motd > /usr/share/order", "#!/bin/sh\necho two >> /usr/share/order\n"]
postprocess-script = "last"
`, map[string]string{"motd": "hello\n", "tool": "#!/bin/sh\n", "last": "#!/bin/sh\necho last >> /usr/share/order\n"}).Commit
	for name, want := range map[string][2]bool{ // in plain, in much
		"/usr/share/doc/demo/README": {true, false}, "/usr/share/locale/fr/demo.mo": {true, false}, "/usr/share/locale/de/demo.mo": {true, true},
		"/usr/share/extra": {true, false}, "/usr/etc/machine-id": {true, false}, "/usr/etc/demo.conf": {true, false},
		"/usr/share/demo/same": {true, false}, "/usr/share/demo/data": {true, false}, "/usr/etc/motd": {false, true}, "/usr/bin/tool": {false, true},
		"/usr/lib64/libnss_altfiles.so.2": {false, true}, "/usr/lib/passwd": {false, true},
	} {
		if got := [2]bool{b.has(plain, name), b.has(much, name)}; got != want {
			t.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
	if got := b.file(much, "/usr/share/order"); got != "hello\ntwo\nlast\n" {
		t.Errorf("order of scripts: %q", got)
	}
	if p, m := b.mode(plain, "/usr/bin/demo-tool"), b.mode(much, "/usr/bin/demo-tool"); p != 0o755 || m != 0o555 {
		t.Errorf("modes of an executable: %o, %o", p, m)
	}
	etc, lib := b.file(much, "/usr/etc/group"), b.file(much, "/usr/lib/group")
	if !strings.Contains(etc, "helpers:") || strings.Contains(etc, "demod:") || !strings.Contains(lib, "demod:") || strings.Contains(lib, "helpers:") {
		t.Errorf("groups in etc %q, in lib %q", etc, lib)
	}
	if n, err := b.repo.Lookup(plain, "/tmp"); err != nil || n.IsDir {
		t.Errorf("tmp-is-dir = false: %v", err)
	}
	if n, err := b.repo.Lookup(much, "/tmp"); err != nil || !n.IsDir {
		t.Errorf("tmp of a container: %v", err)
	}
}

func testPackageKeys(t *testing.T, b *bench) {
	for keys, want := range map[string]bool{
		"": true, "recommends = false\n": false, "recommends = false\ngroups = ['more']\n": true, "exclude-packages = ['extra']\n": false,
		"recommends = false\npackages-x86_64 = ['extra']\npackages-s390x = ['none']\n": true,
	} {
		if got := b.has(b.mustCompose("p", keys, nil).Commit, "/usr/share/extra"); got != want {
			t.Errorf("%q: package extra is there: %t", keys, got)
		}
	}
	if _, err := b.compose("p", "groups = ['none']\n", nil); !errors.Is(err, ErrTreefile) || !strings.Contains(err.Error(), `group "none"`) {
		t.Errorf("unknown group: %v", err)
	}
}
