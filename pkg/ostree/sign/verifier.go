// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Verifier holds the trusted and the revoked public keys of one type. It is not
// safe for concurrent use while keys are added.
type Verifier struct {
	typ     string
	opts    Options
	trusted []publicKey
	revoked [][]byte
}

// Match tells which key verified a signature.
type Match struct {
	Type string // of Types
	Key  []byte // the public key
	// Message is the line that libostree prints.
	Message string
}

// NewVerifier makes a Verifier without keys. Errors: ErrType.
func NewVerifier(typ string, o Options) (*Verifier, error) {
	if err := CheckType(typ); err != nil {
		return nil, err
	}
	return &Verifier{typ: typ, opts: o}, nil
}

// Type gives the signature type.
func (v *Verifier) Type() string { return v.typ }

// Len counts the trusted keys.
func (v *Verifier) Len() int { return len(v.trusted) }

// Add trusts a public key as the configuration and command lines hold it: base64,
// or the text itself for dummy.
func (v *Verifier) Add(text string) error {
	raw := []byte(text)
	if v.typ != TypeDummy {
		var err error
		if raw, err = decodeBase64(text); err != nil {
			return fmt.Errorf("read %s public key: %w", v.typ, err)
		}
	}
	return v.AddRaw(raw)
}

// AddRaw trusts a public key: 32 bytes for ed25519, DER for spki.
func (v *Verifier) AddRaw(raw []byte) error {
	k, err := parsePublic(v.typ, raw)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(v.trusted, func(have publicKey) bool { return bytes.Equal(have.raw, raw) }) {
		v.trusted = append(v.trusted, k)
	}
	return nil
}

// Revoke distrusts a public key, whatever else names it.
func (v *Verifier) Revoke(raw []byte) { v.revoked = append(v.revoked, bytes.Clone(raw)) }

// AddFile trusts the keys of a key file. Keys that cannot be read are passed over
// as long as there is one that can.
func (v *Verifier) AddFile(data []byte) error {
	keys, err := ReadKeys(v.typ, data, false)
	if err != nil {
		return err
	}
	var first error
	n := 0
	for _, k := range keys {
		if err := v.AddRaw(k); err != nil {
			first = errors.Join(first, err)
			continue
		}
		n++
	}
	if n == 0 {
		return first
	}
	return nil
}

// LoadDir reads the standard files of a folder such as /etc/ostree: trusted.TYPE
// and all files in trusted.TYPE.d, revoked.TYPE and all in revoked.TYPE.d. An
// absent one is no error. A trusted file that cannot be read is passed over; a
// revocation that cannot be read is an error, because it would be lost.
func (v *Verifier) LoadDir(dir fs.FS) error {
	_ = v.eachFile(dir, "trusted."+v.typ, v.AddFile)
	return v.LoadRevoked(dir)
}

// LoadRevoked reads only the revoked keys of a folder; see LoadDir.
func (v *Verifier) LoadRevoked(dir fs.FS) error {
	return v.eachFile(dir, "revoked."+v.typ, func(data []byte) error {
		if len(bytes.TrimSpace(data)) == 0 {
			return nil
		}
		keys, err := ReadKeys(v.typ, data, false)
		for _, k := range keys {
			v.Revoke(k)
		}
		return err
	})
}

// eachFile calls use with the content of name and of the files in name.d.
func (v *Verifier) eachFile(dir fs.FS, name string, use func([]byte) error) error {
	names := []string{name}
	entries, err := fs.ReadDir(dir, name+".d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read keys: %w", err)
	}
	for _, e := range entries {
		names = append(names, name+".d/"+e.Name())
	}
	var errs error
	for _, n := range names {
		data, err := readFile(dir, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = use(data)
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("read keys of %s: %w", n, err))
		}
	}
	return errs
}

// readFile reads a regular file of bounded size.
func readFile(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrKeyData)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxKeyFile+1))
	if err == nil && len(data) > MaxKeyFile {
		err = fmt.Errorf("%w: larger than %d bytes", ErrKeyData, MaxKeyFile)
	}
	return data, err
}

// VerifyDict checks data against the signatures of the Verifier's type in a
// signature dictionary. One signature by a trusted key is enough.
//
// Errors, with libostree's texts: ErrNoSignature, ErrNoKeys, ErrNotVerified,
// ErrDummy.
func (v *Verifier) VerifyDict(data []byte, d gvariant.Dict) (Match, error) {
	val, ok := d.Get(MetadataKey(v.typ))
	if !ok {
		return Match{}, v.fail(ErrNoSignature, "commit have no signatures of my type")
	}
	list, ok := val.ByteSlices()
	if !ok {
		return Match{}, v.fail(ErrNoSignature, "wrong type passed for verification")
	}
	return v.Verify(data, list)
}

// Verify is VerifyDict for a list of signatures, of which the first MaxSignatures
// are looked at.
func (v *Verifier) Verify(data []byte, signatures [][]byte) (Match, error) {
	if v.typ == TypeDummy {
		return v.verifyDummy(data, signatures)
	}
	if len(v.trusted) == 0 {
		return Match{}, textError{"signature: " + v.typ + ": no keys loaded", ErrNoKeys}
	}
	var tried []string
	for _, s := range signatures[:min(len(signatures), MaxSignatures)] {
		for _, k := range v.trusted {
			if v.isRevoked(k.raw) {
				continue
			}
			name := hex.EncodeToString(k.raw)
			if k.verify(data, s) {
				return Match{v.typ, k.raw, fmt.Sprintf("%s: Signature verified successfully with key '%s'", v.typ, name)}, nil
			}
			tried = append(tried, "key '"+name+"'")
		}
	}
	switch {
	case len(tried) == 0:
		return Match{}, v.fail(ErrNotVerified, "no signatures found")
	case len(tried) > 3:
		return Match{}, v.fail(ErrNotVerified, fmt.Sprintf("Signature couldn't be verified; tried %d keys", len(tried)))
	}
	return Match{}, v.fail(ErrNotVerified, "Signature couldn't be verified with: "+strings.Join(tried, "; "))
}

func (v *Verifier) verifyDummy(data []byte, signatures [][]byte) (Match, error) {
	if !v.opts.Dummy {
		return Match{}, ErrDummy
	}
	for _, s := range signatures {
		for _, k := range v.trusted {
			if k.verify(data, s) {
				return Match{v.typ, k.raw, "dummy: Signature verified"}, nil
			}
		}
	}
	if len(signatures) == 0 {
		return Match{}, textError{"signature: dummy: no signatures", ErrNoSignature}
	}
	return Match{}, textError{fmt.Sprintf("signature: dummy: incorrect signatures found: %d", len(signatures)), ErrNotVerified}
}

func (v *Verifier) isRevoked(raw []byte) bool {
	return slices.ContainsFunc(v.revoked, func(r []byte) bool { return bytes.Equal(r, raw) })
}

func (v *Verifier) fail(is error, text string) error {
	if v.typ == TypeDummy {
		return textError{"signature: dummy: " + text, is}
	}
	return textError{v.typ + ": " + text, is}
}

// textError is a condition whose text scripts compare with libostree's.
type textError struct {
	text string
	is   error
}

func (e textError) Error() string { return e.text }

func (e textError) Unwrap() error { return e.is }
