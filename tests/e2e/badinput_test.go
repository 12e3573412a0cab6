// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/tests/lab"
)

// refused runs a program that must end with the exit status and with one error
// line, the last one, that names the thing.
func refused(t *testing.T, status int, names []string, argv ...string) {
	t.Helper()
	got, line := fails(t, argv...)
	if got != status {
		t.Errorf("exit status %d, want %d: %s", got, status, line)
	}
	if !strings.HasPrefix(line, "error: ") {
		t.Errorf("the last line is not the error: %s", line)
	}
	for _, n := range names {
		if !strings.Contains(line, n) {
			t.Errorf("the error does not name %q: %s", n, line)
		}
	}
}

// listing describes what lies below dir, except for temporary files and locks.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "tmp" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() && d.Name() != ".lock" {
			out = append(out, fmt.Sprintf("%s %d %v", p, info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unchanged fails if what before() and after say differs.
func unchanged[T any](t *testing.T, what string, before, after T) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s changed (-before +after):\n%s", what, diff)
	}
}

// replace gives a file new content under its name; other hard links keep the old.
func replace(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	write(t, name, string(data))
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// flipped is data with one bit changed in the middle.
func flipped(data []byte) []byte {
	out := bytes.Clone(data)
	out[len(out)/2] ^= 0x10
	return out
}

// one is the only file that matches.
func one(t *testing.T, pattern string) string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s matches %v (%v), want one file", pattern, list, err)
	}
	return list[0]
}

// tmpfs mounts a small filesystem in memory.
func tmpfs(t *testing.T, dir, size string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "tmpfs", dir)
	t.Cleanup(func() {
		// The test's context has ended by now.
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v\n%s", dir, err, out)
		}
	})
	return dir
}

func resize(t *testing.T, dir, size string) {
	t.Helper()
	tool(t, "mount", "-o", "remount,size="+size, dir)
}

// closedAddr is an address of this machine where nobody listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// composition is a copy of the first package repository, a treefile that uses it
// and a target repository with one commit.
type composition struct {
	t                           *testing.T
	l                           *lab.Lab
	packages, tree, cache, repo string
	treefile, definition        string
}

const badTreefile = `ref = "bad/x86_64"
repos = ["testdistro"]
recommends = false
selinux = false
packages = ["bash"]
`

func newComposition(t *testing.T, l *lab.Lab, dir string) *composition {
	c := &composition{t: t, l: l, packages: filepath.Join(dir, "packages"), tree: filepath.Join(dir, "tree"),
		cache: filepath.Join(dir, "cache"), repo: filepath.Join(dir, "repo")}
	c.treefile, c.definition = filepath.Join(c.tree, "bad.toml"), filepath.Join(c.tree, "testdistro.repo")
	tool(t, "ostree", "--repo="+c.repo, "init", "--mode=archive")
	c.reset()
	tool(t, "ostree", "--repo="+c.repo, "commit", "--branch=bad/x86_64", "--tree=dir="+c.tree)
	return c
}

// reset makes everything but the target good again.
func (c *composition) reset() {
	c.t.Helper()
	if err := os.RemoveAll(c.packages); err != nil {
		c.t.Fatal(err)
	}
	tool(c.t, "cp", "-al", filepath.Join(c.l.Distro, lab.States[0]), c.packages)
	write(c.t, c.treefile, badTreefile)
	c.define("file://"+c.packages, true, filepath.Join(c.l.Distro, "RPM-GPG-KEY-testdistro"))
}

func (c *composition) define(url string, signed bool, key string) {
	check := map[bool]int{true: 1}[signed]
	write(c.t, c.definition, fmt.Sprintf("[testdistro]\nname=TestDistro\nbaseurl=%s\ngpgcheck=1\nrepo_gpgcheck=%d\ngpgkey=file://%s\n", url, check, key))
}

// unsigned asks for no signature of the metadata, and for that of packages by key.
func (c *composition) unsigned(key string) { c.define("file://"+c.packages, false, key) }

func (c *composition) repomd() string { return filepath.Join(c.packages, "repodata/repomd.xml") }
func (c *composition) key() string    { return filepath.Join(c.l.Distro, "RPM-GPG-KEY-testdistro") }
func (c *composition) bash() string {
	return one(c.t, filepath.Join(c.packages, "Packages/bash-5*.rpm"))
}

// describe makes new metadata, as a mirror would that does not look closely.
func (c *composition) describe() {
	c.t.Helper()
	if err := os.RemoveAll(filepath.Join(c.packages, "repodata")); err != nil {
		c.t.Fatal(err)
	}
	tool(c.t, "createrepo_c", "--quiet", "--general-compress-type", "gz", c.packages)
	c.unsigned(c.key())
}

func (c *composition) argv() []string {
	return []string{c.l.ComposeServer(), "tree", c.treefile, "--repo", c.repo, "--cachedir", c.cache}
}

// otherKey makes a signing key that nobody trusts and exports it.
func otherKey(t *testing.T, dir string) (gpg func(args ...string), file string) {
	t.Helper()
	home := filepath.Join(dir, "gpg")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	gpg = func(args ...string) {
		t.Helper()
		tool(t, append([]string{"gpg", "--homedir", home, "--batch", "--yes", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"}, args...)...)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run() })
	gpg("--quick-generate-key", "Somebody else <else@example.test>", "rsa2048", "sign", "never")
	file = filepath.Join(dir, "OTHER-KEY")
	gpg("--armor", "--output", file, "--export")
	return gpg, file
}

// TestBadInputCompose: spoiled packages, metadata, signatures and treefiles are
// refused before the target repository changes.
func TestBadInputCompose(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	c := newComposition(t, l, dir)
	gpg, other := otherKey(t, dir)
	closed := closedAddr(t)
	sign := func() { gpg("--armor", "--output", c.repomd()+".asc", "--detach-sign", c.repomd()) }

	for _, tt := range []struct {
		name  string
		spoil func()
		names []string
	}{
		{"truncated package", func() { replace(t, c.bash(), read(t, c.bash())[:1_000_000]) },
			[]string{"bash-5", ".rpm", "1000000 bytes"}},
		{"package truncated before it was listed", func() { b := read(t, c.bash()); replace(t, c.bash(), b[:len(b)-5000]); c.describe() },
			[]string{"bash-5", ".rpm", "5000 bytes are missing"}},
		{"package damaged before it was listed", func() { replace(t, c.bash(), flipped(read(t, c.bash()))); c.describe() },
			[]string{"bash-5", ".rpm", "digest"}},
		{"package absent", func() { os.Remove(c.bash()) }, []string{"bash-5", ".rpm: not found"}},
		{"package without signature", func() {
			b := read(t, c.bash())
			replace(t, c.bash(), b)
			tool(t, "rpmsign", "--delsign", c.bash())
			c.describe()
		},
			[]string{"bash-5", ".rpm", "not signed"}},
		{"packages signed by another key", func() { c.unsigned(other) }, []string{".rpm", "key is not in the keyring"}},
		{"key file absent", func() { c.unsigned(other + "-not") }, []string{"repository testdistro", other + "-not: not found"}},
		{"metadata signed by another key", func() { replace(t, c.repomd()+".asc", nil); sign() },
			[]string{"testdistro", c.repomd(), "not trusted", "key is not in the keyring"}},
		{"signature absent", func() { os.Remove(c.repomd() + ".asc") }, []string{"testdistro", c.repomd() + ".asc", "not trusted", "not found"}},
		{"signature unreadable", func() { replace(t, c.repomd()+".asc", []byte("hello")) }, []string{c.repomd(), "not trusted"}},
		{"metadata modified", func() {
			replace(t, c.repomd(), bytes.Replace(read(t, c.repomd()), []byte("<revision>"), []byte("<revision>1"), 1))
		},
			[]string{c.repomd(), "not trusted", "signature does not match"}},
		{"metadata unreadable", func() { replace(t, c.repomd(), []byte("hello")); c.unsigned(c.key()) }, []string{c.repomd(), "malformed"}},
		{"package list damaged", func() {
			f := one(t, filepath.Join(c.packages, "repodata/*-primary.xml.gz"))
			replace(t, f, flipped(read(t, f)))
		},
			[]string{"testdistro", "primary.xml.gz", "checksum mismatch"}},
		{"server unreachable", func() { c.define("http://"+closed+"/repo", true, c.key()) },
			[]string{"testdistro", "http://" + closed + "/repo/repodata/repomd.xml: ", "connection refused"}},
		{"folder absent", func() { c.define("file:///not/there", true, c.key()) }, []string{"testdistro", "/not/there/repodata/repomd.xml", "not found"}},
		{"unknown key", func() { write(t, c.treefile, badTreefile+"pakages = []\n") }, []string{"bad.toml:6", "pakages", `did you mean "packages"`}},
		{"treefile with a syntax error", func() { write(t, c.treefile, "ref = \"x\"\nrepos = [\n") }, []string{"bad.toml:"}},
		{"treefile absent", func() { os.Remove(c.treefile) }, []string{"bad.toml", "no such file"}},
		{"package unknown", func() { write(t, c.treefile, strings.Replace(badTreefile, `"bash"`, `"bash", "nosuch"`, 1)) },
			[]string{"nosuch was requested", "no package has that name"}},
		{"package not installable", func() { write(t, c.treefile, badTreefile+`exclude-packages = ["libc6"]`) }, []string{"bash", "libc6", "exclude"}},
		{"repository unknown", func() { write(t, c.treefile, strings.Replace(badTreefile, `"testdistro"`, `"nosuchrepo"`, 1)) },
			[]string{`"nosuchrepo"`, "bad.toml"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			c.reset()
			tt.spoil()
			before := listing(t, c.repo)
			refused(t, 1, tt.names, c.argv()...)
			unchanged(t, "the target repository", before, listing(t, c.repo))
			if left, _ := filepath.Glob(filepath.Join(c.cache, "work-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	c.t = t
	c.reset()
	tool(t, append(c.argv(), "--dry-run")...) // the reset repository is good: the refusals had their reasons
	tool(t, "ostree", "--repo="+c.repo, "fsck", "--quiet")
}

// kernelSpec is a package that makes a composed tree bootable in a second: its
// kernel is noise, which does not compress, and its dracut writes a line.
const kernelSpec = `Name: tiny-kernel
Version: 1
Release: 1
Summary: A kernel that does not boot
License: none
BuildArch: noarch
AutoReqProv: no
%description
%{summary}.
%install
cd %{buildroot}
mkdir -p usr/lib/modules/1.0 usr/bin usr/sbin usr/lib/dracut/modules.d/50hostctl
head -c 20000000 /dev/urandom > usr/lib/modules/1.0/vmlinuz
printf '#!/bin/sh\nfor out; do :; done\necho image > "$out"\n' > usr/bin/dracut
printf '#!/bin/sh\n' > usr/sbin/depmod
%files
%attr(755,root,root) /usr/bin/dracut
%attr(755,root,root) /usr/sbin/depmod
/usr/lib/modules/1.0
/usr/lib/dracut
`

// TestBadInputComposeFullDisk: neither a full cache nor a full target leaves a
// commit or a ref.
func TestBadInputComposeFullDisk(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	c := newComposition(t, l, dir)

	cache := c.cache
	c.cache = filepath.Join(tmpfs(t, filepath.Join(dir, "small"), "4m"), "cache")
	before := listing(t, c.repo)
	refused(t, 4, []string{"import ", "no space in " + c.cache}, c.argv()...)
	unchanged(t, "the target repository", before, listing(t, c.repo))
	c.cache = cache

	extra, spec := filepath.Join(dir, "extra"), filepath.Join(dir, "tiny-kernel.spec")
	write(t, spec, kernelSpec)
	tool(t, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+extra, "--define", "_binary_payload w1.gzdio", "--define", "__os_install_post %{nil}", spec)
	tool(t, "createrepo_c", "--quiet", "--general-compress-type", "gz", extra)
	write(t, filepath.Join(c.tree, "extra.repo"), "[extra]\nbaseurl=file://"+extra+"\ngpgcheck=0\n")
	write(t, c.treefile, `ref = "bad/x86_64"
repos = ["testdistro", "extra"]
recommends = false
selinux = false
boot-location = "modules"
packages = ["bash", "coreutils", "filesystem", "testdistro-release", "tiny-kernel"]
`)
	disk := tmpfs(t, filepath.Join(dir, "disk"), "10m")
	tool(t, "cp", "-a", c.repo, disk)
	c.repo = filepath.Join(disk, "repo")
	before = listing(t, c.repo)
	refused(t, 4, []string{"commit bad/x86_64", "no space in " + c.repo}, c.argv()...)
	unchanged(t, "the target repository", before, listing(t, c.repo))
	tool(t, "ostree", "--repo="+c.repo, "fsck", "--quiet")

	resize(t, disk, "200m")
	tool(t, c.argv()...)
	tool(t, "ostree", "--repo="+c.repo, "fsck", "--quiet")
	tool(t, "ostree", "--repo="+c.repo, "rev-parse", "bad/x86_64^")
}
