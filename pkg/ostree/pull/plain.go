// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHeader   = 1 << 20 // bytes of a response's header
	maxInterim  = 5       // responses 1xx before the final one
	plainIdle   = 30 * time.Second
	writeBuffer = 4 << 10
)

// plainTransport sends requests over HTTP/1.1 without TLS, one after the other on
// each connection, in the goroutine of the caller. An http.Transport has two more
// goroutines on each connection, and with many small files most of the time goes
// into waking them. Whatever is not plain is left to one.
type plainTransport struct {
	other  *http.Transport
	dialer *net.Dialer

	mu     sync.Mutex
	idle   map[string][]*plainConn // by address, most recently used last
	closed bool
}

func newPlainTransport(other *http.Transport, dialer *net.Dialer) *plainTransport {
	return &plainTransport{other: other, dialer: dialer, idle: map[string][]*plainConn{}}
}

// plainConn is a connection. limit is what may still be read of it.
type plainConn struct {
	net.Conn
	addr    string
	in      *bufio.Reader
	out     *bufio.Writer
	limit   int64
	silent  bool // nothing was read since the last request
	retired time.Time

	watch   *watch                // the last one: most requests of a pull have one context
	serving atomic.Pointer[watch] // that of the request under way; nil: none, or closed by it
}

// watch closes a connection when a context ends during a request.
type watch struct {
	done <-chan struct{}
	stop func() bool
}

// begin makes the end of ctx close the connection.
func (c *plainConn) begin(ctx context.Context) error {
	w := c.watch
	if done := ctx.Done(); w == nil || w.done != done {
		c.unwatch()
		w = &watch{done: done}
		c.watch = w
		w.stop = context.AfterFunc(ctx, func() {
			if c.serving.CompareAndSwap(w, nil) {
				_ = c.Conn.Close()
			}
		})
	}
	c.serving.Store(w)
	// A context that ended earlier closes nothing any more.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (c *plainConn) unwatch() {
	if c.watch != nil {
		c.watch.stop()
	}
}

// Close must not be called while another goroutine has the connection.
func (c *plainConn) Close() error {
	c.unwatch()
	return c.Conn.Close()
}

var (
	errNoResponse  = errors.New("server closed the connection without a response")
	errHeader      = errors.New("header of the response is too long")
	errInterim     = errors.New("too many interim responses")
	errSwitching   = errors.New("server switches protocols unasked")
	errBodyOfOther = errors.New("read of a finished response")
)

func (c *plainConn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, errHeader
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.limit)])
	c.limit -= int64(n)
	if n > 0 {
		c.silent = false
	}
	return n, err
}

// RoundTrip is http.RoundTripper's.
func (t *plainTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok && a.res != nil {
		return t.adopt(a, req)
	}
	addr, ok := t.plain(req)
	if !ok {
		return t.other.RoundTrip(req)
	}
	var res *http.Response
	c, err := t.exchange(req.Context(), addr, func(c *plainConn) (err error) {
		if err = req.Write(c.out); err == nil {
			err = c.out.Flush()
		}
		if err == nil {
			res, err = c.header(req) //nolint:bodyclose // bind gives it one that the caller closes
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	t.bind(c, req.Context(), res)
	return res, nil
}

// bind makes the end of the response's body give the connection back.
func (t *plainTransport) bind(c *plainConn, ctx context.Context, res *http.Response) {
	b := &plainBody{from: res.Body, t: t, c: c, ctx: ctx, keep: !res.Close}
	if res.Body == http.NoBody {
		b.end(true)
	}
	res.Body = b
}

// plain gives the address to connect to; false for what is left to the other
// transport.
func (t *plainTransport) plain(req *http.Request) (addr string, ok bool) {
	u := req.URL
	if u.Scheme != "http" || req.Method != http.MethodGet || req.Body != nil || !isASCII(u.Host) {
		return "", false
	}
	if proxy, err := t.other.Proxy(req); proxy != nil || err != nil {
		return "", false
	}
	return hostPort(u), true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// conn gives a connection, and whether it was used before.
func (t *plainTransport) conn(ctx context.Context, addr string) (c *plainConn, used bool, err error) {
	if c := t.idleConn(addr); c != nil {
		return c, true, nil
	}
	nc, err := t.dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, false, err
	}
	c = &plainConn{Conn: nc, addr: addr}
	c.in, c.out = bufio.NewReaderSize(c, readBuffer), bufio.NewWriterSize(nc, writeBuffer)
	return c, false, nil
}

func (t *plainTransport) idleConn(addr string) *plainConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.idle[addr]
	for len(list) > 0 {
		c := list[len(list)-1]
		list = list[:len(list)-1]
		t.idle[addr] = list
		if time.Since(c.retired) < plainIdle {
			return c
		}
		_ = c.Close()
	}
	return nil
}

// exchange finds a connection for ask, which sends a request and reads the header of
// the response.
func (t *plainTransport) exchange(ctx context.Context, addr string, ask func(*plainConn) error) (*plainConn, error) {
	for {
		c, used, err := t.conn(ctx, addr)
		if err != nil {
			return nil, err
		}
		if err = c.begin(ctx); err == nil {
			err = c.timed(t.other.ResponseHeaderTimeout, ask)
		}
		if err == nil {
			return c, nil
		}
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// A server may end a connection that was idle just when it is used again.
		if !used || !c.silent {
			return nil, err
		}
	}
}

func (c *plainConn) timed(timeout time.Duration, ask func(*plainConn) error) error {
	c.silent, c.limit = true, maxHeader
	if timeout > 0 {
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
	}
	if err := ask(c); err != nil {
		return err
	}
	c.limit = math.MaxInt64
	if timeout > 0 {
		return c.SetDeadline(time.Time{})
	}
	return nil
}

// header reads up to the final response.
func (c *plainConn) header(req *http.Request) (*http.Response, error) {
	for range maxInterim {
		res, err := http.ReadResponse(c.in, req)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errNoResponse
		}
		if err != nil {
			return nil, fmt.Errorf("read response: %w", err)
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return nil, errSwitching
		}
		if res.StatusCode >= 200 {
			return res, nil
		}
	}
	return nil, errInterim
}

// plainBody gives the connection back at its end.
type plainBody struct {
	from io.Reader
	t    *plainTransport
	c    *plainConn
	ctx  context.Context
	keep bool // the connection can serve another request

	over  atomic.Bool // ended or aborted
	ended bool
	err   error // after the end
}

func (b *plainBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	if err == nil {
		return n, nil
	}
	b.end(errors.Is(err, io.EOF))
	if b.ctx.Err() != nil && !errors.Is(err, io.EOF) {
		err = context.Cause(b.ctx)
	}
	b.err = err
	return n, err
}

// Close ends a response that was not read to its end, and its connection.
func (b *plainBody) Close() error {
	if !b.ended {
		b.end(false)
		b.err = errBodyOfOther
	}
	return nil
}

func (b *plainBody) end(whole bool) {
	b.ended, b.err = true, io.EOF
	alive := b.over.CompareAndSwap(false, true)
	alive = b.c.serving.Swap(nil) != nil && alive
	// A server that sends more than was asked for cannot be understood any longer.
	if alive && whole && b.keep && b.c.in.Buffered() == 0 {
		b.t.retire(b.c)
		return
	}
	_ = b.c.Close()
}

// abort ends a read that waits, from another goroutine. After the end it does nothing:
// the connection may serve another request.
func (b *plainBody) abort() {
	if b.over.CompareAndSwap(false, true) {
		_ = b.c.Conn.Close()
	}
}

// retire keeps a connection for the next request.
func (t *plainTransport) retire(c *plainConn) {
	c.retired = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle[c.addr]) >= t.other.MaxIdleConnsPerHost {
		_ = c.Close()
		return
	}
	t.idle[c.addr] = append(t.idle[c.addr], c)
}

// CloseIdleConnections ends the use of the transport: connections that are busy are
// closed when they become idle.
func (t *plainTransport) CloseIdleConnections() {
	t.other.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, list := range t.idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
	t.idle = map[string][]*plainConn{}
}
