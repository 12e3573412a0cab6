// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bufio"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// BenchmarkPullURL pulls the ref $HOSTCTL_BENCH_REF from $HOSTCTL_BENCH_URL into a
// new bare repository below $HOSTCTL_BENCH_DIR, durably, as a real pull does. With
// HOSTCTL_BENCH_FROM the repository has that commit already, so that the update
// alone is measured.
func BenchmarkPullURL(b *testing.B) {
	url, ref, dir := os.Getenv("HOSTCTL_BENCH_URL"), os.Getenv("HOSTCTL_BENCH_REF"), os.Getenv("HOSTCTL_BENCH_DIR")
	if url == "" || ref == "" || dir == "" {
		b.Skip("HOSTCTL_BENCH_URL, HOSTCTL_BENCH_REF and HOSTCTL_BENCH_DIR are not set")
	}
	remote := Remote{Name: "o", URL: url, NoGPGVerify: true}
	for b.Loop() {
		b.StopTimer()
		// Removed at the end: some filesystems are slow to create files right after
		// many were deleted.
		where, err := os.MkdirTemp(dir, "bench-repo-")
		testutil.Must(b, err)
		b.Cleanup(func() { _ = os.RemoveAll(where) })
		d, err := fsx.OpenDir(where)
		testutil.Must(b, err)
		repo, err := ostree.Create(d, bareMode(), ostree.Options{})
		testutil.Must(b, err)
		req := Request{Refs: []string{ref}, NoDeltas: os.Getenv("HOSTCTL_BENCH_DELTAS") == ""}
		if from := os.Getenv("HOSTCTL_BENCH_FROM"); from != "" {
			first := req
			first.Refs = []string{ref + "@" + from}
			first.NoDeltas = true
			_, err := Pull(b.Context(), repo, remote, first)
			testutil.Must(b, err)
		}
		b.StartTimer()
		res, err := Pull(b.Context(), repo, remote, req)
		testutil.Must(b, err)
		b.StopTimer()
		b.ReportMetric(float64(res.Metadata+res.Content), "objects")
		b.ReportMetric(float64(res.Bytes), "received-bytes")
		testutil.Must(b, repo.Close())
		testutil.Must(b, d.Close())
		b.StartTimer()
	}
}

// BenchmarkRequest asks a server on the loopback interface for one small object after
// the other: what a request costs beside the storing. The server's share is in it.
func BenchmarkRequest(b *testing.B) {
	text := "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 300\r\nContent-Type: application/octet-stream\r\n" +
		"Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n\r\n" + strings.Repeat("x", 300)
	h, err := newHTTP(b.Context(), Remote{URL: byteServer(b, text)}, httpOptions{meter: newMeter(nil, 0), log: slog.New(slog.DiscardHandler)})
	testutil.Must(b, err)
	b.Cleanup(h.close)
	n := ostree.ObjectName{Type: ostree.TypeDirMeta}
	b.ReportAllocs()
	for b.Loop() {
		data, err := h.metadata(b.Context(), n, maxObject)
		if err != nil || len(data) != 300 {
			b.Fatalf("%d bytes, %v", len(data), err)
		}
	}
}

// byteServer answers each request with the same bytes. It allocates nothing.
func byteServer(b *testing.B, text string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testutil.Must(b, err)
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(c, []byte(text))
		}
	}()
	return "http://" + l.Addr().String() + "/repo"
}

func answerAll(c net.Conn, text []byte) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := c.Write(text); err != nil {
			return
		}
	}
}
