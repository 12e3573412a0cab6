// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Keyring holds the certificates that may sign. The zero value is empty. It is
// safe for concurrent use once it is filled.
type Keyring struct {
	mu    sync.Mutex // key checks cache their results inside the entities
	certs []certificate
}

// certificate is a block and what the library made of it.
type certificate struct {
	block  Block
	entity *openpgp.Entity
}

// Add reads all certificates of a key file, armored or binary. Those that cannot
// be used at all are left out as long as the file holds another one; a secret key
// counts as one of those, because it has no place among trusted keys. An error
// wraps ErrFormat or ErrUnsupported.
func (k *Keyring) Add(data []byte) error {
	blocks, err := ReadBlocks(data)
	if err != nil {
		return err
	}
	var last error
	n := 0
	for _, b := range blocks {
		if b.secret {
			last = fmt.Errorf("read key %s: it is a secret one: %w", b.Fingerprint, ErrFormat)
			continue
		}
		if err := k.AddBlock(b); err != nil {
			last = err
			continue
		}
		n++
	}
	if n == 0 {
		return last
	}
	return nil
}

// AddBlock adds one certificate.
func (k *Keyring) AddBlock(b Block) error {
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(b.Bytes())))
	if err != nil {
		return fmt.Errorf("read key %s: %w", b.Fingerprint, libraryError(err))
	}
	k.certs = append(k.certs, certificate{b, e})
	return nil
}

// Len counts the certificates.
func (k *Keyring) Len() int {
	if k == nil {
		return 0
	}
	return len(k.certs)
}

// Blocks gives the certificates as they were read.
func (k *Keyring) Blocks() []Block {
	var out []Block
	for _, c := range k.certs {
		out = append(out, c.block)
	}
	return out
}

// candidate is one key that may have made a signature.
type candidate struct {
	cert   certificate
	subkey *openpgp.Subkey // nil for the primary key
	key    *packet.PublicKey
}

// find lists the keys with a key ID, or with a fingerprint if the signature
// names one.
func (k *Keyring) find(s *Signature) []candidate {
	if k == nil {
		return nil
	}
	match := func(key *packet.PublicKey) bool {
		if len(s.Fingerprint) > 0 {
			return bytes.Equal(key.Fingerprint, s.Fingerprint)
		}
		return key.KeyId == s.KeyID
	}
	var out []candidate
	for _, c := range k.certs {
		if match(c.entity.PrimaryKey) {
			out = append(out, candidate{cert: c, key: c.entity.PrimaryKey})
		}
		for i := range c.entity.Subkeys {
			if s := &c.entity.Subkeys[i]; match(s.PublicKey) {
				out = append(out, candidate{cert: c, subkey: s, key: s.PublicKey})
			}
		}
	}
	return out
}

// lenient accepts the key sizes and algorithms that GnuPG accepts: old keys of
// distributions are short. Which hash a signature may use is the caller's policy.
func lenient() *packet.Config {
	return &packet.Config{MinRSABits: 1024, RejectPublicKeyAlgorithms: map[packet.PublicKeyAlgorithm]bool{}}
}

// usable checks that the key, and for a subkey its certificate, may sign at a
// time: bound, not expired, not revoked, and meant for signing.
func (k *Keyring) usable(c candidate, at time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	config := lenient()
	e := c.cert.entity
	if e.Revoked(at) {
		return ErrKeyRevoked
	}
	self, err := e.VerifyPrimaryKey(at, config)
	if err != nil {
		return keyError(e, nil, err, config)
	}
	if c.subkey == nil {
		if self.FlagsValid && !self.FlagSign && !self.FlagCertify {
			return ErrKeyUnusable
		}
		return nil
	}
	bind, err := c.subkey.Verify(at, config)
	if err != nil {
		return keyError(e, c.subkey, err, config)
	}
	// Only a binding that says "sign" forces the subkey's own counter-signature to be checked.
	if !bind.FlagsValid || !bind.FlagSign {
		return ErrKeyUnusable
	}
	return nil
}

// keyError finds out why a key is refused: the library reports an expired
// self-signature as missing.
func keyError(e *openpgp.Entity, s *openpgp.Subkey, err error, config *packet.Config) error {
	mapped := libraryError(err)
	if errors.Is(mapped, ErrKeyExpired) || errors.Is(mapped, ErrKeyRevoked) {
		return mapped
	}
	if _, err := e.VerifyPrimaryKey(time.Time{}, config); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyUnusable, err)
	}
	if s != nil {
		if _, err := s.Verify(time.Time{}, config); err != nil {
			return fmt.Errorf("%w: %w", ErrKeyUnusable, err)
		}
	}
	return ErrKeyExpired
}

// Match lists the certificates that a user names by id: a fingerprint or key ID
// (8 or more hexadecimal digits, of the primary key or a subkey, perhaps with 0x
// in front or ! behind), an <e-mail address>, or a part of a user ID.
func (k *Keyring) Match(id string) []Block {
	var out []Block
	for _, c := range k.certs {
		if c.matches(id) {
			out = append(out, c.block)
		}
	}
	return out
}

// Fingerprints lists those of the certificates that Match finds, subkeys included,
// hexadecimal in lower case.
func (k *Keyring) Fingerprints(id string) []string {
	var out []string
	for _, c := range k.certs {
		if c.matches(id) {
			out = append(out, c.fingerprints()...)
		}
	}
	return out
}

func (c certificate) matches(id string) bool {
	if hexa := cleanID(id); len(hexa) >= 8 {
		for _, f := range c.fingerprints() {
			if strings.HasSuffix(f, hexa) {
				return true
			}
		}
	}
	if id == "" {
		return false
	}
	for name := range c.entity.Identities {
		if strings.Contains(strings.ToLower(name), strings.ToLower(id)) {
			return true
		}
	}
	return false
}

// fingerprints gives those of the primary key and the subkeys.
func (c certificate) fingerprints() []string {
	out := []string{c.block.Fingerprint}
	for i := range c.entity.Subkeys {
		out = append(out, hex.EncodeToString(c.entity.Subkeys[i].PublicKey.Fingerprint))
	}
	return out
}
