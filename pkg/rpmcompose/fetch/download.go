// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
)

// LocalPath gives the path of a file address or an absolute path; ok is false for http and https. Any other
// form is an error that wraps [ErrBadURL].
func LocalPath(address string) (p string, ok bool, err error) {
	if strings.HasPrefix(address, "/") {
		return filepath.Clean(address), true, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrBadURL, err)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return "", false, fmt.Errorf("%q has no host: %w", address, ErrBadURL)
		}
		return "", false, nil
	case "file":
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
			return "", false, fmt.Errorf("%q: %w", address, ErrBadURL)
		}
		return filepath.Clean(u.Path), true, nil
	}
	return "", false, fmt.Errorf("%q: %w", address, ErrBadURL)
}

// Join gives the address of a file below a base address. The relative name comes from repository metadata:
// one that is absolute or climbs out is refused with [ErrBadURL]. Below an HTTP address a name may be
// percent-encoded, as some servers write it.
func Join(base, name string) (string, error) {
	clean, err := cleanName(name)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(base, "/") {
		return filepath.Join(base, clean), nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "" {
		return "", fmt.Errorf("base %q: %w", base, ErrBadURL)
	}
	if plain, err := url.PathUnescape(name); err == nil && u.Scheme != "file" {
		if clean, err = cleanName(plain); err != nil {
			return "", err
		}
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+"/"+clean, ""
	return u.String(), nil
}

func cleanName(name string) (string, error) {
	clean := path.Clean(name)
	if name == "" || strings.HasPrefix(name, "/") || strings.ContainsAny(name, "\x00\\") || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("file name %q: %w", name, ErrBadURL)
	}
	return clean, nil
}

// Get reads a small file of unknown checksum, such as repomd.xml, from a local or an HTTP address. A
// missing file gives an error that wraps [ErrNotFound]; more than max bytes are an error.
func Get(ctx context.Context, address string, max int64, o Options) ([]byte, error) {
	o = o.withDefaults()
	p, local, err := LocalPath(address)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	var data []byte
	if local {
		data, err = readLocal(p, max)
	} else {
		err = retry(ctx, o, func() error {
			resp, err := request(ctx, o.Client, address, 0)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			data, err = readLimited(resp.Body, max)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	return data, nil
}

func readLocal(p string, max int64) ([]byte, error) {
	f, err := os.Open(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, max)
}

func readLimited(r io.Reader, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(data)) > max {
		return nil, fmt.Errorf("more than %d bytes: %w", max, ErrChecksum)
	}
	return data, err
}

// permanent marks an error that trying again cannot change.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// retry runs fn until it works, up to o.Retries more times, with growing pauses.
func retry(ctx context.Context, o Options, fn func() error) error {
	pause := 250 * time.Millisecond
	for n := 0; ; n++ {
		err := fn()
		var final permanent
		if err == nil || errors.As(err, &final) || n >= o.Retries {
			return err
		}
		o.Log.Debug("download interrupted, trying again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// request asks for a file from an offset on and judges the status.
func request(ctx context.Context, c *http.Client, address string, offset int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, permanent{fmt.Errorf("%w: %w", ErrBadURL, err)}
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := c.Do(req)
	var named *url.Error
	if errors.As(err, &named) {
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			return nil, permanent{named.Err}
		}
		return nil, named.Err // the caller names the address
	}
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent && offset > 0:
		return resp, nil
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		err = permanent{fmt.Errorf("status %d: %w", resp.StatusCode, ErrNotFound)}
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		err = errRange
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		err = fmt.Errorf("status %s", resp.Status)
	default:
		err = permanent{fmt.Errorf("status %s", resp.Status)}
	}
	resp.Body.Close()
	return nil, err
}

// errRange says that the server refused to continue a partial file.
var errRange = errors.New("range refused")

// lockWait bounds how long a download waits for another process that writes to the same part of the cache.
const lockWait = time.Hour

// download receives an item into the cache, continuing a partial file.
func download(ctx context.Context, cache *fsx.Dir, item Item, u string, o Options, t *tally) (File, error) {
	name := item.Checksum.cacheName()
	if err := cache.MkdirAll(path.Dir(name), 0o755); err != nil {
		return File{}, err
	}
	// Two writers in one partial file would spoil it: another process, or the same item listed twice.
	lock, err := cache.Lock(ctx, path.Dir(name)+"/.lock", false, lockWait)
	if err != nil {
		return File{}, err
	}
	defer lock.Unlock()
	if f, ok, err := cached(cache, item); err != nil || ok {
		t.add(f.Size)
		return f, err
	}
	part := name + ".part"
	var size int64
	err = retry(ctx, o, func() error {
		size, err = attempt(ctx, cache, part, item, u, o, t)
		return err
	})
	if err != nil {
		return File{}, err
	}
	// The bytes must be on disk before the name promises them.
	if err := cache.FsyncName(part); err != nil {
		return File{}, err
	}
	if err := cache.Rename(part, cache, name); err != nil {
		return File{}, err
	}
	return File{Checksum: item.Checksum, Size: size, dir: cache, name: name}, nil
}

// partial is an unfinished file of the cache, hashed as far as it is there.
type partial struct {
	f *os.File
	v *verifier
	t *tally
}

func openPartial(cache *fsx.Dir, name string, item Item, t *tally) (*partial, error) {
	v, err := newVerifier(item)
	if err != nil {
		return nil, permanent{err}
	}
	f, err := cache.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, permanent{err}
	}
	p := &partial{f, v, t}
	if _, err := io.Copy(v, f); err != nil {
		return nil, permanent{errors.Join(err, f.Close())}
	}
	t.add(v.size)
	return p, nil
}

// complete says whether nothing is left to receive.
func (p *partial) complete() bool {
	return p.v.item.Size > 0 && p.v.size == p.v.item.Size && p.v.check() == nil
}

// restart empties the file.
func (p *partial) restart() error {
	p.t.add(-p.v.size)
	p.v.reset()
	if err := p.f.Truncate(0); err != nil {
		return permanent{err}
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return permanent{err}
	}
	return nil
}

// Write adds received bytes.
func (p *partial) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	_, _ = p.v.Write(b[:n])
	p.t.add(int64(n))
	if err != nil {
		return n, permanent{err} // a full disk does not empty itself
	}
	return n, nil
}

// ask requests what is missing. A server that cannot continue makes the file start again.
func (p *partial) ask(ctx context.Context, u string, o Options) (*http.Response, error) {
	if p.v.item.Size > 0 && p.v.size >= p.v.item.Size {
		if err := p.restart(); err != nil {
			return nil, err
		}
	}
	have := p.v.size
	resp, err := request(ctx, o.Client, u, have)
	if errors.Is(err, errRange) || err == nil && resp.StatusCode == http.StatusPartialContent && !rangeStartsAt(resp, have) {
		if resp != nil {
			_ = resp.Body.Close()
		}
		if err := p.restart(); err != nil {
			return nil, err
		}
		return request(ctx, o.Client, u, 0)
	}
	if err == nil && resp.StatusCode == http.StatusOK && have > 0 {
		if err := p.restart(); err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
	}
	return resp, err
}

// attempt makes one request. What arrived before an interruption stays for the next one; a complete file
// that does not verify is thrown away.
func attempt(ctx context.Context, cache *fsx.Dir, name string, item Item, u string, o Options, t *tally) (int64, error) {
	p, err := openPartial(cache, name, item, t)
	if err != nil {
		return 0, err
	}
	size, err := p.receive(ctx, u, o)
	if cerr := p.f.Close(); err == nil && cerr != nil {
		err = permanent{cerr}
	}
	if err != nil {
		t.add(-p.v.size)
		return 0, err
	}
	return size, nil
}

func (p *partial) receive(ctx context.Context, u string, o Options) (int64, error) {
	if p.complete() {
		return p.v.size, nil
	}
	resp, err := p.ask(ctx, u, o)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	limit := o.MaxSize
	if p.v.item.Size > 0 {
		limit = p.v.item.Size
	}
	start := p.v.size
	if _, err := io.Copy(p, io.LimitReader(resp.Body, limit-start+1)); err != nil {
		return 0, err
	}
	if p.v.item.Size > 0 && p.v.size < p.v.item.Size {
		return 0, fmt.Errorf("connection ended after %d of %d bytes: %w", p.v.size, p.v.item.Size, io.ErrUnexpectedEOF)
	}
	if err := p.v.check(); err != nil {
		// A fresh file that does not verify will not get better; a continued one may have had a bad start.
		if start == 0 {
			err = permanent{err}
		}
		return 0, errors.Join(err, p.restart())
	}
	return p.v.size, nil
}

func rangeStartsAt(resp *http.Response, offset int64) bool {
	var start int64
	_, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &start)
	return err == nil && start == offset
}

// verifier hashes and counts what is written to it.
type verifier struct {
	item Item
	sum  hash.Hash
	size int64
}

func newVerifier(item Item) (*verifier, error) {
	h, err := item.Checksum.Hash()
	if err != nil {
		return nil, err
	}
	return &verifier{item: item, sum: h.New()}, nil
}

func (v *verifier) Write(b []byte) (int, error) {
	v.size += int64(len(b))
	return v.sum.Write(b)
}

func (v *verifier) reset() {
	v.sum.Reset()
	v.size = 0
}

func (v *verifier) check() error {
	if v.item.Size > 0 && v.size != v.item.Size {
		return fmt.Errorf("%d bytes, %d promised: %w", v.size, v.item.Size, ErrChecksum)
	}
	if got := fmt.Sprintf("%x", v.sum.Sum(nil)); !strings.EqualFold(got, v.item.Checksum.Hex) {
		return fmt.Errorf("%s %s, %s promised: %w", v.item.Checksum.Algo, got, v.item.Checksum.Hex, ErrChecksum)
	}
	return nil
}

// tally adds up the progress of all downloads.
type tally struct {
	mu     sync.Mutex
	report progress.Func
	ev     progress.Event
	last   time.Time
}

func newTally(items []Item, report progress.Func) *tally {
	t := &tally{report: report, ev: progress.Event{Task: "fetch", Total: int64(len(items))}}
	for _, i := range items {
		t.ev.TotalBytes += i.Size
	}
	return t
}

func (t *tally) emit(kind progress.Kind, text string) {
	t.ev.Kind, t.ev.Text = kind, text
	t.report.Emit(t.ev)
}

func (t *tally) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.emit(progress.Begin, "")
}

func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.emit(progress.End, "")
}

func (t *tally) done(item Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ev.Done++
	t.emit(progress.Update, item.name())
}

func (t *tally) add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ev.Bytes += n
	if now := time.Now(); now.Sub(t.last) > 100*time.Millisecond {
		t.last = now
		t.emit(progress.Update, "")
	}
}

// Write counts received bytes.
func (t *tally) Write(b []byte) (int, error) {
	t.add(int64(len(b)))
	return len(b), nil
}
