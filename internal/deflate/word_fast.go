// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package deflate

import "unsafe"

// These read and write words without checking bounds. fastCodes stops fastInput bytes
// before the end of the input and outSlack bytes before that of the output.

func word(b []byte, i int) uint64 {
	return *(*uint64)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), i))
}

func putWord(b *[outSize]byte, i int, v uint64) {
	*(*uint64)(unsafe.Add(unsafe.Pointer(b), i)) = v
}

func copyWord(b *[outSize]byte, to, from int) {
	*(*uint64)(unsafe.Add(unsafe.Pointer(b), to)) = *(*uint64)(unsafe.Add(unsafe.Pointer(b), from))
}

// copyWords copies sixteen bytes that do not overlap.
func copyWords(b *[outSize]byte, to, from int) {
	*(*[16]byte)(unsafe.Add(unsafe.Pointer(b), to)) = *(*[16]byte)(unsafe.Add(unsafe.Pointer(b), from))
}

func putByte(b *[outSize]byte, i int, v byte) { *(*byte)(unsafe.Add(unsafe.Pointer(b), i)) = v }
