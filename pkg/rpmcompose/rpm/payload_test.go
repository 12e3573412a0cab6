// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// unpack lists what a payload gives: "PATH: CONTENT", and the names of its hard-link group.
func unpack(data []byte) ([]string, error) {
	r := bytes.NewReader(data)
	p, err := ReadPackage(r)
	if err != nil {
		return nil, err
	}
	files := p.Files()
	pl, err := p.Payload(r)
	if err != nil {
		return nil, err
	}
	defer pl.Close()
	var out []string
	for {
		i, content, err := pl.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrFormat) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		line := files[i].Path
		if content != nil {
			b, err := io.ReadAll(content)
			if err != nil {
				return out, err
			}
			line += ": " + string(b)
		}
		if g := pl.Links(i); g != nil {
			line += fmt.Sprint(" ", g)
		}
		out = append(out, line)
	}
}

var trailer = newc(trailerName, 0, "")

const (
	regular = uint16(ModeRegular | 0o644)
	dir     = uint16(ModeDir | 0o755)
	symlink = uint16(ModeSymlink | 0o777)
)

func TestPayloadForms(t *testing.T) {
	t.Parallel()
	files := []testFile{
		{path: "/d", mode: dir},
		{path: "/d/a", data: "alpha", mode: regular},
		{path: "/d/empty", mode: regular},
		{path: "/d/ghost", mode: regular, flags: FileGhost},
		{path: "/d/h1", data: "hard", mode: regular, inode: 7},
		{path: "/d/h2", data: "hard", mode: regular, inode: 7},
		{path: "/d/l", mode: symlink, link: "a"},
		{path: "/d/z1", mode: regular, inode: 8},
		{path: "/d/z2", mode: regular, inode: 8},
	}
	want := []string{"/d", "/d/a: alpha", "/d/empty: ", "/d/h2: hard [4 5]", "/d/l", "/d/z2:  [7 8]"}
	plain := concat(newc("./d", dir, ""), newc("./d/a", regular, "alpha"), newc("./d/empty", regular, ""),
		newc("./d/h1", regular, ""), newc("./d/h2", regular, "hard"), newc("./d/l", symlink, "a"),
		newc("./d/z1", regular, ""), newc("./d/z2", regular, ""), trailer)
	large := concat(stripped(0, ""), stripped(1, "alpha"), stripped(2, ""), stripped(4, ""), stripped(5, "hard"), stripped(6, "a"), stripped(7, ""), stripped(8, ""), trailer)
	first := concat(newc("/d", dir, ""), newc("d/a", regular, "alpha"), newc("./d/empty", regular, ""),
		newc("./d/h1", regular, "hard"), newc("./d/h2", regular, ""), newc("./d/l", symlink, "a"),
		newc("./d/z1", regular, ""), newc("./d/z2", regular, ""), trailer)
	repeated := concat(newc("./d", dir, ""), newc("./d/a", regular, "alpha"), newc("./d/empty", regular, ""),
		newc("./d/h1", regular, "hard"), newc("./d/h2", regular, "hard"), newc("./d/l", symlink, "a"),
		newc("./d/z1", regular, ""), newc("./d/z2", regular, ""), trailer)
	early := slices.Clone(want)
	early[3] = "/d/h1: hard [4 5]"
	for name, c := range map[string]struct {
		payload []byte
		want    []string
	}{
		"newc": {plain, want}, "stripped": {large, want}, "content first": {first, early}, "content repeated": {repeated, early},
		"zeros behind the trailer": {append(slices.Clone(plain), make([]byte, 400)...), want},
	} {
		got, err := unpack(buildPackage(baseEntries(files), c.payload))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for name, pack := range compressors(t) {
		entries := append(baseEntries(files), str(TagPayloadCompressor, name))
		got, err := unpack(buildPackage(entries, pack(plain)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		packed := pack(plain)
		if _, err := unpack(buildPackage(entries, packed[:len(packed)-20])); !errors.Is(err, ErrFormat) {
			t.Errorf("%s, cut off: %v", name, err)
		}
	}
}

func compressors(t *testing.T) map[string]func([]byte) []byte {
	with := func(open func(io.Writer) (io.WriteCloser, error)) func([]byte) []byte {
		return func(data []byte) []byte {
			var b bytes.Buffer
			w, err := open(&b)
			if err == nil {
				_, err = w.Write(data)
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
	}
	return map[string]func([]byte) []byte{
		"none": slices.Clone[[]byte],
		"gzip": with(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"zstd": with(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"xz":   with(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
		"lzma": with(func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) }),
	}
}

func TestPayloadRefused(t *testing.T) {
	t.Parallel()
	files := []testFile{{path: "/a", data: "alpha", mode: regular}, {path: "/l", mode: symlink, link: "a"}}
	a, l := newc("./a", regular, "alpha"), newc("./l", symlink, "a")
	for name, c := range map[string]struct {
		payload []byte
		want    error
	}{
		"changed content":   {concat(newc("./a", regular, "alphA"), l, trailer), ErrDigest},
		"shorter content":   {concat(newc("./a", regular, "alph"), l, trailer), ErrDigest},
		"longer content":    {concat(newc("./a", regular, "alphaa"), l, trailer), ErrDigest},
		"other link":        {concat(a, newc("./l", symlink, "b"), trailer), ErrDigest},
		"other type":        {concat(newc("./a", dir, ""), l, trailer), ErrFormat},
		"unknown file":      {concat(a, l, newc("./b", regular, ""), trailer), ErrFormat},
		"climbing name":     {concat(a, l, newc("./../a", regular, "alpha"), trailer), ErrFormat},
		"twice":             {concat(a, a, l, trailer), ErrFormat},
		"missing file":      {concat(l, trailer), ErrFormat},
		"no trailer":        {concat(a, l), ErrTruncated},
		"cut off in data":   {concat(l, a[:len(a)-6]), ErrTruncated},
		"cut off in header": {concat(a, l[:50]), ErrTruncated},
		"magic":             {concat(a, []byte("070707"), l), ErrFormat},
		"number":            {concat([]byte("0707010000000g"), make([]byte, 100)), ErrFormat},
		"long name":         {concat(newc(strings.Repeat("x", 5000), regular, ""), trailer), ErrFormat},
		"index":             {concat(stripped(9, ""), trailer), ErrFormat},
		"data behind it":    {concat(a, l, trailer, []byte("x")), ErrFormat},
	} {
		if got, err := unpack(buildPackage(baseEntries(files), c.payload)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, c.want)
		}
	}
	if _, err := unpack(buildPackage(append(baseEntries(files), str(TagPayloadCompressor, "lzma")), []byte{0x5d, 0xff, 0xff, 0xff, 0xff, 0, 0, 0})); !errors.Is(err, ErrFormat) {
		t.Errorf("huge dictionary: %v", err)
	}
	if _, err := unpack(buildPackage(append(baseEntries(files), str(TagPayloadFormat, "drpm")), trailer)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("delta package: %v", err)
	}
}

// TestUnreadContentIsChecked skips a file's content; the next step must notice that it is wrong.
func TestUnreadContentIsChecked(t *testing.T) {
	t.Parallel()
	files := []testFile{{path: "/a", data: "alpha", mode: regular}}
	r := bytes.NewReader(buildPackage(baseEntries(files), concat(newc("./a", regular, "alphA"), trailer)))
	p, err := ReadPackage(r)
	if err != nil {
		t.Fatal(err)
	}
	pl, err := p.Payload(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pl.Next(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := pl.Next(); !errors.Is(err, ErrDigest) {
			t.Fatal(err)
		}
	}
}

func FuzzPackage(f *testing.F) {
	files := []testFile{{path: "/a", data: "alpha", mode: regular, inode: 7}, {path: "/b", data: "alpha", mode: regular, inode: 7}, {path: "/l", mode: symlink, link: "a"}}
	f.Add(buildPackage(baseEntries(files), concat(newc("./a", regular, ""), newc("./b", regular, "alpha"), newc("./l", symlink, "a"), trailer)))
	f.Add(buildPackage(append(baseEntries(nil), StringsEntry(TagRequireName, "(a if b)"), StringsEntry(TagRequireVersion, ""), Uint32Entry(TagRequireFlags, 0)), trailer))
	f.Add(buildPackage(append(baseEntries(nil), StringsEntry(TagFileTriggerScripts, "x"), StringsEntry(TagFileTriggerName, "/usr"),
		StringsEntry(TagFileTriggerVersion, ""), Uint32Entry(TagFileTriggerFlags, 1<<16), Uint32Entry(TagFileTriggerIndex, 0)), trailer))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadPackage(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		p.Requires()
		p.Scriptlets()
		p.Triggers()
		p.ChangeLog()
		for _, file := range p.Files() {
			if strings.Contains(file.Path, "/../") {
				t.Fatalf("path %q", file.Path)
			}
		}
		_, _ = VerifyPackage(bytes.NewReader(data), nil, VerifyOptions{})
		_, _ = unpack(data)
		blob, err := p.Blob()
		if err != nil {
			return
		}
		q, err := ParsePackage(blob)
		if err != nil {
			t.Fatalf("own blob: %v", err)
		}
		if !bytes.Equal(q.Header.signedBytes(), p.HeaderBytes) {
			t.Fatal("what is signed changed")
		}
	})
}

func FuzzPayload(f *testing.F) {
	files := []testFile{{path: "/a", data: "alpha", mode: regular, inode: 7}, {path: "/b", data: "alpha", mode: regular, inode: 7}, {path: "/l", mode: symlink, link: "a"}}
	head := buildPackage(baseEntries(files), nil)
	f.Add(concat(newc("./a", regular, ""), newc("./b", regular, "alpha"), newc("./l", symlink, "a"), trailer))
	f.Add(concat(stripped(0, ""), stripped(1, "alpha"), stripped(2, "a"), trailer))
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := unpack(concat(head, payload))
		if err == nil && len(got) != 2 {
			t.Fatalf("%q without error", got)
		}
	})
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte{0x88, 0x05, 3, 5, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseSignatures(data) })
}
