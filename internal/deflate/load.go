// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package deflate

import "encoding/binary"

func load32(b []byte, i int32) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
func load64(b []byte, i int32) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
