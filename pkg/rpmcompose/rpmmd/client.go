// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
)

// Transport is how a repository is reached: the keys sslverify, sslcacert, sslclientcert, sslclientkey, proxy,
// proxy_username, proxy_password, username and password of a .repo file. The zero value is an ordinary client.
type Transport struct {
	NoVerify                      bool // sslverify=0
	CACert, ClientCert, ClientKey string
	// Proxy is an address, or "_none_" for no proxy whatever the environment says.
	Proxy, ProxyUser, ProxyPassword string
	User, Password                  string
}

// Client gives the HTTP client of a repository, o.Client where the repository asks for nothing special.
// Certificates are read now; an error names their file.
func (r *Repo) Client(o Options) (*http.Client, error) {
	if r.Transport == (Transport{}) {
		return o.Client, nil
	}
	c := fetch.NewClient()
	t := c.Transport.(*http.Transport)
	var err error
	if t.TLSClientConfig, err = r.Transport.tls(); err != nil {
		return nil, fmt.Errorf("repository %s: %w", r.ID, err)
	}
	if t.Proxy, err = r.Transport.proxy(t.Proxy); err != nil {
		return nil, fmt.Errorf("repository %s: %w", r.ID, err)
	}
	if r.Transport.User != "" {
		hosts := map[string]bool{}
		for _, a := range append([]string{r.Metalink, r.Mirrorlist}, r.BaseURLs...) {
			if u, err := url.Parse(a); err == nil {
				hosts[u.Host] = true
			}
		}
		c.Transport = &login{t, hosts, r.Transport.User, r.Transport.Password}
	}
	return c, nil
}

func (t Transport) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.NoVerify}
	if t.CACert != "" {
		pem, err := os.ReadFile(t.CACert)
		if err != nil {
			return nil, fmt.Errorf("read sslcacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read sslcacert %s: no certificate in it: %w", t.CACert, ErrSyntax)
		}
	}
	if t.ClientCert == "" {
		return c, nil
	}
	key := t.ClientKey
	if key == "" {
		key = t.ClientCert // both may stand in one file
	}
	pair, err := tls.LoadX509KeyPair(t.ClientCert, key)
	if err != nil {
		return nil, fmt.Errorf("read sslclientcert %s: %w", t.ClientCert, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

type proxyFunc = func(*http.Request) (*url.URL, error)

func (t Transport) proxy(env proxyFunc) (proxyFunc, error) {
	switch t.Proxy {
	case "":
		return env, nil
	case "_none_":
		return nil, nil
	}
	u, err := url.Parse(t.Proxy)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("proxy %q is not an address: %w", t.Proxy, ErrSyntax)
	}
	if t.ProxyUser != "" {
		u.User = url.UserPassword(t.ProxyUser, t.ProxyPassword)
	}
	return http.ProxyURL(u), nil
}

// login adds the password, but only towards the repository's own hosts: a mirror elsewhere must not learn it.
type login struct {
	next           http.RoundTripper
	hosts          map[string]bool
	user, password string
}

func (l *login) RoundTrip(req *http.Request) (*http.Response, error) {
	if l.hosts[req.URL.Host] {
		req = req.Clone(req.Context())
		req.SetBasicAuth(l.user, l.password)
	}
	return l.next.RoundTrip(req)
}

// get reads a small file such as repomd.xml, see smallFile.
func (m *Metadata) get(ctx context.Context, address string, max int64) ([]byte, error) {
	return smallFile(ctx, m.cache, address, max, m.fetchOptions())
}

// smallFile reads a file of unknown checksum. What came over the network is kept, so that an offline run can
// start from it; signatures are checked again then. Without a cache nothing is kept.
func smallFile(ctx context.Context, cache *fsx.Dir, address string, max int64, o fetch.Options) ([]byte, error) {
	_, local, err := fetch.LocalPath(address)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	if local || cache == nil {
		return fetch.Get(ctx, address, max, o)
	}
	sum := sha256.Sum256([]byte(address))
	name := "small/" + hex.EncodeToString(sum[:])
	if o.Offline {
		data, err := cache.ReadFile(name, max)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("fetch %s: not in the cache: %w", address, fetch.ErrOffline)
		}
		return data, err
	}
	data, err := fetch.Get(ctx, address, max, o)
	if err != nil {
		return nil, err
	}
	if err := cache.MkdirAll("small", 0o755); err != nil {
		return nil, err
	}
	if err := cache.WriteFileAtomic(name, data, 0o644); err != nil {
		return nil, fmt.Errorf("keep %s: %w", address, err)
	}
	return data, nil
}

// set reads one key of a .repo file; ok is false for keys of others.
func (t *Transport) set(key, value string) (ok bool, err error) {
	switch key {
	case "sslverify":
		var verify bool
		verify, err = parseBool(value)
		t.NoVerify = !verify
	case "sslcacert":
		t.CACert = value
	case "sslclientcert":
		t.ClientCert = value
	case "sslclientkey":
		t.ClientKey = value
	case "proxy":
		if t.Proxy = value; strings.EqualFold(value, "none") || value == "" {
			t.Proxy = "_none_"
		}
	case "proxy_username":
		t.ProxyUser = value
	case "proxy_password":
		t.ProxyPassword = value
	case "username":
		t.User = value
	case "password":
		t.Password = value
	default:
		return false, nil
	}
	return true, err
}
