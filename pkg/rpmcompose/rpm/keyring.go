// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Conditions of keys and signatures.
var (
	ErrNoKey        = errors.New("key is not in the keyring")
	ErrKeyExpired   = errors.New("key has expired")
	ErrKeyRevoked   = errors.New("key is revoked")
	ErrSigTime      = errors.New("signature is not valid at this time")
	ErrKeyUnusable  = errors.New("key is not valid for signing")
	ErrBadSignature = errors.New("signature does not match")
	ErrUnsigned     = errors.New("not signed")
	ErrWeak         = errors.New("signature uses a broken hash function")
)

// Keyring holds the OpenPGP keys that may sign packages and metadata. It is safe for concurrent use.
type Keyring struct {
	mu       sync.Mutex // key checks cache their results inside the entities
	entities openpgp.EntityList
}

// Key describes one certificate of a keyring.
type Key struct {
	Fingerprint string   // hexadecimal, lower case
	UserIDs     []string // unchecked text
	Created     time.Time
}

// LoadKeyring reads any number of certificates from each of files, which hold armored blocks or binary
// packets. A certificate that cannot be used at all is skipped as long as its file holds another one.
//
// An error wraps [ErrFormat] or [ErrUnsupported].
func LoadKeyring(files ...[]byte) (*Keyring, error) {
	k := &Keyring{}
	for i, data := range files {
		list, err := readKeys(data)
		if err != nil {
			return nil, fmt.Errorf("read key file %d: %w", i+1, err)
		}
		k.entities = append(k.entities, list...)
	}
	return k, nil
}

// Keys lists the certificates.
func (k *Keyring) Keys() []Key {
	if k == nil {
		return nil
	}
	var out []Key
	for _, e := range k.entities {
		key := Key{Fingerprint: hex.EncodeToString(e.PrimaryKey.Fingerprint), Created: e.PrimaryKey.CreationTime.UTC()}
		for _, id := range e.Identities {
			key.UserIDs = append(key.UserIDs, id.Name)
		}
		out = append(out, key)
	}
	return out
}

const armorBegin = "-----BEGIN PGP "

func readKeys(data []byte) (openpgp.EntityList, error) {
	if !bytes.Contains(data, []byte(armorBegin)) {
		return readKeyPackets(data)
	}
	var all openpgp.EntityList
	var last error
	for {
		i := bytes.Index(data, []byte(armorBegin))
		if i < 0 {
			break
		}
		data = data[i:]
		list, err := readArmored(data)
		if err != nil {
			last = err
		}
		all = append(all, list...)
		data = data[len(armorBegin):]
	}
	if len(all) == 0 && last != nil {
		return nil, last
	}
	return all, nil
}

func readArmored(data []byte) (openpgp.EntityList, error) {
	block, err := armor.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if block.Type != "PGP PUBLIC KEY BLOCK" {
		return nil, fmt.Errorf("block of type %q: %w", block.Type, ErrFormat)
	}
	list, err := openpgp.ReadKeyRing(block.Body)
	return list, pgpError(err)
}

func readKeyPackets(data []byte) (openpgp.EntityList, error) {
	list, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err == nil && len(list) == 0 {
		return nil, fmt.Errorf("no key: %w", ErrFormat)
	}
	return list, pgpError(err)
}

// pgpError maps the library's kinds of errors to this package's sentinels.
func pgpError(err error) error {
	var unsupported pgperrors.UnsupportedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unsupported):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return ErrKeyExpired
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return ErrKeyRevoked
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

// candidate is one key that may have made a signature.
type candidate struct {
	entity *openpgp.Entity
	subkey *openpgp.Subkey // nil for the primary key
	key    *packet.PublicKey
}

// find lists the keys with a key ID, and with a fingerprint if the signature names one.
func (k *Keyring) find(keyID uint64, fingerprint []byte) []candidate {
	if k == nil {
		return nil
	}
	match := func(key *packet.PublicKey) bool {
		if len(fingerprint) > 0 {
			return bytes.Equal(key.Fingerprint, fingerprint)
		}
		return key.KeyId == keyID
	}
	var out []candidate
	for _, e := range k.entities {
		if match(e.PrimaryKey) {
			out = append(out, candidate{entity: e, key: e.PrimaryKey})
		}
		for i := range e.Subkeys {
			if s := &e.Subkeys[i]; match(s.PublicKey) {
				out = append(out, candidate{entity: e, subkey: s, key: s.PublicKey})
			}
		}
	}
	return out
}

// usable checks that the key, and for a subkey its certificate, may sign at a time: bound, not expired,
// not revoked, and meant for signing.
func (k *Keyring) usable(c candidate, at time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Old distribution keys are short; the signature's strength is judged by the caller's policy.
	config := &packet.Config{MinRSABits: 1024, RejectPublicKeyAlgorithms: map[packet.PublicKeyAlgorithm]bool{}}
	self, err := c.entity.VerifyPrimaryKey(at, config)
	if err != nil {
		return keyError(c.entity, nil, err, config)
	}
	if c.subkey == nil {
		if self.FlagsValid && !self.FlagSign && !self.FlagCertify {
			return ErrKeyUnusable
		}
		return nil
	}
	bind, err := c.subkey.Verify(at, config)
	if err != nil {
		return keyError(c.entity, c.subkey, err, config)
	}
	// Only a binding that says "sign" forces the subkey's own counter-signature to be checked.
	if !bind.FlagsValid || !bind.FlagSign {
		return ErrKeyUnusable
	}
	return nil
}

// keyError finds out why a key is refused: the library reports an expired self-signature as missing.
func keyError(e *openpgp.Entity, s *openpgp.Subkey, err error, config *packet.Config) error {
	mapped := pgpError(err)
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

// keyName gives a key's short name for messages.
func keyName(keyID uint64, fingerprint []byte) string {
	if len(fingerprint) > 0 {
		return hex.EncodeToString(fingerprint)
	}
	return strings.ToLower(fmt.Sprintf("%016x", keyID))
}
