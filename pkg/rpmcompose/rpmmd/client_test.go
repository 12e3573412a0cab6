// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
)

// smallRepo is a repository without packages.
func smallRepo() http.Handler {
	primary := []byte(`<metadata packages="0"></metadata>`)
	repomd := fmt.Appendf(nil, `<repomd><data type="primary"><checksum type="sha256">%x</checksum><location href="repodata/p.xml"/></data></repomd>`, sha256.Sum256(primary))
	mux := http.NewServeMux()
	mux.HandleFunc("/repodata/repomd.xml", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(repomd) })
	mux.HandleFunc("/repodata/p.xml", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(primary) })
	return mux
}

func load(t *testing.T, r Repo, o Options) error {
	t.Helper()
	r.ID = "r"
	_, err := Load(context.Background(), r, testutil.OpenDir(t, t.TempDir()), o)
	return err
}

// selfSigned makes a certificate that is its own authority, for both sides.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testutil.Must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	testutil.Must(t, err)
	leaf, err := x509.ParseCertificate(der)
	testutil.Must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A server that wants a client certificate is reached with the keys of the
// .repo file, and not without any one of them.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	own := selfSigned(t)
	s := httptest.NewUnstartedServer(smallRepo())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), Certificates: []tls.Certificate{own}}
	s.TLS.ClientCAs.AddCert(own.Leaf)
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		p := filepath.Join(dir, name)
		testutil.Must(t, os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return p
	}
	der, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	testutil.Must(t, err)
	cert, key := write("cert.pem", "CERTIFICATE", own.Leaf.Raw), write("key.pem", "PRIVATE KEY", der)
	text := fmt.Sprintf("[r]\nbaseurl=%s\ngpgcheck=0\nsslcacert=%s\nsslclientcert=%s\nsslclientkey=%s\n", s.URL, cert, cert, key)
	repos, err := ParseRepos("x.repo", []byte(text), nil)
	testutil.Must(t, err)
	if err := load(t, repos[0], Options{}); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Transport){
		"no certificate": func(x *Transport) { x.ClientCert = "" }, "no authority": func(x *Transport) { x.CACert = "" },
		"no such file": func(x *Transport) { x.ClientCert += "x" }, "key as authority": func(x *Transport) { x.CACert = key },
	} {
		r := repos[0]
		spoil(&r.Transport)
		if err := load(t, r, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := repos[0]
	r.Transport.CACert, r.Transport.NoVerify = "", true
	if err := load(t, r, Options{}); err != nil {
		t.Errorf("sslverify=0: %v", err)
	}
}

func TestProxyAndPassword(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if user, _, _ := r.BasicAuth(); user != "reader" || r.URL.Host != "repo.invalid" || r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		smallRepo().ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	r := Repo{BaseURLs: []string{"http://repo.invalid/"}, Transport: Transport{Proxy: proxy.URL, ProxyUser: "p", ProxyPassword: "q", User: "reader", Password: "secret"}}
	if err := load(t, r, Options{}); err != nil || asked.Load() == 0 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
	// The password is for the repository's own host only.
	l := &login{next: roundTrip(func(r *http.Request) (*http.Response, error) {
		if _, _, ok := r.BasicAuth(); ok {
			return nil, errors.New("the password was given away")
		}
		return nil, http.ErrAbortHandler
	}), hosts: map[string]bool{"repo.invalid": true}, user: "u", password: "p"}
	u, _ := url.Parse("http://other.invalid/")
	if _, err := l.RoundTrip(&http.Request{URL: u, Header: http.Header{}}); !errors.Is(err, http.ErrAbortHandler) {
		t.Error(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A run without network finds what the last one left, and says so where it does not.
func TestOffline(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("/", smallRepo())
	key := signer(t, createrepo(t))
	mux.HandleFunc("/key", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(key) })
	s := httptest.NewServer(mux)
	cache := testutil.OpenDir(t, t.TempDir())
	r := Repo{ID: "r", BaseURLs: []string{s.URL}, GPGKeys: []string{s.URL + "/key"}}
	// The keys of packages are kept as well.
	if _, err := r.Keyring(context.Background(), cache, Options{Offline: true}); !errors.Is(err, fetch.ErrOffline) {
		t.Errorf("no key in the cache: %v", err)
	}
	if _, err := r.Keyring(context.Background(), cache, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(context.Background(), r, cache, Options{Offline: true}); !errors.Is(err, fetch.ErrOffline) {
		t.Errorf("nothing in the cache: %v", err)
	}
	if _, err := Load(context.Background(), r, cache, Options{}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Load(context.Background(), r, cache, Options{Offline: true}); err != nil {
		t.Error(err)
	}
	if _, err := r.Keyring(context.Background(), cache, Options{Offline: true}); err != nil {
		t.Error(err)
	}
	if _, err := fetch.Fetch(context.Background(), cache, []fetch.Item{{URLs: []string{s.URL + "/x"},
		Checksum: fetch.Checksum{Algo: "sha1", Hex: strings.Repeat("0", 40)}}}, fetch.Options{Offline: true}); !errors.Is(err, fetch.ErrOffline) {
		t.Error(err)
	}
}

// A mirror whose repomd.xml the metalink does not name is passed over.
func TestMetalinkDigest(t *testing.T) {
	t.Parallel()
	good := httptest.NewServer(smallRepo())
	t.Cleanup(good.Close)
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<repomd/>") }))
	t.Cleanup(bad.Close)
	repomd, err := fetch.Get(context.Background(), good.URL+"/repodata/repomd.xml", 1<<20, fetch.Options{})
	testutil.Must(t, err)
	var digest string
	links := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<metalink><files><file name="repomd.xml"><verification><hash type="sha256">%s</hash></verification><resources>
			<url preference="1">%s/repodata/repomd.xml</url><url preference="100">%s/repodata/repomd.xml</url></resources></file></files></metalink>`, digest, good.URL, bad.URL)
	}))
	t.Cleanup(links.Close)
	digest = fmt.Sprintf("%x", sha256.Sum256(repomd))
	if err := load(t, Repo{Metalink: links.URL}, Options{}); err != nil {
		t.Error(err)
	}
	digest = strings.Repeat("0", 64)
	if err := load(t, Repo{Metalink: links.URL}, Options{}); !errors.Is(err, fetch.ErrChecksum) {
		t.Error(err)
	}
}
