// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// CloneFile makes the empty file dst share the blocks of all of src (FICLONE). A
// filesystem without such files returns an error for which IsNotSupported holds;
// files of two filesystems are EXDEV.
func CloneFile(dst, src int) error {
	return ignoreEINTR(func() error { return unix.IoctlFileClone(dst, src) })
}

// ShareBlocks has the first size bytes of dst stored where src has the same bytes
// (FIDEDUPERANGE). The kernel compares while both are locked, so that dst reads the
// same afterwards whatever it answers; same is false where they differ.
func ShareBlocks(dst, src int, size int64) (same bool, err error) {
	for at := int64(0); at < size; {
		r := unix.FileDedupeRange{
			Src_offset: uint64(at), Src_length: uint64(size - at),
			Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(dst), Dest_offset: uint64(at)}},
		}
		if err := ignoreEINTR(func() error { return unix.IoctlFileDedupeRange(src, &r) }); err != nil {
			return false, err
		}
		done := r.Info[0]
		switch {
		case done.Status < 0:
			return false, syscall.Errno(-done.Status)
		case done.Status == unix.FILE_DEDUPE_RANGE_DIFFERS:
			return false, nil
		case done.Bytes_deduped == 0 || done.Bytes_deduped > uint64(size-at):
			return false, fmt.Errorf("share blocks: %d bytes of %d", done.Bytes_deduped, size-at)
		}
		at += int64(done.Bytes_deduped)
	}
	return true, nil
}
