// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"encoding/asn1"
	"fmt"

	"github.com/cloudflare/circl/sign/ed448"
)

// isEd448 recognises id-Ed448 of RFC 8410, which crypto/x509 does not read.
func isEd448(oid asn1.ObjectIdentifier) bool { return oid.Equal(asn1.ObjectIdentifier{1, 3, 101, 113}) }

type algorithm struct {
	OID asn1.ObjectIdentifier
}

// ed448Public reads a SubjectPublicKeyInfo with an Ed448 key; ok is false for
// other kinds.
func ed448Public(der []byte) (key ed448.PublicKey, ok bool, err error) {
	var info struct {
		Algorithm algorithm
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) > 0 || !isEd448(info.Algorithm.OID) {
		return nil, false, nil
	}
	if len(info.Key.Bytes) != ed448.PublicKeySize || info.Key.BitLength != 8*ed448.PublicKeySize {
		return nil, true, fmt.Errorf("%w: spki public key: Ed448 key of %d bits", ErrKeyData, info.Key.BitLength)
	}
	return ed448.PublicKey(info.Key.Bytes), true, nil
}

// ed448Private reads a PKCS #8 structure with an Ed448 key; ok is false for other
// kinds.
func ed448Private(der []byte) (key ed448.PrivateKey, ok bool, err error) {
	var info struct {
		Version   int
		Algorithm algorithm
		Key       []byte
		Rest      asn1.RawValue `asn1:"optional"`
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) > 0 || !isEd448(info.Algorithm.OID) {
		return nil, false, nil
	}
	var seed []byte
	if rest, err := asn1.Unmarshal(info.Key, &seed); err != nil || len(rest) > 0 || len(seed) != ed448.SeedSize {
		return nil, true, fmt.Errorf("%w: spki secret key: malformed Ed448 key", ErrKeyData)
	}
	return ed448.NewKeyFromSeed(seed), true, nil
}
