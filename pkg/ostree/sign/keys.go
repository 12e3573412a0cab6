// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudflare/circl/sign/ed448"
)

// MaxKeyFile bounds a key file in bytes.
const MaxKeyFile = 4 << 20

// maxKey bounds one key in bytes.
const maxKey = 64 << 10

// decodeBase64 reads a key as it stands on a command line, in the configuration
// or on a line of a key file.
func decodeBase64(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if len(text) > base64.StdEncoding.EncodedLen(maxKey) {
		return nil, fmt.Errorf("%w: %d characters", ErrKeyData, len(text))
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyData, err)
	}
	return raw, nil
}

// ReadKeys reads a key file of a type: for ed25519 one key in base64 per line, for
// spki PEM blocks with the label "PUBLIC KEY" or, with secret, of private keys
// (PKCS #8, PKCS #1 or SEC 1), for dummy one key per line. It gives the raw keys
// without looking into them. Errors: ErrType, ErrKeyData.
func ReadKeys(typ string, data []byte, secret bool) ([][]byte, error) {
	if err := CheckType(typ); err != nil {
		return nil, err
	}
	if len(data) > MaxKeyFile {
		return nil, fmt.Errorf("%w: file of %d bytes", ErrKeyData, len(data))
	}
	if typ == TypeSPKI {
		return readPEM(data, secret)
	}
	var keys [][]byte
	var first error
	for n, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if typ == TypeDummy {
			keys = append(keys, line)
			continue
		}
		raw, err := decodeBase64(string(line))
		if err != nil {
			if first == nil {
				first = fmt.Errorf("line %d: %w", n+1, err)
			}
			continue
		}
		keys = append(keys, raw)
	}
	if len(keys) == 0 {
		return nil, errors.Join(fmt.Errorf("%w: no key", ErrKeyData), first)
	}
	return keys, nil
}

func readPEM(data []byte, secret bool) ([][]byte, error) {
	var keys [][]byte
	for {
		var b *pem.Block
		b, data = pem.Decode(data)
		if b == nil {
			break
		}
		private := b.Type == "PRIVATE KEY" || b.Type == "RSA PRIVATE KEY" || b.Type == "EC PRIVATE KEY"
		if secret != private || !secret && b.Type != "PUBLIC KEY" {
			if b.Type == "EC PARAMETERS" && secret {
				continue // openssl writes them in front of a key
			}
			return nil, fmt.Errorf("%w: PEM block of type %q", ErrKeyData, clip(b.Type))
		}
		if len(b.Bytes) > maxKey {
			return nil, fmt.Errorf("%w: PEM block of %d bytes", ErrKeyData, len(b.Bytes))
		}
		keys = append(keys, b.Bytes)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no PEM block", ErrKeyData)
	}
	return keys, nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// lengthError words a wrong length as libostree does.
func lengthError(what string, got, want int) error {
	return fmt.Errorf("%w: Invalid %s: Ill-formed input: expected %d bytes, got %d bytes", ErrKeyData, what, want, got)
}

// publicKey is a key that verifies signatures of one type.
type publicKey struct {
	raw    []byte
	verify func(data, signature []byte) bool
}

func parsePublic(typ string, raw []byte) (publicKey, error) {
	k := publicKey{raw: bytes.Clone(raw)}
	switch typ {
	case TypeEd25519:
		if len(raw) != ed25519.PublicKeySize {
			return k, lengthError("ed25519 public key", len(raw), ed25519.PublicKeySize)
		}
		k.verify = func(data, sig []byte) bool { return ed25519.Verify(k.raw, data, sig) }
		return k, nil
	case TypeSPKI:
		var err error
		k.verify, err = spkiVerifier(raw)
		return k, err
	case TypeDummy:
		k.verify = func(_, sig []byte) bool { return bytes.Equal(sig, k.raw) }
		return k, nil
	}
	return k, ErrType
}

// spkiVerifier reads a SubjectPublicKeyInfo. The hash is the one that OpenSSL
// takes for a kind of key when none is named: SHA-256 for RSA (PKCS #1 v1.5) and
// ECDSA, none for Ed25519 and Ed448.
func spkiVerifier(der []byte) (func(data, sig []byte) bool, error) {
	if pub, ok, err := ed448Public(der); ok {
		return func(data, sig []byte) bool { return ed448.Verify(pub, data, sig, "") }, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: spki public key: %w", ErrKeyData, err)
	}
	switch pub := key.(type) {
	case ed25519.PublicKey:
		return func(data, sig []byte) bool { return ed25519.Verify(pub, data, sig) }, nil
	case *rsa.PublicKey:
		return func(data, sig []byte) bool {
			return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sha256Sum(data), sig) == nil
		}, nil
	case *ecdsa.PublicKey:
		return func(data, sig []byte) bool { return ecdsa.VerifyASN1(pub, sha256Sum(data), sig) }, nil
	}
	return nil, fmt.Errorf("%w: spki public key of type %T", ErrKeyData, key)
}
