// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
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
	m, err := Load(context.Background(), Repo{ID: "r", BaseURLs: []string{testutil.Corpus(b, "yum-repos", "osbuild-testrepo-centos-stream9")}}, testutil.OpenDir(b, b.TempDir()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	text, err := m.readText(context.Background(), "primary")
	if err != nil {
		b.Fatal(err)
	}
	first, last := bytes.Index(text, []byte("<package ")), bytes.LastIndex(text, []byte("</package>"))+len("</package>")
	var out bytes.Buffer
	fmt.Fprintf(&out, `<?xml version="1.0"?><metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">`, 64*len(m.Packages))
	for i := range 64 {
		out.Write(bytes.ReplaceAll(text[first:last], []byte("</name>"), fmt.Appendf(nil, "-copy%d</name>", i)))
	}
	out.WriteString("</metadata>")
	var z bytes.Buffer
	switch compression {
	case "gz":
		w := gzip.NewWriter(&z)
		_, err = w.Write(out.Bytes())
		testutil.Must(b, err)
		testutil.Must(b, w.Close())
	case "zst":
		w, err := zstd.NewWriter(&z)
		testutil.Must(b, err)
		_, err = w.Write(out.Bytes())
		testutil.Must(b, err)
		testutil.Must(b, w.Close())
	}
	dir := b.TempDir()
	testutil.Must(b, os.Mkdir(filepath.Join(dir, "repodata"), 0o755))
	testutil.Must(b, os.WriteFile(filepath.Join(dir, "repodata", "primary.xml."+compression), z.Bytes(), 0o644))
	testutil.Must(b, os.WriteFile(filepath.Join(dir, "repodata", "repomd.xml"), fmt.Appendf(nil,
		`<repomd><revision>1</revision><data type="primary"><checksum type="sha256">%x</checksum><location href="repodata/primary.xml.%s"/><size>%d</size><open-size>%d</open-size></data></repomd>`,
		sha256.Sum256(z.Bytes()), compression, z.Len(), out.Len()), 0o644))
	return dir
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
