// SPDX-License-Identifier: Apache-2.0

package gpg

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "OSTREE_GPG_HOME=/nonexistent")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// home is a GnuPG home directory of its own; its path must be short because of
// the agent's socket.
type home struct {
	t   testing.TB
	dir string
}

func newHome(t testing.TB) home {
	t.Helper()
	testutil.Tool(t, "gpg")
	testutil.Tool(t, "gpgconf")
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = try("gpgconf", "--homedir", dir, "--kill", "all")
		_ = os.RemoveAll(dir)
	})
	return home{t, dir}
}

func (h home) gpg(args ...string) string {
	h.t.Helper()
	return run(h.t, "gpg", append([]string{"--homedir", h.dir, "--batch", "--yes", "--quiet", "--no-tty"}, args...)...)
}

// key makes a key without passphrase that can sign, and gives its fingerprint.
func (h home) key(name, expires string) string {
	h.t.Helper()
	h.gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", expires)
	return h.prints(name)[0]
}

// prints lists fingerprints: of the key, then of the subkeys.
func (h home) prints(name string) []string {
	h.t.Helper()
	var out []string
	for line := range strings.Lines(h.gpg("--with-colons", "--list-keys", name)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			out = append(out, f[9])
		}
	}
	return out
}

func (h home) export(ids ...string) []byte {
	h.t.Helper()
	data, err := Export(context.Background(), h.dir, ids)
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}

func openRepo(t testing.TB, dir string) *ostree.Repo {
	t.Helper()
	r, err := ostree.Open(testutil.OpenDir(t, dir), ostree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// newRepo makes an archive with one commit on main.
func newRepo(t testing.TB) (string, *ostree.Repo, ostree.Checksum) {
	t.Helper()
	testutil.Tool(t, "ostree")
	dir := filepath.Join(t.TempDir(), "repo")
	tree := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "ostree", "--repo="+dir, "init", "--mode=archive")
	sum := strings.TrimSpace(run(t, "ostree", "--repo="+dir, "commit", "-b", "main", "-s", "test", "--tree=dir="+tree))
	c, err := ostree.ParseChecksum(sum)
	if err != nil {
		t.Fatal(err)
	}
	return dir, openRepo(t, dir), c
}

func keyring(t testing.TB, files ...[]byte) *sign.Keyring {
	t.Helper()
	k := &sign.Keyring{}
	for _, f := range files {
		if err := k.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func verify(t testing.TB, r *ostree.Repo, c ostree.Checksum, k *sign.Keyring) (sign.GPGResult, error) {
	t.Helper()
	raw, err := r.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := r.CommitMeta(c)
	if err != nil {
		t.Fatal(err)
	}
	return k.VerifyDict(raw, meta, time.Time{})
}

// theirs is what "ostree show" says about the signatures of main.
func theirs(t testing.TB, repo string, keys []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys.gpg"), keys, 0o644); err != nil {
		t.Fatal(err)
	}
	out := run(t, "ostree", "--repo="+repo, "show", "--gpg-homedir="+dir, "main")
	i := strings.Index(out, "Found ")
	if i < 0 {
		t.Fatalf("no signatures shown:\n%s", out)
	}
	_, out, _ = strings.Cut(out[i:], "\n\n")
	return strings.ReplaceAll(strings.TrimRight(out, "\n")+"\n", "\n\n", "\n")
}

func describe(r sign.GPGResult) string {
	var b strings.Builder
	for _, s := range r {
		b.WriteString(s.Describe("  "))
	}
	return b.String()
}

// TestSameWordsAsOSTree brings a key through its life and compares each time what
// both programs say about its signature.
func TestSameWordsAsOSTree(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	repo, r, c := newRepo(t)
	ctx := context.Background()
	plain := h.key("Plain Key <plain@example.org>", "never")
	sub := h.key("Sub Key (with comment) <sub@example.org>", "never")
	h.gpg("--passphrase", "", "--quick-add-key", sub, "rsa2048", "sign", "never")
	for _, id := range []string{plain, sub} {
		if err := SignCommit(ctx, r, c, Signer{KeyID: id, Homedir: h.dir}); err != nil {
			t.Fatal(err)
		}
	}
	if err := SignCommit(ctx, r, c, Signer{KeyID: plain[24:], Homedir: h.dir}); !errors.Is(err, ErrSigned) {
		t.Errorf("signed twice: %v", err)
	}
	subkey := h.prints(sub)[1]
	revoke := func() {
		file := filepath.Join(h.dir, "openpgp-revocs.d", plain+".rev")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.Replace(data, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		h.gpg("--import", file)
	}
	none := h.export(h.key("Other <other@example.org>", "never"))
	wait := func() { time.Sleep(2100 * time.Millisecond) }
	for _, step := range []struct {
		name  string
		do    func()
		keys  func() []byte
		valid int
		err   error // of the whole, if none is valid
	}{
		{"good", func() {}, nil, 2, nil},
		{"missing", func() {}, func() []byte { return none }, 0, sign.ErrNoKey},
		{"one missing", func() {}, func() []byte { return h.export(plain) }, 1, nil},
		{"far expiry", func() { h.gpg("--quick-set-expire", plain, "1y") }, nil, 2, nil},
		{"expired", func() { h.gpg("--quick-set-expire", plain, "seconds=1"); wait() }, nil, 1, nil},
		{"primary expired too", func() { h.gpg("--quick-set-expire", sub, "seconds=1"); wait() }, nil, 0, sign.ErrKeyExpired},
		{"subkey expired", func() {
			h.gpg("--quick-set-expire", sub, "0")
			h.gpg("--quick-set-expire", sub, "seconds=1", subkey)
			wait()
		}, nil, 0, sign.ErrKeyExpired},
		{"prolonged", func() {
			h.gpg("--quick-set-expire", plain, "0")
			h.gpg("--quick-set-expire", sub, "0", subkey)
		}, nil, 2, nil},
		{"revoked", revoke, nil, 1, nil},
		{"revoked alone", func() {}, func() []byte { return h.export(plain) }, 0, sign.ErrNoKey},
	} {
		step.do()
		keys := h.export(plain, sub)
		if step.keys != nil {
			keys = step.keys()
		}
		res, err := verify(t, r, c, keyring(t, keys))
		if res.Valid() != step.valid || step.valid == 0 && !errors.Is(err, step.err) {
			t.Errorf("%s: %d valid, %v", step.name, res.Valid(), err)
		}
		if ours, want := describe(res), theirs(t, repo, keys); ours != want {
			t.Errorf("%s: we say\n%s\nostree says\n%s", step.name, ours, want)
		}
	}
}

// TestExpiringSignature compares the words about a signature that runs out itself.
func TestExpiringSignature(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	repo, r, c := newRepo(t)
	id := h.key("Key <k@example.org>", "never")
	conf := "ask-cert-level\ndefault-sig-expire seconds=3\n"
	if err := os.WriteFile(filepath.Join(h.dir, "gpg.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SignCommit(context.Background(), r, c, Signer{KeyID: id, Homedir: h.dir}); err != nil {
		t.Fatal(err)
	}
	keys := h.export(id)
	res, err := verify(t, r, c, keyring(t, keys))
	if err != nil || res[0].Expires.IsZero() {
		t.Fatalf("%+v, %v", res, err)
	}
	if ours, want := describe(res), theirs(t, repo, keys); ours != want {
		t.Errorf("we say\n%s\nostree says\n%s", ours, want)
	}
	time.Sleep(time.Until(res[0].Expires) + 1100*time.Millisecond)
	res, err = verify(t, r, c, keyring(t, keys))
	if !errors.Is(err, sign.ErrExpired) || !res[0].SigExpired {
		t.Errorf("%+v, %v", res, err)
	}
	if ours, want := describe(res), theirs(t, repo, keys); ours != want {
		t.Errorf("we say\n%s\nostree says\n%s", ours, want)
	}
}

// TestOthersSignatures verifies here what ostree signed, and there what was
// signed here.
func TestOthersSignatures(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	repo, r, c := newRepo(t)
	id := h.key("Signer <s@example.org>", "never")
	run(t, "ostree", "--repo="+repo, "gpg-sign", "--gpg-homedir="+h.dir, "main", id)
	if res, err := verify(t, r, c, keyring(t, h.export(id))); err != nil || len(res) != 1 || res[0].Fingerprint != id {
		t.Errorf("%+v, %v", res, err)
	}
	ctx := context.Background()
	if n, err := DeleteSignatures(ctx, r, c, keyring(t, h.export(id)), []string{"signer"}); err != nil || n != 1 {
		t.Fatalf("%d deleted, %v", n, err)
	}
	if n, err := DeleteSignatures(ctx, r, c, nil, []string{id}); err != nil || n != 0 {
		t.Fatalf("%d deleted, %v", n, err)
	}
	if _, err := verify(t, r, c, keyring(t, h.export(id))); !errors.Is(err, sign.ErrNoSignature) {
		t.Errorf("after delete: %v", err)
	}
	if err := SignCommit(ctx, r, c, Signer{KeyID: id, Homedir: h.dir}); err != nil {
		t.Fatal(err)
	}
	s := Signer{KeyID: id, Homedir: h.dir}
	if err := r.WriteSummary(ctx, ostree.SummaryOptions{Sign: sign.Func(s)}); err != nil {
		t.Fatal(err)
	}
	pub := filepath.Join(t.TempDir(), "pub.gpg")
	if err := os.WriteFile(pub, h.export(id), 0o644); err != nil {
		t.Fatal(err)
	}
	client := filepath.Join(t.TempDir(), "client")
	run(t, "ostree", "--repo="+client, "init", "--mode=archive")
	run(t, "ostree", "--repo="+client, "remote", "add", "--set=gpg-verify-summary=true", "--gpg-import="+pub, "o", "file://"+repo)
	run(t, "ostree", "--repo="+client, "pull", "o", "main")
	// A second signature beside the first must not disturb.
	if err := r.SignSummary(ctx, s); err != nil {
		t.Fatal(err)
	}
	run(t, "ostree", "--repo="+client, "pull", "o", "main")
	sig, err := os.ReadFile(filepath.Join(repo, "summary.sig"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := gvariant.ParseDict(sig)
	if err != nil || len(sign.Signatures(d, sign.GPGKey)) != 2 {
		t.Errorf("%d signatures, %v", len(sign.Signatures(d, sign.GPGKey)), err)
	}
}

func TestNoSuchKey(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	_, r, c := newRepo(t)
	for _, id := range []string{"0123456789ABCDEF", "", "--version"} {
		if err := SignCommit(context.Background(), r, c, Signer{KeyID: id, Homedir: h.dir}); !errors.Is(err, ErrNoSecretKey) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := (Signer{KeyID: "x", Program: "no-such-gpg"}).Sign(context.Background(), nil); !errors.Is(err, ErrNoProgram) {
		t.Error(err)
	}
}

// TestVerdictsOfGPG compares with gpg on the data that libostree tests its own
// verdicts with.
func TestVerdictsOfGPG(t *testing.T) {
	t.Parallel()
	src := testutil.Corpus(t, "ostree", "ostreedev-tests", "gpg-verify-data")
	h := newHome(t)
	if err := os.CopyFS(filepath.Join(h.dir, "d"), os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(h.dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	k := keyring(t, in("pubring.gpg"))
	names := []string{"lgpl2.sig", "lgpl2.sig0", "lgpl2.sig1", "lgpl2.sig2", "lgpl2.sig3", "lgpl2.sig4"}
	for _, data := range []string{"lgpl2", "gpg.conf"} {
		for _, name := range names {
			if data != "lgpl2" && name == "lgpl2.sig" {
				continue // gpg stops at the first of several bad ones
			}
			var ours []string
			for _, s := range k.Verify(in(data), [][]byte{in(name)}, time.Time{}) {
				ours = append(ours, status(s))
			}
			out, _ := try("gpg", "--homedir", filepath.Join(h.dir, "d"), "--batch", "--no-auto-key-locate", "--status-fd", "1", "--verify", filepath.Join(src, name), filepath.Join(src, data))
			var want []string
			for line := range strings.Lines(out) {
				f := strings.Fields(line)
				if len(f) > 2 && f[0] == "[GNUPG:]" && slices.Contains([]string{"GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG"}, f[1]) {
					want = append(want, f[1])
				}
			}
			if len(want) == 0 || !slices.Equal(ours, want) {
				t.Errorf("%s over %s: we say %q, gpg says %q", name, data, ours, want)
			}
		}
	}
	old := k.Verify(in("lgpl2"), [][]byte{in("lgpl2.sig")}, time.Date(2015, 3, 20, 0, 0, 0, 0, time.UTC))
	if old.Valid() == 0 {
		t.Error("nothing was valid when it was made")
	}
}

func status(s sign.GPGSignature) string {
	switch {
	case s.Valid:
		return "GOODSIG"
	case s.KeyMissing:
		return "ERRSIG"
	case s.KeyRevoked:
		return "REVKEYSIG"
	case s.KeyExpired:
		return "EXPKEYSIG"
	case s.SigExpired:
		return "EXPSIG"
	}
	return "BADSIG"
}

// TestExpiredInTheWild refuses a published repository whose key ran out in 2019.
func TestExpiredInTheWild(t *testing.T) {
	t.Parallel()
	dir := testutil.Corpus(t, "ostree", "ebassi-glarea-example")
	keys, err := os.ReadFile(filepath.Join(dir, "glarea-example.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(t.TempDir(), "repo")
	if err := os.CopyFS(repo, os.DirFS(filepath.Join(dir, "repo"))); err != nil {
		t.Fatal(err)
	}
	r := openRepo(t, repo)
	c, err := r.Resolve("app/io.bassi.Glarea/x86_64/master")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, r, c, keyring(t, keys)); !errors.Is(err, sign.ErrKeyExpired) {
		t.Errorf("today: %v", err)
	}
	raw, err := r.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := r.CommitMeta(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring(t, keys).VerifyDict(raw, meta, time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Errorf("in 2018: %v", err)
	}
}
