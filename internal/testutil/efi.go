// SPDX-License-Identifier: Apache-2.0

package testutil

import "encoding/binary"

// EFI makes a file with the headers and sections of a 64-bit EFI program, and, if
// asked, something in the place of a signature. It has no code. A section is its name, at
// most eight bytes, and content.
func EFI(signed bool, sections ...[2]string) []byte {
	const pe, optional, align, page = 0x80, 240, 512, 4096
	out := make([]byte, (pe+24+optional+len(sections)*40+align-1)/align*align)
	le := binary.LittleEndian
	copy(out, "MZ")
	le.PutUint32(out[0x3c:], pe)
	copy(out[pe:], "PE\x00\x00")
	le.PutUint16(out[pe+4:], 0x8664)
	le.PutUint16(out[pe+6:], uint16(len(sections)))
	le.PutUint16(out[pe+20:], optional)
	le.PutUint16(out[pe+22:], 0x22) // a program, for large addresses
	head := out[pe+24:]
	le.PutUint16(head, 0x20b)
	le.PutUint32(head[32:], page)
	le.PutUint32(head[36:], align)
	le.PutUint32(head[60:], uint32(len(out)))
	le.PutUint16(head[68:], 10)
	le.PutUint32(head[108:], 16)
	var body []byte
	address := page
	for i, s := range sections {
		name, data := s[0], s[1]
		row := head[optional+i*40:]
		copy(row[:8], name)
		le.PutUint32(row[8:], uint32(len(data)))
		le.PutUint32(row[12:], uint32(address))
		address += (len(data)/page + 1) * page
		le.PutUint32(row[20:], uint32(len(out)+len(body)))
		body = append(body, data...)
		for len(body)%align != 0 {
			body = append(body, 0)
		}
		le.PutUint32(row[36:], 0x40000040) // data, to be read
		le.PutUint32(row[16:], uint32((len(data)+align-1)/align*align))
	}
	le.PutUint32(head[56:], uint32(address))
	if signed {
		const signature = "signature"
		le.PutUint32(head[112+4*8:], uint32(len(out)+len(body)))
		le.PutUint32(head[112+4*8+4:], uint32(len(signature)))
		body = append(body, signature...)
	}
	return append(out, body...)
}
