// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func fillSpool(t *testing.T, s *partSpool, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	for at := 0; at < size; {
		n, err := s.Write(data[at:min(size, at+300_001)])
		if err != nil {
			t.Error(err)
			break
		}
		at += n
	}
	return data
}

// What does not fit into memory goes to a file, and is read as one.
func TestPartSpool(t *testing.T) {
	t.Parallel()
	pool := newChunkPool()
	defer pool.close()
	s := &partSpool{dir: testutil.OpenDir(t, t.TempDir()), pool: pool}
	data := fillSpool(t, s, maxChunks*chunkSize+chunkSize/2)
	if s.inMemory() || s.size != int64(len(data)) {
		t.Fatalf("%d bytes, in memory: %v", s.size, s.inMemory())
	}
	for _, off := range []int{0, chunkSize - 7, maxChunks*chunkSize - 7, maxChunks * chunkSize, len(data) - 20} {
		got := make([]byte, 20)
		if _, err := s.ReadAt(got, int64(off)); err != nil || !bytes.Equal(got, data[off:off+20]) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	if n, err := s.ReadAt(make([]byte, 20), int64(len(data)-5)); n != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}

	// Who comes next waits for the chunks of a part that is executed.
	s.drain()
	next := &partSpool{dir: s.dir, pool: pool}
	var wg sync.WaitGroup
	wg.Go(func() { fillSpool(t, next, 3*chunkSize) })
	s.release(chunkSize + 1)
	s.release(2*chunkSize - 1)
	if _, err := s.ReadAt(make([]byte, 1), chunkSize); err != nil {
		t.Errorf("released too much: %v", err)
	}
	s.release(3 * chunkSize)
	wg.Wait()
	if !next.inMemory() || len(next.mem) != 3 {
		t.Errorf("%d chunks, in memory: %v", len(next.mem), next.inMemory())
	}
	if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, errReleased) {
		t.Errorf("released data: %v", err)
	}
	if err := errors.Join(s.Close(), next.Close()); err != nil {
		t.Fatal(err)
	}
	if pool.draining != 0 || len(pool.free) != len(pool.all) {
		t.Errorf("%d draining, %d of %d chunks free", pool.draining, len(pool.free), len(pool.all))
	}
}

// metaSink keeps metadata.
type metaSink struct {
	memorySink
	mu   sync.Mutex
	got  map[ostree.ObjectName][]byte
	fail bool
}

func (s *metaSink) WriteMetadataExpected(_ context.Context, n ostree.ObjectName, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[n] = data
	if s.fail {
		return io.ErrClosedPipe
	}
	return nil
}

// sliced is a part with metadata objects out of its data at some places.
func sliced(t *testing.T, pool *chunkPool, data []byte, ops []byte) *partSpool {
	t.Helper()
	s := &partSpool{dir: testutil.OpenDir(t, t.TempDir()), pool: pool}
	for _, b := range [][]byte{data, ops, partFrame(0, 0, int64(len(data)), int64(len(ops)))} {
		if _, err := s.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Objects may take the data in any order, whatever is released meanwhile.
func TestDataOrder(t *testing.T) {
	t.Parallel()
	const size, each = 5 * chunkSize, 100_000
	data := []byte(noise(9, size))
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		var ops []byte
		want := map[ostree.ObjectName][]byte{}
		list := &Part{}
		for i := range 40 {
			off := i * (size / 40)
			if r.IntN(4) == 0 {
				off = r.IntN(size - each)
			}
			n := ostree.ObjectName{Checksum: ostree.Checksum{byte(i)}, Type: ostree.TypeDirTree}
			list.objects = append(append(list.objects, byte(n.Type)), n.Checksum[:]...)
			want[n] = data[off:min(size, off+each)]
			ops = binary.AppendUvarint(binary.AppendUvarint(append(ops, opSplice), uint64(len(want[n]))), uint64(off))
		}
		pool := newChunkPool()
		s := sliced(t, pool, data, ops)
		p, err := openPart(s, s.size)
		if err != nil {
			t.Fatal(err)
		}
		s.drain()
		sink := &metaSink{got: map[ostree.ObjectName][]byte{}}
		if err := runPart(t.Context(), sink, s.dir, list, p); err != nil {
			t.Fatal(err)
		}
		for n, b := range want {
			if !bytes.Equal(sink.got[n], b) {
				t.Fatalf("object %s differs", n)
			}
		}
		if err := errors.Join(s.Close(), pool.close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing is executed of a part whose operations are not in order, and a failure ends it.
func TestSplit(t *testing.T) {
	t.Parallel()
	file := ostree.ObjectName{Type: ostree.TypeFile}
	record := append([]byte{byte(file.Type)}, file.Checksum[:]...)
	const open, write = "o\x00\x00\x01", "w\x01\x00"
	for ops, objects := range map[string]int{
		open + write: 1, open + open + "c": 2, write: 0, "c": 0, "B\x00\x00": 0, open + write + "c": 0, "": 1,
		open + write + "cc": 1, open + "S\x00\x00\x00\x00": 2, "S\x00\x00\x00\x00": 2, "o\x00": 1, "?": 0,
	} {
		pool := newChunkPool()
		s := sliced(t, pool, []byte("data"), []byte(ops))
		p, err := openPart(s, s.size)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.split(t.Context(), &Part{objects: bytes.Repeat(record, objects)}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q for %d objects: %v", ops, objects, err)
		}
		if err := errors.Join(s.Close(), pool.close()); err != nil {
			t.Fatal(err)
		}
	}
	pool := newChunkPool()
	defer pool.close()
	s := sliced(t, pool, []byte("data"), []byte("S\x01\x00S\x01\x00S\x01\x00"))
	defer s.Close()
	p, err := openPart(s, s.size)
	if err != nil {
		t.Fatal(err)
	}
	sink := &metaSink{got: map[ostree.ObjectName][]byte{}, fail: true}
	list := &Part{objects: bytes.Repeat(append([]byte{byte(ostree.TypeDirTree)}, file.Checksum[:]...), 3)}
	if err := runPart(t.Context(), sink, s.dir, list, p); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// An object whose source the same part makes waits for it.
func TestSourceInTheSamePart(t *testing.T) {
	t.Parallel()
	first, second := ostree.Checksum{1}, ostree.Checksum{2}
	var objects []byte
	for _, c := range []ostree.Checksum{first, second} {
		objects = append(append(objects, byte(ostree.TypeFile)), c[:]...)
	}
	const ops = "S\x00\x00\x04\x00" + "r\x04" + "o\x00\x00\x01" + "w\x01\x00" + "c"
	for source, want := range map[ostree.Checksum]int{first: 1, {3}: partWorkers} {
		pool := newChunkPool()
		s := sliced(t, pool, append([]byte("data"), source[:]...), []byte(ops))
		p, err := openPart(s, s.size)
		if err != nil {
			t.Fatal(err)
		}
		out, workers, err := p.split(t.Context(), &Part{objects: objects})
		if err != nil || len(out) != 2 || workers != want {
			t.Errorf("source %s: %d objects, %d workers, want %d, %v", source, len(out), workers, want, err)
		}
		if err := errors.Join(s.Close(), pool.close()); err != nil {
			t.Fatal(err)
		}
	}
}
