// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// Bounds of an import.
const (
	maxXattrs    = 1 << 20  // bytes of one file's attributes
	maxAllXattrs = 64 << 20 // bytes of the attributes that are kept in memory
	maxObjects   = 4 << 20  // file objects of an image
)

// entry is one entry of a layer.
type entry struct {
	*tar.Header
	content io.Reader
	first   bool // of the first layer
}

// entry reads one entry. Everything but objects is the image's view of them, or it is
// refused: what is not in the commit would be lost.
func (im *importer) entry(ctx context.Context, e entry) error {
	name, err := entryName(e.Name)
	if err != nil {
		return err
	}
	if e.Typeflag == tar.TypeDir {
		return nil
	}
	if rest, ok := strings.CutPrefix(name, objectPrefix); ok {
		n, err := parseObject(rest)
		if err != nil {
			return err
		}
		return im.object(ctx, e, n)
	}
	switch {
	case strings.HasPrefix(name, repoPath+"/"):
		if e.Typeflag == tar.TypeReg {
			return nil // the configuration and refs of the repository
		}
	case e.Typeflag == tar.TypeReg && e.Size == 0:
		return nil
	case e.Typeflag == tar.TypeLink:
		return im.link(e.Linkname)
	}
	return fmt.Errorf("%w: it is neither an object nor a link to one", ErrImage)
}

// entryName refuses names that leave the tree, or that have two spellings.
func entryName(s string) (string, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(s, "./"), "/")
	if name == "" || name == "." {
		return ".", nil
	}
	if path.Clean("/" + name)[1:] != name {
		return "", fmt.Errorf("%w: its name leaves the tree or is not in its shortest form", ErrImage)
	}
	return name, nil
}

// parseObject reads XX/REST.TYPE.
func parseObject(s string) (n ostree.ObjectName, err error) {
	stem, ext, _ := strings.Cut(s, ".")
	if len(stem) != 65 || stem[2] != '/' {
		return n, fmt.Errorf("%w: no name of an object", ErrImage)
	}
	if n.Checksum, err = ostree.ParseChecksum(stem[:2] + stem[3:]); err != nil {
		return n, fmt.Errorf("%w: %w", ErrImage, err)
	}
	for _, t := range []ostree.ObjectType{ostree.TypeFile, ostree.TypeFileXattrs, ostree.TypeFileXattrsLink,
		ostree.TypeDirTree, ostree.TypeDirMeta, ostree.TypeCommit, ostree.TypeCommitMeta} {
		if t.String() == ext {
			n.Type = t
			return n, nil
		}
	}
	return n, fmt.Errorf("%w: objects of type %q are not read; images of format version 0 have them", ErrImage, clip(ext))
}

// link checks that a hard link leads to a file of the image.
func (im *importer) link(target string) error {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(target, "./"), objectPrefix)
	if !ok {
		return fmt.Errorf("%w: it links to %q, which is no object", ErrImage, clip(target))
	}
	n, err := parseObject(rest)
	if err != nil {
		return err
	}
	if _, ok := im.files[n.Checksum]; !ok || n.Type != ostree.TypeFile {
		return fmt.Errorf("%w: it links to %s, which is not there", ErrImage, n)
	}
	return nil
}

func (im *importer) object(ctx context.Context, e entry, n ostree.ObjectName) error {
	if im.next != nil && (n.Type != ostree.TypeFile || n.Checksum != im.next.file) {
		return fmt.Errorf("%w: file object %s must come next", ErrImage, im.next.file)
	}
	switch n.Type {
	case ostree.TypeFile:
		return im.file(ctx, e, n.Checksum)
	case ostree.TypeFileXattrs:
		return im.fileXattrs(e, n.Checksum)
	case ostree.TypeFileXattrsLink:
		return im.xattrsLink(e, n.Checksum)
	}
	return im.metadata(ctx, e, n)
}

func (im *importer) metadata(ctx context.Context, e entry, n ostree.ObjectName) error {
	if !e.first {
		return fmt.Errorf("%w: it belongs into the first layer", ErrImage)
	}
	if (n.Type == ostree.TypeCommit || n.Type == ostree.TypeCommitMeta) && n.Checksum != im.commit {
		return fmt.Errorf("%w: label %s is %s", ErrImage, labelCommit, im.commit)
	}
	data, err := e.read(ostree.MaxMetadataSize)
	if err != nil {
		return err
	}
	if n.Type == ostree.TypeCommit {
		im.found = true
	}
	return im.txn.WriteMetadataExpected(ctx, n, data)
}

// read gives the content of a regular file.
func (e entry) read(limit int64) ([]byte, error) {
	if e.Typeflag != tar.TypeReg || e.Size > limit {
		return nil, fmt.Errorf("%w: type %q, %d bytes: want a regular file of at most %d", ErrImage, e.Typeflag, e.Size, limit)
	}
	data := make([]byte, e.Size)
	if _, err := io.ReadFull(e.content, data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	return data, nil
}

// fileXattrs keeps attributes that files refer to, as older exporters write them.
func (im *importer) fileXattrs(e entry, c ostree.Checksum) error {
	data, err := e.read(maxXattrs)
	if err != nil {
		return err
	}
	if sha256.Sum256(data) != c {
		return fmt.Errorf("%w: its checksum is another", ErrImage)
	}
	if _, ok := im.attributes[c]; ok {
		return nil
	}
	if im.stored += int64(len(data)); im.stored > maxAllXattrs {
		return fmt.Errorf("%w: more than %d bytes of attributes", ErrImage, maxAllXattrs)
	}
	im.attributes[c], err = ostree.ParseXattrs(data)
	return err
}

// xattrsLink reads the attributes of the next file: a hard link to those that were
// there, or the attributes themselves.
func (im *importer) xattrsLink(e entry, c ostree.Checksum) error {
	if e.Typeflag != tar.TypeLink {
		data, err := e.read(maxXattrs)
		if err != nil {
			return err
		}
		x, err := ostree.ParseXattrs(data)
		im.next = &pending{c, x}
		return err
	}
	rest, _ := strings.CutPrefix(strings.TrimPrefix(e.Linkname, "./"), objectPrefix)
	n, err := parseObject(rest)
	if err != nil {
		return err
	}
	x, ok := im.attributes[n.Checksum]
	if !ok || n.Type != ostree.TypeFileXattrs {
		return fmt.Errorf("%w: it links to %q, which is not there", ErrImage, clip(e.Linkname))
	}
	im.next = &pending{c, x}
	return nil
}

func (im *importer) file(ctx context.Context, e entry, c ostree.Checksum) error {
	if im.next == nil {
		return fmt.Errorf("%w: its attributes do not stand before it", ErrImage)
	}
	h := ostree.FileHeader{Mode: uint32(e.Mode) & 0o7777, Xattrs: im.next.xattrs}
	im.next = nil
	if _, twice := im.files[c]; twice || len(im.files) >= maxObjects {
		return fmt.Errorf("%w: it is there twice, or there are more than %d objects", ErrImage, maxObjects)
	}
	if e.Uid < 0 || int64(e.Uid) > math.MaxUint32 || e.Gid < 0 || int64(e.Gid) > math.MaxUint32 {
		return fmt.Errorf("%w: owner %d:%d", ErrImage, e.Uid, e.Gid)
	}
	h.UID, h.GID = uint32(e.Uid), uint32(e.Gid)
	size := e.Size
	switch e.Typeflag {
	case tar.TypeReg:
		h.Mode |= syscall.S_IFREG
	case tar.TypeSymlink:
		h.Mode |= syscall.S_IFLNK
		h.Target, size = e.Linkname, 0
	default:
		return fmt.Errorf("%w: file object of type %q", ErrImage, e.Typeflag)
	}
	if err := im.txn.WriteContentExpected(ctx, c, h, size, e.content); err != nil {
		return err
	}
	im.files[c] = struct{}{}
	return nil
}
