// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// Remote is where to pull from. The zero value of every switch is the safe side.
type Remote struct {
	Name string // "" for a one-off location: refs are then written without a prefix
	// URL is an http, https or file URL, an absolute path, or mirrorlist=URL of a
	// text file that lists such http and https URLs.
	URL        string
	Metalink   string   // URL of a metalink file that tells where the summary is; instead of URL
	ContentURL string   // where file objects and deltas are; "": URL. Also mirrorlist=URL
	Branches   []string // refs to pull when none are named

	NoGPGVerify       bool // gpg-verify=false
	GPGVerifySummary  bool
	SignVerify        bool // sign-verify is not false
	SignVerifySummary bool

	TLSPermissive     bool // accept any certificate
	TLSCAPath         string
	TLSClientCertPath string
	TLSClientKeyPath  string
	NoHTTP2           bool   // http2=false
	Proxy             string // "": from the environment
	CollectionID      string
	UnconfiguredState string // text telling what the administrator must do first
	CustomBackend     string // name of a program that pulls instead: nothing works here

	network Network // what the configuration says of transfers
	options map[string]string
}

// Option gives any key of the remote's configuration as it is written there,
// escapes included; ok is false where it is absent.
func (r Remote) Option(key string) (raw string, ok bool) {
	raw, ok = r.options[key]
	return raw, ok
}

// remoteReader collects the first error of a series of look-ups. The first
// configuration that has a key decides.
type remoteReader struct {
	chain []*keyfile.File
	group string
	err   error
}

// has gives the configuration that has a key, nil for none.
func (r *remoteReader) has(key string) *keyfile.File {
	for _, cfg := range r.chain {
		if _, ok := cfg.Get(r.group, key); ok {
			return cfg
		}
	}
	return nil
}

func (r *remoteReader) str(key string) string {
	cfg := r.has(key)
	if cfg == nil {
		return ""
	}
	v, err := cfg.GetString(r.group, key)
	r.err = errors.Join(r.err, err)
	return v
}

func (r *remoteReader) bool(key string, def bool) bool {
	cfg := r.has(key)
	if cfg == nil {
		return def
	}
	v, err := cfg.GetBool(r.group, key)
	r.err = errors.Join(r.err, err)
	return v
}

func (r *remoteReader) list(key string) []string {
	cfg := r.has(key)
	if cfg == nil {
		return nil
	}
	v, err := cfg.GetStrings(r.group, key)
	r.err = errors.Join(r.err, err)
	return v
}

// enabled reads sign-verify: a boolean, or the list of types that must verify.
func (r *remoteReader) enabled(key string) bool {
	cfg := r.has(key)
	if cfg == nil {
		return false
	}
	on, err := cfg.GetBool(r.group, key)
	return err != nil || on
}

func (r *remoteReader) all() map[string]string {
	out := map[string]string{}
	for _, cfg := range r.chain {
		for _, key := range cfg.Keys(r.group) {
			if _, ok := out[key]; !ok {
				out[key], _ = cfg.Get(r.group, key)
			}
		}
	}
	return out
}

// parseRemote reads a remote; the first of the files takes precedence.
func parseRemote(chain []*keyfile.File, name string) (Remote, error) {
	c := &remoteReader{chain: chain, group: groupOf(name)}
	r := Remote{
		Name:              name,
		URL:               c.str("url"),
		Metalink:          c.str("metalink"),
		ContentURL:        c.str("contenturl"),
		Branches:          c.list("branches"),
		NoGPGVerify:       !c.bool("gpg-verify", true),
		GPGVerifySummary:  c.bool("gpg-verify-summary", false),
		SignVerify:        c.enabled("sign-verify"),
		SignVerifySummary: c.enabled("sign-verify-summary"),
		TLSPermissive:     c.bool("tls-permissive", false),
		TLSCAPath:         c.str("tls-ca-path"),
		TLSClientCertPath: c.str("tls-client-cert-path"),
		TLSClientKeyPath:  c.str("tls-client-key-path"),
		NoHTTP2:           !c.bool("http2", true),
		Proxy:             c.str("proxy"),
		CollectionID:      c.str("collection-id"),
		UnconfiguredState: c.str("unconfigured-state"),
		CustomBackend:     c.str("custom-backend"),
		options:           c.all(),
		network:           c.network(),
	}
	return r, c.err
}

// checkNew tells whether a remote can be written down at all.
func (r Remote) checkNew() error {
	if !validName(r.Name) {
		return sayf(ostree.ErrInvalid, "Invalid remote name %s", clip(r.Name))
	}
	if r.URL == "" && r.Metalink == "" && r.CustomBackend == "" {
		return fmt.Errorf("%w: no url", ostree.ErrInvalid)
	}
	for _, b := range r.Branches {
		if err := ostree.CheckRef(b); err != nil {
			return err
		}
	}
	return nil
}

// check tells whether a pull from the remote can work at all.
func (r Remote) check() error {
	switch {
	case r.Name != "" && !validName(r.Name):
		return sayf(ostree.ErrInvalid, "Invalid remote name %s", clip(r.Name))
	case r.UnconfiguredState != "":
		return sayf(ErrUnconfigured, "remote unconfigured-state: %s", r.UnconfiguredState)
	case r.CustomBackend != "":
		return sayf(ErrUnsupported, "Cannot fetch via libostree - remote '%s' uses custom backend '%s'", r.Name, clip(r.CustomBackend))
	case r.URL == "" && r.Metalink == "":
		return sayf(ostree.ErrInvalid, `No "url" option in remote "%s"`, r.Name)
	case (r.TLSClientCertPath == "") != (r.TLSClientKeyPath == ""):
		return sayf(ostree.ErrInvalid, `Remote "%s" must specify both "tls-client-cert-path" and "tls-client-key-path"`, r.Name)
	}
	for _, b := range r.Branches {
		if err := ostree.CheckRef(b); err != nil {
			return err
		}
	}
	return nil
}

// describe names the remote in messages, without passwords.
func (r Remote) describe() string {
	where := r.URL
	if r.Metalink != "" {
		where = r.Metalink
	}
	if u, err := url.Parse(where); err == nil {
		where = u.Redacted()
	}
	if r.Name == "" {
		return clip(where)
	}
	return r.Name + " (" + clip(where) + ")"
}

// local tells whether the remote is a directory, and which.
func (r Remote) local() (path string, ok bool, err error) {
	if r.Metalink != "" || strings.HasPrefix(r.URL, mirrorlistPrefix) {
		return "", false, nil
	}
	return localPath(r.URL)
}

// localPath tells whether a location is a directory, and which. Others than
// directories and web addresses are refused.
func localPath(where string) (path string, ok bool, err error) {
	if strings.HasPrefix(where, "/") {
		return where, true, nil
	}
	u, err := url.Parse(where)
	if err != nil {
		return "", false, fmt.Errorf("parse url %q: %w", clip(where), errors.Unwrap(err))
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return "", false, fmt.Errorf("%w: url %q has no host", ostree.ErrInvalid, clip(where))
		}
		return "", false, nil
	case "file":
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
			return "", false, fmt.Errorf("%w: url %q", ostree.ErrInvalid, clip(where))
		}
		return u.Path, true, nil
	}
	return "", false, sayf(ErrUnsupported, "Invalid URI scheme in %s; only http, https and file are supported", clip(where))
}

// writeRemote writes what differs from the defaults.
func writeRemote(cfg *keyfile.File, group string, r Remote, set [][2]string) error {
	err := cfg.AddGroup(group)
	for _, kv := range []struct{ key, value string }{{"url", r.URL}, {"metalink", r.Metalink}} {
		if kv.value != "" {
			err = errors.Join(err, cfg.SetString(group, kv.key, kv.value))
		}
	}
	if len(r.Branches) > 0 {
		err = errors.Join(err, cfg.SetStrings(group, "branches", r.Branches))
	}
	for _, kv := range []struct{ key, value string }{
		{"contenturl", r.ContentURL}, {"custom-backend", r.CustomBackend},
		{"collection-id", r.CollectionID}, {"proxy", r.Proxy}, {"tls-ca-path", r.TLSCAPath},
		{"tls-client-cert-path", r.TLSClientCertPath}, {"tls-client-key-path", r.TLSClientKeyPath},
		{"unconfigured-state", r.UnconfiguredState},
	} {
		if kv.value != "" {
			err = errors.Join(err, cfg.SetString(group, kv.key, kv.value))
		}
	}
	for _, kv := range []struct {
		key       string
		on, value bool
	}{
		{"gpg-verify", r.NoGPGVerify, false}, {"gpg-verify-summary", r.GPGVerifySummary, true},
		{"sign-verify", r.SignVerify, true}, {"sign-verify-summary", r.SignVerifySummary, true},
		{"tls-permissive", r.TLSPermissive, true}, {"http2", r.NoHTTP2, false},
	} {
		if kv.on {
			err = errors.Join(err, cfg.SetBool(group, kv.key, kv.value))
		}
	}
	for _, kv := range set {
		err = errors.Join(err, cfg.Set(group, kv[0], kv[1]))
	}
	return err
}
