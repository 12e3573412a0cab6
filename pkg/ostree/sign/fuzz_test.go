// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// FuzzDict reads signature dictionaries: what parses is verified without harm,
// nothing in it is good, and it re-encodes to the same bytes, also after a
// signature was added and removed.
func FuzzDict(f *testing.F) {
	secret, public, err := GenerateEd25519()
	if err != nil {
		f.Fatal(err)
	}
	s, err := NewSigner(TypeEd25519, secret, Options{})
	if err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier(TypeEd25519, Options{})
	if err != nil {
		f.Fatal(err)
	}
	if err := v.Add(public); err != nil {
		f.Fatal(err)
	}
	d, err := Func(s)(context.Background(), []byte("other data"))
	if err != nil {
		f.Fatal(err)
	}
	seed := func(d gvariant.Dict) {
		raw, err := d.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	seed(d)
	Append(&d, GPGKey, []byte{0x88, 0x00})
	d.Set("x", gvariant.String("y"))
	seed(d)
	f.Add([]byte{})
	f.Add([]byte("invalid\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		defer testutil.Bounded(t)()
		d, err := gvariant.ParseDict(raw)
		if err != nil {
			return
		}
		if m, err := v.VerifyDict([]byte("data"), d); err == nil {
			t.Fatalf("accepted: %+v", m)
		}
		if res, err := (&Keyring{}).VerifyDict([]byte("data"), d, time.Time{}); err == nil {
			t.Fatalf("accepted: %+v", res)
		}
		again, err := d.Marshal()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%x becomes %x, %v", raw, again, err)
		}
		before := len(Signatures(d, GPGKey))
		Append(&d, GPGKey, []byte("mine"))
		if n := len(Signatures(d, GPGKey)); n != before+1 {
			t.Fatalf("%d signatures after %d", n, before)
		}
		Remove(&d, GPGKey, func(s []byte) bool { return string(s) == "mine" })
		if n := len(Signatures(d, GPGKey)); n > before {
			t.Fatalf("%d signatures after %d", n, before)
		}
	})
}

// FuzzKeyFiles: what parses as a key file, public or secret, is usable or refused.
func FuzzKeyFiles(f *testing.F) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		f.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("AAAA\n\nAAAA=\n"))
	f.Add([]byte(b64(pub, nil) + "\n" + b64(key, nil)))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		for _, typ := range []string{TypeEd25519, TypeSPKI, TypeDummy} {
			v, err := NewVerifier(typ, Options{Dummy: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.AddFile(data); err == nil && v.Len() == 0 {
				t.Fatal("no error and no key")
			}
			signers, err := ReadSigners(typ, data, Options{Dummy: true})
			if err == nil && len(signers) == 0 {
				t.Fatal("no error and no key")
			}
			keys, err := ReadKeys(typ, data, false)
			if err != nil {
				continue
			}
			total := 0
			for _, k := range keys {
				total += len(k)
			}
			if total > len(data) {
				t.Fatalf("%d bytes of keys in %d bytes", total, len(data))
			}
		}
	})
}
