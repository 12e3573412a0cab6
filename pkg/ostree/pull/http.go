// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/version"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

const (
	maxSummary   = gvariant.MaxSize
	maxRefFile   = 4 << 10
	maxRedirects = 10
)

// httpSource is an archive repository behind a web server.
type httpSource struct {
	client      *http.Client
	base        *url.URL
	contentBase *url.URL
	net         Network
	meter       *meter
	log         *slog.Logger

	sumOnce sync.Mutex
	sum     *summary // nil after loading: the remote has none
	loaded  bool
}

func newHTTP(r Remote, n Network, m *meter, log *slog.Logger) (*httpSource, error) {
	n.setDefaults()
	base, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	content := base
	if r.ContentURL != "" {
		if content, err = url.Parse(r.ContentURL); err != nil {
			return nil, err
		}
		if content.Scheme != "http" && content.Scheme != "https" {
			return nil, fmt.Errorf("%w: contenturl %q", ErrUnsupported, clip(r.ContentURL))
		}
	}
	transport, err := newTransport(r, n)
	if err != nil {
		return nil, err
	}
	return &httpSource{
		client:      &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		base:        base,
		contentBase: content,
		net:         n,
		meter:       m,
		log:         log,
	}, nil
}

func (n *Network) setDefaults() {
	if n.Outstanding <= 0 {
		n.Outstanding = defaultOutstanding
	}
	if n.Retries == 0 {
		n.Retries = 5
	}
	if n.RetryDelay <= 0 {
		n.RetryDelay = 500 * time.Millisecond
	}
	n.RetryDelay = min(n.RetryDelay, maxRetryWait)
	if n.ConnectTimeout <= 0 {
		n.ConnectTimeout = 30 * time.Second
	}
	if n.LowSpeedBytes <= 0 {
		n.LowSpeedBytes = 1000
	}
	if n.LowSpeedTime <= 0 {
		n.LowSpeedTime = 30 * time.Second
	}
	if n.UserAgent == "" {
		n.UserAgent = "hostctl/" + version.String()
	}
}

func newTransport(r Remote, n Network) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: n.ConnectTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   n.ConnectTimeout,
		ResponseHeaderTimeout: max(n.LowSpeedTime, n.ConnectTimeout),
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConns:          n.Outstanding,
		MaxIdleConnsPerHost:   n.Outstanding,
		MaxConnsPerHost:       n.Outstanding,
		DisableCompression:    true, // objects are compressed already, and ranges need the plain bytes
		ForceAttemptHTTP2:     !r.NoHTTP2,
		ReadBufferSize:        64 << 10,
	}
	if r.NoHTTP2 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	if r.Proxy != "" {
		proxy, err := url.Parse(r.Proxy)
		if err != nil {
			return nil, fmt.Errorf("parse proxy %q: %w", clip(r.Proxy), err)
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	cfg, err := tlsConfig(r)
	t.TLSClientConfig = cfg
	return t, err
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

func (h *httpSource) close() { h.client.CloseIdleConnections() }

// get reads a small file; max bounds it in bytes.
func (h *httpSource) get(ctx context.Context, base *url.URL, name string, max int64) ([]byte, error) {
	u := base.JoinPath(name)
	b, err := h.request(ctx, u)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.size > max {
		return nil, fmt.Errorf("%s: %d bytes, more than the allowed %d", u.Redacted(), b.size, max)
	}
	data, err := io.ReadAll(io.LimitReader(b, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s: more than the allowed %d bytes", u.Redacted(), max)
	}
	return data, nil
}

// getOptional is get for files that a repository may lack: nil without error.
// Some object stores answer 403 for what is not there.
func (h *httpSource) getOptional(ctx context.Context, name string, max int64) ([]byte, bool, error) {
	data, err := h.get(ctx, h.base, name, max)
	var status *StatusError
	if errors.As(err, &status) && (errors.Is(err, ErrNotFound) || status.Status == http.StatusForbidden) {
		return nil, false, nil
	}
	return data, err == nil, err
}

// loadSummary reads the summary once; nil if the remote has none.
func (h *httpSource) loadSummary(ctx context.Context) (*summary, error) {
	h.sumOnce.Lock()
	defer h.sumOnce.Unlock()
	if h.loaded {
		return h.sum, nil
	}
	data, ok, err := h.getOptional(ctx, "summary", maxSummary)
	if err != nil {
		return nil, fmt.Errorf("read summary: %w", err)
	}
	if ok {
		s, err := parseSummary(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.base.JoinPath("summary").Redacted(), err)
		}
		h.sum = &s
	}
	h.loaded = true
	return h.sum, nil
}

// checkMode makes sure that the remote is an archive: only its files are what
// this package can receive. The summary tells the mode; else the config does.
func (h *httpSource) checkMode(ctx context.Context) error {
	s, err := h.loadSummary(ctx)
	if err != nil {
		return err
	}
	mode := ""
	if s != nil {
		mode, _ = s.meta.Str("ostree.summary.mode")
	}
	if mode == "" {
		if mode, err = h.configMode(ctx); err != nil {
			return err
		}
	}
	if m, err := ostree.ParseMode(mode); err != nil || m != ostree.ModeArchive {
		return fmt.Errorf("%w: %s is a repository of mode %q, not an archive", ErrUnsupported, h.base.Redacted(), clip(mode))
	}
	return nil
}

func (h *httpSource) configMode(ctx context.Context) (string, error) {
	data, err := h.get(ctx, h.base, "config", keyfile.MaxSize)
	if err != nil {
		return "", fmt.Errorf("read config: %w", err)
	}
	cfg, err := keyfile.Parse(data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", h.base.JoinPath("config").Redacted(), err)
	}
	return cfg.StringOr("core", "mode", "bare")
}

func (h *httpSource) refs(ctx context.Context, want []string) (map[string]ostree.Checksum, error) {
	s, err := h.loadSummary(ctx)
	if err != nil {
		return nil, err
	}
	if s != nil {
		return s.pick(want, h.base.JoinPath("summary").Redacted())
	}
	if want == nil {
		return nil, fmt.Errorf("list refs: %s: %w", h.base.JoinPath("summary").Redacted(), ErrNotFound)
	}
	out := map[string]ostree.Checksum{}
	for _, ref := range want {
		data, err := h.get(ctx, h.base, "refs/heads/"+ref, maxRefFile)
		if err != nil {
			return nil, fmt.Errorf("resolve ref %s: %w", ref, err)
		}
		c, err := ostree.ParseChecksum(strings.TrimRight(string(data), "\n"))
		if err != nil {
			return nil, fmt.Errorf("resolve ref %s: %w", ref, err)
		}
		out[ref] = c
	}
	return out, nil
}

func (h *httpSource) metadata(ctx context.Context, n ostree.ObjectName) ([]byte, error) {
	if n.Type != ostree.TypeCommitMeta {
		return h.get(ctx, h.base, ostree.LoosePath(n), ostree.MaxMetadataSize)
	}
	data, ok, err := h.getOptional(ctx, ostree.LoosePath(n), ostree.MaxMetadataSize)
	if err == nil && !ok {
		err = ErrNotFound
	}
	return data, err
}

func (h *httpSource) content(ctx context.Context, t *ostree.Txn, c ostree.Checksum) (int64, error) {
	u := h.contentBase.JoinPath(ostree.LoosePath(ostree.ObjectName{Checksum: c, Type: ostree.TypeFile}))
	b, err := h.request(ctx, u)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	if err := t.WriteArchived(ctx, c, b); err != nil {
		return b.off, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	return b.off, nil
}
