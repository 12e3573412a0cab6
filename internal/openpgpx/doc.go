// SPDX-License-Identifier: Apache-2.0

// Package openpgpx reads OpenPGP signatures and keys as RPM packages and OSTree
// commits carry them: detached signatures of packet versions 3, 4 and 6, and
// keyrings, armored or as plain packets.
//
// It adds to the library github.com/ProtonMail/go-crypto what that lacks: version
// 3 signatures, keyrings in which some keys are unusable, and one answer per
// signature that tells expired, revoked, missing and wrong apart.
//
// Format: RFC 9580, and RFC 4880 for version 3.
package openpgpx

import (
	"errors"
	"fmt"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
)

// Conditions of data, keys and signatures.
var (
	ErrFormat       = errors.New("malformed OpenPGP data")
	ErrUnsupported  = errors.New("unsupported OpenPGP feature")
	ErrNoKey        = errors.New("key is not in the keyring")
	ErrKeyExpired   = errors.New("key has expired")
	ErrKeyRevoked   = errors.New("key is revoked")
	ErrKeyUnusable  = errors.New("key is not valid for signing")
	ErrSigTime      = errors.New("signature is not valid at this time")
	ErrBadSignature = errors.New("signature does not match")
	ErrWeak         = errors.New("signature uses a broken hash function")
)

// libraryError maps the library's kinds of errors to this package's sentinels.
func libraryError(err error) error {
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
