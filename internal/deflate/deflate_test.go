// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

func inflate(t testing.TB, data []byte) []byte {
	t.Helper()
	r := bytes.NewReader(data)
	out, err := io.ReadAll(flate.NewReader(r))
	if err != nil {
		t.Fatal(err)
	}
	if r.Len() > 0 {
		t.Fatalf("%d bytes after the stream", r.Len())
	}
	return out
}

func samples(t testing.TB) map[string][]byte {
	t.Helper()
	rnd := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 1500000)
	if _, err := rnd.Read(noise); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	self = self[:min(len(self), 1500000)]
	few := bytes.Clone(noise[:40000])
	for i := range few {
		few[i] &= 3
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "short": []byte("hello\n"), "zeros": make([]byte, 2<<20),
		"text":  []byte(strings.Repeat("the quick brown fox jumps over the lazy dog. ", 30000)),
		"noise": noise, "few": few, "program": self, "edge": noise[:segment], "past": self[:segment+3],
		"mixed": append(append(bytes.Clone(noise[:200000]), self[:300000]...), noise[:200000]...),
	}
}

// What another decoder reads is what was written, however it is cut, and Compress
// gives the same bytes as Write.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	all := samples(t)
	for lvl := 1; lvl <= 9; lvl++ {
		t.Run(fmt.Sprint(lvl), func(t *testing.T) {
			t.Parallel()
			for name, data := range all {
				roundTrip(t, lvl, name, data)
			}
		})
	}
}

func roundTrip(t *testing.T, lvl int, name string, data []byte) {
	t.Helper()
	var out bytes.Buffer
	z, err := NewWriter(&out, lvl)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 70001)
		if _, err := z.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if got := inflate(t, out.Bytes()); !bytes.Equal(got, data) {
		t.Errorf("%s: %d bytes differ from %d", name, len(got), len(data))
	}
	if limit := len(data) + len(data)/1000 + 64; out.Len() > limit {
		t.Errorf("%s: %d bytes became %d", name, len(data), out.Len())
	}
	whole := z.Compress([]byte("before"), data)
	if got := inflate(t, whole[6:]); string(whole[:6]) != "before" || !bytes.Equal(got, data) {
		t.Errorf("%s: Compress: %d bytes differ from %d", name, len(got), len(data))
	}
}

// What an object compresses to depends on nothing that the writer did before.
func TestReuse(t *testing.T) {
	t.Parallel()
	z, err := NewWriter(nil, 6)
	if err != nil {
		t.Fatal(err)
	}
	first := map[string][]byte{}
	all := samples(t)
	for range 2 {
		for name, data := range all {
			got := z.Compress(nil, data)
			if first[name] == nil {
				first[name] = got
			}
			if !bytes.Equal(got, first[name]) {
				t.Errorf("%s: differs the second time", name)
			}
		}
	}
}

// Positions start again in the middle of a stream.
func TestManyBytes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	z, err := NewWriter(&out, 6)
	if err != nil {
		t.Fatal(err)
	}
	z.enc.base = maxPos + 1<<28 - 3*segment/2
	data := bytes.Repeat(samples(t)["mixed"], 8)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if z.enc.base > maxPos {
		t.Error("positions did not start again")
	}
	if !bytes.Equal(inflate(t, out.Bytes()), data) {
		t.Error("content differs")
	}
}

// At every level the output is about as small as that of another writer of the level.
func TestSize(t *testing.T) {
	t.Parallel()
	data := samples(t)["program"]
	for _, lvl := range []int{1, 6, 9} {
		z, err := NewWriter(nil, lvl)
		if err != nil {
			t.Fatal(err)
		}
		var other bytes.Buffer
		f, err := flate.NewWriter(&other, lvl)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(z.Compress(nil, data)); n > other.Len()*101/100 {
			t.Errorf("level %d: %d bytes, compress/flate %d", lvl, n, other.Len())
		}
	}
	for _, lvl := range []int{0, 10} {
		if _, err := NewWriter(nil, lvl); err == nil {
			t.Errorf("level %d is taken", lvl)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// An error below stays until Reset.
func TestWriteError(t *testing.T) {
	t.Parallel()
	z, err := NewWriter(failing{}, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(make([]byte, 3*segment)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if err := z.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello hello hello hello"), uint8(6), uint16(5))
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, 300), uint8(9), uint16(1000))
	f.Add([]byte{}, uint8(1), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, lvl uint8, cut uint16) {
		level := int(lvl)%9 + 1
		var out bytes.Buffer
		z, err := NewWriter(&out, level)
		if err != nil {
			t.Fatal(err)
		}
		k := min(int(cut), len(data))
		_, err1 := z.Write(data[:k])
		_, err2 := z.Write(data[k:])
		if err := errors.Join(err1, err2, z.Close()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(inflate(t, out.Bytes()), data) || !bytes.Equal(inflate(t, z.Compress(nil, data)), data) {
			t.Errorf("%d bytes at level %d differ", len(data), level)
		}
	})
}
