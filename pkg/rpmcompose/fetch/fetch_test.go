// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
)

func sum(data []byte) Checksum { return Checksum{"sha256", fmt.Sprintf("%x", sha256.Sum256(data))} }

func content(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n) }

func read(t testing.TB, f File) []byte {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// server serves data under every path and counts requests; before answers first, if it wants to.
func server(t testing.TB, data []byte, before func(n int32, w http.ResponseWriter, r *http.Request) bool) (string, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil && before(n.Add(1), w, r) {
			return
		}
		if before == nil {
			n.Add(1)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(s.Close)
	return s.URL, &n
}

func TestDownloadAndCache(t *testing.T) {
	t.Parallel()
	data := content(4096)
	url, requests := server(t, data, nil)
	cache := testutil.OpenDir(t, t.TempDir())
	var mu sync.Mutex
	var last progress.Event
	o := Options{Progress: func(e progress.Event) { mu.Lock(); last = e; mu.Unlock() }}
	for range 2 {
		files, err := Fetch(context.Background(), cache, []Item{{URLs: []string{url + "/a"}, Checksum: sum(data), Size: int64(len(data))}}, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, files[0]), data) || files[0].Size != int64(len(data)) {
			t.Fatal("wrong bytes")
		}
		if last.Kind != progress.End || last.Done != 1 || last.Bytes != int64(len(data)) || last.TotalBytes != int64(len(data)) {
			t.Errorf("last event %+v", last)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestResume cuts the connection twice; every byte may be sent only once.
func TestResume(t *testing.T) {
	t.Parallel()
	data := content(64 << 10)
	var sent atomic.Int64
	var ranges []string
	url, _ := server(t, data, func(n int32, w http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range"))
		var start int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start)
		if n > 2 {
			sent.Add(int64(len(data) - start))
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-start))
		if start > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		part := data[start : start+200<<10]
		_, _ = w.Write(part)
		sent.Add(int64(len(part)))
		panic(http.ErrAbortHandler)
	})
	files, err := Fetch(context.Background(), testutil.OpenDir(t, t.TempDir()), []Item{{URLs: []string{url}, Checksum: sum(data), Size: int64(len(data))}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, files[0]), data) {
		t.Fatal("wrong bytes")
	}
	if len(ranges) != 3 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") || !strings.HasPrefix(ranges[2], "bytes=") {
		t.Errorf("ranges %q", ranges)
	}
}

// TestResumeOddServers continues a partial file with servers that cannot, or that hold another file.
func TestResumeOddServers(t *testing.T) {
	t.Parallel()
	data := content(1024)
	item := Item{Checksum: sum(data), Size: int64(len(data))}
	for name, c := range map[string]struct {
		part   []byte
		before func(n int32, w http.ResponseWriter, r *http.Request) bool
	}{
		"ignores ranges": {data[:100], func(_ int32, w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write(data); return true }},
		"refuses ranges": {data[:100], func(_ int32, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}},
		"other range": {data[:100], func(_ int32, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(data)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:10])
			return true
		}},
		"wrong start":   {[]byte("garbage"), nil},
		"too long":      {append(bytes.Clone(data), data...), nil},
		"complete":      {data, nil},
		"complete, bad": {bytes.Repeat([]byte("x"), len(data)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := server(t, data, c.before)
			cache := testutil.OpenDir(t, t.TempDir())
			part := item.Checksum.cacheName() + ".part"
			if err := cache.MkdirAll(filepath.Dir(part), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := cache.WriteFile(part, c.part, 0o644); err != nil {
				t.Fatal(err)
			}
			it := item
			it.URLs = []string{url}
			files, err := Fetch(context.Background(), cache, []Item{it}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read(t, files[0]), data) {
				t.Error("wrong bytes")
			}
			if ok, err := cache.Exists(part); ok || err != nil {
				t.Errorf("partial file is left: %v %v", ok, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	data := content(16)
	url, _ := server(t, data, func(_ int32, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	local := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(local, data, 0o600); err != nil {
		t.Fatal(err)
	}
	other := sum([]byte("other"))
	for name, c := range map[string]struct {
		item Item
		want error
	}{
		"checksum":        {Item{URLs: []string{url}, Checksum: other}, ErrChecksum},
		"size":            {Item{URLs: []string{url}, Checksum: sum(data), Size: 3}, ErrChecksum},
		"missing":         {Item{URLs: []string{url + "/missing"}, Checksum: other}, ErrNotFound},
		"local checksum":  {Item{URLs: []string{local}, Checksum: other}, ErrChecksum},
		"local size":      {Item{URLs: []string{"file://" + local}, Checksum: sum(data), Size: 3}, ErrChecksum},
		"local missing":   {Item{URLs: []string{local + "x"}, Checksum: other}, ErrNotFound},
		"local directory": {Item{URLs: []string{filepath.Dir(local)}, Checksum: other}, ErrBadURL},
		"scheme":          {Item{URLs: []string{"ftp://example.org/x"}, Checksum: other}, ErrBadURL},
		"no address":      {Item{Checksum: other}, ErrBadURL},
		"bad digest":      {Item{URLs: []string{url}, Checksum: Checksum{"sha256", "../../etc"}}, ErrChecksum},
		"bad algorithm":   {Item{URLs: []string{url}, Checksum: Checksum{"crc32", "00"}}, errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := testutil.OpenDir(t, t.TempDir())
			c.item.Name = "the item"
			_, err := Fetch(context.Background(), cache, []Item{c.item}, Options{Retries: -1})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "the item") {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.item.Checksum == other {
				if ok, _ := cache.Exists(other.cacheName()); ok {
					t.Error("a wrong file has its final name")
				}
			}
		})
	}
}

func TestRetryThenMirror(t *testing.T) {
	t.Parallel()
	data := content(16)
	flaky, n := server(t, data, func(n int32, w http.ResponseWriter, _ *http.Request) bool {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n == 1
	})
	if _, err := Fetch(context.Background(), testutil.OpenDir(t, t.TempDir()), []Item{{URLs: []string{flaky}, Checksum: sum(data)}}, Options{}); err != nil || n.Load() != 2 {
		t.Errorf("%d requests, %v", n.Load(), err)
	}
	dead, _ := server(t, nil, func(_ int32, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	good, _ := server(t, data, nil)
	if _, err := Fetch(context.Background(), testutil.OpenDir(t, t.TempDir()), []Item{{URLs: []string{dead, good}, Checksum: sum(data)}}, Options{}); err != nil {
		t.Error(err)
	}
}

// TestParallel lets two callers fetch the same items, some twice, at the same time.
func TestParallel(t *testing.T) {
	t.Parallel()
	data := content(512)
	var active, most atomic.Int32
	url, _ := server(t, data, func(_ int32, w http.ResponseWriter, r *http.Request) bool {
		now := active.Add(1)
		defer active.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		_, _ = fmt.Fprintf(w, "%s %s", r.URL.Path, data)
		return true
	})
	var items []Item
	for i := range 24 {
		p := fmt.Sprintf("/%d", i%20)
		body := []byte(fmt.Sprintf("%s %s", p, data))
		items = append(items, Item{URLs: []string{url + p}, Checksum: sum(body), Size: int64(len(body))})
	}
	cache := testutil.OpenDir(t, t.TempDir())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			files, err := Fetch(context.Background(), cache, items, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			for i, f := range files {
				if got := sum(read(t, f)); got != items[i].Checksum {
					t.Errorf("item %d is %v", i, got)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > 8 {
		t.Errorf("%d downloads at once", most.Load())
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	url, _ := server(t, nil, func(_ int32, _ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	if _, err := Fetch(ctx, testutil.OpenDir(t, t.TempDir()), []Item{{URLs: []string{url}, Checksum: sum(nil)}}, Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLocalFilesStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	data := content(16)
	local := filepath.Join(t.TempDir(), "with space")
	if err := os.WriteFile(local, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cache := testutil.OpenDir(t, t.TempDir())
	files, err := Fetch(context.Background(), cache, []Item{{URLs: []string{"file://" + strings.ReplaceAll(local, " ", "%20")}, Checksum: sum(data), Size: int64(len(data))}}, Options{})
	if err != nil || files[0].Path() != local || !bytes.Equal(read(t, files[0]), data) {
		t.Fatalf("%v %v", files, err)
	}
	if entries, err := cache.ReadDir("."); err != nil || len(entries) != 0 {
		t.Errorf("cache holds %v, %v", entries, err)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ base, name, want string }{
		{"http://h/r", "Packages/a b+c.rpm", "http://h/r/Packages/a%20b+c.rpm"},
		{"http://h/r/", "a~1.rpm", "http://h/r/a~1.rpm"},
		{"file:///srv/r", "a.rpm", "file:///srv/r/a.rpm"},
		{"/srv/r", "x/../a.rpm", "/srv/r/a.rpm"},
		{"http://h/r", "a-%{x}.rpm", "http://h/r/a-%25%7Bx%7D.rpm"},
		{"http://h/r", "a%2Bb.rpm", "http://h/r/a+b.rpm"},
		{"file:///srv/r", "a%2Bb.rpm", "file:///srv/r/a%252Bb.rpm"},
		{"https://u:p@h/r/?token=x", "a.rpm", "https://u:p@h/r/a.rpm?token=x"},
		{"http://h/r", "../a.rpm", ""},
		{"http://h/r", "x/%2e%2e/../../a.rpm", ""},
		{"http://h/r", "x/../../a.rpm", ""},
		{"http://h/r", "/etc/passwd", ""},
		{"http://h/r", "", ""},
		{"http://h/r", "..", ""},
		{"relative", "a.rpm", ""},
	} {
		got, err := Join(c.base, c.name)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrBadURL) {
			t.Errorf("Join(%q, %q) = %q, %v", c.base, c.name, got, err)
		}
	}
}

func TestGetIsBounded(t *testing.T) {
	t.Parallel()
	url, _ := server(t, content(100), nil)
	if _, err := Get(context.Background(), url, 100, Options{}); err == nil {
		t.Error("too much was read")
	}
	if data, err := Get(context.Background(), url, 1600, Options{}); err != nil || len(data) != 1600 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// An offline run names all that it lacks, within reason, and nothing that is local.
func TestOfflineNamesAll(t *testing.T) {
	t.Parallel()
	cache := testutil.OpenDir(t, t.TempDir())
	var items []Item
	for i := range 12 {
		items = append(items, Item{URLs: []string{"http://h.invalid/x"}, Name: fmt.Sprint("p", i), Checksum: Checksum{Algo: "sha1", Hex: strings.Repeat("0", 40)}})
	}
	items[3].URLs = []string{"/nowhere"}
	_, err := Fetch(t.Context(), cache, items, Options{Offline: true})
	if want := "fetch p0, p1, p2, p4, p5, p6, p7, p8, p9, p10 and 1 more: not in the cache: "; !errors.Is(err, ErrOffline) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := Fetch(t.Context(), cache, items[3:4], Options{Offline: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a local file: %v", err)
	}
}
