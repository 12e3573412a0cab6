// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// program is ostree, by libostree or by us.
type ostreeProgram struct{ name, path string }

func (p ostreeProgram) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(p.path, argv...)
	cmd.Env = append(os.Environ(), "OSTREE_DUMMY_SIGN_ENABLED=1", "OSTREE_SKIP_CACHE=1")
	return cmd
}

// run runs the program, which must succeed.
func (p ostreeProgram) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := p.command(argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", p.name, strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// fails runs the program, which must refuse.
func (p ostreeProgram) fails(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := p.command(argv...).CombinedOutput(); err == nil {
		t.Errorf("%s %s succeeded\n%s", p.name, strings.Join(argv, " "), out)
	}
}

// matrix is what every cell starts from.
type matrix struct {
	libostree, ours  ostreeProgram
	v1, v2           string // trees
	gpgHome, gpgKeys string
	gpgID            string
}

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	testutil.Root(t, "needs root: owners and attributes")
	m := &matrix{libostree: ostreeProgram{"libostree", testutil.Tool(t, "ostree")}}
	dir := t.TempDir()
	m.ours = buildOurs(t)
	m.v1, m.v2 = filepath.Join(dir, "v1"), filepath.Join(dir, "v2")
	matrixTree(t, m.v1, 1)
	matrixTree(t, m.v2, 2)
	m.newGPGKey(t)
	return m
}

// buildOurs builds hostctl under the name ostree.
func buildOurs(t *testing.T) ostreeProgram {
	t.Helper()
	ours := ostreeProgram{"ours", filepath.Join(t.TempDir(), "ostree")}
	cmd := exec.Command("go", "build", "-o", ours.path, "./cmd/hostctl")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build hostctl: %v\n%s", err, out)
	}
	return ours
}

// matrixTree has what a delta treats in different ways: a file that changes a
// little, one that is new, one that goes, one too big to be packed; and attributes,
// owners, modes and links.
func matrixTree(t *testing.T, root string, version byte) {
	t.Helper()
	random := func(seed byte, n int) []byte {
		out := make([]byte, n)
		_, err := rand.NewChaCha8([32]byte{seed}).Read(out)
		testutil.Must(t, err)
		return out
	}
	changed := random(7, 60_000)
	for i := 0; i < len(changed); i += 20_000 {
		changed[i] = version
	}
	for name, data := range map[string][]byte{
		"usr/bin/changed": changed, "usr/lib/same": random(8, 10_000), "usr/share/empty": nil,
		fmt.Sprintf("usr/share/only-%d", version): random(version, 8_000),
	} {
		p := filepath.Join(root, name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		testutil.Must(t, os.WriteFile(p, data, 0o644))
	}
	if version == 2 {
		testutil.Must(t, os.WriteFile(filepath.Join(root, "usr/lib/big"), random(9, 1_100_000), 0o644))
	}
	testutil.Must(t, os.Symlink("bin/changed", filepath.Join(root, "usr/link")))
	testutil.Must(t, os.Chmod(filepath.Join(root, "usr/bin/changed"), 0o755))
	testutil.Must(t, os.Chown(filepath.Join(root, "usr/lib/same"), 10, 20))
	testutil.Run(t, testutil.Tool(t, "setfattr"), "-n", "user.note", "-v", "kept", filepath.Join(root, "usr/lib/same"))
}

func (m *matrix) newGPGKey(t *testing.T) {
	t.Helper()
	gpg := testutil.Tool(t, "gpg")
	home, err := os.MkdirTemp("", "g") // sockets have short names
	testutil.Must(t, err)
	t.Cleanup(func() {
		testutil.Run(t, "gpgconf", "--homedir", home, "--kill", "all")
		_ = os.RemoveAll(home)
	})
	m.gpgHome, m.gpgKeys = home, filepath.Join(home, "public")
	argv := []string{gpg, "--homedir", home, "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase="}
	testutil.Run(t, append(argv, "--quick-gen-key", "matrix@example.com", "rsa2048", "sign", "never")...)
	testutil.Run(t, append(argv, "--output", m.gpgKeys, "--export")...)
	for line := range strings.Lines(testutil.Run(t, append(argv, "--with-colons", "--list-keys")...)) {
		if f := strings.Split(line, ":"); f[0] == "pub" {
			m.gpgID = f[4]
		}
	}
}

// commit makes a repository of a mode with both versions on the ref main.
func (m *matrix) commit(t *testing.T, p ostreeProgram, repo, mode string, versions ...string) (last string) {
	t.Helper()
	p.run(t, "init", "--repo="+repo, "--mode="+mode)
	for i, tree := range versions {
		argv := []string{"commit", "--repo=" + repo, "-b", "main", "-s", "s", fmt.Sprintf("--timestamp=@%d", 1_700_000_000+i), "--tree=dir=" + tree}
		if mode == "bare-user-only" {
			argv = append(argv, "--canonical-permissions")
		}
		last = p.run(t, argv...)
	}
	return last
}

// listing is a checkout of the commit as find sees it, and its content.
func (m *matrix) listing(t *testing.T, p ostreeProgram, repo, rev string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "out")
	p.run(t, "checkout", "--repo="+repo, "-U", rev, to)
	meta := p.run(t, "ls", "--repo="+repo, "-R", "-C", "-X", rev)
	sums := testutil.Run(t, "sh", "-c", `cd "$0" && find . -type f | sort | xargs sha256sum`, to)
	return meta + "\n" + sums
}

func serveRepo(t *testing.T, repo string) string {
	t.Helper()
	web := httptest.NewServer(http.FileServer(http.Dir(repo)))
	t.Cleanup(web.Close)
	return web.URL + "/"
}

var bareModes = []string{"bare", "bare-user", "bare-user-only"}

// What one program writes the other reads, checks, pulls, applies and verifies: every
// mode, kind of delta and signature that both know. The cells that Debian's libostree
// cannot serve, and where they are covered, are in docs/interop.md.
func TestMatrix(t *testing.T) {
	m := newMatrix(t)
	for _, way := range [][2]ostreeProgram{{m.ours, m.libostree}, {m.libostree, m.ours}} {
		writer, reader := way[0], way[1]
		t.Run(writer.name+" writes", func(t *testing.T) {
			for _, mode := range append([]string{"archive"}, bareModes...) {
				t.Run("mode="+mode, func(t *testing.T) { t.Parallel(); m.mode(t, writer, reader, mode) })
			}
			for name, flags := range deltaKinds {
				t.Run("delta="+name, func(t *testing.T) { t.Parallel(); m.delta(t, writer, reader, flags) })
			}
			for name, c := range m.signatures() {
				t.Run("signature="+name, func(t *testing.T) { t.Parallel(); m.signature(t, writer, reader, c) })
			}
		})
	}
}

// mode: the reader checks and lists the repository, commits the same tree to the same
// checksum, takes it over into every mode, and the writer reads that again.
func (m *matrix) mode(t *testing.T, writer, reader ostreeProgram, mode string) {
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	sum := m.commit(t, writer, repo, mode, m.v1, m.v2)
	reader.run(t, "fsck", "--repo="+repo)
	want := m.listing(t, writer, repo, "main")
	if diff := cmp.Diff(want, m.listing(t, reader, repo, "main")); diff != "" {
		t.Errorf("listing (-%s +%s)\n%s", writer.name, reader.name, diff)
	}
	if again := m.commit(t, reader, filepath.Join(dir, "again"), mode, m.v1, m.v2); again != sum {
		t.Errorf("%s commits %s, %s %s", writer.name, sum, reader.name, again)
	}
	reader.run(t, "prune", "--repo="+repo, "--refs-only", "--depth=0")
	writer.run(t, "fsck", "--repo="+repo)
	for _, into := range append([]string{"archive"}, bareModes...) {
		if into == "bare-user-only" && mode != into {
			continue // it keeps no owners and attributes
		}
		local := filepath.Join(dir, "local-"+into)
		reader.run(t, "init", "--repo="+local, "--mode="+into)
		reader.run(t, "pull-local", "--repo="+local, "--untrusted", repo, "main")
		m.same(t, writer, local, "main", want)
		if mode != "archive" {
			continue
		}
		remote := filepath.Join(dir, "remote-"+into)
		reader.run(t, "init", "--repo="+remote, "--mode="+into)
		reader.run(t, "remote", "add", "--repo="+remote, "--no-gpg-verify", "o", serveRepo(t, repo))
		reader.run(t, "pull", "--repo="+remote, "o", "main")
		m.same(t, writer, remote, "o:main", want)
	}
}

// same has a program check a repository that the other made.
func (m *matrix) same(t *testing.T, p ostreeProgram, repo, rev, want string) {
	t.Helper()
	p.run(t, "fsck", "--repo="+repo)
	if diff := cmp.Diff(want, m.listing(t, p, repo, rev)); diff != "" {
		t.Errorf("%s of %s, read by %s\n%s", rev, repo, p.name, diff)
	}
}

// deltaKinds are options of static-delta generate.
var deltaKinds = map[string][]string{
	"plain":            nil,
	"scratch":          {"--empty"},
	"inline":           {"--inline"},
	"no bsdiff":        {"--disable-bsdiff"},
	"other endianness": {"--swap-endianness"},
	"big-endian":       {"--set-endianness=B"},
	"fallback":         {"--min-fallback-size=1"},
	"small chunks":     {"--max-chunk-size=1"},
	"signed":           {"--sign-type=dummy", "--sign=matrix"},
	"inline scratch":   {"--inline", "--empty"},
}

// delta: the reader lists and shows the delta, pulls it over HTTP and applies it
// offline.
func (m *matrix) delta(t *testing.T, writer, reader ostreeProgram, flags []string) {
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	sum := m.commit(t, writer, repo, "archive", m.v1, m.v2)
	first := writer.run(t, "rev-parse", "--repo="+repo, "main^")
	want := m.listing(t, writer, repo, "main")
	writer.run(t, append([]string{"static-delta", "generate", "--repo=" + repo, "main"}, flags...)...)
	file := filepath.Join(dir, "file")
	testutil.Must(t, os.Mkdir(file, 0o755))
	offline := append([]string{"static-delta", "generate", "--repo=" + repo, "main"}, flags...)
	writer.run(t, append(offline, "--inline", "--min-fallback-size=0", "--filename="+filepath.Join(file, "superblock"))...)
	name := writer.run(t, "static-delta", "list", "--repo="+repo)
	if got := reader.run(t, "static-delta", "list", "--repo="+repo); got != name {
		t.Errorf("list: %q and %q", name, got)
	}
	// libostree signs deltas for other channels: its show and pull take no signed ones,
	// and its show looks for the files of inline parts.
	signed := len(flags) > 0 && flags[0] == "--sign-type=dummy"
	if reader == m.ours || !signed && !slices.Contains(flags, "--inline") {
		reader.run(t, "static-delta", "show", "--repo="+repo, name)
	}
	writer.run(t, "summary", "--repo="+repo, "-u")
	into := bareModes[:1]
	if len(flags) > 0 {
		into = bareModes[1:2]
	}
	for _, into := range into {
		target := filepath.Join(dir, into)
		reader.run(t, "init", "--repo="+target, "--mode="+into)
		reader.run(t, "pull-local", "--repo="+target, "--remote=o", repo, first)
		testutil.Must(t, os.MkdirAll(filepath.Join(target, "refs/remotes/o"), 0o755))
		testutil.Must(t, os.WriteFile(filepath.Join(target, "refs/remotes/o/main"), []byte(first+"\n"), 0o644))
		testutil.Run(t, "cp", "-a", target, target+"-offline")
		if !signed || reader == m.ours {
			reader.run(t, "remote", "add", "--repo="+target, "--no-gpg-verify", "o", serveRepo(t, repo))
			reader.run(t, "pull", "--repo="+target, "--require-static-deltas", "o", "main@"+sum)
			m.same(t, writer, target, sum, want)
		}
		apply := []string{"static-delta", "apply-offline", "--repo=" + target + "-offline", filepath.Join(file, "superblock")}
		if signed {
			reader.fails(t, append(apply, "--sign-type=dummy", "other")...)
			apply = append(apply, "--sign-type=dummy", "matrix")
		}
		reader.run(t, apply...)
		m.same(t, writer, target+"-offline", sum, want)
	}
}

// signature is a kind of signature: how it is made, and how a remote trusts it.
type signature struct {
	sign  []string // options of commit and summary
	trust []string // keys of the remote's configuration, for commits and summary
	wrong []string // the same with another key
	keys  string   // an OpenPGP keyring to be imported
}

func (m *matrix) signatures() map[string]signature {
	dummy := func(key string) []string {
		return []string{"gpg-verify=false", "sign-verify=dummy", "sign-verify-summary=dummy", "verification-dummy-key=" + key}
	}
	gpg := []string{"gpg-verify=true", "gpg-verify-summary=true"}
	return map[string]signature{
		"gpg":   {[]string{"--gpg-sign=" + m.gpgID, "--gpg-homedir=" + m.gpgHome}, gpg, gpg, m.gpgKeys},
		"dummy": {[]string{"--sign-type=dummy", "--sign=matrix"}, dummy("matrix"), dummy("other"), ""},
	}
}

// signature: the reader pulls from a signed repository what it verifies, refuses it
// with another key, after a change of the commit's signature, and of the summary.
func (m *matrix) signature(t *testing.T, writer, reader ostreeProgram, c signature) {
	dir := t.TempDir()
	repo := filepath.Join(dir, "repo")
	writer.run(t, "init", "--repo="+repo, "--mode=archive")
	writer.run(t, append([]string{"commit", "--repo=" + repo, "-b", "main", "--tree=dir=" + m.v1}, c.sign...)...)
	writer.run(t, append([]string{"summary", "--repo=" + repo, "-u"}, c.sign...)...)
	want := m.listing(t, writer, repo, "main")
	url := serveRepo(t, repo)
	client := func(name string, trust []string, keys string) string {
		target := filepath.Join(dir, name)
		reader.run(t, "init", "--repo="+target, "--mode=bare-user")
		argv := []string{"remote", "add", "--repo=" + target, "o", url}
		for _, s := range trust {
			argv = append(argv, "--set="+s)
		}
		if keys != "" {
			argv = append(argv, "--gpg-import="+keys)
		}
		reader.run(t, argv...)
		return target
	}
	good := client("good", c.trust, c.keys)
	reader.run(t, "pull", "--repo="+good, "o", "main")
	m.same(t, writer, good, "o:main", want)
	reader.fails(t, "pull", "--repo="+client("other", c.wrong, ""), "o", "main")

	sig := filepath.Join(repo, "summary.sig")
	testutil.Must(t, os.Rename(sig, sig+".away"))
	reader.fails(t, "pull", "--repo="+client("unsigned summary", c.trust, c.keys), "o", "main")
	testutil.Must(t, os.Rename(sig+".away", sig))
	metas, err := filepath.Glob(filepath.Join(repo, "objects/*/*.commitmeta"))
	if err != nil || len(metas) != 1 {
		t.Fatalf("detached metadata: %q, %v", metas, err)
	}
	testutil.Must(t, os.Remove(metas[0]))
	reader.fails(t, "pull", "--repo="+client("unsigned commit", c.trust, c.keys), "o", "main")
}
