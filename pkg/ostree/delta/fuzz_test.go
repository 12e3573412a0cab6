// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func sha(b []byte) ostree.Checksum { return sha256.Sum256(b) }

// seedDelta is a delta of the test trees.
func seedDelta(t testing.TB) (superblock []byte, d *Delta) {
	t.Helper()
	c, err := ostree.Commit{Subject: "s", RootTree: ostree.Checksum{1}, RootMeta: ostree.Checksum{2}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	n := ostree.ObjectName{Checksum: ostree.Checksum{7}, Type: ostree.TypeFile}
	d = &Delta{
		Name: ostree.DeltaName{From: ostree.Checksum{3}, To: sha(c)}, Commit: c, Endianness: BigEndian,
		Parts:     []Part{{Checksum: ostree.Checksum{4}, Size: 10, UncompressedSize: 20, objects: append([]byte{1}, make([]byte, 32)...)}},
		Fallbacks: []Fallback{{n, 5, 6}},
	}
	d.Metadata.Set(endiannessKey, gvariant.Byte('B'))
	d.Metadata.Set(d.PartPath(0), gvariant.Tuple(gvariant.Byte('x'), gvariant.ByteSlice([]byte("data"))))
	if superblock, err = d.marshal(); err != nil {
		t.Fatal(err)
	}
	return superblock, d
}

func FuzzSuperblock(f *testing.F) {
	data, d := seedDelta(f)
	f.Add(data)
	var sigs gvariant.Dict
	sigs.Set("ostree.sign.dummy", gvariant.ByteSlices([][]byte{[]byte("key")}))
	signed, err := marshalSigned(data, sigs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	d.Metadata, d.Name.From = gvariant.Dict{}, ostree.Checksum{}
	if data, err = d.marshal(); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		d, err := Parse(data)
		if err != nil {
			return
		}
		again, err := d.marshal()
		if err == nil && d.Signed {
			again, err = marshalSigned(again, d.Signatures)
		}
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}

func marshalIndex(entries []IndexEntry) ([]byte, error) {
	var list, top gvariant.Dict
	for _, e := range entries {
		list.Set(e.Name.String(), gvariant.ByteSlice(e.Superblock[:]))
	}
	top.Set(deltasKey, list.Value())
	return top.Marshal()
}

func FuzzIndex(f *testing.F) {
	to := ostree.Checksum{1}
	data, err := marshalIndex([]IndexEntry{{ostree.DeltaName{To: to}, ostree.Checksum{2}}, {ostree.DeltaName{From: ostree.Checksum{3}, To: to}, ostree.Checksum{4}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		entries, err := ParseIndex(data, to)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Name.To != to {
				t.Fatalf("entry %s", e.Name)
			}
		}
	})
}

// memorySink keeps objects and hands them out as sources.
type memorySink struct {
	files map[ostree.Checksum][]byte
}

const maxFuzzObject = 1 << 20

func (s *memorySink) WriteMetadataExpected(context.Context, ostree.ObjectName, []byte) error {
	return nil
}

func (s *memorySink) WriteContentExpected(_ context.Context, c ostree.Checksum, _ ostree.FileHeader, size int64, content io.Reader) error {
	if c[0]%2 == 1 {
		return nil // present: not read
	}
	n, err := io.Copy(io.Discard, io.LimitReader(content, min(size, maxFuzzObject)+1))
	if err == nil && n != size {
		err = ErrCorrupt
	}
	return err
}

func (s *memorySink) OpenFile(c ostree.Checksum) (ostree.FileHeader, int64, io.ReadCloser, error) {
	data := s.files[ostree.Checksum{c[0]}]
	return ostree.FileHeader{Mode: 0o100644}, int64(len(data)), io.NopCloser(bytes.NewReader(data)), nil
}

// FuzzPart executes parts against a repository in memory; what parses is
// serialised to the same bytes again.
func FuzzPart(f *testing.F) {
	w := newPartWriter(testutil.OpenDir(f, f.TempDir()))
	file := &newFile{header: ostree.FileHeader{Mode: 0o100644, Xattrs: []ostree.Xattr{{Name: "user.a", Value: []byte("b")}}}, size: 4}
	e := &encoded{data: newSpool(testutil.OpenDir(f, f.TempDir())), patch: true}
	if err := e.writePatch([]byte("some old bytes that are old"), []byte("some bytes that are old and new"), match([]byte("some old bytes that are old"), []byte("some bytes that are old and new"))); err != nil {
		f.Fatal(err)
	}
	file.size = 31
	copied := &encoded{data: newSpool(testutil.OpenDir(f, f.TempDir())), segments: []segment{{true, 0, 5}, {false, 0, 3}, {true, 4, 4}}}
	if _, err := copied.data.Write([]byte("abc")); err != nil {
		f.Fatal(err)
	}
	link := &newFile{header: ostree.FileHeader{Mode: 0o120777, Target: "target"}}
	err := errors.Join(w.addMeta(ostree.ObjectName{Type: ostree.TypeDirTree}, []byte("meta")), w.addWhole(file, bytes.NewReader([]byte("whole"))),
		w.addEncoded(file, e), w.addEncoded(file, copied), w.addWhole(link, bytes.NewReader([]byte("target"))))
	if err != nil {
		f.Fatal(err)
	}
	r, err := w.reader()
	if err != nil {
		f.Fatal(err)
	}
	seed, err := io.ReadAll(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, w.objects)
	f.Fuzz(func(t *testing.T, data, objects []byte) {
		defer testutil.Bounded(t)()
		objects = objects[:len(objects)/recordSize*recordSize]
		if checkObjects(objects) != nil {
			return
		}
		p, err := openPart(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		checkPartAgain(t, p, data)
		sink := &memorySink{files: map[ostree.Checksum][]byte{{}: []byte("some old bytes that are old")}}
		list := &Part{objects: objects}
		_ = runPart(t.Context(), sink, testutil.OpenDir(t, t.TempDir()), list, p)
		_, _ = countOps(list, p)
	})
}

// TestManyAttributes: a table that would take far more memory than it has bytes.
func TestManyAttributes(t *testing.T) {
	t.Parallel()
	for n, ok := range map[int]bool{3: true, maxAttributes: true, maxAttributes + 1: false} {
		w := newPartWriter(testutil.OpenDir(t, t.TempDir()))
		w.xattrs = slices.Repeat([]gvariant.Value{gvariant.Array("(ayay)")}, n)
		r, err := w.reader()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		p, err := openPart(bytes.NewReader(data), int64(len(data)))
		if ok != (err == nil) || ok && len(p.xattrs) != n || !ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d lists: %v", n, err)
		}
	}
}

func checkPartAgain(t *testing.T, p *partData, data []byte) {
	t.Helper()
	body, err := io.ReadAll(p.data)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := io.ReadAll(p.ops)
	if err != nil {
		t.Fatal(err)
	}
	attrs := gvariant.Array("a(ayay)", p.xattrs...).Bytes()
	again := bytes.Join([][]byte{p.modes, attrs, body, ops, partFrame(int64(len(p.modes)), int64(len(attrs)), int64(len(body)), int64(len(ops)))}, nil)
	if !bytes.Equal(again, data) {
		t.Fatal("not the same again")
	}
}

func FuzzBspatch(f *testing.F) {
	old, fresh := []byte("some old bytes that are old"), []byte("some bytes that are old and new")
	f.Add(old, checkPatch(f, old, fresh), len(fresh))
	f.Fuzz(func(t *testing.T, old, patch []byte, size int) {
		defer testutil.Bounded(t)()
		if size < 0 || size > maxFuzzObject {
			return
		}
		got, err := io.ReadAll(newBspatcher(bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(size), make([]byte, 64)))
		if err == nil && len(got) != size {
			t.Fatalf("%d bytes instead of %d", len(got), size)
		}
		if len(got) > len(patch) {
			t.Fatalf("%d bytes out of a patch of %d", len(got), len(patch))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("\x00plain"))
	f.Add([]byte("x\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x00a\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		a := newApplier(nil, testutil.OpenDir(t, t.TempDir()))
		defer func() { _ = a.freeMemory() }()
		p := &Part{Size: uint64(len(data)), Checksum: sha(data), UncompressedSize: 1 << 10}
		s, err := a.unpack(t.Context(), p, bytes.NewReader(data))
		if err != nil {
			return
		}
		defer s.Close()
		if s.size > maxUnpacked(p) {
			t.Fatalf("unpacks to %d bytes", s.size)
		}
	})
}
