// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// partWriter gathers the objects of one part.
type partWriter struct {
	modes   []byte
	modeAt  map[[modeSize]byte]int
	xattrs  []gvariant.Value
	xattrAt map[string]int
	data    *spool
	ops     []byte
	objects []byte
	usize   uint64
}

func newPartWriter(tmp *fsx.Dir) *partWriter {
	return &partWriter{modeAt: map[[modeSize]byte]int{}, xattrAt: map[string]int{}, data: newSpool(tmp)}
}

func (w *partWriter) op(code byte, args ...int64) {
	w.ops = append(w.ops, code)
	for _, a := range args {
		w.ops = binary.AppendUvarint(w.ops, uint64(a))
	}
}

func (w *partWriter) object(n ostree.ObjectName, size int64) {
	w.objects = append(append(w.objects, byte(n.Type)), n.Checksum[:]...)
	w.usize += uint64(size)
}

// addMeta packs a metadata object.
func (w *partWriter) addMeta(n ostree.ObjectName, raw []byte) error {
	w.object(n, int64(len(raw)))
	w.op(opSplice, int64(len(raw)), w.data.size)
	_, err := w.data.Write(raw)
	return err
}

// addWhole packs a file as it is; for a link the content is its target.
func (w *partWriter) addWhole(f *newFile, content io.Reader) error {
	mode, xattr, err := w.attributes(f.header)
	if err != nil {
		return err
	}
	at := w.data.size
	n, err := io.CopyBuffer(struct{ io.Writer }{w.data}, content, make([]byte, copyBuffer))
	if err != nil {
		return err
	}
	w.object(ostree.ObjectName{Checksum: f.sum, Type: ostree.TypeFile}, f.size)
	w.op(opSplice, mode, xattr, n, at)
	return nil
}

// addEncoded packs a file in terms of an old one.
func (w *partWriter) addEncoded(f *newFile, e *encoded) error {
	mode, xattr, err := w.attributes(f.header)
	if err != nil {
		return err
	}
	source := w.data.size
	if _, err := w.data.Write(f.similar[:]); err != nil {
		return err
	}
	at := w.data.size
	if _, err := io.CopyBuffer(struct{ io.Writer }{w.data}, e.data.reader(), make([]byte, copyBuffer)); err != nil {
		return err
	}
	w.object(ostree.ObjectName{Checksum: f.sum, Type: ostree.TypeFile}, f.size)
	if e.patch {
		w.op(opSetSource, source)
		w.op(opOpen, mode, xattr, f.size)
		w.op(opPatch, at, e.data.size)
		w.op(opClose)
		w.op(opUnsetSource)
		return nil
	}
	w.op(opOpen, mode, xattr, f.size)
	reading := false
	for _, s := range e.segments {
		if s.old != reading {
			reading = s.old
			if reading {
				w.op(opSetSource, source)
			} else {
				w.op(opUnsetSource)
			}
		}
		if s.old {
			w.op(opWrite, s.n, s.off)
		} else {
			w.op(opWrite, s.n, at+s.off)
		}
	}
	if reading {
		w.op(opUnsetSource)
	}
	w.op(opClose)
	return nil
}

// attributes gives the places of a file's metadata in the tables.
func (w *partWriter) attributes(h ostree.FileHeader) (mode, xattr int64, err error) {
	var m [modeSize]byte
	binary.BigEndian.PutUint32(m[:], h.UID)
	binary.BigEndian.PutUint32(m[4:], h.GID)
	binary.BigEndian.PutUint32(m[8:], h.Mode)
	mi, ok := w.modeAt[m]
	if !ok {
		mi = len(w.modeAt)
		w.modeAt[m] = mi
		w.modes = append(w.modes, m[:]...)
	}
	list := make([]gvariant.Value, len(h.Xattrs))
	for i, x := range h.Xattrs {
		list[i] = gvariant.Tuple(gvariant.ByteSlice(append([]byte(x.Name), 0)), gvariant.ByteSlice(x.Value))
	}
	v := gvariant.Array("(ayay)", list...)
	if err := v.Err(); err != nil {
		return 0, 0, err
	}
	xi, ok := w.xattrAt[string(v.Bytes())]
	if !ok {
		xi = len(w.xattrs)
		w.xattrAt[string(v.Bytes())] = xi
		w.xattrs = append(w.xattrs, v)
	}
	return int64(mi), int64(xi), nil
}

// reader gives the serialised part, (a(uuu)aa(ayay)ayay).
func (w *partWriter) reader() (io.Reader, error) {
	attrs := gvariant.Array("a(ayay)", w.xattrs...)
	if err := attrs.Err(); err != nil {
		return nil, err
	}
	frame := partFrame(int64(len(w.modes)), int64(len(attrs.Bytes())), w.data.size, int64(len(w.ops)))
	return io.MultiReader(bytes.NewReader(w.modes), bytes.NewReader(attrs.Bytes()), w.data.reader(),
		bytes.NewReader(w.ops), bytes.NewReader(frame)), nil
}
