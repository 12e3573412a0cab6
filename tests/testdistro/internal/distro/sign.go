// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// signingKey is a throw-away OpenPGP key without a passphrase, kept in the cache.
type signingKey struct {
	home        string
	fingerprint string
}

// signTime freezes gpg's clock, so that signatures are reproducible too.
var signTime = "--faked-system-time=" + strconv.Itoa(ownEpoch) + "!"

// loadKey opens the key in home, generating it the first time.
func loadKey(ctx context.Context, home string) (signingKey, error) {
	k := signingKey{home: home}
	if fpr, err := k.find(ctx); err == nil {
		k.fingerprint = fpr
		return k, nil
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return k, err
	}
	_, err := k.gpg(ctx, "--passphrase", "", "--quick-generate-key",
		"TestDistro (throw-away key for tests) <testdistro@example.test>", "rsa4096", "sign", "never")
	if err != nil {
		return k, fmt.Errorf("generate signing key: %w", err)
	}
	k.fingerprint, err = k.find(ctx)
	return k, err
}

func (k signingKey) find(ctx context.Context) (string, error) {
	if _, err := os.Stat(filepath.Join(k.home, "pubring.kbx")); err != nil {
		return "", err
	}
	out, err := k.gpg(ctx, "--with-colons", "--list-secret-keys")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if f := strings.Split(line, ":"); f[0] == "fpr" && len(f) > 9 {
			return f[9], nil
		}
	}
	return "", errors.New("no secret key in " + k.home)
}

func (k signingKey) gpg(ctx context.Context, args ...string) (string, error) {
	full := append([]string{"--homedir", k.home, "--batch", "--no-tty", "--yes", "--quiet", "--pinentry-mode", "loopback", signTime}, args...)
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, "gpg", full...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("gpg: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// export writes the public key, armored.
func (k signingKey) export(ctx context.Context, file string) error {
	out, err := k.gpg(ctx, "--armor", "--export", k.fingerprint)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(out), 0o644)
}

// signFile writes a detached, armored signature to file.asc.
func (k signingKey) signFile(ctx context.Context, file string) error {
	_, err := k.gpg(ctx, "--armor", "--digest-algo", "SHA256", "-u", k.fingerprint,
		"--output", file+".asc", "--detach-sign", file)
	if err != nil {
		return fmt.Errorf("sign %s: %w", filepath.Base(file), err)
	}
	return nil
}

// signPackages adds header and payload signatures in one rpmsign call.
func (k signingKey) signPackages(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return nil
	}
	args := []string{"--addsign",
		"--define", "_gpg_name " + k.fingerprint,
		"--define", "_gpg_path " + k.home,
		"--define", "__gpg /usr/bin/gpg",
		"--define", "_gpg_digest_algo sha256",
		"--define", "_gpg_sign_cmd_extra_args --batch --no-tty --pinentry-mode loopback " + signTime,
	}
	cmd := exec.CommandContext(ctx, "rpmsign", append(args, files...)...)
	cmd.Env = append(os.Environ(), "HOME="+k.home)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sign %d packages: %w: %s", len(files), err, tail(out, 1500))
	}
	return nil
}

// stopAgent ends the gpg-agent that gpg started for this home.
func (k signingKey) stopAgent() {
	_ = exec.Command("gpgconf", "--homedir", k.home, "--kill", "gpg-agent").Run()
}
