// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func remoteGPGImport() *verb {
	var keyrings []string
	var stdin bool
	return &verb{
		name: "gpg-import", args: "NAME [KEY-ID...]", summary: "Import GPG keys",
		opts: []option{
			{long: "keyring", short: 'k', arg: "FILE", dst: &keyrings, help: "Import keys from a keyring file (repeatable)"},
			{long: "stdin", dst: &stdin, help: "Import keys from standard input"},
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 {
				return c.usageError("NAME must be specified")
			}
			if stdin && len(keyrings) > 0 {
				return c.usageError("--keyring and --stdin are mutually exclusive")
			}
			ids := c.args[1:]
			var source []byte
			var err error
			switch {
			case stdin:
				source, err = readKeys(c.In, "standard input")
			case len(keyrings) > 0:
				source, err = readKeyrings(keyrings)
			default:
				source, err = gpg.Export(ctx, "", ids)
			}
			if err != nil {
				return err
			}
			return c.importKeys(ctx, c.args[0], source, ids)
		},
	}
}

// importKeys adds keys to those that a remote trusts.
func (c *call) importKeys(ctx context.Context, remote string, source []byte, ids []string) error {
	if _, err := c.loadRemote(remote); err != nil {
		return fmt.Errorf("GPG: %w", err)
	}
	n, err := gpg.Import(ctx, c.repo, remote, source, ids)
	if err != nil {
		return fmt.Errorf("GPG: %w", err)
	}
	plural := "s"
	if n == 1 {
		plural = ""
	}
	c.printf("Imported %d GPG key%s to remote \"%s\"\n", n, plural, remote)
	return nil
}

// readKeys reads a key file, not more than a keyring may have.
func readKeys(r io.Reader, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, sign.MaxKeyFile+1))
	if err == nil && len(data) > sign.MaxKeyFile {
		err = fsx.ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("read keys from %s: %w", what, err)
	}
	return data, nil
}

// readKeyrings joins files, of which each may be armored or not.
func readKeyrings(paths []string) ([]byte, error) {
	var all []byte
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open keyring: %w", err)
		}
		data, err := readKeys(f, path)
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		blocks, err := sign.ReadBlocks(data)
		if err != nil {
			return nil, fmt.Errorf("read keyring %s: %w", path, err)
		}
		for _, b := range blocks {
			all = append(all, b.Bytes()...)
		}
	}
	return all, nil
}

func remoteGPGListKeys() *verb {
	return &verb{
		name: "gpg-list-keys", args: "NAME", summary: "Show remote GPG keys",
		run: func(_ context.Context, c *call) error {
			keys, err := c.trustedKeys()
			if err != nil {
				return err
			}
			for _, cert := range keys.Certificates(time.Time{}) {
				c.printCertificate(cert)
			}
			return nil
		},
	}
}

// trustedKeys reads the keys of the remote that the command line names, or
// without one the global keys, which count only for remotes without a keyring and
// are not shown for those.
func (c *call) trustedKeys() (*sign.Keyring, error) {
	o, err := c.trustOptions()
	if err != nil {
		return nil, err
	}
	if len(c.args) == 0 {
		return pull.LoadKeyring(c.repo, pull.Remote{}, o)
	}
	r, err := c.loadRemote(c.args[0])
	if err != nil {
		return nil, err
	}
	keys, err := pull.LoadKeyring(c.repo, r, o)
	if err != nil {
		return nil, err
	}
	global, err := pull.LoadKeyring(c.repo, pull.Remote{}, o)
	if err == nil && slices.EqualFunc(keys.Blocks(), global.Blocks(), sameBlock) {
		return &sign.Keyring{}, nil
	}
	return keys, err
}

func sameBlock(a, b sign.Block) bool { return string(a.Bytes()) == string(b.Bytes()) }

func (c *call) printCertificate(cert sign.Certificate) {
	for i, k := range cert.Keys {
		if i == 0 {
			c.printKey("Key", "  ", k)
			for _, uid := range cert.UserIDs {
				c.printUserID(uid)
			}
			continue
		}
		c.printKey("  Subkey", "    ", k)
	}
}

func flag(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

func (c *call) printKey(title, indent string, k sign.Key) {
	c.printf("%s: %s%s%s\n", title, strings.ToUpper(k.Fingerprint), flag(k.Revoked, " (revoked)"), flag(k.Invalid, " (invalid)"))
	c.printf("%sCreated: %s\n", indent, longTime(k.Created))
	if k.Expires.IsZero() {
		return
	}
	word := "Expires"
	if k.Expired {
		word = "Expired"
	}
	c.printf("%s%s: %s\n", indent, word, longTime(k.Expires))
}

// longTime writes a local time as GLib does in the C locale: a day of one digit
// has a figure space before it.
func longTime(t time.Time) string {
	return strings.Replace(t.Local().Format(time.ANSIC), "  ", " \u2007", 1)
}

func (c *call) printUserID(u sign.UserID) {
	c.printf("  UID: %s%s%s\n", u.Text, flag(u.Revoked, " (revoked)"), flag(u.Invalid, " (invalid)"))
	advanced, direct, _ := sign.UpdateURLs(u.Email)
	c.printf("  Advanced update URL: %s\n  Direct update URL: %s\n", advanced, direct)
}
