// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/hostctl/hostctl/internal/testutil"
)

func keyFile(t testing.TB, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(testutil.Corpus(t, parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keyring(t testing.TB, files ...[]byte) *Keyring {
	t.Helper()
	kr, err := LoadKeyring(files...)
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

// knownKeys lists the keys that belong to packages of the collection.
func knownKeys(t testing.TB) []string {
	return []string{
		testutil.Corpus(t, "rpms", "rpm-6.1-tests", "keys", "rpm.org-rsa-2048-test.pub"),
		testutil.Corpus(t, "rpms", "libzypp", "zypp", "tests", "zypp", "data", "RpmPkgSigCheck", "signed.key"),
		testutil.Corpus(t, "rpms", "cavaliergopher", "RPM-GPG-KEY-CentOS-4"),
		testutil.Corpus(t, "rpms", "cavaliergopher", "RPM-GPG-KEY-CentOS-5"),
		testutil.Corpus(t, "rpms", "cavaliergopher", "RPM-GPG-KEY-CentOS-6"),
		testutil.Corpus(t, "rpmdb-hollow", "fedora35", "RPM-GPG-KEY-9867c58f-601c49ca.asc"),
	}
}

func loadKnown(t testing.TB) *Keyring {
	t.Helper()
	var files [][]byte
	for _, k := range knownKeys(t) {
		data, err := os.ReadFile(k)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, data)
	}
	return keyring(t, files...)
}

// TestSameVerdictAsRPM compares verdicts with "rpm -K" on every package of the collection, with the same
// keys imported. rpm 4.18 does not look at the expiry of keys, which is passed over here.
func TestSameVerdictAsRPM(t *testing.T) {
	t.Parallel()
	program := testutil.Tool(t, "rpm")
	db := filepath.Join(t.TempDir(), "db")
	var keys [][]byte
	base := []string{"--dbpath", db, "-D", "_db_backend sqlite"}
	for _, key := range knownKeys(t) {
		// rpm no longer takes DSA keys; both sides do without them.
		if out, err := exec.Command(program, append(base, "--import", key)...).CombinedOutput(); err != nil {
			t.Logf("import %s: %v\n%s", key, err, out)
			continue
		}
		keys = append(keys, keyFile(t, strings.TrimPrefix(key, os.Getenv("HOSTCTL_CORPUS"))))
	}
	if len(keys) < 4 {
		t.Fatalf("%d keys", len(keys))
	}
	kr := keyring(t, keys...)
	good, signed := 0, 0
	for _, file := range corpusPackages(t, "rpms") {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		res, err := VerifyPackage(f, kr, VerifyOptions{AllowSHA1: true})
		_ = f.Close()
		if res.Package != nil && res.Package.Header.Has(TagRPMFormat) || res.Package != nil && res.Package.Signature.Has(TagOpenPGP) {
			continue // beyond this rpm
		}
		ours := err == nil
		for _, s := range res.Signatures {
			ours = ours && (s.Err == nil || errors.Is(s.Err, ErrKeyExpired))
		}
		out, err2 := exec.Command(program, append(base, "-Kv", linked(t, file))...).CombinedOutput()
		theirs := err2 == nil
		if ours != theirs {
			t.Errorf("%s: we say %v (%v, %+v), rpm says\n%s", file, ours, err, res.Signatures, out)
		}
		if theirs {
			good++
			if len(res.Signatures) > 0 {
				signed++
			}
			if strings.Contains(string(out), "Signature") != (len(res.Signatures) > 0) {
				t.Errorf("%s: %d signatures, rpm says\n%s", file, len(res.Signatures), out)
			}
		}
	}
	t.Logf("%d good packages, %d of them signed", good, signed)
	if good < 150 || signed < 6 {
		t.Errorf("only %d good packages, %d of them signed", good, signed)
	}
}

// TestHollowSignatures verifies the real header signatures of a whole Fedora image.
func TestHollowSignatures(t *testing.T) {
	t.Parallel()
	kr := loadKnown(t)
	n := 0
	for _, file := range corpusPackages(t, "rpmdb-hollow", "fedora35") {
		p := readHeaderOf(t, file)
		if _, err := VerifyHeader(p, kr, VerifyOptions{RequireSignature: true, Name: filepath.Base(file)}); err != nil {
			t.Error(err)
		}
		// The same header must verify in the form in which the database stores it.
		blob, err := p.Blob(Uint32Entry(TagInstallTime, 1))
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParsePackage(blob)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyHeader(q, kr, VerifyOptions{RequireSignature: true, Name: filepath.Base(file)}); err != nil {
			t.Error(err)
		}
		n++
	}
	if n < 100 {
		t.Errorf("%d packages", n)
	}
}

func signedFile(t testing.TB) []byte {
	return keyFile(t, "rpms", "rpm-4.18-tests", "hello-2.0-1.x86_64-signed.rpm")
}

func TestSignatureConditions(t *testing.T) {
	t.Parallel()
	keys := func(name string) []byte { return keyFile(t, "rpms", "rpm-6.1-tests", "keys", name) }
	pkg := func(name string) []byte { return keyFile(t, "rpms", "rpm-6.1-tests", name) }
	sub := "hello-2.0-1.x86_64-signed-with-subkey.rpm"
	valid := time.Date(2022, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		data []byte
		key  []byte
		at   time.Time
		want error
	}{
		{"good", signedFile(t), keys("rpm.org-rsa-2048-test.pub"), time.Time{}, nil},
		{"binary key", signedFile(t), keys("rpm.org-rsa-2048-test.pgp"), time.Time{}, nil},
		{"no keyring", signedFile(t), nil, time.Time{}, ErrNoKey},
		{"wrong key", signedFile(t), keys("alice.asc"), time.Time{}, ErrNoKey},
		{"unsigned", keyFile(t, "rpms", "rpm-4.18-tests", "foo-1.0-1.noarch.rpm"), keys("alice.asc"), time.Time{}, ErrUnsigned},
		{"subkey", pkg(sub), keys("alice.asc"), valid, nil},
		{"revoked in one copy", pkg(sub), append(append(keys("alice.asc"), keys("alice-revoked-subkey.asc")...), keys("alice.asc")...), valid, ErrKeyRevoked},
		{"expired in an old copy", pkg(sub), append(keys("alice-expired-subkey.asc"), keys("alice.asc")...), time.Time{}, nil},
		{"expired subkey", pkg(sub), keys("alice-expired-subkey.asc"), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), ErrKeyExpired},
		{"revoked subkey", pkg(sub), keys("alice-revoked-subkey.asc"), valid, ErrKeyRevoked},
		{"post-quantum beside a known one", pkg("hello-2.0-1.x86_64-signed-mldsa87.rpm"), keys("rpm.org-rsa-2048-test.pub"), time.Time{}, nil},
		{"version 3 packet", pkg("hello-2.0-1.x86_64-v3-signed.rpm"), keys("rpm.org-rsa-2048-test.pub"), time.Time{}, nil},
		{"made to be wrong", keyFile(t, "rpms", "rpmlint", "hello-2.0-1.x86_64-signed.rpm"), keys("rpm.org-rsa-2048-test.pub"), time.Time{}, ErrBadSignature},
	} {
		var files [][]byte
		if c.key != nil {
			files = append(files, c.key)
		}
		_, err := VerifyPackage(bytes.NewReader(c.data), keyring(t, files...), VerifyOptions{RequireSignature: true, Time: c.at, Name: "x.rpm"})
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "x.rpm") {
			t.Errorf("%s: %q does not name the file", c.name, err)
		}
	}
}

// TestEveryByteCounts changes and cuts a signed package at many places; no change may pass.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	data := signedFile(t)
	kr := loadKnown(t)
	o := VerifyOptions{RequireSignature: true}
	res, err := VerifyPackage(bytes.NewReader(data), kr, o)
	if err != nil {
		t.Fatal(err)
	}
	start := int(res.Package.HeaderOffset)
	for at := start; at < len(data); at += 7 {
		bad := bytes.Clone(data)
		bad[at] ^= 0x10
		if _, err := VerifyPackage(bytes.NewReader(bad), kr, o); err == nil {
			t.Errorf("a changed byte at offset %d passed", at)
		}
	}
	for at := 0; at < len(data); at += 11 {
		if _, err := VerifyPackage(bytes.NewReader(data[:at]), kr, o); !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), "offset") {
			t.Errorf("cut off at %d: %v", at, err)
		}
	}
	if _, err := VerifyPackage(bytes.NewReader(append(bytes.Clone(data), 0)), kr, o); !errors.Is(err, ErrFormat) {
		t.Errorf("appended byte: %v", err)
	}
}

// TestNewestForm makes packages as rpm 6 signs them: text signatures over the header alone, which holds
// digests of the payload.
func TestNewestForm(t *testing.T) {
	t.Parallel()
	e, err := openpgp.NewEntity("Test", "", "test@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true})
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	sign := func(header []byte) []Entry {
		var sig bytes.Buffer
		if err := openpgp.DetachSign(&sig, []*openpgp.Entity{e}, bytes.NewReader(header), nil); err != nil {
			t.Fatal(err)
		}
		return []Entry{StringsEntry(TagOpenPGP, base64.StdEncoding.EncodeToString(sig.Bytes())), str(TagSHA3256Header, fmt.Sprintf("%x", sha3.Sum256(header)))}
	}
	payload := concat(newc("./a", regular, "alpha"), trailer)
	files := []testFile{{path: "/a", data: "alpha", mode: regular}}
	build := func(extra ...Entry) []byte { return buildSigned(append(baseEntries(files), extra...), payload, sign) }
	o := VerifyOptions{RequireSignature: true}
	for name, extra := range map[string]Entry{
		"sha256":   StringsEntry(TagPayloadDigest, fmt.Sprintf("%x", sha256.Sum256(payload))),
		"sha512":   str(TagPayloadSHA512, fmt.Sprintf("%x", sha512.Sum512(payload))),
		"sha3-256": str(TagPayloadSHA3256, fmt.Sprintf("%x", sha3.Sum256(payload))),
	} {
		data := build(extra)
		if res, err := VerifyPackage(bytes.NewReader(data), keyring(t, public.Bytes()), o); err != nil || !res.PayloadSigned {
			t.Errorf("%s: %v", name, err)
		}
		data[len(data)-200] ^= 1
		if _, err := VerifyPackage(bytes.NewReader(data), keyring(t, public.Bytes()), o); !errors.Is(err, ErrDigest) {
			t.Errorf("%s, changed payload: %v", name, err)
		}
	}
	if _, err := VerifyPackage(bytes.NewReader(build()), keyring(t, public.Bytes()), o); !errors.Is(err, ErrUnsigned) {
		t.Errorf("payload without signed digest: %v", err)
	}
	if _, err := VerifyPackage(bytes.NewReader(build()), nil, o); !errors.Is(err, ErrNoKey) {
		t.Errorf("without keyring: %v", err)
	}
}

// TestKeyForms reads keys of every kind in the collection.
func TestKeyForms(t *testing.T) {
	t.Parallel()
	var files [][]byte
	for _, name := range []string{"rpm.org-rsa-2048-test.pub", "rpm.org-rsa-2048-test.pgp", "rpm.org-v6-ed25519-test.asc", "rpm.org-v6-rsa4k-test.asc",
		"rpm.org-ed25519-test.pub", "rpm.org-nistp256-test.pub", "alice.asc"} {
		files = append(files, keyFile(t, "rpms", "rpm-6.1-tests", "keys", name))
	}
	if n := len(keyring(t, files...).Keys()); n != len(files) {
		t.Errorf("%d keys of %d files", n, len(files))
	}
	if n := len(keyring(t, bytes.Join(files[2:], []byte("\n"))).Keys()); n != len(files)-2 {
		t.Errorf("%d keys of one file with %d blocks", n, len(files)-2)
	}
	for _, bad := range [][]byte{nil, []byte("no key"), keyFile(t, "rpms", "rpm-6.1-tests", "keys", "alice.secret")} {
		if kr, err := LoadKeyring(bad); err == nil {
			t.Errorf("%.20q gives %v", bad, kr.Keys())
		}
	}
}

// TestBrokenKeys checks keys that were made to slip a foreign subkey in.
func TestBrokenKeys(t *testing.T) {
	t.Parallel()
	data := keyFile(t, "rpms", "rpm-6.1-tests", "hello-2.0-1.x86_64-signed-with-subkey.rpm")
	for _, name := range []string{"CVE-2021-3521-badbind.asc", "CVE-2021-3521-nosubsig.asc", "CVE-2021-3521-nosubsig-last.asc", "type-confusion.asc"} {
		kr, err := LoadKeyring(keyFile(t, "rpms", "rpm-6.1-tests", "keys", name))
		if err != nil {
			continue
		}
		if _, err := VerifyPackage(bytes.NewReader(data), kr, VerifyOptions{RequireSignature: true}); err == nil {
			t.Errorf("%s: package passed", name)
		}
	}
}

// TestDetached makes keys and signatures and checks the conditions of a detached signature.
func TestDetached(t *testing.T) {
	t.Parallel()
	made := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 86400 * 365, Time: func() time.Time { return made }}
	e, err := openpgp.NewEntity("Test", "", "test@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("<repomd/>")
	var sig, public, revoked bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&sig, []*openpgp.Entity{e}, bytes.NewReader(data), &openpgp.SignParams{Config: config}); err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	if err := e.Revoke(packet.KeyCompromised, "stolen", config); err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(&revoked); err != nil {
		t.Fatal(err)
	}
	in, out := made.Add(time.Hour), made.AddDate(2, 0, 0)
	for _, c := range []struct {
		name string
		data []byte
		key  []byte
		at   time.Time
		want error
	}{
		{"good", data, public.Bytes(), in, nil},
		{"expired", data, public.Bytes(), out, ErrKeyExpired},
		{"revoked", data, revoked.Bytes(), in, ErrKeyRevoked},
		{"changed", []byte("<repomd />"), public.Bytes(), in, ErrBadSignature},
		{"unknown", data, keyFile(t, "rpms", "rpm-6.1-tests", "keys", "alice.asc"), in, ErrNoKey},
	} {
		res, err := VerifyDetached(c.data, sig.Bytes(), keyring(t, c.key), VerifyOptions{Time: c.at})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && (res.Fingerprint == "" || !res.Created.Equal(made)) {
			t.Errorf("%s: %+v", c.name, res)
		}
	}
	if _, err := VerifyDetached(data, nil, keyring(t, public.Bytes()), VerifyOptions{}); !errors.Is(err, ErrFormat) {
		t.Errorf("empty signature: %v", err)
	}
}

// A wrong MD5 digest is found unless better digests cover the same bytes.
func TestStrongOnly(t *testing.T) {
	t.Parallel()
	payload := []byte("payload")
	digest := func(sum []byte, algo uint32) []Entry {
		return []Entry{StringsEntry(TagPayloadDigest, fmt.Sprintf("%x", sum)), Uint32Entry(TagPayloadDigestAlgo, algo)}
	}
	sum, weak := sha256.Sum256(payload), md5.Sum(payload)
	for name, c := range map[string]struct {
		entries    []Entry
		strongOnly bool
		want       error
	}{
		"all digests":       {digest(sum[:], 8), false, ErrDigest},
		"strong digests":    {digest(sum[:], 8), true, nil},
		"no payload digest": {nil, true, ErrDigest},
		"weak payload":      {digest(weak[:], 1), true, ErrDigest},
	} {
		header := buildHeader(TagHeaderImmutable, append(baseEntries(nil), c.entries...))
		h := md5.New()
		h.Write(header)
		h.Write(payload)
		file := buildPackage(append(baseEntries(nil), c.entries...), payload)
		bad := bytes.Replace(file, h.Sum(nil), make([]byte, md5.Size), 1)
		if bytes.Equal(file, bad) {
			t.Fatal("the package has no MD5 digest")
		}
		o := VerifyOptions{StrongOnly: c.strongOnly}
		if _, err := VerifyPackage(bytes.NewReader(file), nil, o); err != nil {
			t.Errorf("%s: good package: %v", name, err)
		}
		if _, err := VerifyPackage(bytes.NewReader(bad), nil, o); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
