// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/version"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	maxSummary = gvariant.MaxSize
	// maxObject bounds a received metadata object in bytes. Several are in memory at
	// a time; a directory of 16 MiB has a quarter of a million entries.
	maxObject    = 16 << 20
	maxRefFile   = 4 << 10
	maxRedirects = 10
)

// httpSource is an archive repository behind web servers. Each file is asked of
// the first mirror, and where that fails of the next.
type httpSource struct {
	client  *http.Client
	meta    []*url.URL // where everything but the following is
	content []*url.URL // where file objects and deltas are
	directs map[*url.URL]*direct
	net     Network
	cookies []Cookie
	meter   *meter
	log     *slog.Logger
	parts   *parts
	check   func(mode uint32) error // of file objects; nil: none
	trusted bool                    // file objects are stored unread

	linked []byte // the summary, when a metalink told where it is
}

// httpOptions are what newHTTP needs beside the remote.
type httpOptions struct {
	net     Network
	cookies []Cookie
	meter   *meter
	log     *slog.Logger
	parts   *parts
	check   func(mode uint32) error
	trusted bool
}

// newHTTP resolves where the remote is: mirror lists and metalinks are fetched.
func newHTTP(ctx context.Context, r Remote, o httpOptions) (*httpSource, error) {
	o.net.setDefaults()
	transport, err := newTransport(r, o.net)
	if err != nil {
		return nil, err
	}
	h := &httpSource{
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		net:    o.net, cookies: o.cookies, meter: o.meter, log: o.log, parts: o.parts,
		check: o.check, trusted: o.trusted,
	}
	if err := h.locate(ctx, r); err != nil {
		h.close()
		return nil, err
	}
	h.directs = map[*url.URL]*direct{}
	for _, base := range slices.Concat(h.meta, h.content) {
		h.directs[base] = h.direct(base)
	}
	return h, nil
}

func (h *httpSource) locate(ctx context.Context, r Remote) (err error) {
	if r.Metalink != "" {
		base, summary, err := h.fromMetalink(ctx, r.Metalink)
		if err != nil {
			return err
		}
		h.meta, h.linked = []*url.URL{base}, summary
	} else if h.meta, err = h.bases(ctx, r.URL); err != nil {
		return err
	}
	h.content = h.meta
	if r.ContentURL == "" {
		return nil
	}
	if h.content, err = h.bases(ctx, r.ContentURL); err != nil {
		return fmt.Errorf("contenturl: %w", err)
	}
	return nil
}

func (n *Network) setDefaults() {
	if n.Outstanding <= 0 {
		n.Outstanding = defaultOutstanding
	}
	if n.Retries == 0 {
		n.Retries = 5
	}
	if n.RetryDelay <= 0 {
		n.RetryDelay = 100 * time.Millisecond
	}
	n.RetryDelay = min(n.RetryDelay, maxRetryWait)
	if n.ConnectTimeout <= 0 {
		n.ConnectTimeout = 30 * time.Second
	}
	if n.LowSpeedBytes == 0 {
		n.LowSpeedBytes = 1000
	}
	if n.LowSpeedTime == 0 {
		n.LowSpeedTime = 30 * time.Second
	}
	if n.UserAgent == "" {
		n.UserAgent = "hostctl/" + version.String()
	}
	if n.AppendUserAgent != "" {
		n.UserAgent += " " + n.AppendUserAgent
		n.AppendUserAgent = ""
	}
}

func (h *httpSource) close() { h.client.CloseIdleConnections() }

// request says how to get one file.
type request struct {
	max  int64       // bytes allowed
	have *validators // of the copy at hand: an unchanged file is not sent again
}

// validators identify a version of a file on a server.
type validators struct {
	etag     string
	modified time.Time
}

// fetched is a small file.
type fetched struct {
	data      []byte
	unchanged bool // no data: the copy at hand is still the current one
	validators
}

// getURL reads a small file.
func (h *httpSource) getURL(ctx context.Context, u *url.URL, r request) (fetched, error) {
	return h.getFrom(ctx, place{base: u}, r)
}

func (h *httpSource) getFrom(ctx context.Context, at place, r request) (fetched, error) {
	b, err := h.begin(ctx, at, transfer{have: r.have})
	if err != nil {
		return fetched{}, err
	}
	defer b.finish(nil)
	f := fetched{unchanged: b.unchanged, validators: b.version}
	if b.unchanged {
		return f, nil
	}
	if b.size > r.max {
		return f, tooLarge(at.url(), r.max)
	}
	if f.data, err = readBounded(b, b.size, r.max); err != nil {
		return f, err
	}
	if int64(len(f.data)) > r.max {
		return f, tooLarge(at.url(), r.max)
	}
	return f, nil
}

// readBounded reads at most max+1 bytes; size is a hint, -1 for none.
func readBounded(r io.Reader, size, max int64) ([]byte, error) {
	const trust = 1 << 20 // announced bytes that are set aside before any has come
	buf := make([]byte, 0, min(size, trust, max)+1+512)
	limited := io.LimitReader(r, max+1)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := limited.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func tooLarge(u *url.URL, max int64) error {
	return sayf(ostree.ErrInvalid, "URI %s exceeded maximum size of %d bytes", u.Redacted(), max)
}

// get asks one mirror after the other.
func (h *httpSource) get(ctx context.Context, bases []*url.URL, name string, r request) (f fetched, err error) {
	for i, base := range bases {
		if f, err = h.getFrom(ctx, place{base, name}, r); err == nil || ctx.Err() != nil {
			return f, err
		}
		if i+1 < len(bases) {
			h.log.Info("try next mirror", "file", name, "error", err)
		}
	}
	return f, err
}

// absent tells whether an answer means that a file which need not exist does
// not. Some object stores answer 403 for what is not there.
func absent(err error) bool {
	var status *StatusError
	return errors.Is(err, ErrNotFound) || errors.As(err, &status) && status.Status == http.StatusForbidden
}

// file reads a file by its path in the repository.
func (h *httpSource) file(ctx context.Context, name string, r request) (fetched, error) {
	if name == "summary" && h.linked != nil {
		return fetched{data: h.linked}, nil
	}
	bases := h.meta
	if isDelta(name) {
		bases = h.content
	}
	return h.get(ctx, bases, name, r)
}

func (h *httpSource) metadata(ctx context.Context, n ostree.ObjectName, max int64) ([]byte, error) {
	bases := h.content
	if n.Type == ostree.TypeCommitMeta {
		bases = h.meta
	}
	f, err := h.get(ctx, bases, ostree.LoosePath(n), request{max: max})
	return f.data, err
}

func (h *httpSource) store(ctx context.Context, t *ostree.Txn, c ostree.Checksum) (n int64, err error) {
	name := ostree.ObjectName{Checksum: c, Type: ostree.TypeFile}
	file := ostree.LoosePath(name)
	for i, base := range h.content {
		if n, err = h.storeFrom(ctx, t, c, place{base, file}); err == nil || ctx.Err() != nil {
			return n, err
		}
		if i+1 < len(h.content) {
			h.log.Info("try next mirror", "object", name.String(), "error", err)
		}
	}
	return n, err
}

// storeFrom stores a file object. What an earlier pull received of it counts; if
// the sum is wrong then, it is asked for once more from the start.
func (h *httpSource) storeFrom(ctx context.Context, t *ostree.Txn, c ostree.Checksum, at place) (int64, error) {
	key := c.String() + ".filez"
	part := h.parts.open(key)
	resumed := part.size() > 0
	n, err := h.storeOnce(ctx, t, c, at, part)
	if err == nil || !resumed || !errors.Is(err, ostree.ErrCorrupt) {
		return n, err
	}
	h.log.Warn("drop what was kept of an object", "url", at.url().Redacted(), "error", err)
	return h.storeOnce(ctx, t, c, at, h.parts.open(key))
}

func (h *httpSource) storeOnce(ctx context.Context, t *ostree.Txn, c ostree.Checksum, at place, part *part) (int64, error) {
	b, err := h.begin(ctx, at, transfer{part: part, immutable: true})
	if err != nil {
		return 0, err
	}
	if err = h.write(ctx, t, c, b); err != nil {
		err = fmt.Errorf("%s: %w", at.url().Redacted(), err)
	}
	b.finish(err)
	return b.off, err
}

func (h *httpSource) write(ctx context.Context, t *ostree.Txn, c ostree.Checksum, b *body) error {
	var r io.Reader = b
	if h.check != nil {
		checked, err := checkedMode(b, c, h.check)
		if err != nil {
			return err
		}
		r = checked
	}
	if h.trusted {
		return t.ImportArchived(ctx, c, r)
	}
	return t.StoreArchived(ctx, c, r) // the walk has looked for it
}

// open starts the transfer of a big file: a part of a delta. key names what is
// kept of it across interruptions.
func (h *httpSource) open(ctx context.Context, name, key string) (stream, error) {
	var err error
	for _, base := range h.content {
		var b *body
		b, err = h.begin(ctx, place{base, name}, transfer{part: h.parts.open(key), immutable: true})
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}
