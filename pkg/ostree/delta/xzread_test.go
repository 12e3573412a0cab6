// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/therootcompany/xz"

	"github.com/hostctl/hostctl/internal/testutil"
)

// xzSamples are data of all kinds: runs, repeats near and far, noise.
func xzSamples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var mixed []byte
	for range 400 {
		switch r.IntN(4) {
		case 0:
			mixed = append(mixed, make([]byte, r.IntN(40_000))...)
		case 1:
			at := r.IntN(len(noise) - 3000)
			mixed = append(mixed, noise[at:at+r.IntN(3000)]...)
		case 2:
			if len(mixed) > 0 {
				at := r.IntN(len(mixed))
				mixed = append(mixed, mixed[at:min(len(mixed), at+r.IntN(9000))]...)
			}
		default:
			mixed = append(mixed, strings.Repeat("the quick brown fox ", r.IntN(50))...)
		}
	}
	return map[string][]byte{"empty": {}, "byte": {7}, "zeroes": make([]byte, 5<<20), "noise": noise, "mixed": mixed}
}

func packXz(t testing.TB, data []byte, options ...string) []byte {
	t.Helper()
	cmd := exec.Command(testutil.Tool(t, "xz"), append([]string{"--compress", "--stdout", "--format=xz"}, options...)...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unpackXz(z *xzReader, packed []byte) ([]byte, error) {
	var out bytes.Buffer
	br := bufio.NewReader(bytes.NewReader(packed))
	head, _ := br.Peek(xzPeek)
	if !onlyLZMA2(head) {
		return nil, errors.New("not for this reader")
	}
	err := z.unpack(&out, br, 64<<20)
	return out.Bytes(), err
}

func TestXzReader(t *testing.T) {
	t.Parallel()
	var z xzReader // one for all: what a stream leaves must not disturb the next
	defer z.close()
	for name, data := range xzSamples() {
		for _, options := range []string{
			"-6", "-0", "-9", "--check=none", "--check=sha256", "--block-size=100000",
			"--lzma2=preset=6,dict=4KiB", "--lzma2=preset=6,lc=0,lp=4,pb=4", "--lzma2=preset=6,lc=4,pb=0", "--lzma2=preset=3,lp=2,lc=2,dict=64KiB",
		} {
			got, err := unpackXz(&z, packXz(t, data, strings.Fields(options)...))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s with %s: %d bytes of %d, %v", name, options, len(got), len(data), err)
			}
		}
	}
	if _, err := unpackXz(&z, packXz(t, []byte("program"), "--x86", "--lzma2=preset=6")); err == nil {
		t.Error("a filter was passed over")
	}
}

// TestXzReaderDamage cuts and changes streams: that must not go unnoticed where the
// other decoder notices it before its check of the content, and must never panic.
func TestXzReaderDamage(t *testing.T) {
	t.Parallel()
	packed := packXz(t, xzSamples()["mixed"][:200_000])
	var z xzReader
	defer z.close()
	for n := 0; n < len(packed)-40; n += 97 {
		if _, err := unpackXz(&z, packed[:n]); err == nil {
			t.Fatalf("cut after %d bytes: no error", n)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		bad := bytes.Clone(packed)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		if _, err := unpackXz(&z, bad); err != nil && !errors.Is(err, ErrCorrupt) && err.Error() != "not for this reader" {
			t.Fatal(err)
		}
	}
}

func FuzzXzReader(f *testing.F) {
	for _, data := range xzSamples() {
		f.Add(packXz(f, data[:min(len(data), 5000)]))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		defer testutil.Bounded(t)()
		const most = 1 << 20
		var z xzReader
		defer z.close()
		var out bytes.Buffer
		got := z.unpack(&capped{&out, most}, bufio.NewReader(bytes.NewReader(packed)), most)
		if got != nil {
			return
		}
		other, err := xz.NewReader(bytes.NewReader(packed), maxDict)
		if err != nil {
			return
		}
		want, err := io.ReadAll(io.LimitReader(other, most))
		if err == nil && !bytes.Equal(want, out.Bytes()) {
			t.Fatalf("%d bytes, the other decoder gives %d", out.Len(), len(want))
		}
	})
}

type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		return 0, ErrCorrupt
	}
	return c.w.Write(p)
}
