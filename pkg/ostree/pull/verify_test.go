// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// testKey is an ed25519 key.
type testKey struct {
	sign.Signer
	public string
}

func newKey(t testing.TB) testKey {
	t.Helper()
	secret, public, err := sign.GenerateEd25519()
	testutil.Must(t, err)
	s, err := sign.NewSigner(sign.TypeEd25519, secret, sign.Options{})
	testutil.Must(t, err)
	return testKey{s, public}
}

// addRemote writes a remote with raw options and reads it back.
func addRemote(t testing.TB, r *ostree.Repo, url string, set ...string) Remote {
	t.Helper()
	var kv [][2]string
	for _, s := range set {
		k, v, _ := strings.Cut(s, "=")
		kv = append(kv, [2]string{k, v})
	}
	testutil.Must(t, AddRemote(r, Remote{Name: "o", URL: url}, AddOptions{Force: true, Set: kv}))
	remote, err := LoadRemote(r, "o")
	testutil.Must(t, err)
	return remote
}

// noKeys keeps the machine's own keys out of the tests.
func noKeys(o TrustOptions) TrustOptions {
	o.GPGHome = "/nonexistent"
	if o.KeyDirs == nil {
		o.KeyDirs = []fs.FS{fstest.MapFS{}}
	}
	return o
}

// pullTrusted pulls main as the remote's configuration wants it verified.
func pullTrusted(t testing.TB, r *ostree.Repo, remote Remote, o TrustOptions) error {
	t.Helper()
	trust, err := LoadTrust(r, remote, noKeys(o))
	if err != nil {
		return err
	}
	req := Request{Refs: []string{"main"}}
	trust.Apply(&remote, &req)
	_, err = Pull(t.Context(), r, remote, req)
	return err
}

func TestSignedCommit(t *testing.T) {
	t.Parallel()
	good, other := newKey(t), newKey(t)
	file := filepath.Join(t.TempDir(), "keys")
	testutil.Must(t, os.WriteFile(file, []byte(other.public+"\n"+good.public+"\n"), 0o644))
	raw, err := base64.StdEncoding.DecodeString(good.public)
	testutil.Must(t, err)
	dummy := sign.Options{Dummy: true}
	revoked := []fs.FS{fstest.MapFS{"revoked.ed25519": {Data: []byte(base64.StdEncoding.EncodeToString(raw))}}}
	system := []fs.FS{fstest.MapFS{"trusted.ed25519.d/x": {Data: []byte(good.public)}}}
	for _, c := range []struct {
		name string
		set  []string
		o    TrustOptions
		want error  // nil: the pull succeeds
		text string // part of the message
	}{
		{"inline", []string{"sign-verify=true", "verification-ed25519-key=" + good.public}, TrustOptions{}, nil, ""},
		{"listed", []string{"sign-verify=ed25519;", "verification-ed25519-key=" + good.public}, TrustOptions{}, nil, ""},
		{"file", []string{"sign-verify=ed25519", "verification-ed25519-file=" + file}, TrustOptions{}, nil, ""},
		{"system", []string{"sign-verify=true"}, TrustOptions{KeyDirs: system}, nil, ""},
		{"revoked", []string{"sign-verify=true", "verification-ed25519-key=" + good.public}, TrustOptions{KeyDirs: revoked}, ErrSignature, "ed25519: no signatures found"},
		{"wrong key", []string{"sign-verify=true", "verification-ed25519-key=" + other.public}, TrustOptions{}, ErrSignature, " ed25519: Signature couldn't be verified with: key '"},
		{"system is for others", []string{"sign-verify=true", "verification-ed25519-key=" + other.public}, TrustOptions{KeyDirs: system}, ErrSignature, ""},
		{"no keys", []string{"sign-verify=true"}, TrustOptions{}, ErrSignature, "no keys loaded"},
		{"other type", []string{"sign-verify=dummy", "verification-dummy-key=x"}, TrustOptions{Sign: dummy}, ErrSignature, "No signatures found"},
		{"no such type", []string{"sign-verify=rot13"}, TrustOptions{}, sign.ErrType, "Requested signature type is not implemented"},
		{"no keys for the type", []string{"sign-verify=ed25519"}, TrustOptions{}, sign.ErrNoKeys, "No keys found for required signapi type ed25519"},
		{"no such file", []string{"sign-verify=true", "verification-ed25519-file=/nonexistent"}, TrustOptions{}, fs.ErrNotExist, "Failed loading 'ed25519' keys"},
		{"bad key", []string{"sign-verify=true", "verification-ed25519-key=AAAA"}, TrustOptions{}, sign.ErrKeyData, "expected 32 bytes, got 3"},
		{"gpg too", []string{"sign-verify=true", "gpg-verify=true", "verification-ed25519-key=" + good.public}, TrustOptions{}, ErrSignature, "GPG verification enabled, but no signatures found"},
		{"switched off", []string{"sign-verify=true"}, TrustOptions{NoSign: true}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
			sum := commit(t, src, spec{ref: "main", files: 3})
			testutil.Must(t, src.SignCommit(t.Context(), sum, good))
			set := c.set
			if !strings.Contains(strings.Join(set, " "), "gpg-verify") {
				set = append(set, "gpg-verify=false")
			}
			remote := addRemote(t, dst, serve(t, src).URL, set...)
			err := pullTrusted(t, dst, remote, c.o)
			if c.want == nil {
				testutil.Must(t, err)
				return
			}
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
			if _, err := dst.Resolve("o:main"); !errors.Is(err, ostree.ErrNotFound) {
				t.Errorf("the ref is there: %v", err)
			}
			if ok, err := dst.Has(ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}); ok || err != nil {
				t.Errorf("the commit is there: %v, %v", ok, err)
			}
		})
	}
}

// TestSignatureOfOtherCommit moves a good signature to another commit.
func TestSignatureOfOtherCommit(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	a, b := commit(t, src, spec{ref: "main", files: 1}), commit(t, src, spec{ref: "main", files: 2})
	testutil.Must(t, src.SignCommit(t.Context(), a, key))
	meta, err := src.CommitMeta(a)
	testutil.Must(t, err)
	testutil.Must(t, src.EditCommitMeta(t.Context(), b, func(d *gvariant.Dict) error { *d = meta; return nil }))
	remote := addRemote(t, dst, serve(t, src).URL, "gpg-verify=false", "sign-verify=true", "verification-ed25519-key="+key.public)
	if err := pullTrusted(t, dst, remote, TrustOptions{}); !errors.Is(err, ErrSignature) || !errors.Is(err, sign.ErrNotVerified) {
		t.Error(err)
	}
	// A second signature makes it good; the wrong one beside it does not matter.
	testutil.Must(t, src.SignCommit(t.Context(), b, key))
	seen := 0
	testutil.Must(t, pullTrusted(t, dst, remote, TrustOptions{Accepted: func(c ostree.Checksum, v Verified) {
		seen++
		if c != b || v.Sign.Type != sign.TypeEd25519 || !strings.HasPrefix(v.Describe(), "ed25519: Signature verified successfully with key '") {
			t.Errorf("%s: %+v", c, v)
		}
	}}))
	if seen != 1 {
		t.Errorf("reported %d times", seen)
	}
}

// TestSignedCommitUnderOtherName puts the bytes of a signed commit under the name of
// another one into a local repository, whose objects are taken as they are.
func TestSignedCommitUnderOtherName(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	a, b := commit(t, src, spec{ref: "main", files: 1}), commit(t, src, spec{ref: "main", files: 2})
	testutil.Must(t, src.SignCommit(t.Context(), a, key))
	meta, err := src.CommitMeta(a)
	testutil.Must(t, err)
	testutil.Must(t, src.EditCommitMeta(t.Context(), b, func(d *gvariant.Dict) error { *d = meta; return nil }))
	raw, err := src.LoadRaw(ostree.ObjectName{Checksum: a, Type: ostree.TypeCommit})
	testutil.Must(t, err)
	name := strings.TrimPrefix(pathOf(ostree.ObjectName{Checksum: b, Type: ostree.TypeCommit}), "/")
	testutil.Must(t, src.Dir().Remove(name))
	testutil.Must(t, src.Dir().WriteFile(name, raw, 0o644))
	remote := addRemote(t, dst, "file://"+src.Dir().Path(), "gpg-verify=false", "sign-verify=true", "verification-ed25519-key="+key.public)
	if err := pullTrusted(t, dst, remote, TrustOptions{}); !errors.Is(err, ostree.ErrCorrupt) {
		t.Error(err)
	}
	wantUntouched(t, dst, b)
}

// summaryOf writes and signs the summary of a repository as of a time.
func summaryOf(t testing.TB, r *ostree.Repo, key sign.Signer, modified, expires time.Time) {
	t.Helper()
	testutil.Must(t, r.WriteSummary(t.Context(), ostree.SummaryOptions{Expires: expires}))
	file := filepath.Join(r.Dir().Path(), "summary")
	data, err := os.ReadFile(file)
	testutil.Must(t, err)
	v, err := gvariant.Parse("(a(s(taya{sv}))a{sv})", data)
	testutil.Must(t, err)
	md, _ := v.Children()[1].Dict()
	md.Set("ostree.summary.last-modified", gvariant.Uint64BE(uint64(modified.Unix())))
	v = gvariant.Tuple(v.Children()[0], md.Value())
	testutil.Must(t, v.Err())
	testutil.Must(t, os.WriteFile(file, v.Bytes(), 0o644))
	testutil.Must(t, r.SignSummary(t.Context(), key))
}

func TestSignedSummary(t *testing.T) {
	t.Parallel()
	key, other := newKey(t), newKey(t)
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: "main", files: 1})
	web := serve(t, src)
	web.fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		// This server's version numbers do not change with the files.
		r.Header.Del("If-None-Match")
		r.Header.Del("If-Modified-Since")
		return false
	}
	remote := addRemote(t, dst, web.URL, "gpg-verify=false", "sign-verify-summary=true", "verification-ed25519-key="+key.public)
	now := time.Now()
	refused := func(name string, want error, text string) {
		t.Helper()
		if err := pullTrusted(t, dst, remote, TrustOptions{}); !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("%s: got %v, want %v with %q", name, err, want, text)
		}
	}
	refused("no summary", ErrSignature, "no summary found")
	testutil.Must(t, src.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	refused("unsigned", ErrSignature, "no summary.sig found")
	summaryOf(t, src, other, now, time.Time{})
	refused("wrong key", ErrSignature, "couldn't be verified")
	summaryOf(t, src, key, now, now.Add(-time.Hour))
	refused("expired", ErrExpired, "")
	summaryOf(t, src, key, now, now.Add(time.Hour))
	testutil.Must(t, pullTrusted(t, dst, remote, TrustOptions{}))
	summaryOf(t, src, key, now.Add(-time.Hour), time.Time{})
	refused("replayed", ErrRollback, "")
	summaryOf(t, src, key, now.Add(time.Minute), time.Time{})
	testutil.Must(t, pullTrusted(t, dst, remote, TrustOptions{}))
	testutil.Must(t, os.WriteFile(filepath.Join(src.Dir().Path(), "summary.sig"), []byte("invalid\n"), 0o644))
	refused("garbage", ErrSignature, "No signatures found")
}

// TestGPGKeyPath covers the forms of gpgkeypath and of a remote's keyring, with
// commits that the real gpg signed.
func TestGPGKeyPath(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	testutil.Tool(t, "gpg")
	keys := testutil.Corpus(t, "ostree", "ostreedev-tests", "gpghome")
	home, err := os.MkdirTemp("", "g")
	testutil.Must(t, err)
	t.Cleanup(func() {
		testutil.Run(t, "gpgconf", "--homedir", home, "--kill", "all")
		os.RemoveAll(home)
	})
	// Made with a key of the suite, whose secret ring is in GnuPG's old format.
	for _, name := range []string{"secring.gpg", "trustdb.gpg"} {
		data, err := os.ReadFile(filepath.Join(keys, name))
		testutil.Must(t, err)
		testutil.Must(t, os.WriteFile(filepath.Join(home, name), data, 0o600))
	}
	ring, err := os.ReadFile(filepath.Join(keys, "trusted", "pubring.gpg"))
	testutil.Must(t, err)
	testutil.Must(t, os.WriteFile(filepath.Join(home, "pubring.gpg"), ring, 0o600))
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: "main", files: 1})
	testutil.Run(t, "ostree", "--repo="+src.Dir().Path(), "gpg-sign", "--gpg-homedir="+home, "main", "0D15FAE7DF444D67")
	url := serve(t, src).URL
	key := func(n int) string { return filepath.Join(keys, fmt.Sprintf("key%d.asc", n)) }
	for _, c := range []struct {
		name, path string
		o          TrustOptions
		want       error
		text       string
	}{
		{"file", key(3), TrustOptions{}, nil, ""},
		{"list", key(1) + "," + key(3), TrustOptions{}, nil, ""},
		{"semicolons", key(1) + ";" + key(3) + ";", TrustOptions{}, nil, ""},
		{"folder", keys + "/", TrustOptions{}, nil, ""},
		{"others", key(1) + "," + key(2), TrustOptions{}, sign.ErrNoKey, "public key not found"},
		{"absent", keys + "/NONE.asc", TrustOptions{}, fs.ErrNotExist, "NONE.asc): No such file or directory"},
		{"empty", "," + key(3), TrustOptions{}, fs.ErrNotExist, "(): No such file or directory"},
		{"mixed", key(1) + "," + key(2) + ";" + key(3), TrustOptions{}, ostree.ErrInvalid, "key value list contains more than one separator"},
		{"global", "", TrustOptions{GPGHome: filepath.Join(keys, "trusted")}, nil, ""},
		{"none", "", TrustOptions{}, sign.ErrNoKey, "public key not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := newRepo(t, ostree.ModeArchive)
			set := []string{}
			if c.path != "" {
				set = append(set, "gpgkeypath="+c.path)
			}
			remote := addRemote(t, dst, url, set...)
			o := noKeys(c.o)
			if c.o.GPGHome != "" {
				o.GPGHome = c.o.GPGHome
			}
			err := func() error {
				trust, err := LoadTrust(dst, remote, o)
				if err != nil {
					return err
				}
				req := Request{Refs: []string{"main"}}
				trust.Apply(&remote, &req)
				_, err = Pull(context.Background(), dst, remote, req)
				return err
			}()
			if c.want == nil {
				testutil.Must(t, err)
				return
			}
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
}

// TestDummyInterop signs here and verifies with ostree, and the reverse.
func TestDummyInterop(t *testing.T) {
	t.Parallel()
	program := testutil.Tool(t, "ostree")
	r := newRepo(t, ostree.ModeArchive)
	sum := commit(t, r, spec{ref: "main", files: 1})
	other := func(args ...string) error {
		cmd := exec.Command(program, append([]string{"--repo=" + r.Dir().Path()}, args...)...)
		cmd.Env = append(os.Environ(), "OSTREE_DUMMY_SIGN_ENABLED=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	on := sign.Options{Dummy: true}
	ours, err := sign.NewSigner(sign.TypeDummy, "ours", on)
	testutil.Must(t, err)
	testutil.Must(t, r.SignCommit(t.Context(), sum, ours))
	testutil.Must(t, other("sign", "--verify", "--sign-type=dummy", "main", "ours"))
	if other("sign", "--verify", "--sign-type=dummy", "main", "theirs") == nil {
		t.Error("ostree accepts a key that did not sign")
	}
	testutil.Must(t, other("sign", "--sign-type=dummy", "main", "theirs"))
	dst := newRepo(t, ostree.ModeArchive)
	for key, want := range map[string]bool{"ours": true, "theirs": true, "nobody": false} {
		remote := addRemote(t, dst, r.Dir().Path(), "gpg-verify=false", "sign-verify=dummy", "verification-dummy-key="+key)
		if err := pullTrusted(t, dst, remote, TrustOptions{Sign: on}); (err == nil) != want {
			t.Errorf("key %s: %v", key, err)
		}
	}
}

// TestDeltaTrust asks for signed deltas.
func TestDeltaTrust(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	r := newRepo(t, ostree.ModeArchive)
	data := []byte("superblock")
	sigs, err := sign.Func(key)(t.Context(), data)
	testutil.Must(t, err)
	check := func(sigs gvariant.Dict, set ...string) error {
		t.Helper()
		trust, err := LoadTrust(r, addRemote(t, r, "http://localhost", append(set, "gpg-verify=false")...), noKeys(TrustOptions{}))
		testutil.Must(t, err)
		return trust.VerifyDelta(data, sigs)
	}
	keyed := []string{"sign-verify=true", "verification-ed25519-key=" + key.public}
	testutil.Must(t, check(gvariant.Dict{}, keyed...))
	cfg := r.Config()
	testutil.Must(t, cfg.SetBool("core", "sign-verify-deltas", true))
	testutil.Must(t, r.SetConfig(cfg))
	testutil.Must(t, check(sigs, keyed...))
	if err := check(gvariant.Dict{}, keyed...); !errors.Is(err, ErrSignature) {
		t.Errorf("unsigned: %v", err)
	}
	if err := check(sigs, "sign-verify=true", "verification-ed25519-key="+newKey(t).public); !errors.Is(err, sign.ErrNotVerified) {
		t.Errorf("another key: %v", err)
	}
	if err := check(sigs); !errors.Is(err, sign.ErrNoKeys) {
		t.Errorf("no keys: %v", err)
	}
}

// TestPreSigned pulls from a repository that libostree signed with ed25519.
func TestPreSigned(t *testing.T) {
	t.Parallel()
	archive := testutil.Corpus(t, "ostree", "ostreedev-tests", "pre-signed-pull-data.tar.gz")
	src, dst := t.TempDir(), newRepo(t, ostree.ModeArchive)
	testutil.Run(t, testutil.Tool(t, "tar"), "-xzf", archive, "-C", src)
	const key = "45yzbkuEok0lLabxzdAHWUDSMZgYfxU40sN+LMfYHVA="
	pullFrom := func(key string) error {
		remote := addRemote(t, dst, "file://"+src+"/repo", "gpg-verify=false", "sign-verify=ed25519", "verification-ed25519-key="+key)
		trust, err := LoadTrust(dst, remote, noKeys(TrustOptions{}))
		testutil.Must(t, err)
		req := Request{Refs: []string{"testref"}}
		trust.Apply(&remote, &req)
		_, err = Pull(t.Context(), dst, remote, req)
		return err
	}
	if err := pullFrom(newKey(t).public); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	testutil.Must(t, pullFrom(key))
}
