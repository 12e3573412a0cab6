// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/hostctl/hostctl/internal/openpgpx"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Keyring holds trusted OpenPGP keys. The zero value is empty and accepts
// nothing.
type Keyring struct {
	keys openpgpx.Keyring
}

// Block is one certificate as it was read; see Keyring.Match.
type Block = openpgpx.Block

// Certificate, Key and UserID describe what a keyring holds.
type (
	Certificate = openpgpx.Certificate
	Key         = openpgpx.Key
	UserID      = openpgpx.UserID
)

// Add reads all certificates of a key file, armored or binary; an empty file has
// none. Those that cannot be used are left out as long as the file holds another
// one. Errors: ErrKeyData.
func (k *Keyring) Add(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := k.keys.Add(data); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyData, err)
	}
	return nil
}

// Len counts the certificates.
func (k *Keyring) Len() int { return k.keys.Len() }

// Certificates describes the keys as of a time, in the order of the files; a
// zero time means now.
func (k *Keyring) Certificates(now time.Time) []Certificate { return k.keys.Certificates(now) }

// Blocks gives all certificates as they were read.
func (k *Keyring) Blocks() []Block { return k.keys.Blocks() }

// Match lists the certificates that id names: a fingerprint or key ID of the
// primary key or a subkey, or a part of a user ID.
func (k *Keyring) Match(id string) []Block { return k.keys.Match(id) }

// AddBlock adds one certificate. Errors: ErrKeyData.
func (k *Keyring) AddBlock(b Block) error {
	if err := k.keys.AddBlock(b); err != nil {
		return fmt.Errorf("%w: %w", ErrKeyData, err)
	}
	return nil
}

// Fingerprints lists the fingerprints of the certificates that id names, subkeys
// included; see Match.
func (k *Keyring) Fingerprints(id string) []string { return k.keys.Fingerprints(id) }

// IssuedBy tells whether the packets of a signature name one of the keys as their
// maker: fingerprints or key IDs, hexadecimal. It verifies nothing.
func IssuedBy(signature []byte, keys []string) bool {
	sigs, _ := openpgpx.Signatures(signature)
	return slices.ContainsFunc(sigs, func(s *openpgpx.Signature) bool {
		return slices.ContainsFunc(keys, s.IssuedBy)
	})
}

// ReadBlocks reads the certificates of a key file, armored or binary, keyrings
// of secret keys included, whose public halves it gives. Errors: ErrKeyData.
func ReadBlocks(data []byte) ([]Block, error) {
	blocks, err := openpgpx.ReadBlocks(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyData, err)
	}
	return blocks, nil
}

// MergeBlocks adds certificates to a keyring file: to those that have the same
// primary key, or at the end. It gives the new file, in GnuPG's old keyring
// format, and how many certificates are new.
func MergeBlocks(have, add []Block) (file []byte, added int) {
	have = slices.Clone(have)
	for _, b := range add {
		i := slices.IndexFunc(have, func(h Block) bool { return h.Fingerprint == b.Fingerprint })
		if i < 0 {
			have = append(have, b)
			added++
			continue
		}
		have[i].Merge(b)
	}
	for _, b := range have {
		file = append(file, b.Bytes()...)
	}
	return file, added
}

// GPGSignature is what came of one OpenPGP signature: the fields of libostree's
// OSTREE_GPG_SIGNATURE_ATTR_*.
type GPGSignature struct {
	Valid      bool
	SigExpired bool
	KeyExpired bool // of the key or of its primary key
	KeyRevoked bool
	KeyMissing bool

	Fingerprint        string // of the key that signed, upper case; a key ID where only that is known
	PrimaryFingerprint string // "" if the key is missing
	Created            time.Time
	Expires            time.Time // zero: never
	KeyExpires         time.Time // zero: never
	PrimaryExpires     time.Time // zero: never
	PubkeyAlgo         string
	HashAlgo           string
	UserName           string
	UserEmail          string

	// Err is nil for a valid signature, else it wraps ErrNoKey, ErrKeyExpired,
	// ErrKeyRevoked, ErrExpired, ErrBadSignature or says what else is wrong.
	Err error
}

// GPGResult lists the signatures in the order of the dictionary.
type GPGResult []GPGSignature

// VerifyDict checks data against the OpenPGP signatures of a dictionary, as of a
// time (zero: now). The error is nil if at least one signature is valid; otherwise
// it is a *GPGError, also when there is none. The result is complete either way.
func (k *Keyring) VerifyDict(data []byte, d gvariant.Dict, now time.Time) (GPGResult, error) {
	if _, ok := d.ByteSlices(GPGKey); !ok {
		return nil, &GPGError{text: "GPG verification enabled, but no signatures found (use gpg-verify=false in remote config to disable)", reason: ErrNoSignature}
	}
	res := k.Verify(data, Signatures(d, GPGKey), now)
	return res, res.Err()
}

// Verify checks data against a list of OpenPGP signatures as of a time (zero:
// now). SHA-1 is accepted in signatures over data, as GnuPG does: published
// repositories have it. What lies beyond MaxSignatures is not looked at.
func (k *Keyring) Verify(data []byte, signatures [][]byte, now time.Time) GPGResult {
	if now.IsZero() {
		now = time.Now()
	}
	var out GPGResult
	for _, blob := range signatures {
		if len(out) >= MaxSignatures {
			break
		}
		out = append(out, k.verifyBlob(data, blob, now)...)
	}
	return out
}

// verifyBlob checks one element of the list, which may hold several packets.
func (k *Keyring) verifyBlob(data, blob []byte, now time.Time) []GPGSignature {
	sigs, err := openpgpx.Signatures(blob)
	var out []GPGSignature
	for _, s := range sigs[:min(len(sigs), MaxSignatures)] {
		out = append(out, k.verifyOne(data, s, now))
	}
	if err != nil {
		out = append(out, GPGSignature{Err: fmt.Errorf("%w: %w", ErrBadSignature, err), PubkeyAlgo: unknownName, HashAlgo: unknownName, UserName: unknownName, UserEmail: unknownEmail})
	}
	return out
}

const (
	unknownName  = "[unknown name]"
	unknownEmail = "[unknown email]"
)

func (k *Keyring) verifyOne(data []byte, s *openpgpx.Signature, now time.Time) GPGSignature {
	out := GPGSignature{
		Fingerprint: strings.ToUpper(s.Issuer()), Created: s.Created, Expires: s.Expires,
		PubkeyAlgo: algoName(s.Algo), HashAlgo: hashName(s.Hash), UserName: unknownName, UserEmail: unknownEmail,
	}
	h, err := s.NewHash()
	if err != nil {
		out.Err = err
		return out
	}
	h.Write(data)
	v := k.keys.Judge(s, h, openpgpx.Policy{AllowSHA1: true, Time: now})
	out.Err = v.Err
	out.Valid = v.Err == nil
	out.KeyMissing = errors.Is(v.Err, ErrNoKey)
	out.KeyRevoked = errors.Is(v.Err, ErrKeyRevoked)
	out.KeyExpired = errors.Is(v.Err, ErrKeyExpired)
	out.SigExpired = errors.Is(v.Err, ErrExpired)
	out.Fingerprint = strings.ToUpper(v.Fingerprint)
	if v.Certificate != nil {
		out.describe(*v.Certificate, v.Fingerprint)
	}
	return out
}

func (s *GPGSignature) describe(c Certificate, fingerprint string) {
	s.PrimaryFingerprint = strings.ToUpper(c.Keys[0].Fingerprint)
	s.PrimaryExpires = c.Keys[0].Expires
	for _, k := range c.Keys {
		if k.Fingerprint == fingerprint {
			s.KeyExpires = k.Expires
		}
	}
	if len(c.UserIDs) > 0 {
		s.UserName, s.UserEmail = printable(c.UserIDs[0].Name), printable(c.UserIDs[0].Email)
	}
}

// printable replaces what could steer a terminal: anyone writes user IDs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// algoName gives the names that GPGME uses.
func algoName(a packet.PublicKeyAlgorithm) string {
	switch a {
	case packet.PubKeyAlgoRSA:
		return "RSA"
	case packet.PubKeyAlgoRSASignOnly:
		return "RSA-S"
	case packet.PubKeyAlgoDSA:
		return "DSA"
	case packet.PubKeyAlgoECDSA:
		return "ECDSA"
	case packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519:
		return "EdDSA"
	}
	return unknownName
}

func hashName(h crypto.Hash) string {
	switch h {
	case crypto.MD5:
		return "MD5"
	case crypto.SHA1:
		return "SHA1"
	case crypto.SHA224:
		return "SHA224"
	case crypto.SHA256:
		return "SHA256"
	case crypto.SHA384:
		return "SHA384"
	case crypto.SHA512:
		return "SHA512"
	}
	return unknownName
}

// Valid counts the valid signatures.
func (r GPGResult) Valid() int {
	n := 0
	for _, s := range r {
		if s.Valid {
			n++
		}
	}
	return n
}

// Err is nil if at least one signature is valid, otherwise a *GPGError.
func (r GPGResult) Err() error {
	if r.Valid() > 0 {
		return nil
	}
	if len(r) == 0 {
		return &GPGError{text: "No GPG signatures found", reason: ErrNoSignature}
	}
	var b strings.Builder
	for _, s := range slices.Backward(r) {
		b.WriteString(s.Describe(""))
	}
	// The last signature is most likely the one that matters.
	return &GPGError{text: strings.TrimRight(b.String(), "\n"), reason: r[len(r)-1].Err}
}

// GPGError tells why no signature is accepted. Its text describes each, with line
// breaks, as libostree's does; it unwraps to the reason of the last one.
type GPGError struct {
	text   string
	reason error
}

func (e *GPGError) Error() string { return e.text }

func (e *GPGError) Unwrap() error { return e.reason }

// Describe gives the lines that "ostree show" prints for a signature, each with
// the prefix in front and a newline behind. Times are local.
func (s GPGSignature) Describe(prefix string) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(prefix)
		fmt.Fprintf(&b, format, args...)
		b.WriteByte('\n')
	}
	line("Signature made %s using %s key ID %s", stamp(s.Created), s.PubkeyAlgo, shortID(s.Fingerprint))
	switch {
	case s.KeyMissing:
		line("Can't check signature: public key not found")
	case s.Valid:
		line("Good signature from \"%s <%s>\"", s.UserName, s.UserEmail)
	case s.KeyRevoked:
		line("Key revoked")
	case s.SigExpired:
		line("Expired signature from \"%s <%s>\"", s.UserName, s.UserEmail)
	default:
		line("BAD signature from \"%s <%s>\"", s.UserName, s.UserEmail)
	}
	sub := s.Fingerprint != s.PrimaryFingerprint
	if !s.KeyMissing && sub {
		line("Primary key ID %s", shortID(s.PrimaryFingerprint))
	}
	expiry := func(what string, at time.Time, over bool) {
		verb := "expires"
		if over {
			verb = "expired"
		}
		if !at.IsZero() {
			line("%s %s %s", what, verb, stamp(at))
		}
	}
	expiry("Signature", s.Expires, s.SigExpired)
	expiry("Key", s.KeyExpires, s.KeyExpired)
	if sub {
		expiry("Primary key", s.PrimaryExpires, s.KeyExpired)
	}
	return b.String()
}

// Problem names in a few words what is wrong with a signature; "" for a valid one.
func (s GPGSignature) Problem() string {
	switch {
	case s.Valid:
		return ""
	case s.KeyMissing:
		return "Can't check signature: public key not found"
	case s.KeyRevoked:
		return "Key revoked"
	case s.KeyExpired:
		return "Key expired"
	case s.SigExpired:
		return "Expired signature"
	}
	return "BAD signature"
}

// stamp prints a time as %c does in the C locale.
func stamp(t time.Time) string { return t.Local().Format("Mon Jan _2 15:04:05 2006") }

func shortID(fingerprint string) string {
	if len(fingerprint) > 16 {
		return fingerprint[len(fingerprint)-16:]
	}
	return fingerprint
}
