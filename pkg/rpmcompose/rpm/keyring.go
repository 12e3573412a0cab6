// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/internal/openpgpx"
)

// Conditions of keys and signatures.
var (
	ErrNoKey        = openpgpx.ErrNoKey
	ErrKeyExpired   = openpgpx.ErrKeyExpired
	ErrKeyRevoked   = openpgpx.ErrKeyRevoked
	ErrSigTime      = openpgpx.ErrSigTime
	ErrKeyUnusable  = openpgpx.ErrKeyUnusable
	ErrBadSignature = openpgpx.ErrBadSignature
	ErrUnsigned     = errors.New("not signed")
	ErrWeak         = openpgpx.ErrWeak
)

// Keyring holds the OpenPGP keys that may sign packages and metadata. It is safe for concurrent use.
type Keyring struct {
	keys openpgpx.Keyring
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
		if err := k.keys.Add(data); err != nil {
			return nil, fmt.Errorf("read key file %d: %w", i+1, pgpError(err))
		}
	}
	return k, nil
}

// Keys lists the certificates.
func (k *Keyring) Keys() []Key {
	if k == nil {
		return nil
	}
	var out []Key
	for _, c := range k.keys.Certificates(time.Time{}) {
		key := Key{Fingerprint: c.Keys[0].Fingerprint, Created: c.Keys[0].Created}
		for _, id := range c.UserIDs {
			key.UserIDs = append(key.UserIDs, id.Text)
		}
		out = append(out, key)
	}
	return out
}

// pgpError adds this package's sentinels for the same conditions.
func pgpError(err error) error {
	switch {
	case errors.Is(err, openpgpx.ErrUnsupported):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, openpgpx.ErrFormat):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}
