// SPDX-License-Identifier: Apache-2.0

// Package sign makes and verifies the signatures of OSTree commits, summaries
// and static deltas.
//
// A signature dictionary is an a{sv} with one list of signatures (aay) per type:
//
//	ostree.gpgsigs       OpenPGP detached signature packets
//	ostree.sign.ed25519  64 bytes each
//	ostree.sign.spki     what OpenSSL's EVP_DigestSign makes with a key in SubjectPublicKeyInfo form
//	ostree.sign.dummy    the text of the key itself, for tests only
//
// It is the detached metadata of a commit (objects/…/….commitmeta), the file
// summary.sig, and the last field of a signed delta superblock. What is signed
// are the bytes of the commit object, the summary or the superblock, as they are.
//
// The package is pure: keys come as bytes or from an fs.FS that the caller opens.
// OpenPGP signatures are made by package gpg, which runs a program; they are
// verified here.
package sign

import (
	"context"
	"errors"
	"slices"

	"github.com/hostctl/hostctl/internal/openpgpx"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// The signature types beside OpenPGP, as configuration and command lines name
// them.
const (
	TypeEd25519 = "ed25519"
	TypeSPKI    = "spki"
	TypeDummy   = "dummy"
)

// GPGKey is where a signature dictionary holds OpenPGP signatures.
const GPGKey = "ostree.gpgsigs"

// MaxSignatures bounds how many signatures of a type are verified: each costs a
// hash of all the data, and anyone can make a long list.
const MaxSignatures = 100

// Conditions that callers test for with errors.Is.
var (
	// ErrType: the signature type is not known. The text is libostree's.
	ErrType = errors.New("Requested signature type is not implemented") //nolint:staticcheck // ST1005: scripts compare the text
	// ErrDummy: dummy signatures are switched off.
	ErrDummy = errors.New("dummy signature type is only for ostree testing")
	// ErrKeyData: a key cannot be read.
	ErrKeyData = errors.New("invalid key")
	// ErrNoSignature: the dictionary has no signature of the wanted kind.
	ErrNoSignature = errors.New("no signature")
	// ErrNoKeys: there is no key to verify with.
	ErrNoKeys = errors.New("no keys loaded")
	// ErrNotVerified: there are signatures, none of which a trusted key made.
	ErrNotVerified = errors.New("signature not verified")

	// Of an OpenPGP signature: why it is not accepted.
	ErrNoKey        = openpgpx.ErrNoKey
	ErrKeyExpired   = openpgpx.ErrKeyExpired
	ErrKeyRevoked   = openpgpx.ErrKeyRevoked
	ErrExpired      = openpgpx.ErrSigTime
	ErrBadSignature = openpgpx.ErrBadSignature
)

// Options switch features on. The zero value is for real use.
type Options struct {
	// Dummy allows the type dummy, whose signatures anyone can make:
	// OSTREE_DUMMY_SIGN_ENABLED.
	Dummy bool
}

// Types lists the types in the order in which libostree tries them.
func Types() []string { return []string{TypeEd25519, TypeSPKI, TypeDummy} }

// CheckType tells whether a type is known (ErrType).
func CheckType(typ string) error {
	if !slices.Contains(Types(), typ) {
		return ErrType
	}
	return nil
}

// MetadataKey is where a signature dictionary holds signatures of a type.
func MetadataKey(typ string) string { return "ostree.sign." + typ }

// Signer makes signatures that belong under one key of a signature dictionary.
type Signer interface {
	// Key is the dictionary's key: GPGKey or that of MetadataKey.
	Key() string
	// Sign gives one signature over data.
	Sign(ctx context.Context, data []byte) ([]byte, error)
}

// Signatures lists what a dictionary holds under a key, as views; nil if there
// is nothing of the right type.
func Signatures(d gvariant.Dict, key string) [][]byte {
	list, _ := d.ByteSlices(key)
	return list
}

// Append adds a signature behind those that the dictionary has under the key.
func Append(d *gvariant.Dict, key string, signature []byte) {
	d.Set(key, gvariant.ByteSlices(append(slices.Clone(Signatures(*d, key)), signature)))
}

// Remove drops the signatures under a key for which drop is true and tells how
// many those were. A key without signatures goes away.
func Remove(d *gvariant.Dict, key string, drop func(signature []byte) bool) int {
	var left [][]byte
	all := Signatures(*d, key)
	for _, s := range all {
		if !drop(s) {
			left = append(left, s)
		}
	}
	switch {
	case len(left) == len(all):
		return 0
	case len(left) == 0:
		d.Remove(key)
	default:
		d.Set(key, gvariant.ByteSlices(left))
	}
	return len(all) - len(left)
}

// Sign appends one signature by each signer to the dictionary.
func Sign(ctx context.Context, d *gvariant.Dict, data []byte, signers ...Signer) error {
	for _, s := range signers {
		raw, err := s.Sign(ctx, data)
		if err != nil {
			return err
		}
		Append(d, s.Key(), raw)
	}
	return nil
}

// Func gives a function that signs data with all signers into a new dictionary:
// the form that ostree.SummaryOptions.Sign has. It is nil without signers.
func Func(signers ...Signer) func(ctx context.Context, data []byte) (gvariant.Dict, error) {
	if len(signers) == 0 {
		return nil
	}
	return func(ctx context.Context, data []byte) (gvariant.Dict, error) {
		var d gvariant.Dict
		err := Sign(ctx, &d, data, signers...)
		return d, err
	}
}
