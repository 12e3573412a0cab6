// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Packet tags that this package knows.
const (
	tagSignature    = 2
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagTrust        = 12
	tagUserID       = 13
	tagPublicSubkey = 14
	tagUserAttr     = 17
)

const (
	// maxSignature bounds one signature packet; post-quantum ones take some 10 kB, SLH-DSA 50 kB.
	maxSignature = 128 << 10
	// MaxKeyring bounds a key file, and so the packets in it.
	MaxKeyring = 32 << 20
)

// packetData is one packet: Raw with its header, Body without.
type packetData struct {
	tag       byte
	raw, body []byte
}

// nextPacket separates the first packet of data: RFC 9580 section 4.2, definite
// lengths only.
func nextPacket(data []byte, limit int) (p packetData, rest []byte, err error) {
	if len(data) < 2 || data[0]&0x80 == 0 {
		return p, nil, fmt.Errorf("read packet: header %x: %w", data[:min(len(data), 6)], ErrFormat)
	}
	size, skip := oldLength(data)
	p.tag = data[0] >> 2 & 0xf
	if data[0]&0x40 != 0 {
		p.tag = data[0] & 0x3f
		size, skip = newLength(data)
	}
	if skip == 0 {
		return p, nil, fmt.Errorf("read packet: header %x: %w", data[:min(len(data), 6)], ErrFormat)
	}
	if size > limit || size > len(data)-skip {
		return p, nil, fmt.Errorf("read packet: %d bytes of %d: %w", size, len(data)-skip, ErrFormat)
	}
	p.raw, p.body = data[:skip+size], data[skip:skip+size]
	return p, data[skip+size:], nil
}

func oldLength(data []byte) (size, skip int) {
	width := 1 << (data[0] & 3)
	if width > 4 || len(data) < 1+width {
		return 0, 0
	}
	for _, b := range data[1 : 1+width] {
		size = size<<8 | int(b)
	}
	return size, 1 + width
}

func newLength(data []byte) (size, skip int) {
	switch first := data[1]; {
	case first < 192:
		return int(first), 2
	case first < 224 && len(data) >= 3:
		return (int(first)-192)<<8 + int(data[2]) + 192, 3
	case first == 255 && len(data) >= 6:
		return int(binary.BigEndian.Uint32(data[2:])), 6
	}
	return 0, 0
}

const armorBegin = "-----BEGIN PGP "

// Armored tells whether data holds armored blocks.
func Armored(data []byte) bool { return bytes.Contains(data, []byte(armorBegin)) }

// dearmor decodes the armored blocks in data one after another. A block that
// cannot be read ends up as an error beside the others.
func dearmor(data []byte, limit int64) (blocks []armoredBlock, last error) {
	for {
		i := bytes.Index(data, []byte(armorBegin))
		if i < 0 {
			return blocks, last
		}
		block, err := dearmorOne(data[i:], limit)
		if err != nil {
			last = err
		} else {
			blocks = append(blocks, block)
		}
		data = data[i+len(armorBegin):]
	}
}

type armoredBlock struct {
	kind string
	data []byte
}

func dearmorOne(data []byte, limit int64) (armoredBlock, error) {
	b, err := armor.Decode(bytes.NewReader(data))
	if err != nil {
		return armoredBlock{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	body, err := io.ReadAll(io.LimitReader(b.Body, limit+1))
	if err != nil {
		return armoredBlock{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if int64(len(body)) > limit {
		return armoredBlock{}, fmt.Errorf("armored block of more than %d bytes: %w", limit, ErrFormat)
	}
	return armoredBlock{kind: b.Type, data: body}, nil
}
