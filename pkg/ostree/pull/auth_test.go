// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	bigint "math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestCookies exchanges the jar with the real tool and sends what fits.
func TestCookies(t *testing.T) {
	t.Parallel()
	real := testutil.Tool(t, "ostree")
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 2})
	s := serve(t, src)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("Cookie") == "foo=bar; baz=badger" {
			return false
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	})
	dst := newRepo(t, ostree.ModeArchive)
	where := dst.Dir().Path()
	pull := func() error {
		_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
		return err
	}
	if pull() == nil {
		t.Error("pulled without cookies")
	}
	testutil.Must(t, AddRemote(dst, s.remote(), AddOptions{}))
	testutil.Must(t, AddCookie(dst, "o", "127.0.0.1", "/", "foo", "bar"))
	testutil.Run(t, real, "remote", "--repo="+where, "add-cookie", "o", "127.0.0.1", "/", "baz", "badger")
	testutil.Must(t, AddCookie(dst, "o", "example.com", "/", "other", "host"))
	testutil.Must(t, AddCookie(dst, "o", "127.0.0.1", "/elsewhere", "other", "path"))
	testutil.Must(t, pull())
	st, err := os.Stat(filepath.Join(where, "o.cookies.txt"))
	testutil.Must(t, err)
	if st.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read the cookies: %v", st.Mode())
	}
	testutil.Must(t, DeleteCookie(dst, "o", "127.0.0.1", "/", "baz"))
	if pull() == nil {
		t.Error("pulled with one cookie")
	}
	if err := DeleteCookie(dst, "o", "127.0.0.1", "/", "baz"); !errors.Is(err, ErrNoCookie) {
		t.Errorf("delete again: %v", err)
	}
	list, err := Cookies(dst, "o")
	testutil.Must(t, err)
	if len(list) != 3 || list[0].Name != "foo" || list[0].Value != "bar" {
		t.Errorf("cookies: %+v", list)
	}
	for _, bad := range [][4]string{{"a b", "/", "n", "v"}, {"d", "/", "n=", "v"}, {"d", "/", "n", "v\n"}, {"#d", "/", "n", "v"}, {"d", "", "n", "v"}} {
		if err := AddCookie(dst, "o", bad[0], bad[1], bad[2], bad[3]); !errors.Is(err, ostree.ErrInvalid) {
			t.Errorf("accepted cookie %q: %v", bad, err)
		}
	}
	if err := AddCookie(dst, "../x", "d", "/", "n", "v"); !errors.Is(err, ostree.ErrInvalid) {
		t.Errorf("accepted a remote outside: %v", err)
	}
}

func TestCookieMatch(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, tc := range []struct {
		line, url string
		want      bool
	}{
		{"a.org\tFALSE\t/\tFALSE\t0\tn\tv", "http://a.org", true},
		{"a.org\tFALSE\t/\tFALSE\t0\tn\tv", "http://A.ORG:81/x", true},
		{"a.org\tFALSE\t/\tFALSE\t0\tn\tv", "http://b.a.org/", false},
		{".a.org\tTRUE\t/\tFALSE\t0\tn\tv", "http://b.a.org/", true},
		{".a.org\tTRUE\t/\tFALSE\t0\tn\tv", "http://ba.org/", false},
		{"a.org\tFALSE\t/x\tFALSE\t0\tn\tv", "http://a.org/x/y", true},
		{"a.org\tFALSE\t/x\tFALSE\t0\tn\tv", "http://a.org/xy", false},
		{"a.org\tFALSE\t/\tTRUE\t0\tn\tv", "http://a.org/", false},
		{"a.org\tFALSE\t/\tTRUE\t0\tn\tv", "https://a.org/", true},
		{"a.org\tFALSE\t/\tFALSE\t999\tn\tv", "http://a.org/", false},
		{"a.org\tFALSE\t/\tFALSE\t1001\tn\tv", "http://a.org/", true},
	} {
		u, err := url.Parse(tc.url)
		testutil.Must(t, err)
		list := ParseCookies([]byte(tc.line))
		if len(list) != 1 || list[0].matches(u, now) != tc.want {
			t.Errorf("%q for %s: %v", tc.line, tc.url, list)
		}
	}
}

func FuzzCookies(f *testing.F) {
	f.Add([]byte("# Netscape\n#HttpOnly_a.org\tTRUE\t/\tFALSE\t12\tn\tv\r\n"))
	f.Add([]byte("127.0.0.1\tFALSE\t/\tFALSE\t2553338000\tfoo\tbar\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		for _, c := range ParseCookies(data) {
			again := ParseCookies([]byte(c.String()))
			if len(again) != 1 || again[0] != c {
				t.Fatalf("%+v reads back as %+v", c, again)
			}
			if strings.ContainsAny(c.Name+c.Value, "\r\n;") {
				t.Fatalf("accepted %+v", c)
			}
		}
	})
}

// TestHeaders sends what is asked for, and the name and password of the URL.
func TestHeaders(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 2})
	s := serve(t, src)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		user, pass, _ := r.BasicAuth()
		if user == "joe" && pass == "p w" && r.Header.Get("X-A") == "b" && r.UserAgent() == "base more" {
			return false
		}
		http.Error(w, "no", http.StatusUnauthorized)
		return true
	})
	remote := s.remote()
	remote.URL = strings.Replace(s.URL, "http://", "http://joe:p%20w@", 1)
	net := quick()
	net.Header, net.UserAgent, net.AppendUserAgent = map[string]string{"X-A": "b"}, "base", "more"
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: net})
	testutil.Must(t, err)
	remote.URL = strings.Replace(s.URL, "http://", "http://joe:secret@", 1)
	_, err = Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: net})
	if err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "secret") {
		t.Errorf("wrong password: %v", err)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 2})
	var through atomic.Int64
	files := http.FileServer(http.Dir(src.Dir().Path()))
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "repo.invalid" {
			through.Add(1)
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	remote := Remote{Name: "o", URL: "http://repo.invalid/", Proxy: proxy.URL, NoGPGVerify: true}
	res, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: quick()})
	testutil.Must(t, err)
	if int(through.Load()) != res.Requests {
		t.Errorf("%d of %d requests went through the proxy", through.Load(), res.Requests)
	}
}

// TestClientCertificate pulls from a server that wants one.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 2})
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testutil.Must(t, err)
	tmpl := &x509.Certificate{SerialNumber: bigint.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	testutil.Must(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	testutil.Must(t, err)
	testutil.Must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	testutil.Must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))

	srv := httptest.NewUnstartedServer(http.FileServer(http.Dir(src.Dir().Path())))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	remote := Remote{Name: "o", URL: srv.URL, NoGPGVerify: true, TLSPermissive: true}
	net := quick()
	net.Retries = -1
	if _, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: net}); err == nil {
		t.Error("pulled without a certificate")
	}
	remote.TLSClientCertPath, remote.TLSClientKeyPath = certFile, keyFile
	_, err = Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: net})
	testutil.Must(t, err)
}

// TestNetworkErrorsAreFinal: no second try where the caller wants none, but a
// server that is busy is asked again.
func TestNetworkErrorsAreFinal(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 2})
	s := serve(t, src)
	broken := func(w http.ResponseWriter, r *http.Request, n int) bool {
		if strings.HasSuffix(r.URL.Path, ".filez") && n == 1 {
			// After the answer has begun: before it the HTTP client itself tries again.
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(make([]byte, 10))
			return true
		}
		return false
	}
	s.misbehave(broken)
	net := quick()
	net.FailOnNetworkErrors = true
	if _, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, Network: net}); err == nil {
		t.Error("a broken connection was tried again")
	}
	s.forget()
	s.misbehave(func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
		}
		return n == 1
	})
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, Network: net})
	testutil.Must(t, err)
}

// TestTrivialHTTPD pulls from the real project's own test server, which cuts every
// file that is not asked for by range, and answers a good deal with errors.
func TestTrivialHTTPD(t *testing.T) {
	t.Parallel()
	httpd := "/usr/libexec/libostree/ostree-trivial-httpd"
	if _, err := os.Stat(httpd); err != nil {
		testutil.Tool(t, "ostree-trivial-httpd")
	}
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 20})
	for _, option := range []string{"--force-range-requests", "--random-500s=50", "--random-408s=50"} {
		port := filepath.Join(t.TempDir(), "port")
		cmd := exec.Command(httpd, "--port-file="+port, option, src.Dir().Path())
		testutil.Must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		var at []byte
		waitFor(t, func() bool {
			at, _ = os.ReadFile(port)
			return strings.HasSuffix(string(at), "\n")
		})
		remote := Remote{Name: "o", URL: "http://127.0.0.1:" + strings.TrimSpace(string(at)), NoGPGVerify: true}
		net := quick()
		net.Retries = 50
		dst := newRepo(t, ostree.ModeArchive)
		_, err := Pull(t.Context(), dst, remote, Request{Refs: []string{ref}, Network: net})
		testutil.Must(t, err)
		if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
			t.Errorf("%s: %s", option, diff)
		}
	}
}
