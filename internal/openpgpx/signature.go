// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"bytes"
	"crypto"
	// crypto.Hash finds only the functions that are linked.
	"crypto/dsa" //nolint:staticcheck // SA1019: distributions still publish data that old DSA keys signed; nothing is signed with it here
	_ "crypto/md5"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Signature is one signature packet over binary data, of version 3 (own reader)
// or later (library).
type Signature struct {
	KeyID       uint64 // 0 where the packet has only a fingerprint
	Fingerprint []byte // the issuer's, if the packet names it
	Created     time.Time
	Expires     time.Time // zero: never
	Hash        crypto.Hash
	Algo        packet.PublicKeyAlgorithm

	v3 *v3Signature
	v4 *packet.Signature
}

// v3Signature holds what the library does not read: signatures of packet version
// 3, which distributions made until about 2014.
type v3Signature struct {
	suffix []byte // type and time, hashed behind the data
	mpis   []*big.Int
}

// Signatures reads all signature packets of a blob, binary or armored. Packets
// of an unsupported kind give an error that wraps ErrUnsupported beside those
// that could be read; no packet at all is ErrFormat.
func Signatures(data []byte) ([]*Signature, error) {
	if Armored(data) {
		block, err := dearmorOne(data[bytes.Index(data, []byte(armorBegin)):], maxSignature)
		if err != nil {
			return nil, fmt.Errorf("read signature: %w", err)
		}
		data = block.data
	}
	var sigs []*Signature
	var unsupported error
	for len(data) > 0 {
		p, rest, err := nextPacket(data, maxSignature)
		if err != nil {
			return nil, fmt.Errorf("read signature: %w", err)
		}
		data = rest
		if p.tag != tagSignature {
			return nil, fmt.Errorf("read signature: packet of type %d: %w", p.tag, ErrFormat)
		}
		s, err := parseSignature(p)
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

func parseSignature(p packetData) (*Signature, error) {
	if len(p.body) > 0 && (p.body[0] == 3 || p.body[0] == 2) {
		return parseV3(p.body)
	}
	read, err := packet.Read(bytes.NewReader(p.raw))
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", libraryError(err))
	}
	sig, ok := read.(*packet.Signature)
	if !ok {
		return nil, fmt.Errorf("read signature: not a signature packet: %w", ErrFormat)
	}
	if sig.SigType != packet.SigTypeBinary {
		return nil, fmt.Errorf("read signature: signature of type %#x: %w", uint8(sig.SigType), ErrFormat)
	}
	out := &Signature{v4: sig, Hash: sig.Hash, Algo: sig.PubKeyAlgo, Created: sig.CreationTime.UTC(), Fingerprint: sig.IssuerFingerprint}
	if sig.IssuerKeyId != nil {
		out.KeyID = *sig.IssuerKeyId
	}
	if sig.IssuerKeyId == nil && len(sig.IssuerFingerprint) == 0 {
		return nil, fmt.Errorf("read signature: no issuer: %w", ErrFormat)
	}
	if sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs != 0 {
		out.Expires = out.Created.Add(time.Duration(*sig.SigLifetimeSecs) * time.Second)
	}
	return out, nil
}

// parseV3 reads a version 3 packet body: RFC 4880 section 5.2.2.
func parseV3(b []byte) (*Signature, error) {
	if len(b) < 19 || b[1] != 5 {
		return nil, fmt.Errorf("read signature: version 3 packet of %d bytes: %w", len(b), ErrFormat)
	}
	if b[2] != byte(packet.SigTypeBinary) {
		return nil, fmt.Errorf("read signature: signature of type %#x: %w", b[2], ErrFormat)
	}
	s := &Signature{
		Created: time.Unix(int64(binary.BigEndian.Uint32(b[3:])), 0).UTC(),
		KeyID:   binary.BigEndian.Uint64(b[7:]),
		Algo:    packet.PublicKeyAlgorithm(b[15]),
		Hash:    HashByID(uint64(b[16])),
		v3:      &v3Signature{suffix: b[2:7]},
	}
	if s.Hash == 0 {
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

// HashByID maps the numbers of RFC 9580 section 9.5, which RPM headers use too;
// 0 for a function that is not known here.
func HashByID(n uint64) crypto.Hash {
	switch n {
	case 1:
		return crypto.MD5
	case 2:
		return crypto.SHA1
	case 8:
		return crypto.SHA256
	case 9:
		return crypto.SHA384
	case 10:
		return crypto.SHA512
	case 11:
		return crypto.SHA224
	case 12:
		return crypto.SHA3_256
	case 14:
		return crypto.SHA3_512
	}
	return 0
}

// Issuer names the key: its fingerprint if the packet has it, otherwise its ID;
// hexadecimal, lower case.
func (s *Signature) Issuer() string {
	if len(s.Fingerprint) > 0 {
		return hex.EncodeToString(s.Fingerprint)
	}
	return strings.ToLower(fmt.Sprintf("%016x", s.KeyID))
}

// IssuedBy tells whether the packet names the key as its maker: a fingerprint, or
// a key ID of at least 8 hexadecimal digits.
func (s *Signature) IssuedBy(key string) bool {
	key = cleanID(key)
	switch {
	case len(key) < 8:
		return false
	case len(s.Fingerprint) == 0:
		return strings.HasSuffix(key, s.Issuer()) || strings.HasSuffix(s.Issuer(), key)
	}
	return strings.HasSuffix(s.Issuer(), key)
}

// cleanID brings a key ID or fingerprint into the form that is compared, "" if it
// is none.
func cleanID(id string) string {
	id = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.ReplaceAll(id, " ", ""), "0x"), "!"))
	if _, err := hex.DecodeString(id); err != nil {
		return ""
	}
	return id
}

// NewHash starts the hash that the signed bytes go through. An error wraps
// ErrUnsupported.
func (s *Signature) NewHash() (hash.Hash, error) {
	if s.v4 != nil {
		h, err := s.v4.PrepareVerify()
		if err != nil {
			return nil, fmt.Errorf("start signature hash: %w", libraryError(err))
		}
		return h, nil
	}
	if !s.Hash.Available() {
		return nil, fmt.Errorf("hash function %v: %w", s.Hash, ErrUnsupported)
	}
	return s.Hash.New(), nil
}

// check compares the hash of the signed bytes with the signature. It changes h.
func (s *Signature) check(key *packet.PublicKey, h hash.Hash) error {
	if s.v4 != nil {
		if err := key.VerifySignature(h, s.v4); err != nil {
			return fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
		return nil
	}
	h.Write(s.v3.suffix)
	return s.v3.check(key, s.Algo, s.Hash, h.Sum(nil))
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
