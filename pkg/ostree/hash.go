// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// HashContent gives the checksum that a file has as an object: of its header and
// of exactly size bytes of content, none for a symbolic link. Nothing is stored.
func HashContent(h FileHeader, size int64, content io.Reader) (Checksum, error) {
	prefix, err := h.checksumPrefix()
	if err != nil {
		return Checksum{}, fmt.Errorf("hash content: %w", err)
	}
	hs := sha256.New()
	hs.Write(prefix)
	if content == nil {
		content = io.LimitReader(nil, 0)
	}
	n, err := io.Copy(hs, content)
	if err != nil {
		return Checksum{}, fmt.Errorf("hash content: %w", err)
	}
	if n != size {
		return Checksum{}, fmt.Errorf("hash content: %w: %d bytes instead of %d", ErrCorrupt, n, size)
	}
	return Checksum(hs.Sum(nil)), nil
}

// StorageSize gives the bytes that an object takes in the repository or its parent:
// compressed in archive mode. ErrNotFound if it is absent.
func (r *Repo) StorageSize(n ObjectName) (int64, error) {
	st, err := r.objects.Lstat(n.loosePath(r.mode))
	if errors.Is(err, fs.ErrNotExist) && r.parent != nil {
		return r.parent.StorageSize(n)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("look at object %s: %w", n, err)
	}
	return st.Size, nil
}
