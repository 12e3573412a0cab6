// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func run(t testing.TB, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errText.String())
	}
	return out
}

type pair struct{ typ, secret, public string }

func b64(b []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func pairs(t *testing.T) []pair {
	t.Helper()
	secret, public, err := GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	list := []pair{{TypeEd25519, secret, public}, {TypeDummy, "key", "key"}}
	epub, ekey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rkey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return append(list,
		pair{TypeSPKI, b64(x509.MarshalPKCS8PrivateKey(ekey)), b64(x509.MarshalPKIXPublicKey(epub))},
		pair{TypeSPKI, b64(x509.MarshalPKCS1PrivateKey(rkey), nil), b64(x509.MarshalPKIXPublicKey(rkey.Public()))},
		pair{TypeSPKI, b64(x509.MarshalECPrivateKey(p384)), b64(x509.MarshalPKIXPublicKey(p384.Public()))})
}

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	on := Options{Dummy: true}
	for _, p := range pairs(t) {
		s, err := NewSigner(p.typ, p.secret, on)
		if err != nil {
			t.Fatalf("%s: %v", p.typ, err)
		}
		data := []byte("commit")
		d, err := Func(s, s)(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(Signatures(d, MetadataKey(p.typ))); n != 2 {
			t.Errorf("%s: %d signatures", p.typ, n)
		}
		v, err := NewVerifier(p.typ, on)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyDict(data, d); p.typ != TypeDummy && !errors.Is(err, ErrNoKeys) {
			t.Errorf("%s without keys: %v", p.typ, err)
		}
		if err := v.Add(p.public); err != nil {
			t.Fatal(err)
		}
		m, err := v.VerifyDict(data, d)
		if err != nil || m.Type != p.typ || m.Message == "" {
			t.Errorf("%s: %+v, %v", p.typ, m, err)
		}
		if _, err := v.VerifyDict(data, gvariant.Dict{}); !errors.Is(err, ErrNoSignature) {
			t.Errorf("%s unsigned: %v", p.typ, err)
		}
		if p.typ == TypeDummy {
			continue
		}
		if _, err := v.VerifyDict([]byte("commit2"), d); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s changed: %v", p.typ, err)
		}
		v.Revoke(m.Key)
		if _, err := v.VerifyDict(data, d); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s revoked: %v", p.typ, err)
		}
	}
}

// TestOpenSSL checks spki and ed25519 both ways with the library that libostree
// uses for them.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := testutil.Tool(t, "openssl")
	for name, args := range map[string][]string{
		"ed25519": {"-algorithm", "ed25519"},
		"ed448":   {"-algorithm", "ed448"},
		"rsa":     {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"p256":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p521":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := func(n string, data []byte) string {
				p := filepath.Join(dir, n)
				if err := os.WriteFile(p, data, 0o600); err != nil {
					t.Fatal(err)
				}
				return p
			}
			secret := run(t, nil, openssl, append([]string{"genpkey"}, args...)...)
			public := run(t, secret, openssl, "pkey", "-pubout")
			data := file("data", []byte("some commit"))
			key, pub := file("key", secret), file("pub", public)
			signers, err := ReadSigners(TypeSPKI, secret, Options{})
			if err != nil || len(signers) != 1 {
				t.Fatalf("%d, %v", len(signers), err)
			}
			raw, err := signers[0].Sign(context.Background(), []byte("some commit"))
			if err != nil {
				t.Fatal(err)
			}
			// -rawin hashes with the key's default function where it needs one.
			run(t, nil, openssl, "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", pub, "-in", data, "-sigfile", file("sig", raw))
			theirs := run(t, nil, openssl, "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", data)
			v, err := NewVerifier(TypeSPKI, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.AddFile(public); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Verify([]byte("some commit"), [][]byte{theirs}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDummyIsOff(t *testing.T) {
	t.Parallel()
	if _, err := NewSigner(TypeDummy, "x", Options{}); !errors.Is(err, ErrDummy) {
		t.Error(err)
	}
	v, err := NewVerifier(TypeDummy, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Add("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify([]byte("data"), [][]byte{[]byte("x")}); !errors.Is(err, ErrDummy) {
		t.Error(err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	var d gvariant.Dict
	d.Set("other", gvariant.String("kept"))
	for _, s := range []string{"a", "b", "a"} {
		Append(&d, GPGKey, []byte(s))
	}
	isA := func(s []byte) bool { return string(s) == "a" }
	if n := Remove(&d, GPGKey, isA); n != 2 || len(Signatures(d, GPGKey)) != 1 {
		t.Errorf("%d removed, %d left", n, len(Signatures(d, GPGKey)))
	}
	if n := Remove(&d, GPGKey, isA); n != 0 {
		t.Errorf("%d removed", n)
	}
	Remove(&d, GPGKey, func([]byte) bool { return true })
	if _, ok := d.Get(GPGKey); ok || d.Len() != 1 {
		t.Errorf("keys left: %q", d.Keys())
	}
}

// TestManySignatures: a long list costs a bounded time.
func TestManySignatures(t *testing.T) {
	t.Parallel()
	secret, public, err := GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(TypeEd25519, secret, Options{})
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.Sign(context.Background(), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(TypeEd25519, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Add(public); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{MaxSignatures - 1, MaxSignatures} {
		list := append(make([][]byte, n), good)
		if _, err := v.Verify([]byte("data"), list); (err == nil) != (n < MaxSignatures) {
			t.Errorf("behind %d others: %v", n, err)
		}
	}
	junk := make([][]byte, 1000*MaxSignatures)
	if res := (&Keyring{}).Verify([]byte("data"), junk, time.Time{}); len(res) != MaxSignatures || res.Valid() != 0 {
		t.Errorf("%d results", len(res))
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	_, good, err := GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	secret := "x" + strings.Repeat("A", 87)
	for _, c := range []struct {
		name, text string
		want       int // keys; -1: error
	}{
		{"one", good, 1},
		{"lines", good + "\n\n  " + other + "  \n", 2},
		{"twice", good + "\n" + good + "\n", 1},
		{"one bad line", "#comment\n" + good + "\n", 1},
		{"empty", "", -1},
		{"short", "aGVsbG8=\n", -1},
		{"no key", secret, -1},
	} {
		v, err := NewVerifier(TypeEd25519, Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = v.AddFile([]byte(c.text))
		if c.want < 0 {
			if !errors.Is(err, ErrKeyData) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || v.Len() != c.want {
			t.Errorf("%s: %d keys, %v", c.name, v.Len(), err)
		}
	}
}

func TestStandardFolders(t *testing.T) {
	t.Parallel()
	var signers []Signer
	var public []string
	for range 4 {
		s, p, err := GenerateEd25519()
		if err != nil {
			t.Fatal(err)
		}
		signer, err := NewSigner(TypeEd25519, s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		signers, public = append(signers, signer), append(public, p+"\n")
	}
	dir := fstest.MapFS{
		"trusted.ed25519":           {Data: []byte(public[0])},
		"trusted.ed25519.d/a":       {Data: []byte(public[1])},
		"trusted.ed25519.d/garbage": {Data: []byte("?")},
		"trusted.ed25519.d/b":       {Data: []byte(public[2])},
		"revoked.ed25519":           {Data: []byte("\n")},
		"revoked.ed25519.d/c":       {Data: []byte(public[2])},
	}
	v, err := NewVerifier(TypeEd25519, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.LoadDir(dir); err != nil {
		t.Fatal(err)
	}
	data := []byte("data")
	for i, want := range []bool{true, true, false, false} {
		d, err := Func(signers[i])(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyDict(data, d); (err == nil) != want {
			t.Errorf("key %d: %v", i, err)
		}
	}
	dir["revoked.ed25519"] = &fstest.MapFile{Data: []byte("not base64")}
	if err := v.LoadDir(dir); err == nil {
		t.Error("an unreadable revocation was passed over")
	}
	empty, err := NewVerifier(TypeEd25519, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.LoadDir(fstest.MapFS{}); err != nil || empty.Len() != 0 {
		t.Error(err)
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	s, p, err := GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	swapped, _ := base64.StdEncoding.DecodeString(s)
	swapped[40] ^= 1
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	for name, err := range map[string]error{
		"public for secret": func() error { _, err := NewSigner(TypeEd25519, p, Options{}); return err }(),
		"halves":            func() error { _, err := RawSigner(TypeEd25519, swapped, Options{}); return err }(),
		"spki":              func() error { _, err := NewSigner(TypeSPKI, s, Options{}); return err }(),
		"certificate":       func() error { _, err := ReadKeys(TypeSPKI, cert, false); return err }(),
		"not base64":        func() error { _, err := NewSigner(TypeEd25519, "*", Options{}); return err }(),
	} {
		if !errors.Is(err, ErrKeyData) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSigner("rot13", "", Options{}); !errors.Is(err, ErrType) {
		t.Error(err)
	}
}

func TestUpdateURLs(t *testing.T) {
	t.Parallel()
	advanced, direct, ok := UpdateURLs("test2@test.com")
	if !ok || advanced != "https://openpgpkey.test.com/.well-known/openpgpkey/test.com/hu/nnxwsxno46ap6hw7fgphp68j76egpfa9?l=test2" ||
		direct != "https://test.com/.well-known/openpgpkey/hu/nnxwsxno46ap6hw7fgphp68j76egpfa9?l=test2" {
		t.Errorf("%q %q", advanced, direct)
	}
	advanced, direct, _ = UpdateURLs("A B@Test.COM") // the local part is hashed in lower case
	if advanced != "https://openpgpkey.Test.COM/.well-known/openpgpkey/test.com/hu/xs661pernei8y9hruhsbfxq353a5egjj?l=A%20B" ||
		direct != "https://Test.COM/.well-known/openpgpkey/hu/xs661pernei8y9hruhsbfxq353a5egjj?l=A%20B" {
		t.Errorf("%q %q", advanced, direct)
	}
	for _, bad := range []string{"", "a", "@b", "a@", "a@b/c"} {
		if _, _, ok := UpdateURLs(bad); ok {
			t.Errorf("%q is an address", bad)
		}
	}
}
