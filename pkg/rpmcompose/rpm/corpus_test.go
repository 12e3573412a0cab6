// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// corpusPackages lists the package files below a folder.
func corpusPackages(t testing.TB, parts ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(testutil.Corpus(t, parts...), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, ".rpm") {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCorpusVersions(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(testutil.Corpus(t, "rpms", "evr", "vercmp.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		A, B   string
		Expect int
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 3000 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		if got := VerCompare(c.A, c.B); got != c.Expect {
			t.Errorf("VerCompare(%q, %q) = %d, want %d", c.A, c.B, got, c.Expect)
		}
		if got := VerCompare(c.B, c.A); got != -c.Expect {
			t.Errorf("VerCompare(%q, %q) = %d, want %d", c.B, c.A, got, -c.Expect)
		}
	}
}

// TestCorpusPackages reads every package of the collection with its payload.
func TestCorpusPackages(t *testing.T) {
	t.Parallel()
	for _, file := range corpusPackages(t, "rpms") {
		name := filepath.Base(file)
		err := readAll(file)
		if isTextLink(file) {
			if !errors.Is(err, ErrTruncated) {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		switch want, broken := brokenPackages[name]; {
		case !broken && err != nil:
			t.Errorf("%s: %v", file, err)
		case broken && !errors.Is(err, want):
			t.Errorf("%s: got %v, want %v", file, err, want)
		}
	}
}

// brokenPackages lists what must be refused, and why.
var brokenPackages = map[string]error{
	"signed_broken_header.rpm":   ErrFormat, // one byte too many between header and payload
	"unsigned_broken_header.rpm": ErrFormat,
}

func readAll(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	p, err := ReadPackage(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(p.Header.Blob(), p.HeaderBytes[8:]) {
		return errors.New("blob differs from the header's bytes")
	}
	p.Scriptlets()
	p.Triggers()
	pl, err := p.Payload(r)
	if err != nil {
		return err
	}
	defer pl.Close()
	for {
		_, _, err := pl.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrFormat) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
