// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"crypto"
	"errors"
	"hash"
	"time"

	"github.com/hostctl/hostctl/internal/openpgpx"
)

// parseSignatures reads all signature packets of a blob. Packets of an unsupported kind give an error
// that wraps ErrUnsupported beside those that could be read.
func parseSignatures(data []byte) ([]*openpgpx.Signature, error) {
	sigs, err := openpgpx.Signatures(data)
	return sigs, pgpError(err)
}

// SignatureResult says what came of one signature.
type SignatureResult struct {
	// Tag is the signature header's tag; 0 for a detached signature.
	Tag Tag
	// Header and Payload say what the signature covers by itself.
	Header, Payload bool
	// KeyID is the issuer as the signature names it, hexadecimal: a fingerprint if there is one.
	KeyID string
	// Fingerprint is the primary key's, hexadecimal, once the issuer was found in the keyring.
	Fingerprint string
	Hash        crypto.Hash
	Created     time.Time
	// Err is nil for a good signature, otherwise it wraps one of the package's sentinels.
	Err error
}

// verdict compares a finished hash with the keyring.
func verdict(s *openpgpx.Signature, kr *Keyring, h hash.Hash, o VerifyOptions) SignatureResult {
	var keys *openpgpx.Keyring
	if kr != nil {
		keys = &kr.keys
	}
	v := keys.Judge(s, h, openpgpx.Policy{AllowSHA1: o.AllowSHA1, Time: o.Time})
	res := SignatureResult{KeyID: s.Issuer(), Hash: s.Hash, Created: s.Created, Err: pgpError(v.Err)}
	if v.Certificate != nil {
		res.Fingerprint = v.Certificate.Keys[0].Fingerprint
	}
	return res
}

// VerifyDetached checks a detached signature, armored or binary, over data: what repomd.xml.asc is. At
// least one signature must be good and none may be wrong.
//
// An error wraps one of the package's sentinels, such as [ErrNoKey] or [ErrBadSignature].
func VerifyDetached(data, signature []byte, kr *Keyring, o VerifyOptions) (SignatureResult, error) {
	sigs, failure := parseSignatures(signature)
	var good *SignatureResult
	for _, s := range sigs {
		h, err := s.NewHash()
		if err != nil {
			failure = pgpError(err)
			continue
		}
		h.Write(data)
		res := verdict(s, kr, h, o)
		if errors.Is(res.Err, ErrBadSignature) {
			return res, res.Err
		}
		if res.Err == nil && good == nil {
			good = &res
			continue
		}
		failure = res.Err
	}
	if good != nil {
		return *good, nil
	}
	return SignatureResult{}, failure
}
