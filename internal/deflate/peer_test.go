// SPDX-License-Identifier: Apache-2.0

package deflate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// The gzip program reads what is written at each level.
func TestGzipReads(t *testing.T) {
	t.Parallel()
	gzip := testutil.Tool(t, "gzip")
	all := samples(t)
	for lvl := 1; lvl <= 9; lvl++ {
		z, err := NewWriter(nil, lvl)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range all {
			file := z.Compress([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, data)
			file = binary.LittleEndian.AppendUint32(file, crc32.ChecksumIEEE(data))
			file = binary.LittleEndian.AppendUint32(file, uint32(len(data)))
			cmd := exec.CommandContext(t.Context(), gzip, "-dc")
			cmd.Stdin = bytes.NewReader(file)
			if out, err := cmd.Output(); err != nil || !bytes.Equal(out, data) {
				t.Errorf("level %d, %s: %v, %d bytes instead of %d", lvl, name, err, len(out), len(data))
			}
		}
	}
}

// A full block has room for all literals that one match after another gives way to.
func TestManyLiteralsAtTheEndOfABlock(t *testing.T) {
	t.Parallel()
	rnd := rand.NewChaCha8([32]byte{2})
	noise := make([]byte, maxTokens)
	text := make([]byte, 400)
	_, _ = rnd.Read(noise)
	_, _ = rnd.Read(text)
	// From each byte of the text on a longer part of it came before.
	var parts []byte
	for at := range 120 {
		parts = append(parts, text[at:at+6+2*at]...)
		parts = append(parts, noise[3*at:3*at+3]...)
	}
	z, err := NewWriter(nil, 9)
	if err != nil {
		t.Fatal(err)
	}
	for n := maxTokens - 1600; n <= maxTokens; n += 8 {
		data := slices.Concat(noise[:n], parts, text)
		out := z.Compress(nil, data)
		if !bytes.Equal(inflate(t, out), data) {
			t.Errorf("after %d bytes: content differs", n)
		}
	}
}

// Symbols are in the order of their frequency, equal ones in their own.
func TestSortSyms(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		var syms []uint64
		for s := range rnd.IntN(numLits + 1) {
			syms = append(syms, uint64(1+rnd.IntN(1<<rnd.IntN(18)))<<16|uint64(s))
		}
		want := slices.Sorted(slices.Values(syms))
		if sortSyms(syms); !slices.Equal(syms, want) {
			t.Fatalf("%d symbols out of order", len(syms))
		}
	}
}
