// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startHTTPD runs the server in the background, as scripts do, over the folder
// "www" of a new side, and gives its address.
func startHTTPD(t *testing.T, options ...string) (*side, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &side{dir: t.TempDir(), program: self, env: []string{asProgram + "=1"}}
	s.write(t, "www/objects/file", strings.Repeat("0123456789", 1000))
	s.write(t, "www/plain", "text")
	args := append([]string{"trivial-httpd", "--autoexit", "--daemonize", "-p", "port", "--log-file=log"}, options...)
	s.must(t, append(args, "www")...)
	t.Cleanup(func() {
		if err := os.RemoveAll(filepath.Join(s.dir, "www")); err != nil {
			t.Error(err)
		}
	})
	return s, "http://127.0.0.1:" + strings.TrimSpace(s.content(t, "port"))
}

func get(t *testing.T, url string, header ...string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		if name, value, ok := strings.Cut(h, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res, string(data), err
}

func TestHTTPDServes(t *testing.T) {
	t.Parallel()
	s, base := startHTTPD(t)
	if err := os.Symlink("/etc", filepath.Join(s.dir, "www/etc")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(s.dir, "www/plain"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, header string
		status       int
		body         string
	}{
		{"/objects/file", "Range: bytes=5-9", 206, "56789"},
		{"/objects/file", "Range: bytes=99999-", 416, "*"},
		{"/nosuch", "", 404, ""},
		{"/plain", "", 403, ""}, // not readable for everyone
		{"/objects", "", 301, "*"},
		{"/objects/", "", 200, "*"},
		{"/etc/passwd", "", 200, "*"}, // links lead out, as tests want it
		{"/x/../../y", "", 403, ""},
	} {
		res, body, err := get(t, base+c.path, c.header)
		if err != nil || res.StatusCode != c.status || c.body != "*" && body != c.body {
			t.Errorf("GET %s %s = %d %q, %v; want %d %q", c.path, c.header, res.StatusCode, body, err, c.status, c.body)
		}
	}
	res, _, _ := get(t, base+"/objects/file")
	if again, _, _ := get(t, base+"/objects/file", "If-None-Match: "+res.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("status %d with the ETag %q", again.StatusCode, res.Header.Get("ETag"))
	}
}

func TestHTTPDRefuses(t *testing.T) {
	t.Parallel()
	_, base := startHTTPD(t, "--require-basic-auth", "--expected-cookies=a=b", "--expected-header=X-Test=yes", "--force-range-requests")
	const auth = "Authorization: Basic Zm9vdXNlcjpiYXJwdw==" // foouser:barpw
	for _, c := range []struct {
		header string
		status int
	}{
		{"", 401},
		{auth, 403},
		{auth + "|Cookie: a=c|X-Test: yes", 403},
		{auth + "|Cookie: a=b", 403},
		{auth + "|Cookie: x=y; a=b|X-Test: yes|Range: bytes=0-0", 206},
	} {
		res, _, err := get(t, base+"/objects/file", strings.Split(c.header, "|")...)
		if err != nil || res.StatusCode != c.status {
			t.Errorf("with %q: %d, %v; want %d", c.header, res.StatusCode, err, c.status)
		}
	}
	_, body, err := get(t, base+"/objects/file", auth, "Cookie: a=b", "X-Test: yes")
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(body) != 5000 {
		t.Errorf("without a range: %d bytes, %v; want half of 10000 and an unexpected end", len(body), err)
	}
}

func TestHTTPDErrors(t *testing.T) {
	t.Parallel()
	_, base := startHTTPD(t, "--random-500s=99", "--random-500s-max=3")
	failed := 0
	for range 100 {
		if res, _, _ := get(t, base+"/plain"); res.StatusCode == http.StatusInternalServerError {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d errors, want 3", failed)
	}
}

func TestHTTPDEndsWithItsFolder(t *testing.T) {
	t.Parallel()
	s, base := startHTTPD(t)
	if err := os.RemoveAll(filepath.Join(s.dir, "www")); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if exec.CommandContext(t.Context(), "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%s", base[strings.LastIndex(base, ":")+1:])).Run() != nil {
			return
		}
		time.Sleep(watchInterval / 2)
	}
	t.Error("the server runs on")
}
