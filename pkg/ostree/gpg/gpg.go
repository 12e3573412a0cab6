// SPDX-License-Identifier: Apache-2.0

// Package gpg does with the program gpg what needs secret keys: it signs commits,
// summaries and deltas, and exports keys of a user. It also keeps the keyrings of
// remotes, REMOTE.trustedkeys.gpg in the repository, without any program.
// Verification is in package sign.
package gpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// Conditions that callers test for with errors.Is.
var (
	// ErrNoProgram: gpg is not installed.
	ErrNoProgram = errors.New("the program gpg is not there")
	// ErrNoSecretKey: the home directory has no such secret key.
	ErrNoSecretKey = errors.New("no such secret key")
	// ErrSigned: the commit has a signature of that key already.
	ErrSigned = errors.New("already signed")
)

// Signer signs with a secret key that gpg knows.
type Signer struct {
	KeyID   string // as gpg's --local-user takes it
	Homedir string // "": gpg's default
	Program string // "": gpg
}

// Key is sign.GPGKey.
func (s Signer) Key() string { return sign.GPGKey }

// Sign makes a detached binary signature over data. It may ask for a passphrase,
// as gpg-agent does. Errors: ErrNoProgram, ErrNoSecretKey.
func (s Signer) Sign(ctx context.Context, data []byte) ([]byte, error) {
	if _, err := s.Fingerprints(ctx); err != nil {
		return nil, err
	}
	return s.detach(ctx, data)
}

func (s Signer) detach(ctx context.Context, data []byte) ([]byte, error) {
	return s.run(ctx, data, "--no-armor", "--local-user", s.KeyID, "--output", "-", "--detach-sign")
}

// Fingerprints lists the fingerprints of the secret key: its own and those of its
// subkeys, upper case. Errors: ErrNoProgram, ErrNoSecretKey.
func (s Signer) Fingerprints(ctx context.Context) ([]string, error) {
	if s.KeyID == "" || strings.HasPrefix(s.KeyID, "-") {
		return nil, fmt.Errorf("%w: %q", ErrNoSecretKey, s.KeyID)
	}
	out, err := s.run(ctx, nil, "--with-colons", "--list-secret-keys", s.KeyID)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, &missing{s.KeyID, s.Homedir, err}
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if f[0] == "fpr" && len(f) > 9 {
			list = append(list, f[9])
		}
	}
	return list, nil
}

// missing words an absent key as libostree does.
type missing struct {
	keyID, homedir string
	err            error
}

func (m *missing) Error() string {
	return fmt.Sprintf("No gpg key found with ID %s (homedir: %s)", m.keyID, homeText(m.homedir))
}

func (m *missing) Unwrap() []error { return []error{ErrNoSecretKey, m.err} }

func homeText(dir string) string {
	if dir == "" {
		return "<default>"
	}
	return dir
}

// run calls gpg and gives its standard output.
func (s Signer) run(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	program := s.Program
	if program == "" {
		program = "gpg"
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoProgram, err)
	}
	all := []string{"--batch", "--no-tty"}
	if s.Homedir != "" {
		all = append(all, "--homedir", s.Homedir)
	}
	cmd := exec.CommandContext(ctx, program, append(all, args...)...)
	var out, errText bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errText
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", program, err, lastLine(errText.String()))
	}
	return out.Bytes(), nil
}

// lastLine is what matters of gpg's messages.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// SignCommit adds a signature to a commit, once per key. Errors: those of Sign,
// ErrSigned.
func SignCommit(ctx context.Context, repo *ostree.Repo, c ostree.Checksum, s Signer) error {
	raw, err := repo.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	if err != nil {
		return fmt.Errorf("sign commit: %w", err)
	}
	prints, err := s.Fingerprints(ctx)
	if err != nil {
		return err
	}
	sig, err := s.detach(ctx, raw)
	if err != nil {
		return fmt.Errorf("sign commit: %w", err)
	}
	return repo.EditCommitMeta(ctx, c, func(d *gvariant.Dict) error {
		for _, have := range sign.Signatures(*d, sign.GPGKey) {
			if sign.IssuedBy(have, prints) {
				return &signed{s.KeyID}
			}
		}
		sign.Append(d, sign.GPGKey, sig)
		return nil
	})
}

// signed words libostree's refusal.
type signed struct{ keyID string }

func (e *signed) Error() string { return "Commit is already signed with GPG key " + e.keyID }

func (e *signed) Unwrap() error { return ErrSigned }

// DeleteSignatures drops the OpenPGP signatures of a commit that any of the keys
// made and tells how many. Each id names a key as Keyring.Match does, in known, or
// is a key ID or fingerprint itself.
func DeleteSignatures(ctx context.Context, repo *ostree.Repo, c ostree.Checksum, known *sign.Keyring, ids []string) (int, error) {
	var prints []string
	for _, id := range ids {
		prints = append(prints, id)
		if known != nil {
			prints = append(prints, known.Fingerprints(id)...)
		}
	}
	return repo.DeleteSignatures(ctx, c, sign.GPGKey, func(sig []byte) bool { return sign.IssuedBy(sig, prints) })
}
