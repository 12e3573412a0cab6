// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // SA1019: distributions still publish packages that old DSA keys signed; nothing is signed with it here
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/big"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// pgpSignature is one signature packet, of version 3 (own reader) or later (library).
type pgpSignature struct {
	keyID       uint64
	fingerprint []byte
	created     time.Time
	hash        crypto.Hash
	algo        packet.PublicKeyAlgorithm
	v3          *v3Signature
	v4          *packet.Signature
}

// v3Signature holds what the library does not read: signatures of packet version 3, which distributions
// made until about 2014.
type v3Signature struct {
	suffix []byte // type and time, hashed behind the data
	tag    [2]byte
	mpis   []*big.Int
}

// maxSignature bounds one signature packet; post-quantum ones take some 10 kB, SLH-DSA 50 kB.
const maxSignature = 128 << 10

// parseSignatures reads all signature packets of a binary blob. Packets of an unsupported kind give an
// error that wraps ErrUnsupported beside those that could be read.
func parseSignatures(data []byte) ([]*pgpSignature, error) {
	var sigs []*pgpSignature
	var unsupported error
	for len(data) > 0 {
		body, tag, rest, err := splitPacket(data)
		if err != nil {
			return nil, err
		}
		raw := data[:len(data)-len(rest)]
		data = rest
		if tag != 2 {
			return nil, fmt.Errorf("read signature: packet of type %d: %w", tag, ErrFormat)
		}
		s, err := parseSignature(raw, body)
		if errors.Is(err, ErrUnsupported) {
			unsupported = err
			continue
		}
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, s)
	}
	if len(sigs) == 0 && unsupported == nil {
		return nil, fmt.Errorf("read signature: no data: %w", ErrFormat)
	}
	return sigs, unsupported
}

func parseSignature(raw, body []byte) (*pgpSignature, error) {
	if len(body) > 0 && (body[0] == 3 || body[0] == 2) {
		return parseV3(body)
	}
	p, err := packet.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", pgpError(err))
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, fmt.Errorf("read signature: not a signature packet: %w", ErrFormat)
	}
	if sig.SigType != packet.SigTypeBinary {
		return nil, fmt.Errorf("read signature: signature of type %#x: %w", uint8(sig.SigType), ErrFormat)
	}
	out := &pgpSignature{v4: sig, hash: sig.Hash, algo: sig.PubKeyAlgo, created: sig.CreationTime, fingerprint: sig.IssuerFingerprint}
	if sig.IssuerKeyId != nil {
		out.keyID = *sig.IssuerKeyId
	}
	if sig.IssuerKeyId == nil && len(sig.IssuerFingerprint) == 0 {
		return nil, fmt.Errorf("read signature: no issuer: %w", ErrFormat)
	}
	return out, nil
}

// splitPacket separates the first packet of data: RFC 9580 section 4.2, definite lengths only.
func splitPacket(data []byte) (body []byte, tag byte, rest []byte, err error) {
	bad := fmt.Errorf("read signature: packet header %x: %w", data[:min(len(data), 6)], ErrFormat)
	if len(data) < 2 || data[0]&0x80 == 0 {
		return nil, 0, nil, bad
	}
	var size, skip int
	if data[0]&0x40 == 0 { // old format
		tag = data[0] >> 2 & 0xf
		width := 1 << (data[0] & 3)
		if width > 4 || len(data) < 1+width {
			return nil, 0, nil, bad
		}
		for _, b := range data[1 : 1+width] {
			size = size<<8 | int(b)
		}
		skip = 1 + width
	} else {
		tag = data[0] & 0x3f
		switch first := data[1]; {
		case first < 192:
			size, skip = int(first), 2
		case first < 224 && len(data) >= 3:
			size, skip = (int(first)-192)<<8+int(data[2])+192, 3
		case first == 255 && len(data) >= 6:
			size, skip = int(binary.BigEndian.Uint32(data[2:])), 6
		default:
			return nil, 0, nil, bad
		}
	}
	if size > maxSignature || size > len(data)-skip {
		return nil, 0, nil, fmt.Errorf("read signature: packet of %d bytes in %d: %w", size, len(data)-skip, ErrFormat)
	}
	return data[skip : skip+size], tag, data[skip+size:], nil
}

// parseV3 reads a version 3 packet body: RFC 4880 section 5.2.2.
func parseV3(b []byte) (*pgpSignature, error) {
	if len(b) < 19 || b[1] != 5 {
		return nil, fmt.Errorf("read signature: version 3 packet of %d bytes: %w", len(b), ErrFormat)
	}
	if b[2] != byte(packet.SigTypeBinary) {
		return nil, fmt.Errorf("read signature: signature of type %#x: %w", b[2], ErrFormat)
	}
	s := &pgpSignature{
		created: time.Unix(int64(binary.BigEndian.Uint32(b[3:])), 0).UTC(),
		keyID:   binary.BigEndian.Uint64(b[7:]),
		algo:    packet.PublicKeyAlgorithm(b[15]),
		hash:    hashByID(uint64(b[16])),
		v3:      &v3Signature{suffix: b[2:7], tag: [2]byte(b[17:19])},
	}
	if s.hash == 0 {
		return nil, fmt.Errorf("read signature: hash function %d: %w", b[16], ErrUnsupported)
	}
	for rest := b[19:]; len(rest) > 0; {
		if len(rest) < 2 {
			return nil, fmt.Errorf("read signature: number cut off: %w", ErrFormat)
		}
		n := (int(binary.BigEndian.Uint16(rest)) + 7) / 8
		if len(rest) < 2+n {
			return nil, fmt.Errorf("read signature: number cut off: %w", ErrFormat)
		}
		s.v3.mpis = append(s.v3.mpis, new(big.Int).SetBytes(rest[2:2+n]))
		rest = rest[2+n:]
	}
	return s, nil
}

// newHash starts the hash that the signed bytes go through.
func (s *pgpSignature) newHash() (hash.Hash, error) {
	if s.v4 != nil {
		h, err := s.v4.PrepareVerify()
		if err != nil {
			return nil, fmt.Errorf("start signature hash: %w", pgpError(err))
		}
		return h, nil
	}
	if !s.hash.Available() {
		return nil, fmt.Errorf("hash function %v: %w", s.hash, ErrUnsupported)
	}
	return s.hash.New(), nil
}

// check compares the hash of the signed bytes with the signature. It changes h.
func (s *pgpSignature) check(key *packet.PublicKey, h hash.Hash) error {
	if s.v4 != nil {
		if err := key.VerifySignature(h, s.v4); err != nil {
			return fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
		return nil
	}
	h.Write(s.v3.suffix)
	return s.v3.check(key, s.algo, s.hash, h.Sum(nil))
}

func (v *v3Signature) check(key *packet.PublicKey, algo packet.PublicKeyAlgorithm, id crypto.Hash, sum []byte) error {
	switch pub := key.PublicKey.(type) {
	case *rsa.PublicKey:
		if (algo != packet.PubKeyAlgoRSA && algo != packet.PubKeyAlgoRSASignOnly) || len(v.mpis) != 1 || v.mpis[0].BitLen() > pub.N.BitLen() {
			return ErrBadSignature
		}
		if err := rsa.VerifyPKCS1v15(pub, id, sum, v.mpis[0].FillBytes(make([]byte, pub.Size()))); err != nil {
			return fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
		return nil
	case *dsa.PublicKey:
		if algo != packet.PubKeyAlgoDSA || len(v.mpis) != 2 {
			return ErrBadSignature
		}
		sum = sum[:min(len(sum), (pub.Q.BitLen()+7)/8)]
		if !dsa.Verify(pub, sum, v.mpis[0], v.mpis[1]) {
			return ErrBadSignature
		}
		return nil
	}
	return fmt.Errorf("public key algorithm %d: %w", algo, ErrUnsupported)
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
func (s *pgpSignature) verdict(kr *Keyring, h hash.Hash, o VerifyOptions) SignatureResult {
	res := SignatureResult{KeyID: keyName(s.keyID, s.fingerprint), Hash: s.hash, Created: s.created.UTC()}
	reason := ErrNoKey
	found := false
	for _, c := range kr.find(s.keyID, s.fingerprint) {
		// Several keys may share an ID, and the same key may be there in an older state: each gets a hash
		// of its own. A good answer counts more than a bad one, but a revocation is final.
		err := s.try(kr, c, h, o)
		better := !found || err == nil || errors.Is(reason, ErrBadSignature)
		if errors.Is(reason, ErrKeyRevoked) || !better && !errors.Is(err, ErrKeyRevoked) {
			continue
		}
		found, reason = true, err
		res.Fingerprint = fmt.Sprintf("%x", c.entity.PrimaryKey.Fingerprint)
	}
	if reason != nil {
		res.Err = fmt.Errorf("signature of key %s: %w", res.KeyID, reason)
	}
	return res
}

// try checks the signature with one key, and then whether that key may sign.
func (s *pgpSignature) try(kr *Keyring, c candidate, h hash.Hash, o VerifyOptions) error {
	sum, err := cloneHash(h)
	if err != nil {
		return err
	}
	if err := s.check(c.key, sum); err != nil {
		return err
	}
	return s.acceptable(kr, c, o.now(), o)
}

func (s *pgpSignature) acceptable(kr *Keyring, c candidate, now time.Time, o VerifyOptions) error {
	if s.hash == crypto.MD5 || s.hash == crypto.SHA1 && !o.AllowSHA1 {
		return fmt.Errorf("%w (%v)", ErrWeak, s.hash)
	}
	if s.created.Before(c.key.CreationTime) {
		return fmt.Errorf("made before its key: %w", ErrBadSignature)
	}
	if s.v4 != nil && s.v4.SigExpired(now) {
		return fmt.Errorf("%w: made %s", ErrSigTime, s.created.UTC().Format(time.RFC3339))
	}
	return kr.usable(c, now)
}

// cloneHash copies a hash state, so that several keys can be tried.
func cloneHash(h hash.Hash) (hash.Hash, error) {
	if c, ok := h.(hash.Cloner); ok {
		d, err := c.Clone()
		if err != nil {
			return nil, fmt.Errorf("copy hash: %w", err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("copy hash: %w", ErrUnsupported)
}

// VerifyDetached checks a detached signature, armored or binary, over data: what repomd.xml.asc is. At
// least one signature must be good and none may be wrong.
//
// An error wraps one of the package's sentinels, such as [ErrNoKey] or [ErrBadSignature].
func VerifyDetached(data, signature []byte, kr *Keyring, o VerifyOptions) (SignatureResult, error) {
	raw := signature
	if bytes.Contains(signature, []byte(armorBegin)) {
		block, err := armor.Decode(bytes.NewReader(signature))
		if err != nil {
			return SignatureResult{}, fmt.Errorf("read signature: %w: %w", ErrFormat, err)
		}
		if raw, err = io.ReadAll(io.LimitReader(block.Body, maxSignature)); err != nil {
			return SignatureResult{}, fmt.Errorf("read signature: %w: %w", ErrFormat, err)
		}
	}
	sigs, failure := parseSignatures(raw)
	var good *SignatureResult
	for _, s := range sigs {
		h, err := s.newHash()
		if err != nil {
			failure = err
			continue
		}
		h.Write(data)
		res := s.verdict(kr, h, o)
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
