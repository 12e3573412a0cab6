// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxRetryWait  = 30 * time.Second
	promptRetries = 2
	// The text of an error page is read, up to so much and so long, to keep its
	// connection: several 404 are normal in every pull.
	drainLimit = 8 << 10
	drainTime  = time.Second
)

// StatusError is an answer other than the one asked for. 404 and 410 are
// ErrNotFound.
type StatusError struct {
	URL    string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: server answered %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// Is makes errors.Is(err, ErrNotFound) work.
func (e *StatusError) Is(target error) bool {
	return target == ErrNotFound && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// TransferError is a transfer that failed for good after the allowed retries.
type TransferError struct {
	URL string
	Err error
}

func (e *TransferError) Error() string { return e.URL + ": " + e.Err.Error() }

func (e *TransferError) Unwrap() error { return e.Err }

var (
	errStalled = errors.New("transfer is too slow")
	// errCut hides what the HTTP client says, which would pass for damaged content.
	errCut   = errors.New("Download incomplete") //nolint:staticcheck // ST1005: the words scripts know
	errRange = errors.New("server answered with another range than the one asked for")
	// errAgain asks for another request at once: the kept copy is of no use.
	errAgain = errors.New("start the transfer again")
)

// place is where a file is: below one of the addresses of the remote, or with no name
// the address itself.
type place struct {
	base *url.URL
	name string
}

func (p place) url() *url.URL {
	if p.name == "" {
		return rooted(p.base)
	}
	return rooted(p.base.JoinPath(p.name))
}

// isObject tells names of objects, which need no escaping.
func (p place) isObject() bool { return strings.HasPrefix(p.name, "objects/") }

// rooted mends what joining a path to a URL that has none leaves: "file" for "/file".
func rooted(u *url.URL) *url.URL {
	if strings.HasPrefix(u.Path, "/") {
		return u
	}
	u = u.JoinPath("/") // a server's root has no path
	u.Path, u.RawPath = "/"+strings.Trim(u.Path, "/"), ""
	return u
}

// transfer says how to get a file.
type transfer struct {
	have *validators // send nothing if the file is still of this version
	part *part       // where the bytes are kept while they arrive
	// immutable files have the same bytes whenever they are asked for: the rest of
	// one can be asked for even of a server that gives no validator.
	immutable bool
}

// body is a response that survives broken connections: it asks for the rest
// and goes on where it was. If the file changed in between, what it delivers is
// wrong; all callers compare checksums or parse strictly.
type body struct {
	transfer
	h    *httpSource
	ctx  context.Context
	at   place
	size int64 // bytes of the file, -1 if unknown

	version   validators // of the response
	unchanged bool       // the server sends nothing: see transfer.have

	in      io.ReadCloser // the rest of the response, or nil
	file    *directFile   // what in is, if it came without the client
	cancel  context.CancelCauseFunc
	tag     string // what If-Range compares with
	off     int64  // bytes delivered
	pos     int64  // bytes at hand: delivered, or kept from an earlier pull
	whole   bool   // the server does not give ranges
	retries int
	speed   speed
}

// begin starts a transfer.
func (h *httpSource) begin(ctx context.Context, at place, t transfer) (*body, error) {
	b := &body{transfer: t, h: h, ctx: ctx, at: at, size: -1}
	if tag, ok := t.part.from(at); ok {
		b.tag, b.pos = tag, t.part.size()
	}
	if err := b.connect(); err != nil {
		t.part.close(err)
		return nil, err
	}
	return b, nil
}

// connect tries to get a response until there are no retries left.
func (b *body) connect() error {
	for {
		wait, err := b.try()
		if err == nil {
			return nil
		}
		if errors.Is(err, errAgain) {
			continue // at most once: nothing is kept any more
		}
		if err := b.pause(wait, err); err != nil {
			return err
		}
	}
}

// pause waits before the next try, or gives cause back when it is final.
func (b *body) pause(wait time.Duration, cause error) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	// A server that refuses or has no address from the start is absent or
	// misspelt, not restarting.
	var dns *net.DNSError
	absent := errors.Is(cause, syscall.ECONNREFUSED) || errors.As(cause, &dns) && dns.IsNotFound
	absent = absent && b.h.meter.received() == 0
	if absent || !b.transient(cause) || b.retries >= b.h.net.Retries {
		return b.final(cause)
	}
	// What goes wrong now and then needs no wait; a server in trouble does.
	if later := b.retries - promptRetries; wait == 0 && later >= 0 {
		wait = min(b.h.net.RetryDelay<<min(later, 10), maxRetryWait)
		wait += rand.N(wait/4 + 1) // clients of one server should not come back together
	}
	b.retries++
	b.h.log.Info("retry", "url", b.at.url().Redacted(), "try", b.retries, "after", wait, "error", cause)
	timer := time.NewTimer(min(wait, maxRetryWait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

func (b *body) final(err error) error {
	var status *StatusError
	if errors.As(err, &status) {
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the URL is named once
	}
	return &TransferError{URL: b.at.url().Redacted(), Err: err}
}

// transient tells errors that another try may cure.
func (b *body) transient(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status >= 500 && status.Status != http.StatusNotImplemented ||
			status.Status == http.StatusRequestTimeout || status.Status == http.StatusTooManyRequests
	}
	return !b.h.net.FailOnNetworkErrors && !errors.Is(err, errRedirect) && !isCertificate(err)
}

// header writes the headers that all requests have.
func (h *httpSource) header(req *http.Request) {
	for k, v := range h.net.Header {
		req.Header.Set(k, v)
	}
	req.Header.Set("User-Agent", h.net.UserAgent)
}

// prepare writes the headers of the next request.
func (b *body) prepare(req *http.Request) {
	b.h.header(req)
	addCookies(req, b.h.cookies, time.Now())
	if b.have != nil && b.have.etag != "" {
		req.Header.Set("If-None-Match", b.have.etag)
	} else if b.have != nil && !b.have.modified.IsZero() {
		req.Header.Set("If-Modified-Since", b.have.modified.UTC().Format(http.TimeFormat))
	}
	if b.pos > 0 && !b.whole && (b.tag != "" || b.immutable) {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(b.pos, 10)+"-")
		if b.tag != "" {
			req.Header.Set("If-Range", b.tag)
		}
	}
}

// try sends one request for what is still missing. wait is what the server
// asks for before the next one, 0 if it does not say.
func (b *body) try() (wait time.Duration, err error) {
	b.h.meter.requests.Add(1)
	d := b.h.directs[b.at.base]
	if d == nil || !b.at.isObject() || b.pos > 0 || b.have != nil {
		return b.ask(nil)
	}
	f, a, err := d.get(b.ctx, b.at.name)
	if err != nil {
		return 0, &url.Error{Op: "Get", URL: b.at.url().Redacted(), Err: err}
	}
	if a != nil {
		return b.ask(a)
	}
	b.in, b.file, b.cancel = f, f, func(error) { f.abort() }
	b.speed.start(b.h.net, b.cancel)
	b.acceptWhole(f.simpleHeader)
	return 0, nil
}

// ask lets the client send the request, or take the answer there is.
func (b *body) ask(a *answer) (wait time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(b.ctx)
	if a != nil {
		ctx = context.WithValue(ctx, answerKey{}, a)
	}
	u := b.at.url()
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
	b.prepare(req)
	res, err := b.h.client.Do(req)
	if err != nil {
		cancel(nil)
		return 0, err
	}
	if err := b.accept(res); err != nil || b.unchanged {
		limit := time.AfterFunc(drainTime, func() { cancel(nil) })
		_, _ = io.CopyN(io.Discard, res.Body, drainLimit)
		limit.Stop()
		res.Body.Close()
		cancel(nil)
		return retryAfter(res), err
	}
	b.in, b.cancel = res.Body, cancel
	b.speed.start(b.h.net, cancel)
	if res.StatusCode == http.StatusPartialContent {
		return 0, nil
	}
	return 0, b.skip()
}

// accept checks the status, and for a range that it is the one asked for.
func (b *body) accept(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusOK:
		b.acceptWhole(simpleHeader{res.ContentLength, res.Header.Get("ETag"), res.Header.Get("Last-Modified")})
		return nil
	case http.StatusPartialContent:
		if b.pos == 0 {
			break
		}
		if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.pos)) {
			b.whole = true
			return errRange
		}
		if res.ContentLength >= 0 {
			b.size = b.pos + res.ContentLength
		}
		return nil
	case http.StatusNotModified:
		if b.unchanged = b.have != nil; b.unchanged {
			return nil
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if b.off == 0 && b.pos > 0 {
			b.pos, b.whole = 0, true
			return errAgain
		}
	}
	return &StatusError{URL: b.at.url().Redacted(), Status: res.StatusCode}
}

// acceptWhole takes a response that begins at the start of the file. As long as
// nothing was delivered, what was kept of another version is forgotten.
func (b *body) acceptWhole(h simpleHeader) {
	b.size, b.tag = h.size, ""
	b.version = validators{etag: h.etag}
	strong := strings.HasPrefix(h.etag, `"`)
	if strong {
		b.tag = h.etag
	}
	if h.modified != "" {
		if t, err := http.ParseTime(h.modified); err == nil {
			b.version.modified = t
			if !strong {
				b.tag = h.modified
			}
		}
	}
	if b.off == 0 {
		b.pos = 0
		b.part.begin(b.at, b.tag, b.size)
	}
}

// skip drops what is at hand already, when the server sent the whole file.
func (b *body) skip() error {
	if b.pos == 0 {
		return nil
	}
	buf := make([]byte, 32<<10)
	for left := b.pos; left > 0; {
		n, err := b.readOnce(buf[:min(left, int64(len(buf)))])
		left -= int64(n)
		if errors.Is(err, io.EOF) && left > 0 {
			err = errCut
		}
		if err != nil && left > 0 {
			b.drop()
			return err
		}
	}
	return nil
}

// readOnce reads from the current response, with the watch on its speed.
func (b *body) readOnce(p []byte) (int, error) {
	if b.file == nil || !b.file.ready() {
		b.speed.before()
	}
	n, err := b.in.Read(p)
	if serr := b.speed.after(n); serr != nil && err == nil {
		err = serr
	}
	b.h.meter.transferred(n)
	if err != nil && !errors.Is(err, io.EOF) && b.speed.stalled() {
		err = errStalled
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	return n, err
}

// Read delivers the next bytes, across reconnects.
func (b *body) Read(p []byte) (int, error) {
	if b.off < b.pos {
		n, err := b.part.readAt(p, b.off)
		b.off += int64(n)
		return n, err
	}
	for {
		if b.in == nil {
			if err := b.connect(); err != nil {
				return 0, err
			}
		}
		n, err := b.readOnce(p)
		b.part.add(p[:n])
		b.off += int64(n)
		b.pos = b.off
		if err == nil || errors.Is(err, io.EOF) {
			return n, err
		}
		b.drop()
		if err := b.pause(0, err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// drop ends the current response.
func (b *body) drop() {
	b.speed.stop()
	b.in.Close()
	b.cancel(nil)
	b.in, b.file = nil, nil
}

// finish ends the transfer; err is what became of the content. The connection
// serves the next request if the body was read to its end.
func (b *body) finish(err error) {
	if b.in != nil {
		b.drop()
	}
	b.part.close(err)
}

// retryAfter reads the wait that a server asks for, in seconds.
func retryAfter(res *http.Response) time.Duration {
	secs, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || secs <= 0 {
		return 0
	}
	return min(time.Duration(secs)*time.Second, maxRetryWait)
}
