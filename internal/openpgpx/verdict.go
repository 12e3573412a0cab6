// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"
)

// Policy is how signatures are judged. The zero value judges as of now and
// refuses SHA-1.
type Policy struct {
	AllowSHA1 bool      // common up to about 2012
	Time      time.Time // when keys and signatures must be valid; zero: now
}

func (p Policy) now() time.Time {
	if p.Time.IsZero() {
		return time.Now()
	}
	return p.Time
}

// Verdict says what came of one signature.
type Verdict struct {
	Signature *Signature
	// Fingerprint is that of the key that made the signature, hexadecimal in lower
	// case: from the keyring, or else as the signature names it, perhaps only a key ID.
	Fingerprint string
	// Certificate is where the key is; nil if it is not in the keyring.
	Certificate *Certificate
	// Err is nil for a good signature, otherwise it wraps one of the sentinels.
	Err error
}

// Judge compares the hash of the signed bytes, started with NewHash, with the
// keyring. Several keys may share an ID, and a key may be there in several
// states: a good answer counts more than a bad one, but a revocation is final.
func (k *Keyring) Judge(s *Signature, h hash.Hash, p Policy) Verdict {
	v := Verdict{Signature: s, Fingerprint: s.Issuer()}
	reason := ErrNoKey
	found := false
	var from candidate
	for _, c := range k.find(s) {
		err := k.try(s, c, h, p)
		better := !found || err == nil || errors.Is(reason, ErrBadSignature)
		if errors.Is(reason, ErrKeyRevoked) || !better && !errors.Is(err, ErrKeyRevoked) {
			continue
		}
		found, reason, from = true, err, c
	}
	if found {
		v.Fingerprint = hex.EncodeToString(from.key.Fingerprint)
		cert := k.describe(from.cert, p.now())
		v.Certificate = &cert
	}
	if reason != nil {
		v.Err = fmt.Errorf("signature of key %s: %w", s.Issuer(), reason)
	}
	return v
}

// try checks the signature with one key, and then whether that key may sign.
func (k *Keyring) try(s *Signature, c candidate, h hash.Hash, p Policy) error {
	sum, err := cloneHash(h)
	if err != nil {
		return err
	}
	if err := s.check(c.key, sum); err != nil {
		return err
	}
	if s.Hash == crypto.MD5 || s.Hash == crypto.SHA1 && !p.AllowSHA1 {
		return fmt.Errorf("%w (%v)", ErrWeak, s.Hash)
	}
	if s.Created.Before(c.key.CreationTime) {
		return fmt.Errorf("made before its key: %w", ErrBadSignature)
	}
	now := p.now()
	// A time in the future is no reason to refuse: this machine's clock may be slow.
	if past(s.Expires, now) {
		return fmt.Errorf("%w: made %s", ErrSigTime, s.Created.UTC().Format(time.RFC3339))
	}
	return k.usable(c, now)
}
