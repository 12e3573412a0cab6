// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/hostctl/hostctl/internal/fsx"
)

// layout is an image layout that is written to. Blobs come first; the index, which
// is replaced at the end, makes them an image.
type layout struct {
	d    *fsx.Dir
	lock *fsx.Lock
}

const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobDir    = "blobs/sha256"
	tmpPrefix  = ".tmp-" // of blobs that are being written
)

// openLayout makes a layout in d, or takes the one that is there. Its lock is on
// the file that every layout has and nobody replaces.
func openLayout(ctx context.Context, d *fsx.Dir) (*layout, error) {
	old, err := d.ReadFile(layoutFile, maxJSON)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := d.ReadDir(".")
		if err != nil {
			return nil, err
		}
		if len(entries) > 0 {
			return nil, fmt.Errorf("%w: %s is not empty and has no file %s", ErrImage, d.Path(), layoutFile)
		}
		if err := d.WriteFile(layoutFile, []byte(`{"imageLayoutVersion":"`+layoutVersion+`"}`), 0o644); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	} else if err := checkLayout(old); err != nil {
		return nil, err
	}
	l := &layout{d: d}
	if l.lock, err = d.Lock(ctx, layoutFile, false, 0); err != nil {
		return nil, err
	}
	if err := l.prepare(); err != nil {
		return nil, errors.Join(err, l.lock.Unlock())
	}
	return l, nil
}

func checkLayout(data []byte) error {
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := decode(layoutFile, data, &v); err != nil {
		return err
	}
	if v.Version != layoutVersion {
		return fmt.Errorf("%w: layout of version %q", ErrImage, clip(v.Version))
	}
	return nil
}

// prepare drops what a killed writer left: with the lock held nobody writes.
func (l *layout) prepare() error {
	if err := l.d.MkdirAll(blobDir, 0o755); err != nil {
		return err
	}
	entries, err := l.d.ReadDir(blobDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, tmpPrefix) {
			if err := l.d.Remove(blobDir + "/" + e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *layout) close() error { return l.lock.Unlock() }

// writeJSON stores a value as a blob.
func (l *layout) writeJSON(mediaType string, v any) (Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	desc := Descriptor{MediaType: mediaType, Digest: digestBytes(data), Size: int64(len(data))}
	return desc, l.d.WriteFileAtomic(blobName(desc.Digest), data, 0o644)
}

// commit names the image in the index, in place of what had the name. The entries of
// other images stay as they are.
func (l *layout) commit(manifest Descriptor, tag string) error {
	var index struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType,omitempty"`
		Manifests     []json.RawMessage `json:"manifests"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
	data, err := l.d.ReadFile(indexFile, maxJSON)
	if err == nil {
		err = decode(indexFile, data, &index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read index of images: %w", err)
	}
	for i := len(index.Manifests) - 1; i >= 0; i-- {
		var e Descriptor
		if err := decode("index entry", index.Manifests[i], &e); err != nil {
			return err
		}
		if e.Annotations[labelRefName] == tag {
			index.Manifests = slices.Delete(index.Manifests, i, i+1)
		}
	}
	if tag != "" {
		manifest.Annotations = map[string]string{labelRefName: tag}
	}
	entry, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	index.SchemaVersion, index.MediaType, index.Manifests = 2, typeIndex, append(index.Manifests, entry)
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	// The blobs are durable before the index can name them.
	if err := l.d.Syncfs(); err != nil {
		return err
	}
	return l.d.WriteFileAtomic(indexFile, data, 0o644)
}

// Compression of layers.
type Compression uint8

// The compressions; every reader of images knows gzip.
const (
	Gzip Compression = iota
	Zstd
)

func (c Compression) mediaType() string {
	if c == Zstd {
		return typeLayerZstd
	}
	return typeLayerGzip
}

func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	if c == Zstd {
		// More threads would cut the stream at places that depend on their number.
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return gzip.NewWriter(w), nil
}

// blob is a layer that is being written: what goes in is hashed, compressed, hashed
// and stored, so that memory does not depend on its size.
type blob struct {
	l        *layout
	c        Compression
	f        *os.File
	name     string
	z        io.WriteCloser
	plain    hash.Hash
	packed   hash.Hash
	size     int64
	unpacked int64
}

func (l *layout) newBlob(c Compression) (*blob, error) {
	b := &blob{l: l, c: c, name: blobDir + "/" + tmpPrefix + rand.Text(), plain: sha256.New(), packed: sha256.New()}
	var err error
	if b.f, err = l.d.OpenFile(b.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return nil, err
	}
	if b.z, err = c.writer(packedWriter{b}); err != nil {
		return nil, errors.Join(err, b.f.Close(), l.d.Remove(b.name))
	}
	return b, nil
}

type packedWriter struct{ b *blob }

func (w packedWriter) Write(p []byte) (int, error) {
	n, err := w.b.f.Write(p)
	w.b.packed.Write(p[:n])
	w.b.size += int64(n)
	return n, err
}

func (b *blob) Write(p []byte) (int, error) {
	b.plain.Write(p)
	b.unpacked += int64(len(p))
	return b.z.Write(p)
}

// finish gives the blob its name.
func (b *blob) finish() (desc Descriptor, diffID string, err error) {
	if err := errors.Join(b.z.Close(), b.f.Close()); err != nil {
		return desc, "", err
	}
	desc = Descriptor{MediaType: b.c.mediaType(), Digest: digestOf(b.packed.Sum(nil)), Size: b.size}
	return desc, digestOf(b.plain.Sum(nil)), b.l.d.Rename(b.name, b.l.d, blobName(desc.Digest))
}

// cancel drops an unfinished blob.
func (b *blob) cancel() error {
	return errors.Join(b.f.Close(), b.l.d.Remove(b.name))
}
