// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Buffers of one request; many run at a time, and memory is bounded.
const (
	readBuffer   = 64 << 10
	streamWindow = 512 << 10
	connWindow   = 4 << 20
)

func newTransport(r Remote, n Network) (http.RoundTripper, error) {
	dialer := &net.Dialer{Timeout: n.ConnectTimeout, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   n.ConnectTimeout,
		ResponseHeaderTimeout: n.headerTimeout(),
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConns:          4 * n.Outstanding,
		MaxIdleConnsPerHost:   n.Outstanding,
		MaxConnsPerHost:       n.Outstanding,
		DisableCompression:    true, // objects are compressed already, and ranges need the plain bytes
		ForceAttemptHTTP2:     !r.NoHTTP2,
		ReadBufferSize:        readBuffer,
		HTTP2:                 &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connWindow},
	}
	if r.NoHTTP2 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	if r.Proxy != "" {
		proxy, err := url.Parse(r.Proxy)
		if err != nil {
			return nil, fmt.Errorf("parse proxy %q: %w", clip(r.Proxy), errors.Unwrap(err))
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	cfg, err := tlsConfig(r)
	t.TLSClientConfig = cfg
	return newPlainTransport(t, dialer), err
}

func tlsConfig(r Remote) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.TLSPermissive}
	if r.TLSCAPath != "" {
		pem, err := os.ReadFile(r.TLSCAPath)
		if err != nil {
			return nil, fmt.Errorf("read tls-ca-path: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls-ca-path %s: no certificate in it", r.TLSCAPath)
		}
	}
	if r.TLSClientCertPath != "" {
		cert, err := tls.LoadX509KeyPair(r.TLSClientCertPath, r.TLSClientKeyPath)
		if err != nil {
			return nil, fmt.Errorf("load client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// checkRedirect bounds redirects and never leaves TLS.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d", errRedirect, maxRedirects)
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s", errRedirect, req.URL.Redacted())
	}
	return nil
}

var errRedirect = errors.New("redirect refused")
