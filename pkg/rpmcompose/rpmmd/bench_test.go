// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/hostctl/hostctl/internal/testutil"
)

// largeRepository writes the metadata of a real repository 64 times into one,
// with other names and checksums: 72,000 packages.
func largeRepository(b *testing.B, compression string) string {
	b.Helper()
	dir := b.TempDir()
	testutil.Must(b, os.Mkdir(filepath.Join(dir, "repodata"), 0o755))
	m := corpusRepository(b)
	out := `<repomd><revision>1</revision>`
	for _, l := range []struct{ kind, root, changes string }{{"primary", "metadata", "</name>"}, {"filelists", "filelists", "</file>"}} {
		out += writeLarge(b, m, dir, l.kind, l.root, l.changes, compression)
	}
	testutil.Must(b, os.WriteFile(filepath.Join(dir, "repodata", "repomd.xml"), []byte(out+"</repomd>"), 0o644))
	return dir
}

func corpusRepository(b *testing.B) *Metadata {
	b.Helper()
	m, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{testutil.Corpus(b, "yum-repos", "osbuild-testrepo-centos-stream9")}}, testutil.OpenDir(b, b.TempDir()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// writeLarge writes one list and gives its entry in repomd.xml.
func writeLarge(b *testing.B, m *Metadata, dir, kind, root, changes, compression string) string {
	b.Helper()
	text, err := m.readText(context.Background(), kind)
	testutil.Must(b, err)
	first, last := bytes.Index(text, []byte("<package ")), bytes.LastIndex(text, []byte("</package>"))+len("</package>")
	var z bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&z)
	if compression == "zst" {
		w, err = zstd.NewWriter(&z)
		testutil.Must(b, err)
	}
	size := 0
	write := func(text []byte) {
		n, err := w.Write(text)
		testutil.Must(b, err)
		size += n
	}
	write(fmt.Appendf(nil, `<?xml version="1.0"?><%s packages="%d">`, root, 64*len(m.Packages)))
	for i := range 64 {
		write(bytes.ReplaceAll(text[first:last], []byte(changes), fmt.Appendf(nil, "-copy%d%s", i, changes)))
	}
	write(fmt.Appendf(nil, "</%s>", root))
	testutil.Must(b, w.Close())
	name := "repodata/" + kind + ".xml." + compression
	testutil.Must(b, os.WriteFile(filepath.Join(dir, name), z.Bytes(), 0o644))
	return fmt.Sprintf(`<data type="%s"><checksum type="sha256">%x</checksum><location href="%s"/><size>%d</size><open-size>%d</open-size></data>`,
		kind, sha256.Sum256(z.Bytes()), name, z.Len(), size)
}

// BenchmarkLoad72000 reads the metadata of 72,000 packages from a local
// repository: checksum, decompression, parsing.
func BenchmarkLoad72000(b *testing.B) {
	for _, compression := range []string{"gz", "zst"} {
		dir := largeRepository(b, compression)
		// The first time the list is decompressed and parsed, then the parsed form is read.
		cache := testutil.OpenDir(b, b.TempDir())
		for _, from := range []string{"list", "parsed"} {
			b.Run(compression+"/"+from, func(b *testing.B) {
				for b.Loop() {
					if from == "list" {
						testutil.Must(b, cache.RemoveAll("parsed"))
					}
					before := testutil.CPUTime(b)
					m, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{dir}}, cache, Options{})
					if err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					b.ReportMetric((testutil.CPUTime(b) - before).Seconds(), "cpu-s")
					var s runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&s)
					b.ReportMetric(float64(s.HeapAlloc)/(1<<20), "live-MB")
					b.ReportMetric(float64(len(m.Packages)), "packages")
					runtime.KeepAlive(m)
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkOwners72000 looks 100 paths up in the file lists of 72,000 packages.
func BenchmarkOwners72000(b *testing.B) {
	for _, compression := range []string{"gz", "zst"} {
		dir := largeRepository(b, compression)
		cache := testutil.OpenDir(b, b.TempDir())
		b.Run(compression, func(b *testing.B) {
			m, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{dir}}, cache, Options{})
			testutil.Must(b, err)
			var paths []string
			for i := range 100 {
				paths = append(paths, fmt.Sprintf("/usr/share/missing%d", i))
			}
			const there = "/usr/bin/bash-copy7"
			paths = append(paths, there)
			b.ReportAllocs()
			for b.Loop() {
				before := testutil.CPUTime(b)
				m.files.owners = nil
				m.Expect(paths)
				for _, p := range paths {
					found, err := m.Owners(context.Background(), p)
					if err != nil || (len(found) > 0) != (p == there) {
						b.Fatal(p, found, err)
					}
				}
				b.ReportMetric((testutil.CPUTime(b) - before).Seconds(), "cpu-s")
			}
		})
	}
}
