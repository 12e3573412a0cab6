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
	maxRetryWait = 30 * time.Second
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

var errStalled = errors.New("transfer is too slow")

// body is a response that survives broken connections: it asks for the rest
// and goes on where it was. If the file changed in between, what it delivers is
// wrong; all callers compare checksums or parse strictly.
type body struct {
	h    *httpSource
	ctx  context.Context
	url  *url.URL
	size int64 // bytes announced, -1 if unknown

	res     *http.Response
	cancel  context.CancelCauseFunc
	etag    string
	off     int64
	retries int
	speed   speed
}

// request starts a transfer.
func (h *httpSource) request(ctx context.Context, u *url.URL) (*body, error) {
	b := &body{h: h, ctx: ctx, url: u}
	if err := b.connect(); err != nil {
		return nil, err
	}
	b.size = b.res.ContentLength
	return b, nil
}

// connect tries to get a response until there are no retries left.
func (b *body) connect() error {
	for {
		wait, err := b.try()
		if err == nil {
			return nil
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
	if absent || !transient(cause) || b.retries >= b.h.net.Retries {
		return b.final(cause)
	}
	if wait == 0 {
		wait = min(b.h.net.RetryDelay<<min(b.retries, 10), maxRetryWait)
		wait += rand.N(wait/4 + 1) // clients of one server should not come back together
	}
	b.retries++
	b.h.log.Info("retry", "url", b.url.Redacted(), "try", b.retries, "after", wait, "error", cause)
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
	return &TransferError{URL: b.url.Redacted(), Err: err}
}

// transient tells errors that another try may cure.
func transient(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status >= 500 && status.Status != http.StatusNotImplemented ||
			status.Status == http.StatusRequestTimeout || status.Status == http.StatusTooManyRequests
	}
	return !errors.Is(err, errRedirect) && !errors.Is(err, errRange) && !isCertificate(err)
}

// try sends one request for what is still missing. wait is what the server
// asks for before the next one, 0 if it does not say.
func (b *body) try() (wait time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(b.ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url.String(), nil)
	if err != nil {
		cancel(nil)
		return 0, err
	}
	for k, v := range b.h.net.Header {
		req.Header.Set(k, v)
	}
	req.Header.Set("User-Agent", b.h.net.UserAgent)
	if b.off > 0 && b.etag != "" {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(b.off, 10)+"-")
		req.Header.Set("If-Range", b.etag)
	}
	b.h.meter.requests.Add(1)
	res, err := b.h.client.Do(req)
	if err != nil {
		cancel(nil)
		return 0, err
	}
	if err := b.accept(res); err != nil {
		limit := time.AfterFunc(drainTime, func() { cancel(nil) })
		_, _ = io.CopyN(io.Discard, res.Body, drainLimit)
		limit.Stop()
		res.Body.Close()
		cancel(nil)
		return retryAfter(res), err
	}
	b.cancel = cancel
	b.speed.start(b.h.net, cancel)
	return 0, b.skip()
}

// accept checks the status, and for a range that it is the one asked for.
func (b *body) accept(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusOK:
		b.res = res
		b.etag = ""
		if tag := res.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
			b.etag = tag
		}
		return nil
	case res.StatusCode == http.StatusPartialContent && b.off > 0:
		if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.off)) {
			return errRange
		}
		b.res = res
		return nil
	}
	return &StatusError{URL: b.url.Redacted(), Status: res.StatusCode}
}

var errRange = errors.New("server answered with another range than the one asked for")

// skip drops what was delivered before, when the server sent the whole file.
func (b *body) skip() error {
	if b.off == 0 || b.res.StatusCode == http.StatusPartialContent {
		return nil
	}
	for left := b.off; left > 0; {
		n, err := b.readOnce(make([]byte, min(left, 32<<10)))
		left -= int64(n)
		if errors.Is(err, io.EOF) && left > 0 {
			err = io.ErrUnexpectedEOF
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
	b.speed.before()
	n, err := b.res.Body.Read(p)
	if serr := b.speed.after(n); serr != nil && err == nil {
		err = serr
	}
	b.h.meter.transferred(n)
	if err != nil && !errors.Is(err, io.EOF) && b.speed.stalled.Load() {
		err = errStalled
	}
	return n, err
}

// Read delivers the next bytes, across reconnects.
func (b *body) Read(p []byte) (int, error) {
	for {
		if b.res == nil {
			if err := b.connect(); err != nil {
				return 0, err
			}
		}
		n, err := b.readOnce(p)
		b.off += int64(n)
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
	b.res.Body.Close()
	b.cancel(nil)
	b.res = nil
}

// Close ends the transfer. The connection serves the next request if the body
// was read to its end.
func (b *body) Close() {
	if b.res != nil {
		b.drop()
	}
}

// retryAfter reads the wait that a server asks for, in seconds.
func retryAfter(res *http.Response) time.Duration {
	secs, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || secs <= 0 {
		return 0
	}
	return min(time.Duration(secs)*time.Second, maxRetryWait)
}
