// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// corpus unpacks a real archive made by others.
func corpus(t *testing.T, name string) string {
	t.Helper()
	archive := testutil.Corpus(t, "ostree/ostreedev-tests", name)
	dir := t.TempDir()
	testutil.Run(t, "tar", "-xf", archive, "-C", dir)
	return dir
}

// TestUndeclaredEndianness reads deltas of before the byte order was declared.
func TestUndeclaredEndianness(t *testing.T) {
	t.Parallel()
	var sizes [2]uint64
	for i, f := range []struct {
		file string
		want Endianness
	}{{"pre-endian-deltas-repo-little.tar.xz", Undeclared}, {"pre-endian-deltas-repo-big.tar.xz", BigEndian}} {
		path := corpus(t, f.file) + "/pre-endian-deltas-repo"
		r := openRepo(t, path)
		names, err := r.Deltas()
		if err != nil || len(names) != 2 {
			t.Fatalf("%s: deltas %v, %v", f.file, names, err)
		}
		guessed := false
		for _, n := range names {
			d, err := Load(r, n)
			if err != nil {
				t.Fatalf("%s: %v", f.file, err)
			}
			if !d.Heuristic {
				t.Errorf("%s: %s declares its byte order", f.file, n)
			}
			guessed = guessed || d.Endianness == f.want
			for _, p := range d.Parts {
				sizes[i] += p.Size
			}
			applyCorpus(t, r, path, d)
		}
		if !guessed {
			t.Errorf("%s: never guessed %s", f.file, f.want)
		}
	}
	if sizes[0] != sizes[1] {
		t.Errorf("parts of %d and %d bytes", sizes[0], sizes[1])
	}
}

func applyCorpus(t *testing.T, r *ostree.Repo, path string, d *Delta) {
	t.Helper()
	if len(d.Fallbacks) > 0 {
		for _, f := range d.Fallbacks {
			if f.UncompressedSize > 1<<30 {
				t.Errorf("%s: fallback %+v", d.Name, f)
			}
		}
		return
	}
	if have, _ := r.Has(ostree.ObjectName{Checksum: d.Name.From, Type: ostree.TypeCommit}); !d.Name.From.IsZero() && !have {
		return
	}
	target, _ := copyCommit(t, r, d.Name.From, ostree.ModeBareUser)
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, path+"/"+d.Name.Path()), OfflineOptions{}); err != nil {
		t.Fatalf("apply %s: %v", d.Name, err)
	}
	same(t, r, target, d.Name.To)
}

// TestRealPairs diffs files of two releases of a distribution; the patch must
// rebuild the file and be far smaller.
func TestRealPairs(t *testing.T) {
	t.Parallel()
	old, fresh := corpus(t, "fah-deltadata-old.tar.xz"), corpus(t, "fah-deltadata-new.tar.xz")
	pairs := 0
	err := filepath.WalkDir(fresh, func(p string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(fresh, p)
		if err != nil {
			return err
		}
		a, err := os.ReadFile(filepath.Join(old, rel))
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		pairs++
		patch := checkPatch(t, a, b)
		if cost := measure(a, b, match(a, b)); len(b) > 1000 && cost.patch() > len(b)/2 {
			t.Errorf("%s: patch of about %d bytes (%d raw) for %d", rel, cost.patch(), len(patch), len(b))
		}
		return nil
	})
	if err != nil || pairs == 0 {
		t.Fatalf("%d pairs, %v", pairs, err)
	}
}

// checkPatch makes a patch and applies it.
func checkPatch(t testing.TB, old, fresh []byte) []byte {
	t.Helper()
	e := &encoded{data: newSpool(testutil.OpenDir(t, t.TempDir()))}
	defer e.data.Close()
	if err := e.writePatch(old, fresh, match(old, fresh)); err != nil {
		t.Fatal(err)
	}
	patch, err := io.ReadAll(e.data.reader())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(newBspatcher(bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(fresh)), make([]byte, 100)))
	if err != nil || !bytes.Equal(got, fresh) {
		t.Fatalf("patch of %d to %d bytes gives %d other bytes, %v", len(old), len(fresh), len(got), err)
	}
	return patch
}
