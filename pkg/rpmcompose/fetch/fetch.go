// SPDX-License-Identifier: Apache-2.0

// Package fetch brings files with known checksums onto this machine: over HTTP into a cache keyed by
// checksum, in parallel and resumable, or read in place where they are local. Nothing unverified ever has
// its final name in the cache.
//
// The cache holds ALGORITHM/FIRST TWO DIGITS/DIGEST for finished files and a name ending in ".part" beside
// it for an unfinished one, which a later call continues.
package fetch

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"

	// The hash functions that repositories name.
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Conditions of a fetch.
var (
	// ErrChecksum is wrapped where received bytes do not match the promised size or checksum.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrNotFound is wrapped where no source has the file.
	ErrNotFound = errors.New("not found")
	// ErrOffline is wrapped where a file would have to be downloaded although that is forbidden.
	ErrOffline = errors.New("network use is switched off")
	// ErrBadURL is wrapped for addresses that are not supported.
	ErrBadURL = errors.New("unsupported address")
)

// Checksum is a digest with its algorithm.
type Checksum struct {
	Algo string // "sha256", "sha512", "sha384", "sha224" or "sha1"
	Hex  string // lower case
}

// String gives "ALGO:HEX".
func (c Checksum) String() string { return c.Algo + ":" + c.Hex }

// Hash gives the hash function.
func (c Checksum) Hash() (crypto.Hash, error) {
	var h crypto.Hash
	switch c.Algo {
	case "sha256":
		h = crypto.SHA256
	case "sha512":
		h = crypto.SHA512
	case "sha384":
		h = crypto.SHA384
	case "sha224":
		h = crypto.SHA224
	case "sha", "sha1":
		h = crypto.SHA1
	default:
		return 0, fmt.Errorf("checksum algorithm %q: %w", c.Algo, errors.ErrUnsupported)
	}
	if raw, err := hex.DecodeString(c.Hex); err != nil || len(raw) != h.Size() {
		return 0, fmt.Errorf("checksum %q is not %s: %w", c.Hex, c.Algo, ErrChecksum)
	}
	return h, nil
}

// cacheName gives the place in the cache. The caller has checked the checksum by Hash.
func (c Checksum) cacheName() string {
	return c.Algo + "/" + strings.ToLower(c.Hex[:2]) + "/" + strings.ToLower(c.Hex)
}

// Item is one file to bring.
type Item struct {
	// URLs are tried in turn: http, https, file, or an absolute path.
	URLs     []string
	Checksum Checksum
	// Size in bytes; 0 if unknown. Known, it must be met exactly.
	Size int64
	// Name stands in messages and progress events; the first URL if empty.
	Name string
	// Client is used for this item instead of that of the options.
	Client *http.Client
}

func (i Item) name() string {
	if i.Name != "" || len(i.URLs) == 0 {
		return i.Name
	}
	return i.URLs[0]
}

// File is a verified local file.
type File struct {
	Checksum Checksum
	Size     int64
	dir      *fsx.Dir
	name     string // in dir, or an absolute path if dir is nil
}

// Open opens the file for reading. The cache directory must still be open.
func (f File) Open() (*os.File, error) {
	if f.dir == nil {
		return os.Open(f.name)
	}
	return f.dir.Open(f.name)
}

// Path gives an absolute or relative path for messages.
func (f File) Path() string {
	if f.dir == nil {
		return f.name
	}
	return filepath.Join(f.dir.Path(), f.name)
}

// Options tune a fetch. The zero value is useful.
type Options struct {
	Client *http.Client // default: NewClient()
	// Workers bounds parallel downloads; default 4.
	Workers int
	// Retries is how often a download is tried again after a fault of the connection or the server;
	// default 3, negative for none.
	Retries  int
	Log      *slog.Logger
	Progress progress.Func
	// MaxSize bounds a download whose size is unknown; default 4 GiB.
	MaxSize int64
	// Offline uses what is in the cache or local, and fails for the rest.
	Offline bool
}

func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = NewClient()
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Retries == 0 {
		o.Retries = 3
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 4 << 30
	}
	return o
}

// NewClient gives an HTTP client whose waits are bounded, except for the length of a body.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 60 * time.Second
	t.MaxIdleConnsPerHost = 8
	// Repository files are compressed already, and a length that changes breaks resuming.
	t.DisableCompression = true
	return &http.Client{Transport: t}
}

// Fetch brings all items and gives the verified files in the same order. The first error cancels the rest;
// what was received so far stays in the cache and is continued by the next call.
//
// An error names the item and wraps [ErrChecksum], [ErrNotFound], [ErrBadURL] or the cause.
func Fetch(ctx context.Context, cache *fsx.Dir, items []Item, o Options) ([]File, error) {
	o = o.withDefaults()
	if o.Offline {
		if err := allHere(cache, items); err != nil {
			return nil, err
		}
	}
	files := make([]File, len(items))
	tally := newTally(items, o.Progress)
	tally.begin()
	defer tally.end()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Workers)
	for i, item := range items {
		g.Go(func() error {
			f, err := one(ctx, cache, item, o, tally)
			if err != nil {
				return fmt.Errorf("fetch %s: %w", item.name(), err)
			}
			files[i] = f
			tally.done(item)
			return nil
		})
	}
	return files, g.Wait()
}

// maxNamed bounds the files that an error names.
const maxNamed = 10

// allHere tells all at once what an offline run lacks.
func allHere(cache *fsx.Dir, items []Item) error {
	var lacking []string
	for _, item := range items {
		_, ok, err := cached(cache, item)
		if err != nil {
			return fmt.Errorf("fetch %s: %w", item.name(), err)
		}
		local := slices.ContainsFunc(item.URLs, func(u string) bool { _, ok, err := LocalPath(u); return ok || err != nil })
		if !ok && !local && len(item.URLs) > 0 {
			lacking = append(lacking, item.name())
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	names := strings.Join(lacking[:min(len(lacking), maxNamed)], ", ")
	if more := len(lacking) - maxNamed; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("fetch %s: not in the cache: %w", names, ErrOffline)
}

// one brings one item: from the cache, in place, or by download.
func one(ctx context.Context, cache *fsx.Dir, item Item, o Options, t *tally) (File, error) {
	if err := ctx.Err(); err != nil {
		return File{}, err
	}
	if _, err := item.Checksum.Hash(); err != nil {
		return File{}, err
	}
	if len(item.URLs) == 0 {
		return File{}, fmt.Errorf("no address: %w", ErrBadURL)
	}
	if f, ok, err := cached(cache, item); err != nil || ok {
		t.add(f.Size)
		return f, err
	}
	var last error
	for _, u := range item.URLs {
		f, err := from(ctx, cache, item, u, o, t)
		if err == nil {
			return f, nil
		}
		if ctx.Err() != nil {
			return File{}, ctx.Err()
		}
		o.Log.Debug("fetch failed", "url", u, "error", err)
		last = fmt.Errorf("%s: %w", u, err)
	}
	return File{}, last
}

// Find gives the file of an item that need not be fetched, without reading it: one of
// the cache, whose bytes were verified once, or a local one, whose bytes were not.
func Find(cache *fsx.Dir, item Item) (f File, ok bool, err error) {
	if _, err := item.Checksum.Hash(); err != nil {
		return File{}, false, nil // which is for Fetch to say
	}
	if f, ok, err = cached(cache, item); err != nil || ok {
		return f, ok, err
	}
	for _, u := range item.URLs {
		p, local, err := LocalPath(u)
		if err != nil || !local {
			return File{}, false, nil // the first one is what Fetch asks
		}
		st, err := os.Stat(p)
		if err != nil || !st.Mode().IsRegular() || item.Size > 0 && st.Size() != item.Size {
			continue
		}
		return File{Checksum: item.Checksum, Size: st.Size(), name: p}, true, nil
	}
	return File{}, false, nil
}

func from(ctx context.Context, cache *fsx.Dir, item Item, u string, o Options, t *tally) (File, error) {
	if p, ok, err := LocalPath(u); err != nil {
		return File{}, err
	} else if ok {
		return inPlace(ctx, item, p, t)
	}
	if o.Offline {
		return File{}, ErrOffline
	}
	if item.Client != nil {
		o.Client = item.Client
	}
	return download(ctx, cache, item, u, o, t)
}

// cached finds a finished file. Its bytes were verified before it got its name; the size is compared again
// to notice a cache that was tampered with or cut off by a full disk.
func cached(cache *fsx.Dir, item Item) (File, bool, error) {
	name := item.Checksum.cacheName()
	st, err := cache.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return File{}, false, nil
	}
	if err != nil {
		return File{}, false, err
	}
	if !st.IsRegular() || item.Size > 0 && st.Size != item.Size {
		return File{}, false, cache.Remove(name)
	}
	return File{Checksum: item.Checksum, Size: st.Size, dir: cache, name: name}, true, nil
}

// inPlace verifies a local file where it is.
func inPlace(ctx context.Context, item Item, p string, t *tally) (File, error) {
	f, err := os.Open(p)
	if errors.Is(err, os.ErrNotExist) {
		return File{}, ErrNotFound
	}
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return File{}, fmt.Errorf("not a regular file: %w", errors.Join(ErrBadURL, err))
	}
	v, err := newVerifier(item)
	if err != nil {
		return File{}, err
	}
	if _, err := io.Copy(io.MultiWriter(v, t), &ctxReader{ctx, f}); err != nil {
		return File{}, err
	}
	if err := v.check(); err != nil {
		return File{}, err
	}
	return File{Checksum: item.Checksum, Size: v.size, name: p}, nil
}

// ctxReader stops a long copy when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
