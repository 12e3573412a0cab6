// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// archiveEntry is one entry of a tar or cpio archive. linkTo is the target of a hard
// link, "" for other entries; content ends after size bytes.
type archiveEntry struct {
	path, linkTo string
	header       FileHeader
	size         int64
	content      io.Reader
}

// archiveReader reads entries until io.EOF.
type archiveReader struct {
	next    func() (*archiveEntry, error)
	closers []func() error
}

func (a *archiveReader) close() error {
	var errs []error
	for _, c := range a.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

const (
	maxArchiveWindow = 128 << 20 // of compressed archives, bytes
	maxXzDict        = 64 << 20
)

// openArchive finds out compression and format.
func openArchive(r io.Reader) (*archiveReader, error) {
	a := &archiveReader{}
	br, err := a.unpack(bufio.NewReaderSize(r, bufSize))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: compressed archive: %w", ErrCorrupt, err), a.close())
	}
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(corrupt("archive", err), a.close())
	}
	switch {
	case bytes.Equal(head, []byte(cpioNew)) || bytes.Equal(head, []byte(cpioCRC)) || bytes.Equal(head, []byte(cpioOld)):
		c := &cpioReader{r: br, links: map[cpioInode]string{}}
		a.next = c.next
	default:
		t := &tarReader{tar.NewReader(br)}
		a.next = t.next
	}
	return a, nil
}

// unpack removes one layer of compression, known by its magic number.
func (a *archiveReader) unpack(br *bufio.Reader) (*bufio.Reader, error) {
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var z io.Reader
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err = gzip.NewReader(br)
	case bytes.HasPrefix(head, []byte("BZh")):
		z = bzip2.NewReader(br)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		z, err = xz.NewReader(br, maxXzDict)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		d, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxArchiveWindow))
		if err == nil {
			a.closers = append(a.closers, func() error { d.Close(); return nil })
			z = d
		}
	default:
		return br, nil
	}
	if err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(z, bufSize), nil
}

type tarReader struct{ r *tar.Reader }

// The records that carry extended attributes: as star and GNU tar write them, and
// as libarchive does, in base64.
const (
	paxSchily     = "SCHILY.xattr."
	paxLibarchive = "LIBARCHIVE.xattr."
)

func (t *tarReader) next() (*archiveEntry, error) {
	h, err := t.r.Next()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("%w: archive: %w", ErrCorrupt, err)
	}
	e := &archiveEntry{path: h.Name, size: h.Size, content: t.r}
	if err := tarOwner(h, &e.header); err != nil {
		return nil, fmt.Errorf("%q: %w", clip(h.Name), err)
	}
	if e.header.Xattrs, err = tarXattrs(h.PAXRecords); err != nil {
		return nil, fmt.Errorf("%q: %w", clip(h.Name), err)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		e.header.Mode |= syscall.S_IFREG
		if h.Typeflag == tar.TypeReg && strings.HasSuffix(h.Name, "/") {
			e.header.Mode = e.header.Mode&0o7777 | syscall.S_IFDIR
		}
	case tar.TypeLink:
		e.header.Mode |= syscall.S_IFREG
		e.linkTo = h.Linkname
		if e.linkTo == "" {
			return nil, fmt.Errorf("%q: %w: hard link without a target", clip(h.Name), ErrCorrupt)
		}
	case tar.TypeSymlink:
		e.header.Mode = e.header.Mode&0o7777 | syscall.S_IFLNK
		e.header.Target, e.size = h.Linkname, 0
	case tar.TypeDir:
		e.header.Mode |= syscall.S_IFDIR
	case tar.TypeXGlobalHeader:
		return t.next()
	default:
		e.header.Mode |= syscall.S_IFCHR // of no kind that can be stored
	}
	return e, nil
}

func tarOwner(h *tar.Header, out *FileHeader) error {
	if h.Uid < 0 || int64(h.Uid) > math.MaxUint32 || h.Gid < 0 || int64(h.Gid) > math.MaxUint32 {
		return fmt.Errorf("%w: owner %d:%d", ErrInvalid, h.Uid, h.Gid)
	}
	if h.Size < 0 {
		return fmt.Errorf("%w: size %d", ErrInvalid, h.Size)
	}
	out.UID, out.GID, out.Mode = uint32(h.Uid), uint32(h.Gid), uint32(h.Mode)&0o7777
	return nil
}
