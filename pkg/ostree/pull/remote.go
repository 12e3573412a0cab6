// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// Remote is where to pull from. The zero value of every switch is the safe side.
type Remote struct {
	Name       string   // "" for a one-off location
	URL        string   // http, https or file URL, or an absolute path
	ContentURL string   // where file objects are; "": URL
	Branches   []string // refs to pull when none are named

	NoGPGVerify       bool // gpg-verify=false
	GPGVerifySummary  bool
	SignVerify        bool // sign-verify is not false
	SignVerifySummary bool

	TLSPermissive      bool // accept any certificate
	TLSCAPath          string
	TLSClientCertPath  string
	TLSClientKeyPath   string
	NoHTTP2            bool   // http2=false
	Proxy              string // "": from the environment
	CollectionID       string
	UnconfiguredState  string // text telling what the administrator must do first
	unsupportedFeature string
}

// ErrRemoteExists reports that AddRemote met a remote of that name.
var ErrRemoteExists = errors.New("remote exists")

// ErrNoRemote reports a name that the configuration does not have.
var ErrNoRemote = errors.New("no such remote")

func groupOf(name string) string { return `remote "` + name + `"` }

// validName tells whether a remote may have the name: one component of a ref.
func validName(name string) bool {
	return !strings.Contains(name, "/") && ostree.CheckRef(name) == nil
}

// LoadRemote reads a remote from the configuration file of repo, as it is on
// disk now. Errors: ErrNoRemote, or a value that cannot be read.
func LoadRemote(repo *ostree.Repo, name string) (Remote, error) {
	cfg, err := readConfig(repo)
	if err != nil {
		return Remote{}, fmt.Errorf("load remote %s: %w", clip(name), err)
	}
	r, err := parseRemote(cfg, name)
	if err != nil {
		return Remote{}, fmt.Errorf("load remote %s: %w", clip(name), err)
	}
	return r, nil
}

// ListRemotes names the configured remotes in byte order.
func ListRemotes(repo *ostree.Repo) ([]string, error) {
	cfg, err := readConfig(repo)
	if err != nil {
		return nil, fmt.Errorf("list remotes: %w", err)
	}
	var names []string
	for _, g := range cfg.Groups() {
		name, ok := strings.CutPrefix(g, `remote "`)
		if name, end := strings.CutSuffix(name, `"`); ok && end && validName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// readConfig reads the file again: another process may have changed it since
// the repository was opened.
func readConfig(repo *ostree.Repo) (*keyfile.File, error) {
	data, err := repo.Dir().ReadFile("config", keyfile.MaxSize)
	if err != nil {
		return nil, err
	}
	cfg, err := keyfile.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("parse config: %w", err)
	}
	return cfg, nil
}

// remoteReader collects the first error of a series of look-ups.
type remoteReader struct {
	cfg   *keyfile.File
	group string
	err   error
}

func (r *remoteReader) str(key string) string {
	v, err := r.cfg.StringOr(r.group, key, "")
	r.err = errors.Join(r.err, err)
	return v
}

func (r *remoteReader) bool(key string, def bool) bool {
	v, err := r.cfg.BoolOr(r.group, key, def)
	r.err = errors.Join(r.err, err)
	return v
}

func (r *remoteReader) list(key string) []string {
	v, err := r.cfg.GetStrings(r.group, key)
	if !errors.Is(err, keyfile.ErrNotFound) {
		r.err = errors.Join(r.err, err)
	}
	return v
}

// enabled reads sign-verify: a boolean, or the list of types that must verify.
func (r *remoteReader) enabled(key string) bool {
	if _, ok := r.cfg.Get(r.group, key); !ok {
		return false
	}
	on, err := r.cfg.GetBool(r.group, key)
	return err != nil || on
}

func parseRemote(cfg *keyfile.File, name string) (Remote, error) {
	c := &remoteReader{cfg: cfg, group: groupOf(name)}
	if !validName(name) || !cfg.HasGroup(c.group) {
		return Remote{}, ErrNoRemote
	}
	r := Remote{
		Name:              name,
		URL:               c.str("url"),
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
	}
	for _, key := range []string{"metalink", "custom-backend"} {
		if _, ok := cfg.Get(c.group, key); ok {
			r.unsupportedFeature = key
		}
	}
	return r, c.err
}

// check tells whether a pull from the remote can work at all.
func (r Remote) check() error {
	switch {
	case r.Name != "" && !validName(r.Name):
		return fmt.Errorf("%w: remote name %q", ostree.ErrInvalid, clip(r.Name))
	case r.UnconfiguredState != "":
		return fmt.Errorf("remote is not configured: %s", r.UnconfiguredState)
	case r.unsupportedFeature != "":
		return fmt.Errorf("%w: %s", ErrUnsupported, r.unsupportedFeature)
	case r.URL == "":
		return fmt.Errorf("%w: no url", ostree.ErrInvalid)
	case (r.TLSClientCertPath == "") != (r.TLSClientKeyPath == ""):
		return fmt.Errorf("%w: tls-client-cert-path and tls-client-key-path go together", ostree.ErrInvalid)
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
	where := clip(r.URL)
	if u, err := url.Parse(r.URL); err == nil {
		where = u.Redacted()
	}
	if r.Name == "" {
		return where
	}
	return r.Name + " (" + where + ")"
}

// localPath tells whether the remote is a directory, and which.
func (r Remote) localPath() (string, bool, error) {
	if strings.HasPrefix(r.URL, "/") {
		return r.URL, true, nil
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", false, fmt.Errorf("parse url %q: %w", clip(r.URL), errors.Unwrap(err))
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return "", false, fmt.Errorf("%w: url %q has no host", ostree.ErrInvalid, clip(r.URL))
		}
		return "", false, nil
	case "file":
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
			return "", false, fmt.Errorf("%w: url %q", ostree.ErrInvalid, clip(r.URL))
		}
		return u.Path, true, nil
	}
	return "", false, fmt.Errorf("%w: url %q: only http, https and file", ErrUnsupported, clip(r.URL))
}

// AddOptions say what AddRemote does when the name is taken. Set holds further
// keys and values to write as they are.
type AddOptions struct {
	IfNotExists bool // keep the remote that is there
	Force       bool // replace it
	Set         [][2]string
}

// AddRemote writes a remote to the configuration of repo, atomically, in the
// form that "ostree remote add" gives it. Errors: ErrRemoteExists.
func AddRemote(repo *ostree.Repo, r Remote, o AddOptions) error {
	if err := addRemote(repo, r, o); err != nil {
		return fmt.Errorf("add remote %s: %w", clip(r.Name), err)
	}
	return nil
}

func addRemote(repo *ostree.Repo, r Remote, o AddOptions) error {
	if !validName(r.Name) {
		return fmt.Errorf("%w: remote name %q", ostree.ErrInvalid, clip(r.Name))
	}
	if err := r.check(); err != nil {
		return err
	}
	if _, _, err := r.localPath(); err != nil {
		return err
	}
	cfg, err := readConfig(repo)
	if err != nil {
		return err
	}
	group := groupOf(r.Name)
	if cfg.HasGroup(group) {
		if o.IfNotExists {
			return nil
		}
		if !o.Force {
			return ErrRemoteExists
		}
		cfg.RemoveGroup(group)
	}
	if err := writeRemote(cfg, group, r, o.Set); err != nil {
		return err
	}
	return repo.SetConfig(cfg)
}

// writeRemote writes what differs from the defaults.
func writeRemote(cfg *keyfile.File, group string, r Remote, set [][2]string) error {
	err := cfg.SetString(group, "url", r.URL)
	if len(r.Branches) > 0 {
		err = errors.Join(err, cfg.SetStrings(group, "branches", r.Branches))
	}
	for _, kv := range []struct{ key, value string }{
		{"contenturl", r.ContentURL}, {"collection-id", r.CollectionID}, {"proxy", r.Proxy},
		{"tls-ca-path", r.TLSCAPath}, {"tls-client-cert-path", r.TLSClientCertPath}, {"tls-client-key-path", r.TLSClientKeyPath},
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

// DeleteRemote removes a remote from the configuration, atomically, and its
// trusted keys. Its refs stay. Errors: ErrNoRemote.
func DeleteRemote(repo *ostree.Repo, name string) error {
	if err := deleteRemote(repo, name); err != nil {
		return fmt.Errorf("delete remote %s: %w", clip(name), err)
	}
	return nil
}

func deleteRemote(repo *ostree.Repo, name string) error {
	cfg, err := readConfig(repo)
	if err != nil {
		return err
	}
	if !validName(name) || !cfg.RemoveGroup(groupOf(name)) {
		return ErrNoRemote
	}
	if err := repo.SetConfig(cfg); err != nil {
		return err
	}
	// After the configuration: keys without a remote do no harm, a remote
	// without its keys would not work.
	keys := name + ".trustedkeys.gpg"
	if ok, err := repo.Dir().Exists(keys); err != nil || !ok {
		return err
	}
	return repo.Dir().Remove(keys)
}
