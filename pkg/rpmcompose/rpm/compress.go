// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// ErrUnsupported is wrapped where a package uses a format or an algorithm that is not implemented.
var ErrUnsupported = errors.New("unsupported")

// maxWindow bounds the memory that a payload may ask of a decompressor; rpm's strongest presets stay
// below it.
const maxWindow = 256 << 20

// Decompress gives the plain stream of a payload or metadata file. The format is told from the first
// bytes; only the old lzma format has no mark of its own and is told from name ("lzma"). Plain data passes
// through where name is "" or "none", or where it starts like a cpio archive.
//
// The reader must be closed; closing does not close r.
func Decompress(r io.Reader, name string) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read compressed data: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("read gzip header: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		z, err := xz.NewReader(br, maxWindow)
		if err != nil {
			return nil, fmt.Errorf("read xz header: %w", err)
		}
		return io.NopCloser(z), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("read zstd header: %w", err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(br)), nil
	case bytes.HasPrefix(head, []byte("0707")), name == "", name == "none":
		return io.NopCloser(br), nil
	case name == "lzma":
		return newLZMA(br)
	}
	if len(head) == 0 {
		return nil, fmt.Errorf("read compressed data: %w", ErrTruncated)
	}
	return nil, fmt.Errorf("compression %q, data starting with %x: %w", name, head, ErrUnsupported)
}

func newLZMA(br *bufio.Reader) (io.ReadCloser, error) {
	// The dictionary size stands little-endian behind the properties byte and is allocated at once.
	head, err := br.Peek(5)
	if err != nil {
		return nil, readError("lzma header", 0, err)
	}
	dict := uint32(head[1]) | uint32(head[2])<<8 | uint32(head[3])<<16 | uint32(head[4])<<24
	if dict > maxWindow {
		return nil, fmt.Errorf("read lzma header: dictionary of %d bytes: %w", dict, ErrFormat)
	}
	z, err := lzma.NewReader(br)
	if err != nil {
		return nil, fmt.Errorf("read lzma header: %w", err)
	}
	return io.NopCloser(z), nil
}
