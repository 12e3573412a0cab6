// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"github.com/cloudflare/circl/sign/ed448"
)

// rawSigner signs with a secret key in memory.
type rawSigner struct {
	typ  string
	sign func(data []byte) ([]byte, error)
}

func (s rawSigner) Key() string { return MetadataKey(s.typ) }

func (s rawSigner) Sign(ctx context.Context, data []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.sign(data)
}

// NewSigner makes a signer from a secret key as "ostree sign" takes it on its
// command line: base64 of 64 bytes (seed and public key) for ed25519, base64 of
// the DER of a private key for spki, the text itself for dummy. Errors: ErrType,
// ErrDummy, ErrKeyData.
func NewSigner(typ, secret string, o Options) (Signer, error) {
	if err := CheckType(typ); err != nil {
		return nil, err
	}
	if typ == TypeDummy {
		return RawSigner(typ, []byte(secret), o)
	}
	raw, err := decodeBase64(secret)
	if err != nil {
		return nil, fmt.Errorf("read %s secret key: %w", typ, err)
	}
	return RawSigner(typ, raw, o)
}

// ReadSigners makes a signer from every secret key in a key file; see ReadKeys.
func ReadSigners(typ string, data []byte, o Options) ([]Signer, error) {
	keys, err := ReadKeys(typ, data, true)
	if err != nil {
		return nil, err
	}
	var out []Signer
	for _, k := range keys {
		s, err := RawSigner(typ, k, o)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// RawSigner makes a signer from a secret key in bytes; see NewSigner.
func RawSigner(typ string, raw []byte, o Options) (Signer, error) {
	switch typ {
	case TypeEd25519:
		return ed25519Signer(raw)
	case TypeSPKI:
		return spkiSigner(raw)
	case TypeDummy:
		if !o.Dummy {
			return nil, ErrDummy
		}
		text := bytes.Clone(raw)
		return rawSigner{typ, func([]byte) ([]byte, error) { return text, nil }}, nil
	}
	return nil, ErrType
}

func ed25519Signer(raw []byte) (Signer, error) {
	if len(raw) != ed25519.PrivateKeySize {
		return nil, lengthError("ed25519 secret key", len(raw), ed25519.PrivateKeySize)
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !bytes.Equal(key, raw) {
		return nil, fmt.Errorf("%w: ed25519 secret key: its two halves do not belong together", ErrKeyData)
	}
	return rawSigner{TypeEd25519, func(data []byte) ([]byte, error) { return ed25519.Sign(key, data), nil }}, nil
}

func spkiSigner(der []byte) (Signer, error) {
	key, err := parsePrivate(der)
	if err != nil {
		return nil, err
	}
	var sign func(data []byte) ([]byte, error)
	switch k := key.(type) {
	case ed25519.PrivateKey:
		sign = func(data []byte) ([]byte, error) { return ed25519.Sign(k, data), nil }
	case ed448.PrivateKey:
		sign = func(data []byte) ([]byte, error) { return ed448.Sign(k, data, ""), nil }
	case *rsa.PrivateKey:
		sign = func(data []byte) ([]byte, error) {
			return rsa.SignPKCS1v15(nil, k, crypto.SHA256, sha256Sum(data))
		}
	case *ecdsa.PrivateKey:
		sign = func(data []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, k, sha256Sum(data)) }
	default:
		return nil, fmt.Errorf("%w: spki secret key of type %T", ErrKeyData, key)
	}
	return rawSigner{TypeSPKI, sign}, nil
}

// parsePrivate reads the DER forms that OpenSSL tells apart by itself.
func parsePrivate(der []byte) (any, error) {
	if k, ok, err := ed448Private(der); ok {
		return k, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		return key, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w: spki secret key: %w", ErrKeyData, err)
}

func sha256Sum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

// GenerateEd25519 makes a new key pair in the form of key files: the secret key
// and the public key in base64.
func GenerateEd25519() (secret, public string, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	return base64.StdEncoding.EncodeToString(key), base64.StdEncoding.EncodeToString(pub), nil
}
