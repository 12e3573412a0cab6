// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	fileHeaderType    = "(uuuusa(ayay))"
	archiveHeaderType = "(tuuuusa(ayay))"
)

// maxHeaderSize bounds the header of a content object: attributes and target.
const maxHeaderSize = 1 << 20

// FileHeader is the metadata of a content object. Mode holds S_IFREG or S_IFLNK;
// Target is the target of a symbolic link and empty otherwise.
type FileHeader struct {
	UID, GID, Mode uint32
	Target         string
	Xattrs         []Xattr
}

// IsSymlink reports a symbolic link.
func (h FileHeader) IsSymlink() bool { return h.Mode&syscall.S_IFMT == syscall.S_IFLNK }

// IsRegular reports a regular file.
func (h FileHeader) IsRegular() bool { return h.Mode&syscall.S_IFMT == syscall.S_IFREG }

func (h FileHeader) equal(o FileHeader) bool {
	return h.UID == o.UID && h.GID == o.GID && h.Mode == o.Mode && h.Target == o.Target && equalXattrs(h.Xattrs, o.Xattrs)
}

func (h FileHeader) check() error {
	switch {
	case h.Mode&^uint32(syscall.S_IFMT|0o7777) != 0, !h.IsRegular() && !h.IsSymlink():
		return fmt.Errorf("%w: file mode %o", ErrInvalid, h.Mode)
	case h.IsRegular() && h.Target != "":
		return fmt.Errorf("%w: regular file with a link target", ErrInvalid)
	case h.IsSymlink() && h.Target == "":
		return fmt.Errorf("%w: symbolic link without a target", ErrInvalid)
	case strings.IndexByte(h.Target, 0) >= 0 || !utf8.ValidString(h.Target):
		return fmt.Errorf("%w: link target %q", ErrInvalid, clip(h.Target))
	}
	return nil
}

func (h FileHeader) fields() ([]gvariant.Value, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	xattrs, err := sortedXattrs(h.Xattrs)
	if err != nil {
		return nil, err
	}
	return []gvariant.Value{
		gvariant.Uint32BE(h.UID), gvariant.Uint32BE(h.GID), gvariant.Uint32BE(h.Mode), gvariant.Uint32(0),
		gvariant.String(h.Target), xattrsValue(xattrs),
	}, nil
}

// frame puts the length and four zero bytes before a header.
func frame(v gvariant.Value) ([]byte, error) {
	if err := v.Err(); err != nil {
		return nil, err
	}
	h := v.Bytes()
	if len(h) > maxHeaderSize {
		return nil, fmt.Errorf("%w: file header of %d bytes", ErrInvalid, len(h))
	}
	out := make([]byte, 8, 8+len(h))
	binary.BigEndian.PutUint32(out, uint32(len(h)))
	return append(out, h...), nil
}

// checksumPrefix gives the bytes that are hashed before the content.
func (h FileHeader) checksumPrefix() ([]byte, error) {
	f, err := h.fields()
	if err != nil {
		return nil, err
	}
	return frame(gvariant.Tuple(f...))
}

// archivePrefix gives the bytes that stand before the compressed content of a
// .filez; size is that of the content in bytes.
func (h FileHeader) archivePrefix(size int64) ([]byte, error) {
	f, err := h.fields()
	if err != nil {
		return nil, err
	}
	return frame(gvariant.Tuple(append([]gvariant.Value{gvariant.Uint64BE(uint64(size))}, f...)...))
}

// readArchiveHeader reads the header of a .filez and leaves r at the content.
func readArchiveHeader(r io.Reader) (h FileHeader, size int64, err error) {
	var pre [8]byte
	if _, err := io.ReadFull(r, pre[:]); err != nil {
		return h, 0, corrupt("archive header", err)
	}
	n := binary.BigEndian.Uint32(pre[:4])
	if n > maxHeaderSize || binary.BigEndian.Uint32(pre[4:]) != 0 {
		return h, 0, fmt.Errorf("%w: archive header of %d bytes", ErrCorrupt, n)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(r, buf); err != nil {
		return h, 0, corrupt("archive header", err)
	}
	return parseArchiveHeader(buf)
}

func parseArchiveHeader(buf []byte) (h FileHeader, size int64, err error) {
	v, err := gvariant.Parse(archiveHeaderType, buf)
	if err != nil {
		return h, 0, fmt.Errorf("%w: archive header: %w", ErrCorrupt, err)
	}
	c := v.Children()
	usize, _ := c[0].Uint64BE()
	if h, err = headerFields(c[1:]); err != nil {
		return h, 0, fmt.Errorf("%w: archive header: %w", ErrCorrupt, err)
	}
	if usize > 1<<62 || h.IsSymlink() && usize != 0 {
		return h, 0, fmt.Errorf("%w: archive header: size %d", ErrCorrupt, usize)
	}
	return h, int64(usize), nil
}

// headerFields reads uid, gid, mode, rdev, target, xattrs.
func headerFields(c []gvariant.Value) (h FileHeader, err error) {
	h.UID, _ = c[0].Uint32BE()
	h.GID, _ = c[1].Uint32BE()
	h.Mode, _ = c[2].Uint32BE()
	h.Target, _ = c[4].Str()
	if rdev, _ := c[3].Uint32(); rdev != 0 {
		return h, fmt.Errorf("%w: device number %d", ErrInvalid, rdev)
	}
	if h.Xattrs, err = parseXattrs(c[5]); err != nil {
		return h, err
	}
	return h, h.check()
}

// corrupt wraps an early end of the data as ErrCorrupt; other errors of the
// reader (network, disk) stay what they are.
func corrupt(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read %s: %w", what, err)
}
