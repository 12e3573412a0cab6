// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func webSource(t *testing.T, address string, n Network) *httpSource {
	t.Helper()
	o := httpOptions{net: n, meter: newMeter(nil, 0), log: slog.New(slog.DiscardHandler)}
	h, err := newHTTP(t.Context(), Remote{URL: address}, o)
	testutil.Must(t, err)
	t.Cleanup(h.close)
	return h
}

// talk asks for three objects and gives what came of it, what the server read, and
// over how many connections.
func talk(t *testing.T, where string, n Network, direct bool, answer func(conn, n int, request string) string) (out []string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	address, conns := recordServer(t, func(conn, n int, request string) string {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, request)
		return answer(conn, n, request)
	})
	address = strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	h := webSource(t, strings.ReplaceAll(where, "HOST", address), n)
	if h.directs[h.meta[0]] == nil {
		t.Fatal("requests are not direct")
	}
	if !direct {
		h.directs = nil
	}
	for i := range 3 {
		name := ostree.ObjectName{Checksum: ostree.Checksum{byte(i)}, Type: ostree.TypeDirTree}
		data, err := h.metadata(t.Context(), name, 1000)
		out = append(out, fmt.Sprintf("%q, %v", data, err))
	}
	mu.Lock()
	defer mu.Unlock()
	out = append(out, fmt.Sprintf("%d requests of %d connections", h.meter.requests.Load(), conns.Load()))
	out = append(out, asked...)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], address, "HOST")
	}
	return out
}

// TestDirectRequests: no server sees, and no caller, whether requests are direct.
func TestDirectRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		where string
		n     Network
	}{
		{where: "http://HOST"},
		{where: "http://HOST/"},
		{where: "http://HOST/repo"},
		{where: "http://HOST/a%20b/c%2Fd/../é/"},
		{where: "http://user:pa%20ss@HOST/repo/"},
		{"http://user:pass@HOST/repo", Network{
			Header:    map[string]string{"Authorization": "Bearer x", "X-Two\r\nX-Three": "y", "x-lower": "a\r\nb", "Host": "other"},
			UserAgent: "agent", AppendUserAgent: "more",
		}},
	} {
		answer := func(int, int, string) string { return okBody }
		got, want := talk(t, c.where, c.n, true, answer), talk(t, c.where, c.n, false, answer)
		if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(want[4], "/00/") {
			t.Errorf("%s: %s", c.where, diff)
		}
	}
}

func TestDirectAnswers(t *testing.T) {
	t.Parallel()
	every := func(text string) func(int, int, string) string { return func(int, int, string) string { return text } }
	first := func(text string) func(int, int, string) string {
		return func(conn, n int, _ string) string {
			if conn == 0 && n == 0 {
				return text
			}
			return okBody
		}
	}
	moved := func(to string) func(int, int, string) string {
		return func(_, _ int, request string) string {
			if strings.HasPrefix(request, "GET /repo") {
				return "HTTP/1.1 302 Found\r\nLocation: " + to + "\r\nContent-Length: 4\r\n\r\nmore"
			}
			return okBody
		}
	}
	for name, answer := range map[string]func(conn, n int, request string) string{
		"file":        every("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nconnection: Keep-Alive\r\nCONTENT-LENGTH:\t2 \r\n\r\nok"),
		"empty":       every("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		"chunked":     every("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
		"both":        every("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
		"to close":    every("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
		"old":         every("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok" + hangUp),
		"no length":   every("HTTP/1.1 200 OK\r\n\r\nok" + hangUp),
		"two lengths": every("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
		"bad length":  every("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
		"folded":      every("HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 1\r\nContent-Length: 2\r\n\r\nok"),
		"malformed":   every("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon\r\n\r\nok"),
		"too large":   every("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\nok"),
		"absent":      every("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost"),
		"forbidden":   every("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
		"unasked":     every("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/3\r\nContent-Length: 2\r\n\r\nok"),
		"trailing":    every(okBody + "more"),
		"interim":     every("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okBody),
		"no response": every(hangUp),
		"switching":   every("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
		"long header": every("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100) + "Content-Length: 2\r\n\r\nok"),
		"trouble":     first("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
		"hung up":     first(hangUp),
		"cut": func(_, _ int, request string) string {
			if strings.Contains(request, "\r\nIf-Range: \"x\"\r\nRange: bytes=2-\r\n") {
				return "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-3/4\r\nContent-Length: 2\r\n\r\nay"
			}
			return "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 4\r\n\r\nok" + hangUp
		},
		"cut, no etag": func(_, _ int, request string) string {
			const date = "Mon, 02 Jan 2006 15:04:05 GMT"
			if strings.Contains(request, "\r\nIf-Range: "+date) {
				return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nokay"
			}
			return "HTTP/1.1 200 OK\r\nETag: W/\"x\"\r\nLast-Modified: " + date + "\r\nContent-Length: 4\r\n\r\nok" + hangUp
		},
		"idle end":   func(_, n int, _ string) string { return []string{okBody, hangUp}[n] },
		"moved":      moved("/there"),
		"moved away": moved("http://localhost:1/x"),
		"loop":       moved("/repo/again"),
		"nowhere":    moved(":"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := Network{RetryDelay: 1, Retries: 3}
			got, want := talk(t, "http://HOST/repo", n, true, answer), talk(t, "http://HOST/repo", n, false, answer)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDirectCancel ends a request while it waits for the header, or for the body. The
// connections of one that ended before serve another.
func TestDirectCancel(t *testing.T) {
	t.Parallel()
	name := ostree.ObjectName{Type: ostree.TypeDirTree}
	for _, text := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"} {
		began := make(chan bool)
		address, conns := rawServer(t, func(_, n int) string {
			if n < 2 {
				return okBody
			}
			close(began)
			return text
		})
		h := webSource(t, address, Network{})
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := h.metadata(ctx, name, 1000)
			testutil.Must(t, err)
			cancel()
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-began
			cancel(why)
		}()
		if _, err := h.metadata(ctx, name, 1000); !errors.Is(err, why) {
			t.Errorf("after %q: %v", text, err)
		}
		if _, err := h.metadata(ctx, name, 1000); !errors.Is(err, why) {
			t.Errorf("after the end: %v", err)
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}

// TestDirectStall: a server that says nothing more, before the header or after it, holds
// up a request for the allowed time only.
func TestDirectStall(t *testing.T) {
	t.Parallel()
	ask := func(text string, n Network) error {
		address, _ := rawServer(t, func(int, int) string { return text })
		_, err := webSource(t, address, n).metadata(t.Context(), ostree.ObjectName{Type: ostree.TypeDirTree}, 1000)
		return err
	}
	n := Network{Retries: -1, LowSpeedTime: 50 * time.Millisecond}
	if err := ask("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", n); !errors.Is(err, errStalled) {
		t.Errorf("after the header: %v", err)
	}
	n.ConnectTimeout = n.LowSpeedTime
	var late net.Error
	if err := ask("", n); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("before the header: %v", err)
	}
}

// TestNotDirect: what depends on more than the address goes through the client.
func TestNotDirect(t *testing.T) {
	t.Parallel()
	cookie := Cookie{Domain: "h", Path: "/other", Name: "n", Value: "v"}
	for _, c := range []struct {
		r       Remote
		cookies []Cookie
		direct  bool
	}{
		{Remote{URL: "http://h/repo"}, nil, true},
		{Remote{URL: "https://h/repo"}, nil, false},
		{Remote{URL: "http://bücher.example/repo"}, nil, false},
		{Remote{URL: "http://h/repo?key=x"}, nil, false},
		{Remote{URL: "http://h/repo", Proxy: "http://proxy"}, nil, false},
		{Remote{URL: "http://h/repo"}, []Cookie{cookie}, false},
	} {
		h, err := newHTTP(t.Context(), c.r, httpOptions{cookies: c.cookies, meter: newMeter(nil, 0)})
		testutil.Must(t, err)
		t.Cleanup(h.close)
		if got := h.directs[h.content[0]] != nil; got != c.direct {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestSimpleHeader: the headers of usual servers count as simple.
func TestSimpleHeader(t *testing.T) {
	t.Parallel()
	const date = "Mon, 02 Jan 2006 15:04:05 GMT"
	for text, want := range map[string]simpleHeader{
		"Server: nginx/1.26.0\r\nDate: " + date + "\r\nContent-Type: application/octet-stream\r\nContent-Length: 70\r\n" +
			"Last-Modified: " + date + "\r\nConnection: keep-alive\r\nETag: \"66-4\"\r\nAccept-Ranges: bytes\r\n": {70, `"66-4"`, date},
		"Date: " + date + "\r\nServer: Apache/2.4.62 (Debian)\r\nLast-Modified: " + date + "\r\nETag: \"5-6\"\r\n" +
			"Accept-Ranges: bytes\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=100\r\nConnection: Keep-Alive\r\n": {5, `"5-6"`, date},
		"Accept-Ranges: bytes\r\nContent-Length: 0\r\nDate: " + date + "\r\n": {},
	} {
		var got simpleHeader
		if !got.parse([]byte("HTTP/1.1 200 OK\r\n"+text)) || got != want {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// FuzzSimpleHeader: what counts as simple means the same to net/http.
func FuzzSimpleHeader(f *testing.F) {
	for _, s := range []string{
		"Content-Length: 2\r\n",
		"ETag: \"x\"\r\nLast-Modified: Mon, 02 Jan 2006 15:04:05 GMT\r\ncontent-length:007\r\nConnection: keep-alive\r\n",
		"Content-Length: 2\r\nContent-Length: 2\r\n",
		"Content-Length: 2\r\nConnection: close\r\n",
		"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
		"Content-Length: 2\r\nX: y\r\n z\r\nPragma: no-cache\r\n",
		"Content-Length: 2\r\nTrailer: X\r\nETag:\r\nETag: y\r\n",
	} {
		f.Add("HTTP/1.1 200 OK\r\n" + s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s simpleHeader
		if !s.parse([]byte(text)) {
			return
		}
		all := []byte(text + "\r\n")
		if bytes.Index(all, []byte("\r\n\r\n"))+4 != len(all) {
			t.Fatal("an empty line inside")
		}
		in := bufio.NewReader(bytes.NewReader(all))
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(in)
		got := simpleHeader{res.ContentLength, res.Header.Get("ETag"), res.Header.Get("Last-Modified")}
		if got != s || res.StatusCode != http.StatusOK || res.Close || len(res.TransferEncoding) > 0 || len(rest) > 0 {
			t.Errorf("%+v instead of %+v, %v", s, got, res)
		}
	})
}
