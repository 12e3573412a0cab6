// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// TrustOptions change and complete what a remote's configuration says about
// signatures. The zero value follows the configuration.
type TrustOptions struct {
	GPGVerify        *bool // instead of gpg-verify
	GPGVerifySummary *bool // instead of gpg-verify-summary
	NoSign           bool  // as with sign-verify=false
	NoSignSummary    bool  // as with sign-verify-summary=false

	// KeyDirs hold the standard files trusted.TYPE, trusted.TYPE.d, revoked.TYPE and
	// revoked.TYPE.d. Nil: /etc/ostree and /usr/share/ostree.
	KeyDirs []fs.FS
	// GPGHome is the folder of keyrings for remotes that have none of their own, the
	// value of OSTREE_GPG_HOME. "": /usr/share/ostree/trusted.gpg.d.
	GPGHome string
	// NoGlobalKeys leaves that folder out.
	NoGlobalKeys bool
	// RemotesDir is /etc/ostree/remotes.d for the system's repository, else nil: a
	// remote's keyring may be there.
	RemotesDir *fsx.Dir
	// Sign switches test features on.
	Sign sign.Options
	// Time is when keys and signatures must be valid; zero: now.
	Time time.Time
	// Accepted, if not nil, gets the signatures of every commit that was accepted,
	// those by OpenPGP and others in calls of their own.
	Accepted func(ostree.Checksum, Verified)
}

const (
	globalGPG  = "/usr/share/ostree/trusted.gpg.d"
	maxKeyring = 32 << 20
)

// LoadTrust reads the keys that a remote's configuration names: the keyring
// REMOTE.trustedkeys.gpg, gpgkeypath, verification-TYPE-key and -file, and the
// standard folders, which are all that a remote whose Name is "" has.
func LoadTrust(repo *ostree.Repo, r Remote, o TrustOptions) (*Trust, error) {
	t := &Trust{now: o.Time, accepted: o.Accepted}
	t.gpgCommit = choose(o.GPGVerify, !r.NoGPGVerify)
	t.gpgSummary = choose(o.GPGVerifySummary, r.GPGVerifySummary)
	var err error
	if t.gpg, err = LoadKeyring(repo, r, o); err != nil {
		if t.gpgCommit || t.gpgSummary {
			return nil, err
		}
		t.gpg = &sign.Keyring{}
	}
	if t.deltas, err = repo.Config().BoolOr("core", "sign-verify-deltas", false); err != nil {
		return nil, err
	}
	l := trustLoader{r, o}
	if !o.NoSign {
		if t.commit, err = l.verifiers("sign-verify", r.SignVerify); err != nil {
			return nil, err
		}
	}
	if !o.NoSignSummary {
		t.summary, err = l.verifiers("sign-verify-summary", r.SignVerifySummary)
	}
	return t, err
}

func choose(want *bool, configured bool) bool {
	if want != nil {
		return *want
	}
	return configured
}

// trustLoader reads keys of the types beside OpenPGP.
type trustLoader struct {
	r Remote
	o TrustOptions
}

// verifiers reads sign-verify or sign-verify-summary: a boolean, where any type
// will do, or the list of types that are allowed, each of which must have keys.
// A Remote that was not loaded from a configuration has only the switch.
func (l trustLoader) verifiers(key string, on bool) ([]*sign.Verifier, error) {
	raw, ok := l.r.Option(key)
	if !ok && on {
		raw = "true"
	}
	switch raw {
	case "", "false", "0":
		return nil, nil
	case "true", "1":
		return l.each(sign.Types(), false)
	}
	types := strings.Split(strings.TrimSuffix(raw, ";"), ";")
	return l.each(types, true)
}

func (l trustLoader) each(types []string, required bool) ([]*sign.Verifier, error) {
	var out []*sign.Verifier
	for _, typ := range types {
		v, err := l.verifier(strings.TrimSpace(typ), required)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (l trustLoader) verifier(typ string, required bool) (*sign.Verifier, error) {
	v, err := sign.NewVerifier(typ, l.o.Sign)
	if err != nil {
		return nil, err
	}
	key, hasKey := l.r.Option("verification-" + typ + "-key")
	file, hasFile := l.r.Option("verification-" + typ + "-file")
	if required && !hasKey && !hasFile {
		return nil, sayf(sign.ErrNoKeys, "No keys found for required signapi type %s", typ)
	}
	if hasFile {
		if err := addKeyFile(v, file); err != nil {
			return nil, sayf(err, "Failed loading '%s' keys from '%s': %s", typ, clip(file), err)
		}
	}
	if hasKey {
		if err := v.Add(key); err != nil {
			return nil, sayf(err, "Failed loading '%s' keys from inline `verification-key`: %s", typ, err)
		}
	}
	return v, l.standard(v, hasKey || hasFile)
}

// standard adds the keys of the standard folders: all where the remote names
// none, and the revoked ones always.
func (l trustLoader) standard(v *sign.Verifier, own bool) error {
	dirs := l.o.KeyDirs
	if dirs == nil {
		dirs = []fs.FS{os.DirFS("/etc/ostree"), os.DirFS("/usr/share/ostree")}
	}
	for _, d := range dirs {
		load := v.LoadDir
		if own {
			load = v.LoadRevoked
		}
		if err := load(d); err != nil {
			return err
		}
	}
	return nil
}

func addKeyFile(v *sign.Verifier, name string) error {
	data, err := readSystemFile(name, sign.MaxKeyFile)
	if err != nil {
		return err
	}
	return v.AddFile(data)
}

// readSystemFile reads a regular file that the configuration names by path.
func readSystemFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("File object '%s' is not a regular file", name) //nolint:staticcheck // ST1005: libostree's text
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}

// LoadKeyring reads the OpenPGP keys that are trusted for a remote: those of its
// keyring and of gpgkeypath. Where it has no keyring, those of the global folder
// count too. A Remote without a name has the global ones only.
func LoadKeyring(repo *ostree.Repo, r Remote, o TrustOptions) (*sign.Keyring, error) {
	k := &sign.Keyring{}
	own := false
	if r.Name != "" {
		data, err := findKeyring(repo, r.Name, o.RemotesDir)
		if err != nil {
			return nil, fmt.Errorf("read keyring of remote %s: %w", clip(r.Name), err)
		}
		if own = data != nil; own {
			if err := k.Add(data); err != nil {
				return nil, fmt.Errorf("read keyring of remote %s: %w", clip(r.Name), err)
			}
		}
		if err := addKeyPaths(k, r); err != nil {
			return nil, err
		}
	}
	if own || o.NoGlobalKeys {
		return k, nil
	}
	home := o.GPGHome
	if home == "" {
		home = globalGPG
	}
	return k, AddKeyringDir(k, home)
}

// KeyringName is the file in the repository that holds a remote's trusted keys.
func KeyringName(remote string) string { return remote + ".trustedkeys.gpg" }

// findKeyring reads a remote's keyring in the repository, the system's folder of
// remotes or the repository's parents; nil if there is none.
func findKeyring(repo *ostree.Repo, remote string, remotes *fsx.Dir) ([]byte, error) {
	for ; repo != nil; repo, remotes = repo.Parent(), nil {
		for _, d := range []*fsx.Dir{repo.Dir(), remotes} {
			if d == nil {
				continue
			}
			data, err := d.ReadFile(KeyringName(remote), maxKeyring)
			if err == nil {
				return append([]byte{}, data...), nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return nil, nil
}

// addKeyPaths reads gpgkeypath: files, and folders of files, between ; or ,.
func addKeyPaths(k *sign.Keyring, r Remote) error {
	raw, ok := r.Option("gpgkeypath")
	if !ok || raw == "" {
		return nil
	}
	if strings.Contains(raw, ";") && strings.Contains(raw, ",") {
		return sayf(ostree.ErrInvalid, "key value list contains more than one separator: gpgkeypath of remote %s", clip(r.Name))
	}
	list := strings.FieldsFunc(strings.TrimRight(raw, ";,"), func(c rune) bool { return c == ';' || c == ',' })
	if strings.HasPrefix(raw, ";") || strings.HasPrefix(raw, ",") {
		list = append([]string{""}, list...) // an empty path is one that does not exist
	}
	for _, p := range list {
		if err := addKeyPath(k, p); err != nil {
			return err
		}
	}
	return nil
}

func addKeyPath(k *sign.Keyring, p string) error {
	st, err := os.Stat(p)
	if err != nil {
		return sayf(err, "GPG: opendir(%s): No such file or directory", p)
	}
	if !st.IsDir() {
		return addKeyringFile(k, p)
	}
	entries, err := os.ReadDir(p)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		// A folder may hold other files too, such as GnuPG's own.
		if err := addKeyringFile(k, filepath.Join(p, e.Name())); err != nil && !errors.Is(err, sign.ErrKeyData) {
			return err
		}
	}
	return nil
}

func addKeyringFile(k *sign.Keyring, name string) error {
	data, err := readSystemFile(name, maxKeyring)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if err := k.Add(data); err != nil {
		return fmt.Errorf("read keys of %s: %w", name, err)
	}
	return nil
}

// AddKeyringDir adds the keyrings in a folder: all files named *.gpg but GnuPG's
// trustdb.gpg and secring.gpg. An absent folder has none.
func AddKeyringDir(k *sign.Keyring, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read keyring directory '%s': %w", dir, err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".gpg") || name == "trustdb.gpg" || name == "secring.gpg" || e.IsDir() {
			continue
		}
		if err := addKeyringFile(k, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
