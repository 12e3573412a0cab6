// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
)

// hangUp at the end of an answer ends the connection.
const hangUp = "<hang up>"

// rawServer answers the nth request of the mth connection, both from 0, with the
// bytes that answer gives.
func rawServer(t *testing.T, answer func(conn, n int) string) (address string, conns *atomic.Int32) {
	t.Helper()
	return recordServer(t, func(conn, n int, _ string) string { return answer(conn, n) })
}

// recordServer is rawServer with the bytes of the request.
func recordServer(t *testing.T, answer func(conn, n int, request string) string) (address string, conns *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testutil.Must(t, err)
	t.Cleanup(func() { l.Close() })
	conns = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := int(conns.Add(1)) - 1
			go func() {
				defer c.Close()
				var request bytes.Buffer
				in := bufio.NewReader(io.TeeReader(c, &request))
				for n := 0; ; n++ {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					text := answer(conn, n, request.String())
					request.Reset()
					text, last := strings.CutSuffix(text, hangUp)
					if _, err := io.WriteString(c, text); err != nil || last {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/", conns
}

func plainClient(t *testing.T) *http.Client {
	t.Helper()
	var n Network
	n.setDefaults()
	tr, err := newTransport(Remote{}, n)
	testutil.Must(t, err)
	client := &http.Client{Transport: tr}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func getText(client *http.Client, address string) (string, error) {
	res, err := client.Get(address)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, data), err
}

const okBody = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestPlainTransport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(conn, n int) string
		want   string // of each of three requests, unless fail
		conns  int32
		fail   error
	}{
		{"kept alive", func(int, int) string { return okBody }, "200 ok", 1, nil},
		{"chunked", func(int, int) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
		}, "200 ok", 1, nil},
		{"no body", func(int, int) string { return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" }, "404 ", 1, nil},
		{"interim responses", func(int, int) string { return "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okBody }, "200 ok", 1, nil},
		{"closed by the server when it was idle", func(_, n int) string { return []string{okBody, hangUp}[n] }, "200 ok", 3, nil},
		{"to be closed", func(int, int) string { return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" }, "200 ok", 3, nil},
		{"more than was asked for", func(int, int) string { return okBody + "HTTP/1.1 500 Trap\r\nContent-Length: 0\r\n\r\n" }, "200 ok", 3, nil},
		{"no response at all", func(int, int) string { return hangUp }, "", 1, errNoResponse},
		{"endless header", func(int, int) string {
			return "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 1100)
		}, "", 1, errHeader},
		{"only interim responses", func(int, int) string { return strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 9) }, "", 1, errInterim},
		{"other protocol", func(int, int) string { return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" }, "", 1, errSwitching},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address, conns := rawServer(t, c.answer)
			client := plainClient(t)
			for range 3 {
				got, err := getText(client, address)
				if !errors.Is(err, c.fail) || err == nil && got != c.want {
					t.Fatalf("got %q, %v", got, err)
				}
				if err != nil {
					break
				}
			}
			if n := conns.Load(); n != c.conns {
				t.Errorf("%d connections instead of %d", n, c.conns)
			}
		})
	}
}

// TestPlainTransportCutBody tells a body that ends too early from a whole one.
func TestPlainTransportCutBody(t *testing.T) {
	t.Parallel()
	address, _ := rawServer(t, func(int, int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok" + hangUp })
	got, err := getText(plainClient(t), address)
	if !errors.Is(err, io.ErrUnexpectedEOF) || got != "200 ok" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestPlainTransportCancel(t *testing.T) {
	t.Parallel()
	address, conns := rawServer(t, func(int, int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok" })
	client := plainClient(t)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	testutil.Must(t, err)
	res, err := client.Do(req)
	testutil.Must(t, err)
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := io.ReadAll(res.Body); !errors.Is(err, why) {
		t.Errorf("read after the cancellation: %v", err)
	}
	res.Body.Close()
	// What was not read to its end leaves a connection that nobody can use again.
	res, err = client.Get(address)
	testutil.Must(t, err)
	res.Body.Close()
	if _, err := res.Body.Read(make([]byte, 1)); err == nil {
		t.Error("a closed response can be read")
	}
	res, err = client.Get(address)
	testutil.Must(t, err)
	res.Body.Close()
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections instead of 3", n)
	}
}

// TestPlainTransportLeaves sends what is not plain through net/http.
func TestPlainTransportLeaves(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "proxy %s", r.URL)
	}))
	t.Cleanup(proxy.Close)
	var n Network
	n.setDefaults()
	tr, err := newTransport(Remote{Proxy: proxy.URL}, n)
	testutil.Must(t, err)
	client := &http.Client{Transport: tr}
	t.Cleanup(client.CloseIdleConnections)
	got, err := getText(client, "http://nowhere.invalid/x")
	if want := "200 proxy http://nowhere.invalid/x"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	for address, plain := range map[string]bool{"http://h/": true, "https://h/": false, "http://bücher.example/": false} {
		u, err := url.Parse(address)
		testutil.Must(t, err)
		tr, err := newTransport(Remote{}, n)
		testutil.Must(t, err)
		if _, ok := tr.(*plainTransport).plain(&http.Request{Method: http.MethodGet, URL: u}); ok != plain {
			t.Errorf("%s: plain %v", address, ok)
		}
	}
}
