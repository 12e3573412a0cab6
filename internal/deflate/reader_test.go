// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// packed compresses with the standard library.
func packed(t testing.TB, level int, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, level)
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// streams are inputs with short and long matches, none, and near ones.
func streams(t testing.TB) map[string][]byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	skewed := make([]byte, 500_000)
	for i := range skewed {
		skewed[i] = byte(rnd.ExpFloat64() * 20)
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "zeros": make([]byte, 1<<20), "noise": noise, "skewed": skewed, "program": self[:min(len(self), 4<<20)],
		"text": []byte(strings.Repeat("the quick brown fox, ", 30_000)), "periods": bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, 40_000),
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	r := NewReader(bufio.NewReader(strings.NewReader("")))
	for name, data := range streams(t) {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9} {
			stream := packed(t, level, data)
			for kind, src := range map[string]io.Reader{
				"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream[:min(len(stream), 50_000)])),
				"halves": iotest.HalfReader(bytes.NewReader(append(bytes.Clone(stream), "behind"...))),
			} {
				br := bufio.NewReaderSize(src, 64)
				r.Reset(br)
				got, err := io.ReadAll(r)
				if kind == "bytes" && len(stream) > 50_000 {
					if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(data, got) {
						t.Errorf("%s, level %d, cut: %v", name, level, err)
					}
					continue
				}
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%s, level %d, %s: %d bytes of %d, %v", name, level, kind, len(got), len(data), err)
				}
				rest, err := io.ReadAll(br)
				if want := map[string]int{"halves": 6}[kind]; err != nil || r.Extra()+len(rest) != want {
					t.Errorf("%s, level %d, %s: %d bytes taken and %q left, %v", name, level, kind, r.Extra(), rest, err)
				}
			}
		}
	}
}

// Matches are copied by words, whatever their distance and length.
func TestReaderNearMatches(t *testing.T) {
	t.Parallel()
	r := NewReader(bufio.NewReader(strings.NewReader("")))
	for period := 1; period < 40; period++ {
		for length := 3; length < 300; length += 7 {
			unit := make([]byte, period)
			for i := range unit {
				unit[i] = byte(i*i + period)
			}
			data := append(bytes.Repeat(unit, length/period+2)[:period+length], "and something else"...)
			r.Reset(bufio.NewReader(bytes.NewReader(packed(t, 9, data))))
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("period %d, length %d: %v", period, length, err)
			}
		}
	}
}

// Every prefix of a stream is too short, and no other condition.
func TestReaderTruncated(t *testing.T) {
	t.Parallel()
	data := []byte(strings.Repeat("abcde fghij ", 40) + "zyxw 1234567890")
	for _, level := range []int{0, 1, 9, flate.HuffmanOnly} {
		stream := packed(t, level, data)
		for n := range len(stream) {
			got, err := io.ReadAll(NewReader(bufio.NewReader(bytes.NewReader(stream[:n]))))
			if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(data, got) {
				t.Errorf("level %d, %d bytes of %d: %v", level, n, len(stream), err)
			}
		}
	}
	stop := errors.New("stop")
	src := io.MultiReader(bytes.NewReader(packed(t, 6, data)[:20]), iotest.ErrReader(stop))
	if _, err := io.ReadAll(NewReader(bufio.NewReader(src))); !errors.Is(err, stop) {
		t.Errorf("error of the input: %v", err)
	}
}

// Damaged streams give what the standard library gives, up to where it refuses them.
func TestReaderDamaged(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	r := NewReader(bufio.NewReader(strings.NewReader("")))
	for name, data := range streams(t) {
		for _, level := range []int{1, 9, flate.HuffmanOnly} {
			stream := packed(t, level, data[:min(len(data), 200_000)])
			for range 30 {
				bad := bytes.Clone(stream)
				for range 1 + rnd.IntN(2) {
					bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
				}
				want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(bad)), 1<<20))
				r.Reset(bufio.NewReaderSize(bytes.NewReader(bad), 4096))
				got, err := io.ReadAll(io.LimitReader(r, 1<<20))
				// The library may keep back what it unpacked before an error.
				if !bytes.HasPrefix(got, want) || wantErr == nil && len(got) > len(want) {
					t.Fatalf("%s, level %d: %d bytes of %d, %v and %v", name, level, len(got), len(want), err, wantErr)
				}
				var corrupt flate.CorruptInputError
				refused := errors.Is(err, ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF)
				if (wantErr == nil) != (err == nil) || errors.As(wantErr, &corrupt) && !refused {
					t.Fatalf("%s, level %d: %v instead of %v", name, level, err, wantErr)
				}
			}
		}
	}
}

// FuzzReader: what the standard library takes gives the same here, and what it
// refuses is refused, truncation as such.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"", "\x03\x00", "\x01\x01\x00\xfe\xffx", "\xcb\x48\xcd\xc9\xc9\xe7\x02\x00", "\x07", "\x05\x00"} {
		f.Add([]byte(s))
	}
	for _, level := range []int{0, 1, 6, flate.HuffmanOnly} {
		f.Add(packed(f, level, []byte(strings.Repeat("abcabcabcd", 30))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 1 << 20
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), most))
		got, err := io.ReadAll(io.LimitReader(NewReader(bufio.NewReader(bytes.NewReader(data))), most))
		var corrupt flate.CorruptInputError
		switch {
		case wantErr == nil && errors.Is(err, ErrCorrupt) && strings.Contains(err.Error(), "no end of block"):
			// A block without an end can only be followed by its truncation.
		case wantErr == nil && (err != nil || !bytes.Equal(got, want)):
			t.Fatalf("%d bytes, %v, want %d", len(got), err, len(want))
		case errors.As(wantErr, &corrupt) && err == nil:
			t.Fatalf("accepted: %v", wantErr)
		case wantErr != nil && err == nil:
			t.Fatalf("complete: %v", wantErr)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	program := streams(b)["program"]
	program = program[:len(program)&^(4<<10-1)]
	b.Run("big", func(b *testing.B) { benchmarkReader(b, program, len(program)) })
	// Tables are a large part of what small files cost.
	b.Run("small", func(b *testing.B) { benchmarkReader(b, program, 4<<10) })
}

// benchmarkReader unpacks data that was packed in pieces of n bytes.
func benchmarkReader(b *testing.B, data []byte, n int) {
	var all [][]byte
	for part := range slices.Chunk(data, n) {
		all = append(all, packed(b, 6, part))
	}
	b.SetBytes(int64(len(data)))
	r := NewReader(bufio.NewReader(strings.NewReader("")))
	br := bufio.NewReaderSize(nil, 128<<10)
	for b.Loop() {
		for _, stream := range all {
			br.Reset(bytes.NewReader(stream))
			r.Reset(br)
			if got, err := io.Copy(io.Discard, r); err != nil || got != int64(n) {
				b.Fatal(got, err)
			}
		}
	}
}
