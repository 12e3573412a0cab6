// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func zchunkFiles(t testing.TB) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(testutil.Corpus(t, "yum-repos"), func(p string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".zck") {
			out = append(out, p)
		}
		return err
	})
	if err != nil || len(out) < 10 {
		t.Fatalf("%d files, %v", len(out), err)
	}
	return out
}

// Every zchunk file of the collection opens, and where its twin in another
// compression lies beside it, both hold the same text.
func TestZchunkFiles(t *testing.T) {
	t.Parallel()
	texts := map[string]bool{}
	for _, p := range zchunkFiles(t) {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		text, err := readZchunk(b, 1<<30)
		if strings.Contains(p, "repo_yum_03") {
			// Written before the format was settled: the flags took four bytes.
			if !errors.Is(err, ErrSyntax) {
				t.Errorf("%s: %v", p, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		texts[string(text)] = true
		if b[len(b)/2]++; len(text) > 0 {
			if _, err := readZchunk(b, 1<<30); !errors.Is(err, ErrSyntax) {
				t.Errorf("%s with a changed byte: %v", p, err)
			}
		}
	}
	for _, plain := range []string{"primary", "filelists", "other"} {
		m, _ := filepath.Glob(testutil.Corpus(t, "yum-repos", "createrepo_c", "tests", "testdata", "repo_with_additional_metadata", "repodata") + "/*-" + plain + ".xml.gz")
		if len(m) != 1 {
			t.Fatalf("%s: %v", plain, m)
		}
		f, err := os.Open(m[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := rpm.Decompress(f, "")
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(z)
		if err != nil || !texts[string(want)] {
			t.Errorf("no zchunk file holds the text of %s (%v)", m[0], err)
		}
	}
}

func FuzzZchunk(f *testing.F) {
	for _, p := range zchunkFiles(f) {
		if b, err := os.ReadFile(p); err == nil && len(b) < 1<<14 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !bytes.HasPrefix(b, []byte(zchunkMagic)) {
			return
		}
		if text, err := readZchunk(b, 1<<20); err == nil && len(text) > 1<<20 {
			t.Error("more text than allowed")
		}
	})
}
