// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"fmt"
	"io"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// source is a stored file that can be read at any place.
type source struct {
	io.ReaderAt
	io.Closer
	size int64
}

// fileOpener finds content objects.
type fileOpener interface {
	OpenFile(c ostree.Checksum) (ostree.FileHeader, int64, io.ReadCloser, error)
}

// openSource opens a regular file. One that is stored compressed is unpacked to a
// spool first. Its checksum is not verified: what is made from it will be.
func openSource(from fileOpener, tmp *fsx.Dir, c ostree.Checksum) (*source, error) {
	h, size, rc, err := from.OpenFile(c)
	if err != nil {
		return nil, err
	}
	if !h.IsRegular() {
		return nil, errors.Join(fmt.Errorf("%w: source %s is no regular file", ErrCorrupt, c), rc.Close())
	}
	if at, ok := rc.(io.ReaderAt); ok {
		return &source{at, rc, size}, nil
	}
	s := newSpool(tmp)
	_, err = io.CopyBuffer(s, struct{ io.Reader }{rc}, make([]byte, copyBuffer))
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("unpack source %s: %w", c, err), s.Close())
	}
	return &source{s, s, size}, nil
}
