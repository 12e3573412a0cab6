// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// edit changes bytes in a random way that files change in.
func edit(t *rapid.T, old []byte) []byte {
	out := bytes.Clone(old)
	for range rapid.IntRange(0, 6).Draw(t, "edits") {
		at := rapid.IntRange(0, len(out)).Draw(t, "at")
		n := rapid.IntRange(0, len(out)-at).Draw(t, "length")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			out = append(out[:at:at], out[at+n:]...)
		case 1:
			out = append(append(out[:at:at], rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "new")...), out[at:]...)
		case 2:
			out = append(append(bytes.Clone(out), out[at:at+n]...), 1)
		case 3:
			for i := at; i < at+n; i += 7 {
				out[i]++
			}
		}
	}
	return out
}

func TestPatchProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		old := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(rt, "old")
		checkPatch(t, old, edit(rt, old))
	})
}

// TestCopyProperty: ranges put together are the file.
func TestCopyProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		old := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(rt, "old")
		fresh := edit(rt, old)
		e := &encoded{data: newSpool(testutil.OpenDir(t, t.TempDir()))}
		defer e.data.Close()
		if err := e.copyRanges(old, fresh, match(old, fresh)); err != nil {
			rt.Fatal(err)
		}
		if e.useful() {
			checkSegments(rt, e, old, fresh)
		}
	})
}

// TestStrangers finds what files have in common behind much that they do not, from its
// first byte on, whatever was passed over.
func TestStrangers(t *testing.T) {
	t.Parallel()
	common := noise(1, 100_003)
	old := []byte(noise(2, 50_001) + common)
	fresh := []byte(noise(3, 4_000_005) + common + noise(4, 1001))
	got := match(old, fresh)
	copied := 0
	for _, b := range got {
		copied += b.diff
	}
	if copied < len(common) || copied > len(common)+200 {
		t.Errorf("%d bytes of %d taken from the old file: %v", copied, len(common), got)
	}
	checkPatch(t, old, fresh)
}

func checkSegments(t rapid.TB, e *encoded, old, fresh []byte) {
	var got []byte
	for _, s := range e.segments {
		from := io.ReaderAt(e.data)
		if s.old {
			from = bytes.NewReader(old)
		}
		part := make([]byte, s.n)
		if _, err := from.ReadAt(part, s.off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		got = append(got, part...)
	}
	if !bytes.Equal(got, fresh) {
		t.Fatalf("%d segments give %d other bytes instead of %d", len(e.segments), len(got), len(fresh))
	}
}

// TestRolling finds what is common in files that are not read into memory.
func TestRolling(t *testing.T) {
	t.Parallel()
	r, _ := newRepo(t, ostree.ModeArchive)
	old := noise(9, 2<<20)
	fresh := old[:700_001] + "inserted" + old[700_001:1_500_000] + old[1_600_000:]
	var f newFile
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) (err error) {
		h := ostree.FileHeader{Mode: 0o100644}
		if f.similar, err = txn.WriteContent(ctx, h, int64(len(old)), strings.NewReader(old)); err != nil {
			return err
		}
		f.sum, err = txn.WriteContent(ctx, h, int64(len(fresh)), strings.NewReader(fresh))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.size, f.oldSize = int64(len(fresh)), int64(len(old))
	e, err := (&encoder{repo: r, tmp: testutil.OpenDir(t, t.TempDir())}).encodeRolling(t.Context(), &f)
	if err != nil {
		t.Fatal(err)
	}
	defer e.data.Close()
	if e.data.size > 150_000 || len(e.segments) < 3 {
		t.Errorf("%d segments, %d bytes new", len(e.segments), e.data.size)
	}
	checkSegments(t, e, []byte(old), []byte(fresh))
}

func TestBspatchRefuses(t *testing.T) {
	t.Parallel()
	control := func(n ...int64) string {
		var b [controlSize]byte
		for i, v := range n {
			putSignMagnitude(b[8*i:], v)
		}
		return string(b[:])
	}
	for name, p := range map[string]string{
		"empty": "", "cut control": control(1, 0, 0)[:20], "cut diff": control(4, 0, 0) + "abc", "cut extra": control(0, 4, 0) + "abc",
		"negative diff": control(-1, 5, 0), "negative extra": control(5, -1, 0), "too much diff": control(5, 0, 0), "too much extra": control(1, 4, 0),
		"sum overflows": control(1<<62, 1<<62, 0), "far seek": control(0, 0, 1<<62) + control(4, 0, 0) + "abcd",
	} {
		got, err := io.ReadAll(newBspatcher(strings.NewReader("old"), 3, strings.NewReader(p), 4, make([]byte, 2)))
		if err == nil {
			t.Errorf("%s: gives %q", name, got)
		}
	}
	// Places outside of the old file count as zero.
	p := control(2, 0, -100) + "aa" + control(2, 0, 0) + "bb"
	got, err := io.ReadAll(newBspatcher(strings.NewReader("\x01"), 1, strings.NewReader(p), 4, make([]byte, 2)))
	if err != nil || string(got) != "babb" {
		t.Errorf("got %q, %v", got, err)
	}
}
