// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func (t *Txn) check(ctx context.Context) error {
	if t.over.Load() {
		return errOver
	}
	return ctx.Err()
}

// WriteMetadata stores a dirtree, dirmeta or commit given by its bytes, which
// must be well formed, and gives its checksum.
func (t *Txn) WriteMetadata(ctx context.Context, typ ObjectType, data []byte) (Checksum, error) {
	if !typ.hashed() {
		return Checksum{}, fmt.Errorf("write %s: %w: not a hashed metadata type", typ, ErrInvalid)
	}
	n := ObjectName{sha256.Sum256(data), typ}
	return n.Checksum, t.writeMeta(ctx, n, data, false)
}

// WriteMetadataExpected stores a metadata object received under a name; ErrCorrupt
// where the bytes have another checksum. Detached metadata, which no checksum
// covers, replaces what is there. Directories count against the free space that must
// remain: those of a tree whose files do not fit would fill the disk.
func (t *Txn) WriteMetadataExpected(ctx context.Context, n ObjectName, data []byte) error {
	if n.Type.hashed() && sha256.Sum256(data) != n.Checksum {
		return fmt.Errorf("write object %s: %w: checksum differs", n, ErrCorrupt)
	}
	if !n.Type.hashed() && n.Type != TypeCommitMeta {
		return fmt.Errorf("write object %s: %w: type", n, ErrInvalid)
	}
	return t.writeMeta(ctx, n, data, n.Type == TypeDirTree || n.Type == TypeDirMeta)
}

// ImportMetadata stores a metadata object without computing its checksum: the
// caller vouches for it, as for a local repository of its own.
func (t *Txn) ImportMetadata(ctx context.Context, n ObjectName, data []byte) error {
	return t.writeMeta(ctx, n, data, false)
}

func (t *Txn) writeMeta(ctx context.Context, n ObjectName, data []byte, counts bool) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	t.count.metaTotal.Add(1)
	t.sizes.add(n, int64(len(data)), int64(len(data)))
	if n.Type.hashed() {
		if found, err := t.Has(n); found || err != nil {
			return err
		}
	}
	if err := checkMeta(n.Type, data); err != nil {
		return fmt.Errorf("write object %s: %w", n, err)
	}
	if counts {
		if err := t.budget.take(int64(len(data))); err != nil {
			return fmt.Errorf("write object %s: %w", n, err)
		}
	}
	if err := t.storeMeta(n, data); err != nil {
		return fmt.Errorf("write object %s: %w", n, err)
	}
	t.count.metaWritten.Add(1)
	return nil
}

// checkMeta parses: nothing malformed enters the repository under a valid name.
func checkMeta(typ ObjectType, data []byte) (err error) {
	if len(data) > MaxMetadataSize {
		return fmt.Errorf("%w: %d bytes", ErrInvalid, len(data))
	}
	switch typ {
	case TypeDirTree:
		_, err = ParseDirTree(data)
	case TypeDirMeta:
		_, err = ParseDirMeta(data)
	case TypeCommit:
		_, err = ParseCommit(data)
	case TypeCommitMeta:
		_, err = parseCommitMeta(data)
	}
	return err
}

func (t *Txn) storeMeta(n ObjectName, data []byte) error {
	f, err := t.newObject(n, 0o644)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.chmod(0o644); err != nil {
		return err
	}
	return t.place(f, n)
}

// WriteCommit stores a commit whose root directory must be present already. Where
// CommitOptions asked for sizes it adds them to the metadata.
func (t *Txn) WriteCommit(ctx context.Context, c Commit) (Checksum, error) {
	if v, ok := t.sizes.take(); ok {
		c.Metadata.Set(keySizes, v)
	}
	data, err := c.Marshal()
	if err != nil {
		return Checksum{}, fmt.Errorf("write commit: %w", err)
	}
	for _, n := range []ObjectName{{c.RootTree, TypeDirTree}, {c.RootMeta, TypeDirMeta}} {
		found, err := t.Has(n)
		if err == nil && !found {
			err = fmt.Errorf("root object %s: %w", n, ErrNotFound)
		}
		if err != nil {
			return Checksum{}, fmt.Errorf("write commit: %w", err)
		}
	}
	return t.WriteMetadata(ctx, TypeCommit, data)
}

// SetCommitMeta replaces a commit's detached metadata.
func (t *Txn) SetCommitMeta(ctx context.Context, c Checksum, d gvariant.Dict) error {
	data, err := d.Marshal()
	if err != nil {
		return fmt.Errorf("write detached metadata of %s: %w", c, err)
	}
	return t.writeMeta(ctx, ObjectName{c, TypeCommitMeta}, data, false)
}

// smallContent is the size up to which content is held in memory: it is then
// hashed before anything is written, and not written if it is there already.
const smallContent = 1 << 20

// WriteContent stores a file given by its header and exactly size bytes of
// content (none for a symbolic link) and gives its checksum.
func (t *Txn) WriteContent(ctx context.Context, h FileHeader, size int64, content io.Reader) (Checksum, error) {
	return t.writeContent(ctx, nil, h, size, content)
}

// WriteContentExpected is WriteContent for an object received under a name;
// ErrCorrupt where the checksum is another. If the object is present the
// content is not read.
func (t *Txn) WriteContentExpected(ctx context.Context, c Checksum, h FileHeader, size int64, content io.Reader) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	n := ObjectName{c, TypeFile}
	if found, err := t.Has(n); found || err != nil {
		t.count.contentTotal.Add(1)
		if err == nil {
			err = t.recordStored(n, h, size)
		}
		return err
	}
	_, err := t.writeContent(ctx, &c, h, size, content)
	return err
}

func (t *Txn) writeContent(ctx context.Context, want *Checksum, h FileHeader, size int64, content io.Reader) (Checksum, error) {
	if err := t.check(ctx); err != nil {
		return Checksum{}, err
	}
	t.count.contentTotal.Add(1)
	c, err := t.writeAnyContent(want, h, size, content)
	if err != nil {
		return c, fmt.Errorf("write content: %w", err)
	}
	return c, nil
}

func (t *Txn) writeAnyContent(want *Checksum, h FileHeader, size int64, content io.Reader) (Checksum, error) {
	hs, err := t.startHash(h)
	if err != nil {
		return Checksum{}, err
	}
	if size < 0 || h.IsSymlink() && size != 0 {
		return Checksum{}, fmt.Errorf("%w: content of %d bytes", ErrInvalid, size)
	}
	if h.IsSymlink() {
		return t.writeKnown(want, hs, h, nil)
	}
	if size > smallContent {
		c, _, err := t.streamContent(want, hs, h, size, content)
		return c, err
	}
	buf := t.r.pools.buffer()
	defer t.r.pools.buffers.Put(buf)
	data := (*buf)[:size]
	if err := readExactly(content, data); err != nil {
		return Checksum{}, err
	}
	hs.Write(data)
	return t.writeKnown(want, hs, h, data)
}

// writeBuffered is WriteContent for content in memory.
func (t *Txn) writeBuffered(ctx context.Context, h FileHeader, data []byte) (Checksum, error) {
	if err := t.check(ctx); err != nil {
		return Checksum{}, err
	}
	t.count.contentTotal.Add(1)
	hs, err := t.startHash(h)
	if err != nil {
		return Checksum{}, fmt.Errorf("write content: %w", err)
	}
	hs.Write(data)
	c, err := t.writeKnown(nil, hs, h, data)
	if err != nil {
		return c, fmt.Errorf("write content: %w", err)
	}
	return c, nil
}

// startHash checks a header and hashes it.
func (t *Txn) startHash(h FileHeader) (hash.Hash, error) {
	prefix, err := h.checksumPrefix()
	if err != nil {
		return nil, err
	}
	if err := t.r.checkStorable(h); err != nil {
		return nil, err
	}
	hs := sha256.New()
	hs.Write(prefix)
	return hs, nil
}

// readExactly fills data and checks that the reader ends there.
func readExactly(r io.Reader, data []byte) error {
	if _, err := io.ReadFull(r, data); err != nil {
		return corrupt("content", err)
	}
	return expectEOF(r)
}

func expectEOF(r io.Reader) error {
	var one [1]byte
	n, err := io.ReadFull(r, one[:])
	if n > 0 {
		return fmt.Errorf("%w: content is longer than its declared size", ErrCorrupt)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read content: %w", err)
	}
	return nil
}

// complete names content whose hash is complete and tells whether it is present.
// With a checksum that was wanted the caller has looked before: who stores the same
// object in between is met when it gets its name.
func (t *Txn) complete(want *Checksum, hs hash.Hash) (n ObjectName, found bool, err error) {
	n = ObjectName{Checksum(hs.Sum(nil)), TypeFile}
	if want == nil {
		found, err = t.Has(n)
	} else if n.Checksum != *want {
		err = fmt.Errorf("%w: checksum %s instead of %s", ErrCorrupt, n.Checksum, *want)
	}
	return n, found, err
}

// writeKnown stores content whose hash is complete, unless it is present.
func (t *Txn) writeKnown(want *Checksum, hs hash.Hash, h FileHeader, data []byte) (Checksum, error) {
	n, found, err := t.complete(want, hs)
	if err != nil {
		return n.Checksum, err
	}
	if found {
		return n.Checksum, errors.Join(t.linkPayload(n, h, data), t.recordStored(n, h, int64(len(data))))
	}
	if h.IsSymlink() && (t.r.mode.ownedFiles() || t.r.mode == ModeBareUserOnly) {
		err = t.placeLink(n, h)
	} else if t.r.mode == ModeArchive {
		err = t.storeSmall(n, h, data)
	} else {
		err = t.storeContent(n, h, int64(len(data)), bytes.NewReader(data))
	}
	if err == nil {
		err = t.contentStored(n, h, int64(len(data)))
	}
	return n.Checksum, err
}

// contentStored counts a new object.
func (t *Txn) contentStored(n ObjectName, h FileHeader, size int64) error {
	t.count.contentWritten.Add(1)
	t.count.content.Add(size)
	return t.recordStored(n, h, size)
}

func (t *Txn) storeContent(n ObjectName, h FileHeader, size int64, content io.Reader) error {
	if err := t.budget.take(size); err != nil {
		return err
	}
	f, err := t.newObject(n, t.lastMode(h))
	if err != nil {
		return err
	}
	defer f.close()
	p := t.payloadOf(h, size)
	if err := t.fill(f, h, size, p.follow(content)); err != nil {
		return err
	}
	p.share(f)
	if err := t.place(f, n); err != nil {
		return err
	}
	return p.link(n)
}

// streamContent hashes and stores big content in one go; memory stays bounded. found
// tells that it was stored before.
func (t *Txn) streamContent(want *Checksum, hs hash.Hash, h FileHeader, size int64, content io.Reader) (c Checksum, found bool, err error) {
	if err := t.budget.take(size); err != nil {
		return c, false, err
	}
	f, err := t.newFile()
	if err != nil {
		return c, false, err
	}
	defer f.close()
	p := t.payloadOf(h, size)
	if err := t.fillHashed(f, h, size, content, hs, p); err != nil {
		return c, false, err
	}
	n, found, err := t.complete(want, hs)
	if err != nil {
		return n.Checksum, false, err
	}
	if found {
		return n.Checksum, true, errors.Join(p.link(n), t.recordStored(n, h, size))
	}
	p.share(f)
	if err := t.place(f, n); err != nil {
		return n.Checksum, false, err
	}
	return n.Checksum, false, errors.Join(p.link(n), t.contentStored(n, h, size))
}

// WriteArchived stores a .filez stream as received once it has been verified to
// unpack to content of checksum c; ErrCorrupt otherwise. In other modes than
// archive it stores what is inside. If the object is present nothing is read.
func (t *Txn) WriteArchived(ctx context.Context, c Checksum, filez io.Reader) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	if found, err := t.Has(ObjectName{c, TypeFile}); found || err != nil {
		t.count.contentTotal.Add(1)
		return err
	}
	return t.StoreArchived(ctx, c, filez)
}

// StoreArchived is WriteArchived for an object that the caller has just looked for with
// Has: who stores the same object in between is met when it gets its name.
func (t *Txn) StoreArchived(ctx context.Context, c Checksum, filez io.Reader) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	if t.r.mode != ModeArchive {
		return t.unpackArchived(ctx, c, filez)
	}
	t.count.contentTotal.Add(1)
	n := ObjectName{c, TypeFile}
	if err := t.storeArchived(n, filez); err != nil {
		return fmt.Errorf("write object %s: %w", n, err)
	}
	t.count.contentWritten.Add(1)
	return nil
}

func (t *Txn) unpackArchived(ctx context.Context, c Checksum, filez io.Reader) error {
	h, size, rc, err := t.r.readArchived(filez)
	if err != nil {
		return fmt.Errorf("write object %s: %w", ObjectName{c, TypeFile}, err)
	}
	defer rc.Close()
	_, err = t.writeContent(ctx, &c, h, size, rc)
	return err
}

func (t *Txn) storeArchived(n ObjectName, filez io.Reader) error {
	f, err := t.newFile()
	if err != nil {
		return err
	}
	defer f.close()
	f.metered = true
	h, size, rc, err := t.r.readArchived(io.TeeReader(filez, f))
	if err != nil {
		return err
	}
	defer rc.Close()
	c, err := t.r.hashContent(h, size, rc)
	if err != nil {
		return err
	}
	if c != n.Checksum {
		return fmt.Errorf("%w: checksum %s", ErrCorrupt, c)
	}
	if err := f.chmod(0o644); err != nil {
		return err
	}
	if err := t.place(f, n); err != nil {
		return err
	}
	t.count.content.Add(size)
	return nil
}

// hashContent computes a content object's checksum; the content must end after
// size bytes.
func (r *Repo) hashContent(h FileHeader, size int64, content io.Reader) (Checksum, error) {
	prefix, err := h.checksumPrefix()
	if err != nil {
		return Checksum{}, err
	}
	hs := sha256.New()
	hs.Write(prefix)
	buf := r.pools.buffer()
	defer r.pools.buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{hs}, struct{ io.Reader }{content}, (*buf)[:bufSize])
	if err != nil {
		return Checksum{}, fmt.Errorf("read content: %w", err)
	}
	if n != size {
		return Checksum{}, fmt.Errorf("%w: content of %d bytes instead of %d", ErrCorrupt, n, size)
	}
	return Checksum(hs.Sum(nil)), nil
}

// verifyObject reads an object at path in d and compares its checksum.
func (r *Repo) verifyObject(d *fsx.Dir, path string, n ObjectName) error {
	if n.Type != TypeFile {
		data, err := loadMeta(d, path, n)
		if err == nil {
			err = checkMeta(n.Type, data)
		}
		return err
	}
	h, size, rc, err := r.openContent(d, path, n)
	if err != nil {
		return err
	}
	defer rc.Close()
	c, err := r.hashContent(h, size, rc)
	if err == nil && c != n.Checksum {
		err = &checksumError{c}
	}
	if err != nil {
		return fmt.Errorf("verify object %s: %w", n, err)
	}
	return nil
}

// verifyStored verifies an object where it is stored, here or in a parent.
func (r *Repo) verifyStored(n ObjectName) error {
	err := r.verifyObject(r.objects, n.loosePath(r.mode), n)
	if r.parent != nil && errors.Is(err, ErrNotFound) {
		return r.parent.verifyStored(n)
	}
	return err
}
