// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package deflate

import "encoding/binary"

func word(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

func putWord(b *[outSize]byte, i int, v uint64) { binary.LittleEndian.PutUint64(b[i:], v) }

func copyWord(b *[outSize]byte, to, from int) { putWord(b, to, word(b[:], from)) }

func copyWords(b *[outSize]byte, to, from int) { copy(b[to:to+16], b[from:from+16]) }

func putByte(b *[outSize]byte, i int, v byte) { b[i] = v }
