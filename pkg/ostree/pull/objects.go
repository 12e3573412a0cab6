// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// Objects fetches single objects of a remote behind web servers: the source that
// Repo.Repair asks. What it gives is not verified.
type Objects struct{ src *httpSource }

// OpenObjects finds the servers of a remote. The remote's cookies are those kept in
// repo. log may be nil.
func OpenObjects(ctx context.Context, repo *ostree.Repo, r Remote, n Network, log *slog.Logger) (*Objects, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o := httpOptions{net: n.or(r.network), meter: newMeter(nil, 0), log: log}
	if r.Name != "" {
		var err error
		if o.cookies, err = Cookies(repo, r.Name); err != nil {
			return nil, err
		}
	}
	src, err := newHTTP(ctx, r, o)
	if err != nil {
		return nil, fmt.Errorf("open remote %s: %w", clip(r.Name), err)
	}
	return &Objects{src}, nil
}

// Close ends idle connections.
func (o *Objects) Close() error {
	o.src.close()
	return nil
}

// FetchObject opens an object as the server stores it: the .filez stream of a file,
// the bytes of anything else. An error wraps ostree.ErrNotFound where no server has
// it.
func (o *Objects) FetchObject(ctx context.Context, n ostree.ObjectName) (io.ReadCloser, error) {
	rc, err := o.fetch(ctx, n)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: %w", ostree.ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch object %s: %w", n, err)
	}
	return rc, nil
}

func (o *Objects) fetch(ctx context.Context, n ostree.ObjectName) (io.ReadCloser, error) {
	if n.Type.IsMeta() {
		raw, err := o.src.metadata(ctx, n, maxObject)
		return io.NopCloser(bytes.NewReader(raw)), err
	}
	s, err := o.src.open(ctx, ostree.LoosePath(n), "")
	if err != nil {
		return nil, err
	}
	return &objectBody{s: s}, nil
}

// errUnread ends a transfer that nobody reads to its end.
var errUnread = errors.New("not read to the end")

// objectBody closes a stream with the reason why reading stopped.
type objectBody struct {
	s    stream
	err  error
	once sync.Once
}

func (b *objectBody) Read(p []byte) (int, error) {
	n, err := b.s.Read(p)
	b.err = err
	return n, err
}

func (b *objectBody) Close() error {
	b.once.Do(func() {
		switch {
		case errors.Is(b.err, io.EOF):
			b.s.finish(nil)
		case b.err != nil:
			b.s.finish(b.err)
		default:
			b.s.finish(errUnread)
		}
	})
	return nil
}
