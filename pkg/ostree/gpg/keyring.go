// SPDX-License-Identifier: Apache-2.0

package gpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

const (
	keyringSuffix = ".trustedkeys.gpg"
	importLock    = "tmp/.gpg-import-lock"
	lockWait      = 5 * time.Minute
	maxKeyring    = 32 << 20
)

// ErrNoKey: an ID names no key of the source.
var ErrNoKey = errors.New("no such key")

// Import adds keys to the keyring of a remote, REMOTE.trustedkeys.gpg in the
// repository, and tells how many keys are new there; known ones are completed,
// so that expiry and revocation arrive. source holds armored or binary keys or
// keyrings; with ids only the keys that these name are taken. The file is in
// GnuPG's old keyring format, which libostree reads, and is replaced durably.
// Errors: ErrNoKey, sign.ErrKeyData.
func Import(ctx context.Context, repo *ostree.Repo, remote string, source []byte, ids []string) (int, error) {
	if strings.Contains(remote, "/") || ostree.CheckRef(remote) != nil {
		return 0, fmt.Errorf("import keys: %w: remote name %q", ostree.ErrInvalid, remote)
	}
	add, err := choose(source, ids)
	if err != nil {
		return 0, err
	}
	d := repo.Dir()
	if err := d.MkdirAll("tmp", 0o755); err != nil {
		return 0, fmt.Errorf("import keys: %w", err)
	}
	lock, err := d.Lock(ctx, importLock, false, lockWait)
	if err != nil {
		return 0, fmt.Errorf("import keys: %w", err)
	}
	defer lock.Unlock()
	name := remote + keyringSuffix
	var have []sign.Block
	old, err := d.ReadFile(name, maxKeyring)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("import keys: %w", err)
	}
	if len(old) > 0 {
		if have, err = sign.ReadBlocks(old); err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
	}
	file, n := sign.MergeBlocks(have, add)
	if err := d.WriteFileAtomic(name, file, 0o644); err != nil {
		return 0, fmt.Errorf("import keys: %w", err)
	}
	return n, nil
}

// choose reads the usable keys of a source, or those that ids name.
func choose(source []byte, ids []string) ([]sign.Block, error) {
	blocks, err := sign.ReadBlocks(source)
	if err != nil {
		return nil, fmt.Errorf("import keys: %w", err)
	}
	k := &sign.Keyring{}
	for _, b := range blocks {
		if aerr := k.AddBlock(b); aerr != nil {
			err = aerr
		}
	}
	if k.Len() == 0 {
		return nil, fmt.Errorf("import keys: %w", err)
	}
	if len(ids) == 0 {
		return k.Blocks(), nil
	}
	var out []sign.Block
	for _, id := range ids {
		found := k.Match(id)
		if len(found) == 0 {
			return nil, &unknown{id}
		}
		out = append(out, found...)
	}
	return out, nil
}

// unknown words an absent key as libostree does.
type unknown struct{ id string }

func (e *unknown) Error() string { return fmt.Sprintf("GPG: Unable to find key \"%s\"", e.id) }

func (e *unknown) Unwrap() error { return ErrNoKey }

// Export gives the public keys of gpg's own keyring, those that ids name or all:
// the source of an import that names no file. Errors: ErrNoProgram.
func Export(ctx context.Context, homedir string, ids []string) ([]byte, error) {
	for _, id := range ids {
		if strings.HasPrefix(id, "-") {
			return nil, &unknown{id}
		}
	}
	return Signer{Homedir: homedir}.run(ctx, nil, append([]string{"--export"}, ids...)...)
}
