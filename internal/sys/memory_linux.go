// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Memory gives n bytes of zeroes outside of the garbage collector's heap, which lets that
// grow to twice of what is in use. They last until FreeMemory.
func Memory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("get %d bytes of memory: %w", n, err)
	}
	return b, nil
}

// FreeMemory ends the use of the whole of what Memory gave; nil is nothing.
func FreeMemory(b []byte) error {
	if b == nil {
		return nil
	}
	return unix.Munmap(b)
}
