// SPDX-License-Identifier: Apache-2.0

package composed

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	commitName = "objects/ab/cdef00000000000000000000000000000000000000000000000000000000ab"
	body       = "0123456789"
)

// fakeRepo lays out files as a repository has them; their content is arbitrary.
func fakeRepo(t *testing.T) (string, *httptest.Server) {
	t.Helper()
	root := t.TempDir()
	repo := filepath.Join(root, "repo")
	for _, name := range []string{
		"config", "summary", "summary.sig", commitName + ".commit", commitName + ".commitmeta",
		commitName + ".file", "refs/heads/os/stable", "refs/mirrors/org.x/os", "refs/remotes/o/private",
		"deltas/Ab/cd-ef_/superblock", "delta-indexes/Ab/c.index", "extensions/x/y", ".lock",
		"extensions/.hidden", "state/x.commitpartial", "tmp/x", "upd.trustedkeys.gpg",
	} {
		write(t, filepath.Join(repo, name), body)
	}
	write(t, filepath.Join(root, "secret"), "secret")
	for link, target := range map[string]string{
		"refs/heads/alias":   "os/stable",
		"refs/heads/escape":  "../../../secret",
		"refs/heads/abs":     filepath.Join(root, "secret"),
		"refs/heads/up":      "../../upd.trustedkeys.gpg",
		"extensions/link":    "../../secret",
		"extensions/dirlink": "../..",
	} {
		if err := os.Symlink(target, filepath.Join(repo, link)); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(Handler(testutil.OpenDir(t, repo), nil))
	t.Cleanup(srv.Close)
	return repo, srv
}

// get requests a raw path, which no client library has cleaned, with headers
// given as pairs.
func get(t *testing.T, srv *httptest.Server, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(data)
}

func TestPublicPaths(t *testing.T) {
	t.Parallel()
	_, srv := fakeRepo(t)
	for _, path := range []string{
		"/config", "/summary", "/summary.sig", "/" + commitName + ".commit",
		"/" + commitName + ".commitmeta", "/refs/heads/os/stable", "/refs/heads/alias",
		"/refs/mirrors/org.x/os", "/deltas/Ab/cd-ef_/superblock", "/delta-indexes/Ab/c.index", "/extensions/x/y",
	} {
		res, got := get(t, srv, "GET", path)
		if res.StatusCode != http.StatusOK || got != body {
			t.Errorf("%s: %d %q", path, res.StatusCode, got)
		}
		if res.Header.Get("ETag") == "" || res.Header.Get("Last-Modified") == "" {
			t.Errorf("%s: no validators in %v", path, res.Header)
		}
		if res, got = get(t, srv, "HEAD", path); res.ContentLength != int64(len(body)) || got != "" {
			t.Errorf("HEAD %s: length %d, body %q", path, res.ContentLength, got)
		}
	}
}

func TestPrivatePaths(t *testing.T) {
	t.Parallel()
	_, srv := fakeRepo(t)
	for _, path := range []string{
		"/", "/objects", "/objects/", "/objects/ab/", "/refs/heads", "/refs/heads/os", "/refs/heads/os/",
		"/" + commitName + ".file", "/refs/remotes/o/private", "/.lock", "/extensions/.hidden",
		"/state/x.commitpartial", "/tmp/x", "/upd.trustedkeys.gpg", "/../secret", "/extensions/../../secret",
		"/extensions/%2e%2e/%2e%2e/secret", "/extensions/..%2f..%2fsecret", "/refs/heads/escape", "/refs/heads/abs",
		"/refs/heads/up", "/extensions/link", "/extensions/dirlink/secret", "/config/x", "/summary/",
		"/extensions/x%00", "/nothing", "/objects/ab/cdef.commit", "/refs/heads/..", "/extensions/x",
	} {
		res, got := get(t, srv, "GET", path)
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d %q, want 404", path, res.StatusCode, got)
		}
	}
	if res, err := srv.Client().Get(srv.URL + "//config"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("//config: %v %v", res, err)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if res, _ := get(t, srv, method, "/config"); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") == "" {
			t.Errorf("%s: %d", method, res.StatusCode)
		}
	}
}

func TestCaching(t *testing.T) {
	t.Parallel()
	repo, srv := fakeRepo(t)
	for path, immutable := range map[string]bool{
		"/" + commitName + ".commit": true, "/" + commitName + ".commitmeta": false, "/summary": false,
		"/summary.sig": false, "/config": false, "/refs/heads/os/stable": false, "/deltas/Ab/cd-ef_/superblock": false,
	} {
		res, _ := get(t, srv, "GET", path)
		cc := res.Header.Get("Cache-Control")
		if strings.Contains(cc, "immutable") != immutable || !immutable && cc != "no-cache" {
			t.Errorf("%s: Cache-Control %q", path, cc)
		}
		again, got := get(t, srv, "GET", path, "If-None-Match", res.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || got != "" {
			t.Errorf("%s: revalidation by tag: %d", path, again.StatusCode)
		}
		again, _ = get(t, srv, "GET", path, "If-Modified-Since", res.Header.Get("Last-Modified"))
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: revalidation by date: %d", path, again.StatusCode)
		}
	}
	// A new summary of the same size and time must still be seen.
	before, _ := get(t, srv, "GET", "/summary")
	name := filepath.Join(repo, "summary")
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name+".new", strings.Repeat("x", len(body)))
	if err := errors.Join(os.Chtimes(name+".new", st.ModTime(), st.ModTime()), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
	after, got := get(t, srv, "GET", "/summary", "If-None-Match", before.Header.Get("ETag"))
	if after.StatusCode != http.StatusOK || got != strings.Repeat("x", len(body)) {
		t.Errorf("replaced summary: %d %q", after.StatusCode, got)
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	_, srv := fakeRepo(t)
	path := "/" + commitName + ".commit"
	for _, tc := range []struct {
		header, want string
		status       int
	}{
		{"bytes=2-4", "234", 206}, {"bytes=7-", "789", 206}, {"bytes=-2", "89", 206}, {"bytes=20-", "", 416},
	} {
		res, got := get(t, srv, "GET", path, "Range", tc.header)
		if res.StatusCode != tc.status || tc.status == 206 && got != tc.want {
			t.Errorf("%s: %d %q", tc.header, res.StatusCode, got)
		}
	}
	res, _ := get(t, srv, "GET", path)
	if res, got := get(t, srv, "GET", path, "Range", "bytes=5-", "If-Range", res.Header.Get("ETag")); res.StatusCode != 206 || got != "56789" {
		t.Errorf("If-Range with the right tag: %d %q", res.StatusCode, got)
	}
	if res, got := get(t, srv, "GET", path, "Range", "bytes=5-", "If-Range", `"other"`); res.StatusCode != 200 || got != body {
		t.Errorf("If-Range with another tag: %d %q", res.StatusCode, got)
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	repo, _ := fakeRepo(t)
	var buf bytes.Buffer
	srv := httptest.NewServer(Handler(testutil.OpenDir(t, repo), slog.New(slog.NewTextHandler(&buf, nil))))
	get(t, srv, "GET", "/config")
	get(t, srv, "GET", "/nothing")
	srv.Close() // the last line is written after the client has its answer
	for _, want := range []string{"path=/config status=200 bytes=10", "path=/nothing status=404"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, buf.String())
		}
	}
}

func TestServeEndsGracefully(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h, nil) }()
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		data, _ := io.ReadAll(res.Body)
		answer <- string(data)
	}()
	<-entered
	cancel()
	time.AfterFunc(50*time.Millisecond, func() { close(leave) })
	if got := <-answer; got != "done" {
		t.Errorf("running request got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestOSTreePull lets the real client pull, mirror and read the summary.
func TestOSTreePull(t *testing.T) {
	t.Parallel()
	ostree := testutil.Tool(t, "ostree")
	base := t.TempDir()
	src, tree, dst := filepath.Join(base, "src"), filepath.Join(base, "tree"), filepath.Join(base, "dst")
	write(t, filepath.Join(tree, "usr/bin/x"), strings.Repeat("text ", 1000))
	write(t, filepath.Join(tree, "usr/lib/y"), "y")
	testutil.Run(t, ostree, "init", "--repo="+src, "--mode=archive")
	rev := testutil.Run(t, ostree, "commit", "--repo="+src, "-b", "os/stable", "--bind-ref=os/alias", "--tree=dir="+tree)
	testutil.Run(t, ostree, "refs", "--repo="+src, "--alias", "--create=os/alias", "os/stable")
	srv := httptest.NewServer(Handler(testutil.OpenDir(t, src), nil))
	t.Cleanup(srv.Close)
	testutil.Run(t, ostree, "init", "--repo="+dst, "--mode=bare-user")
	testutil.Run(t, ostree, "remote", "--repo="+dst, "add", "--no-gpg-verify", "o", srv.URL+"/")
	testutil.Run(t, ostree, "pull", "--repo="+dst, "o", "os/stable")
	testutil.Run(t, ostree, "pull", "--repo="+dst, "o", "os/alias")
	testutil.Run(t, ostree, "summary", "--repo="+src, "-u")
	testutil.Run(t, ostree, "fsck", "--repo="+dst)
	if got := testutil.Run(t, ostree, "rev-parse", "--repo="+dst, "o:os/stable"); got != rev {
		t.Errorf("pulled %s, want %s", got, rev)
	}
	if got := testutil.Run(t, ostree, "remote", "--repo="+dst, "refs", "o"); got != "o:os/alias\no:os/stable" {
		t.Errorf("remote refs: %q", got)
	}
	testutil.Run(t, ostree, "pull", "--repo="+dst, "--mirror", "o")
}
