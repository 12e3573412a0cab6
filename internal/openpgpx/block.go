// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Block is one certificate as the packets it came in: a primary key with its
// user IDs, subkeys and the signatures on each. Secret keys are reduced to
// their public half.
type Block struct {
	Fingerprint string // of the primary key, hexadecimal, lower case
	secret      bool   // it came with the secret key
	parts       []part
}

// part is a key, user ID or attribute and the signatures that follow it.
type part struct {
	packetData
	sigs []packetData
}

// ReadBlocks reads the certificates of a key file, armored or binary. One that
// cannot be read is left out as long as the file holds another one; the error
// wraps ErrFormat or ErrUnsupported.
func ReadBlocks(data []byte) ([]Block, error) {
	if len(data) > MaxKeyring {
		return nil, fmt.Errorf("key file of %d bytes: %w", len(data), ErrFormat)
	}
	var all []Block
	var last error
	inputs := [][]byte{data}
	if Armored(data) {
		inputs = nil
		blocks, err := dearmor(data, MaxKeyring)
		last = err
		for _, b := range blocks {
			if b.kind != "PGP PUBLIC KEY BLOCK" && b.kind != "PGP PRIVATE KEY BLOCK" {
				last = fmt.Errorf("block of type %q: %w", b.kind, ErrFormat)
				continue
			}
			inputs = append(inputs, b.data)
		}
	}
	for _, in := range inputs {
		list, err := splitBlocks(in)
		if err != nil {
			last = err
		}
		all = append(all, list...)
	}
	if len(all) > 0 {
		return all, nil
	}
	if last == nil {
		last = fmt.Errorf("no key: %w", ErrFormat)
	}
	return nil, last
}

// splitBlocks groups packets by primary key. It gives what it could read beside
// the error that stopped it.
func splitBlocks(data []byte) (blocks []Block, last error) {
	var cur *Block
	for len(data) > 0 {
		p, rest, err := nextPacket(data, MaxKeyring)
		if err != nil {
			return blocks, err
		}
		data = rest
		switch p.tag {
		case tagPublicKey, tagSecretKey:
			cur = nil
			b, err := startBlock(p)
			if err != nil {
				last = err
				continue
			}
			blocks = append(blocks, b)
			cur = &blocks[len(blocks)-1]
		default:
			if cur == nil {
				continue // belongs to a key that was left out
			}
			if err := cur.add(p); err != nil {
				last = err
			}
		}
	}
	return blocks, last
}

func startBlock(p packetData) (Block, error) {
	public, key, err := publicHalf(p)
	if err != nil {
		return Block{}, err
	}
	b := Block{Fingerprint: hex.EncodeToString(key.Fingerprint), secret: p.tag == tagSecretKey}
	b.parts = []part{{packetData: public}}
	return b, nil
}

func (b *Block) add(p packetData) error {
	switch p.tag {
	case tagSignature:
		last := &b.parts[len(b.parts)-1]
		last.sigs = append(last.sigs, p)
	case tagUserID, tagUserAttr:
		b.parts = append(b.parts, part{packetData: p})
	case tagPublicSubkey, tagSecretSubkey:
		public, _, err := publicHalf(p)
		if errors.Is(err, ErrUnsupported) {
			public, err = p, nil
			if p.tag == tagSecretSubkey {
				return nil // its public half cannot be told apart
			}
		}
		if err != nil {
			return err
		}
		b.parts = append(b.parts, part{packetData: public})
	}
	// Trust packets and what is not known are of no use to another keyring.
	return nil
}

// publicHalf parses a key packet; a secret one is written anew without the
// secret.
func publicHalf(p packetData) (packetData, *packet.PublicKey, error) {
	read, err := packet.Read(bytes.NewReader(p.raw))
	if err != nil {
		return p, nil, fmt.Errorf("read key: %w", libraryError(err))
	}
	switch k := read.(type) {
	case *packet.PublicKey:
		return p, k, nil
	case *packet.PrivateKey:
		var buf bytes.Buffer
		if err := k.PublicKey.Serialize(&buf); err != nil {
			return p, nil, fmt.Errorf("read key: %w", libraryError(err))
		}
		public, _, err := nextPacket(buf.Bytes(), MaxKeyring)
		return public, &k.PublicKey, err
	}
	return p, nil, fmt.Errorf("read key: packet of type %d: %w", p.tag, ErrFormat)
}

// Bytes gives the packets one after another, which is how GnuPG's old keyring
// format (pubring.gpg) stores them.
func (b Block) Bytes() []byte {
	var out []byte
	for _, p := range b.parts {
		out = append(out, p.raw...)
		for _, s := range p.sigs {
			out = append(out, s.raw...)
		}
	}
	return out
}

// Merge adds the user IDs, subkeys and signatures of other that b lacks.
func (b *Block) Merge(other Block) {
	for _, p := range other.parts {
		i := slices.IndexFunc(b.parts, func(have part) bool { return have.same(p.packetData) })
		if i < 0 {
			b.insert(p)
			continue
		}
		for _, s := range p.sigs {
			if !slices.ContainsFunc(b.parts[i].sigs, s.same) {
				b.parts[i].sigs = append(b.parts[i].sigs, s)
			}
		}
	}
}

// insert keeps subkeys behind the user IDs.
func (b *Block) insert(p part) {
	at := len(b.parts)
	if p.tag != tagPublicSubkey {
		if i := slices.IndexFunc(b.parts, func(have part) bool { return have.tag == tagPublicSubkey }); i >= 0 {
			at = i
		}
	}
	b.parts = slices.Insert(b.parts, at, p)
}

func (p packetData) same(q packetData) bool { return p.tag == q.tag && bytes.Equal(p.body, q.body) }
