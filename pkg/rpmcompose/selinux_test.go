// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// policyTree lays out a finished tree with a policy as Fedora has it.
func policyTree(t *testing.T, files map[string]string) (dir string, root *fsx.Dir) {
	t.Helper()
	dir = t.TempDir()
	testutil.Must(t, os.Chmod(dir, 0o755))
	const x = "usr/etc/selinux/x/"
	all := map[string]string{
		"usr/etc/selinux/config":        "SELINUX=enforcing\nSELINUXTYPE=x\n",
		"usr/etc/selinux/semanage.conf": "module-store = direct",
		x + "policy/policy.33":          "",
		x + "semanage.read.LOCK":        "",
		x + "contexts/files/file_contexts": "/.* u:o:default_t:s0\n/etc(/.*)? u:o:etc_t:s0\n/etc/rc\\.d/.* u:o:rc_t:s0\n/usr(/.*)? u:o:usr_t:s0\n/usr/bin/.* -- u:o:bin_t:s0\n" +
			"/opt(/.*)? u:o:opt_t:s0\n/proc <<none>>\n/mnt -d u:o:mnt_t:s0\n/usr/secret <<none>>\n",
		x + "contexts/files/file_contexts.homedirs":     "# c\n/home -l u:o:home_root_t:s0\n/home/[^/]+/.+ u:o:user_home_t:s0\n/homeless u:o:less_t:s0\n",
		x + "contexts/files/file_contexts.homedirs.bin": "compiled",
		x + "contexts/files/file_contexts.subs_dist":    "# c\n/etc/init.d /etc/rc.d/init.d\n/var/home /home\n",
		"usr/etc/init.d/net":                            "net",
		"usr/etc/conf":                                  "conf",
		"usr/bin/tool":                                  "tool",
		"usr/lib/opt/app/bin":                           "app",
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		if text == "absent" {
			continue
		}
		path := filepath.Join(dir, name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		testutil.Must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	testutil.Must(t, os.Mkdir(filepath.Join(dir, "proc"), 0o755))
	testutil.Must(t, os.Symlink("var/home", filepath.Join(dir, "home")))
	root, err := fsx.OpenDir(dir)
	testutil.Must(t, err)
	t.Cleanup(func() { testutil.Must(t, root.Close()) })
	return dir, root
}

func selinuxRun(version int, on bool) *run {
	return &run{plan: &Plan{Ref: "x/y", manifest: &treefile.Manifest{SELinux: on, SELinuxLabelVersion: version}}}
}

// commitTree does what Execute does with a finished tree.
func commitTree(t *testing.T, r *run, root *fsx.Dir) (*ostree.Repo, ostree.Checksum, error) {
	t.Helper()
	d, err := fsx.OpenDir(t.TempDir())
	testutil.Must(t, err)
	repo, err := ostree.Create(d, ostree.ModeArchive, ostree.Options{})
	testutil.Must(t, err)
	t.Cleanup(func() { testutil.Must(t, repo.Close()) })
	c := composed{root: root}
	if c.label, err = r.labels(root); err != nil {
		return repo, ostree.Checksum{}, err
	}
	r.env.Repo, r.removeWork = repo, func() error { return nil }
	_, err = repo.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error { return r.store(ctx, txn, c) })
	return repo, r.res.Commit, err
}

// committedLabels reads back what was stored.
func committedLabels(t *testing.T, repo *ostree.Repo, commit ostree.Checksum) map[string]string {
	t.Helper()
	out := map[string]string{}
	top, err := repo.Lookup(commit, "/")
	testutil.Must(t, err)
	testutil.Must(t, repo.WalkFrom(t.Context(), top, func(n ostree.Node) error {
		info, err := repo.Info(n)
		out[n.Path] = "none"
		for _, x := range info.Xattrs {
			if x.Name == "security.selinux" {
				out[n.Path] = strings.TrimSuffix(string(x.Value), "\x00")
			}
		}
		return err
	}))
	return out
}

func TestTreeIsLabelled(t *testing.T) {
	t.Parallel()
	for _, version := range []int{0, 1} {
		dir, root := policyTree(t, nil)
		testutil.Must(t, storeInEtc(root))
		repo, commit, err := commitTree(t, selinuxRun(version, true), root)
		testutil.Must(t, err)
		got := committedLabels(t, repo, commit)
		for path, want := range map[string]string{
			"/": "u:o:default_t:s0", "/usr": "u:o:usr_t:s0", "/usr/etc": "u:o:etc_t:s0", "/usr/etc/conf": "u:o:etc_t:s0", "/usr/etc/init.d/net": "u:o:rc_t:s0",
			"/usr/bin": "u:o:usr_t:s0", "/usr/bin/tool": "u:o:bin_t:s0", "/usr/lib/opt/app/bin": "u:o:opt_t:s0", "/home": "u:o:home_root_t:s0", "/proc": "u:o:mnt_t:s0",
			"/usr/etc/selinux/x/contexts/files/file_contexts.subs_dist": "u:o:etc_t:s0", "/usr/etc/selinux/x/semanage.read.LOCK": "", "/usr/lib/tmpfiles.d/hostctl-0-selinux.conf": "u:o:usr_t:s0",
			"/usr/etc/selinux/x/contexts/files/file_contexts.homedirs.bin": "",
		} {
			if got[path] != want {
				t.Errorf("version %d: %s: %q, want %q", version, path, got[path], want)
			}
		}
		sameAsLibostree(t, dir, repo, commit)
	}
}

// sameAsLibostree commits the directory with the real program, which reads the
// policy as it is now.
func sameAsLibostree(t *testing.T, dir string, repo *ostree.Repo, commit ostree.Checksum) {
	t.Helper()
	if os.Geteuid() != 0 {
		return // the owners would differ
	}
	program := testutil.Tool(t, "ostree")
	other := filepath.Join(t.TempDir(), "r")
	testutil.Run(t, program, "--repo="+other, "init", "--mode=archive")
	testutil.Run(t, program, "--repo="+other, "commit", "-b", "m", "--selinux-policy="+dir, dir)
	d, err := fsx.OpenDir(other)
	testutil.Must(t, err)
	theirs, err := ostree.Open(d, ostree.Options{})
	testutil.Must(t, err)
	defer theirs.Close()
	sum, err := theirs.Resolve("m")
	testutil.Must(t, err)
	want, err := theirs.LoadCommit(sum)
	testutil.Must(t, err)
	got, err := repo.LoadCommit(commit)
	testutil.Must(t, err)
	if want.RootTree != got.RootTree || want.RootMeta != got.RootMeta {
		t.Errorf("tree %s %s, libostree makes %s %s", got.RootTree, got.RootMeta, want.RootTree, want.RootMeta)
	}
}

func TestPolicyRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no policy":       {map[string]string{"usr/etc/selinux/config": "absent"}, "write selinux = false"},
		"not in use":      {map[string]string{"usr/etc/selinux/config": "SELINUX=disabled\n"}, "write selinux = false"},
		"no label":        {map[string]string{"usr/secret": ""}, "/usr/secret"},
		"broken contexts": {map[string]string{"usr/etc/selinux/x/contexts/files/file_contexts.local": "/a(?=b) l\n"}, "file_contexts.local:1"},
		"no binary":       {map[string]string{"usr/etc/selinux/x/policy/policy.33": "absent"}, "no binary policy"},
	} {
		_, root := policyTree(t, c.files)
		_, _, err := commitTree(t, selinuxRun(0, true), root)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "no ") && name != "no binary" && !errors.Is(err, ErrTreefile) {
			t.Errorf("%s: %v is no ErrTreefile", name, err)
		}
		repo, commit, err := commitTree(t, selinuxRun(0, false), root)
		testutil.Must(t, err)
		for path, label := range committedLabels(t, repo, commit) {
			if label != "none" {
				t.Errorf("%s: selinux = false, but %s has %s", name, path, label)
			}
		}
	}
}

func TestPolicyTexts(t *testing.T) {
	t.Parallel()
	_, root := policyTree(t, map[string]string{"usr/etc/selinux/x/active/modules/100/x/cil": "cil"})
	for range 2 { // the second time changes nothing
		testutil.Must(t, storeInEtc(root))
		_, err := adaptedPolicy(root)
		testutil.Must(t, err)
	}
	for name, want := range map[string]string{
		"usr/etc/selinux/semanage.conf":                            "module-store = direct\nstore-root=/etc/selinux\n",
		"usr/etc/selinux/x/contexts/files/file_contexts.subs_dist": "# c\n/etc/init.d /etc/rc.d/init.d\n# /var/home /home\n/home /var/home\n/usr/etc /etc\n/usr/lib/opt /opt\n/usr/etc/init.d /etc/rc.d/init.d\n",
		"usr/etc/selinux/x/contexts/files/file_contexts.homedirs":  "# c\n/var/home -l u:o:home_root_t:s0\n/var/home/[^/]+/.+ u:o:user_home_t:s0\n/homeless u:o:less_t:s0\n",
		"usr/lib/tmpfiles.d/hostctl-0-selinux.conf":                "L /var/lib/selinux - - - - ../../etc/selinux\n",
	} {
		got, err := root.ReadFile(name, 1<<20)
		testutil.Must(t, err)
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestComposeLabels composes a package that brings a policy, with its modules in
// /var/lib/selinux and a scriptlet that adds to it.
func TestComposeLabels(t *testing.T) {
	t.Parallel()
	rpmtest.Needs(t, "createrepo_c", "bwrap")
	repo := t.TempDir()
	base := rpmtest.HostPrograms(t)
	base.Tags += "\nProvides: /bin/sh\n"
	for _, s := range []rpmtest.Spec{base, {
		Name: "policy", Tags: "Requires: base",
		Install: `d=%{buildroot}/etc/selinux; mkdir -p $d/x/contexts/files $d/x/policy %{buildroot}/var/lib/selinux/x/active/modules/100/m %{buildroot}/usr/share/doc/p
printf 'SELINUX=enforcing\nSELINUXTYPE=x\n' > $d/config; echo '# c' > $d/semanage.conf; : > $d/x/policy/policy.33; echo cil > %{buildroot}/var/lib/selinux/x/active/modules/100/m/cil
printf '/.* u:o:default_t:s0\n/usr/.* u:o:usr_t:s0\n/usr/bin/.* -- u:o:bin_t:s0\n/etc(/.*)? u:o:etc_t:s0\n' > $d/x/contexts/files/file_contexts
echo doc > %{buildroot}/usr/share/doc/p/doc`,
		Files: "/etc/selinux\n/var/lib/selinux/x\n/usr/share/doc/p",
		Extra: "%post\necho '/usr/share/doc(/.*)? u:o:doc_t:s0' > /etc/selinux/x/contexts/files/file_contexts.local\ncat /etc/selinux/semanage.conf > /usr/share/doc/p/seen",
	}} {
		file := rpmtest.BuildFile(t, s)
		testutil.Must(t, os.Rename(file, filepath.Join(repo, filepath.Base(file))))
	}
	testutil.Run(t, testutil.Tool(t, "createrepo_c"), "-q", repo)
	m, err := treefile.Load(fstest.MapFS{"t.toml": {Data: []byte("ref = 'r'\nrepos = ['x']\npackages = ['policy']\ncontainer = true\nselinux = true\n")}}, "t.toml", treefile.Options{Basearch: "x86_64"})
	testutil.Must(t, err)
	src := Sources{Cache: testutil.OpenDir(t, t.TempDir()), Repos: []rpmmd.Repo{{ID: "x", BaseURLs: []string{repo}, Enabled: true, Priority: 99, Cost: 1000}}}
	plan, err := Resolve(t.Context(), m, src)
	testutil.Must(t, err)
	target, err := ostree.Create(testutil.OpenDir(t, t.TempDir()), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	defer target.Close()
	res, err := Execute(t.Context(), plan, Env{Sources: src, Repo: target})
	testutil.Must(t, err)
	got := committedLabels(t, target, res.Commit)
	for path, want := range map[string]string{
		"/usr/bin/sh": "u:o:bin_t:s0", "/usr/etc/selinux/config": "u:o:etc_t:s0", "/usr/share/doc/p/doc": "u:o:doc_t:s0", "/usr/share": "u:o:usr_t:s0",
		"/usr/etc/selinux/x/active/modules/100/m/cil": "u:o:etc_t:s0", "/var": "u:o:default_t:s0", "/home": "u:o:default_t:s0",
	} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
	_, seen, err := target.OpenPath(res.Commit, "/usr/share/doc/p/seen")
	testutil.Must(t, err)
	defer seen.Close()
	text, err := io.ReadAll(seen)
	testutil.Must(t, err)
	if !strings.Contains(string(text), "\nstore-root=/etc/selinux\n") {
		t.Errorf("the scriptlet saw %q", text)
	}
	if _, err := Execute(t.Context(), plan, Env{Sources: src, Repo: target}); !errors.Is(err, ErrUnchanged) {
		t.Errorf("again: %v", err)
	}
}
