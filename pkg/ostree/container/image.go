// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Image is an image of a layout, ready to be read.
type Image struct {
	Digest   string
	Manifest *Manifest
	Config   *Config

	blobs store
}

// store has the files of a layout.
type store interface {
	// open gives a file and its size; fs.ErrNotExist where there is none.
	open(name string) (io.ReadCloser, int64, error)
}

type folder struct{ d *fsx.Dir }

func (s folder) open(name string) (io.ReadCloser, int64, error) {
	f, err := s.d.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := fsx.FStat(f)
	if err == nil && !st.IsRegular() {
		err = fmt.Errorf("%w: %s is not a regular file", ErrImage, name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size, nil
}

// Open finds an image in a layout's folder. "" finds the only one, or the one without
// a name.
func Open(d *fsx.Dir, tag string) (*Image, error) {
	img, err := open(folder{d}, tag)
	if err != nil {
		return nil, fmt.Errorf("open image in %s: %w", d.Path(), err)
	}
	return img, nil
}

func open(s store, tag string) (*Image, error) {
	data, err := readSmall(s, layoutFile)
	if err == nil {
		err = checkLayout(data)
	}
	if err != nil {
		return nil, err
	}
	if data, err = readSmall(s, indexFile); err != nil {
		return nil, err
	}
	desc, err := choose(data, tag)
	if err != nil {
		return nil, err
	}
	img := &Image{Digest: desc.Digest, blobs: s}
	if data, err = img.readBlob(desc); err != nil {
		return nil, err
	}
	if img.Manifest, err = ParseManifest(data); err != nil {
		return nil, err
	}
	if data, err = img.readBlob(img.Manifest.Config); err != nil {
		return nil, err
	}
	if img.Config, err = parseConfig(data); err != nil {
		return nil, err
	}
	if n, m := len(img.Config.RootFS.DiffIDs), len(img.Manifest.Layers); n != m {
		return nil, fmt.Errorf("%w: %d layers, but %d digests of their contents", ErrImage, m, n)
	}
	return img, nil
}

// choose finds a name in the index.
func choose(data []byte, tag string) (Descriptor, error) {
	var index struct {
		Manifests []Descriptor `json:"manifests"`
	}
	if err := decode(indexFile, data, &index); err != nil {
		return Descriptor{}, err
	}
	named := slices.DeleteFunc(slices.Clone(index.Manifests), func(d Descriptor) bool { return d.Annotations[labelRefName] != tag })
	if tag == "" && len(index.Manifests) == 1 {
		named = index.Manifests
	}
	if len(named) != 1 {
		return Descriptor{}, fmt.Errorf("%w: %d of %d images have the name %q", ErrNoImage, len(named), len(index.Manifests), tag)
	}
	if named[0].MediaType != typeManifest {
		return Descriptor{}, fmt.Errorf("%w: it is of type %q; copy the image of one architecture first", ErrNoImage, clip(named[0].MediaType))
	}
	return named[0], named[0].check()
}

func readSmall(s store, name string) ([]byte, error) {
	f, size, err := s.open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: no file %s", ErrImage, name)
		}
		return nil, err
	}
	defer f.Close()
	if size > maxJSON {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrImage, name, size)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("%w: %s changes while it is read", ErrImage, name)
	}
	return data, err
}

func (img *Image) readBlob(d Descriptor) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	data, err := readSmall(img.blobs, blobName(d.Digest))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size || digestBytes(data) != d.Digest {
		return nil, fmt.Errorf("%w: blob %s has %d bytes with digest %s, not %d", ErrImage, d.Digest, len(data), digestBytes(data), d.Size)
	}
	return data, nil
}

// layerReader gives the contents of a layer and verifies both digests at its end.
type layerReader struct {
	ctx    context.Context
	desc   Descriptor
	diffID string
	file   io.ReadCloser
	packed *hashReader // what is stored
	plain  *hashReader // what is in it
	stop   func()
}

// hashReader hashes what is read and refuses more than limit bytes.
type hashReader struct {
	r     io.Reader
	h     hash.Hash
	n     int64
	limit int64
}

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	h.n += int64(n)
	if h.n > h.limit {
		return n, fmt.Errorf("%w: more than %d bytes", ErrImage, h.limit)
	}
	return n, err
}

// maxWindow bounds the memory that a zstd layer asks for.
const maxWindow = 128 << 20

// openLayer opens the layer with an index; limit bounds its contents in bytes.
func (img *Image) openLayer(ctx context.Context, i int, limit int64) (*layerReader, error) {
	l := &layerReader{ctx: ctx, desc: img.Manifest.Layers[i], diffID: img.Config.RootFS.DiffIDs[i], stop: func() {}}
	f, size, err := img.blobs.open(blobName(l.desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: blob %s is missing", ErrImage, l.desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	if size != l.desc.Size {
		return nil, errors.Join(fmt.Errorf("%w: blob %s has %d bytes, not %d", ErrImage, l.desc.Digest, size, l.desc.Size), f.Close())
	}
	l.file = f
	l.packed = &hashReader{r: f, h: sha256.New(), limit: size}
	l.plain = &hashReader{h: sha256.New(), limit: limit}
	if err := l.unpack(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob %s: %w", l.desc.Digest, err), f.Close())
	}
	return l, nil
}

func (l *layerReader) unpack() error {
	switch l.desc.MediaType {
	case typeLayer:
		l.plain.r = l.packed
	case typeLayerGzip:
		z, err := gzip.NewReader(l.packed)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrImage, err)
		}
		l.plain.r = z
	case typeLayerZstd:
		z, err := zstd.NewReader(l.packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrImage, err)
		}
		l.plain.r, l.stop = z, z.Close
	default:
		return fmt.Errorf("%w: layer of type %q", ErrImage, clip(l.desc.MediaType))
	}
	return nil
}

func (l *layerReader) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	return l.plain.Read(p)
}

// finish reads what is left and verifies.
func (l *layerReader) finish() error {
	if _, err := io.Copy(io.Discard, l); err != nil {
		return fmt.Errorf("read layer %s: %w", l.desc.Digest, err)
	}
	if _, err := io.Copy(io.Discard, l.packed); err != nil {
		return fmt.Errorf("read layer %s: %w", l.desc.Digest, err)
	}
	if got := digestOf(l.packed.h.Sum(nil)); got != l.desc.Digest {
		return fmt.Errorf("%w: layer %s has digest %s", ErrImage, l.desc.Digest, got)
	}
	if got := digestOf(l.plain.h.Sum(nil)); got != l.diffID {
		return fmt.Errorf("%w: contents of layer %s have digest %s, not %s", ErrImage, l.desc.Digest, got, l.diffID)
	}
	return nil
}

func (l *layerReader) close() error {
	l.stop()
	return l.file.Close()
}
