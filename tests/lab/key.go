// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const keyName = "Lab that signs commits <lab@example.test>"

// keyHome is GnuPG's folder of the lab; its agent's socket wants a short path.
func (l *Lab) keyHome() string { return filepath.Join(l.Dir, "gpg") }

// gpg runs the program on the lab's own keys.
func (l *Lab) gpg(ctx context.Context, args ...string) (string, error) {
	all := append([]string{"--homedir", l.keyHome(), "--batch", "--quiet", "--no-tty", "--passphrase", "", "--pinentry-mode", "loopback"}, args...)
	out, err := exec.CommandContext(ctx, "gpg", all...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gpg %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// makeKey makes the throw-away key that signs the lab's commits, once, and
// exports its public half.
func (l *Lab) makeKey(ctx context.Context) error {
	l.KeyFile = filepath.Join(l.Dir, "commit-key.asc")
	if err := os.MkdirAll(l.keyHome(), 0o700); err != nil {
		return err
	}
	defer l.stopAgent()
	if _, err := os.Stat(l.KeyFile); errors.Is(err, os.ErrNotExist) {
		if _, err := l.gpg(ctx, "--quick-generate-key", keyName, "ed25519", "sign", "never"); err != nil {
			return err
		}
		if _, err := l.gpg(ctx, "--armor", "--output", l.KeyFile, "--export"); err != nil {
			return err
		}
	}
	list, err := l.gpg(ctx, "--with-colons", "--list-secret-keys")
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			l.KeyID = f[9]
			return nil
		}
	}
	return fmt.Errorf("no signing key in %s", l.keyHome())
}

func (l *Lab) stopAgent() {
	_ = exec.Command("gpgconf", "--homedir", l.keyHome(), "--kill", "gpg-agent").Run()
}
