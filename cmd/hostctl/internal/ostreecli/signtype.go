// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"fmt"
	"os"
	"slices"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// keyDirs are where the system's trusted keys of signatures other than OpenPGP are.
var keyDirs = []string{"/etc/ostree", "/usr/share/ostree"}

// signKeys are the options that choose a signature type and its keys.
type signKeys struct {
	typ       string
	file, dir text
}

func (k *signKeys) typeOption(short byte) option {
	return option{long: "sign-type", short: short, arg: "NAME", dst: &k.typ, help: "Signature type to use (defaults to 'ed25519')"}
}

func (k *signKeys) fileOption() option {
	return option{long: "keys-file", arg: "NAME", dst: &k.file, help: "Read key(s) from file"}
}

func (k *signKeys) dirOption() option {
	return option{long: "keys-dir", arg: "NAME", dst: &k.dir, help: "Redefine system-wide directories with public and revoked keys for verification"}
}

// name gives the type, also where none was chosen.
func (k *signKeys) name() string {
	if k.typ == "" {
		return sign.TypeEd25519
	}
	return k.typ
}

// signOptions allow the type for tests only where the environment asks for it.
func signOptions() sign.Options {
	return sign.Options{Dummy: os.Getenv("OSTREE_DUMMY_SIGN_ENABLED") == "1"}
}

// readKeyFile reads a key file whole.
func readKeyFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return nil, failf("File object '%s' is not a regular file", path)
	}
	if st.Size() > sign.MaxKeyFile {
		return nil, fmt.Errorf("read keys: %s: %w", path, fsx.ErrTooLarge)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return data, nil
}

// signers makes one of every secret key on the command line and in --keys-file.
func (k *signKeys) signers(keys []string) ([]sign.Signer, error) {
	if err := sign.CheckType(k.name()); err != nil {
		return nil, err
	}
	var out []sign.Signer
	for _, key := range keys {
		s, err := sign.NewSigner(k.name(), key, signOptions())
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if !k.file.set {
		return out, nil
	}
	data, err := readKeyFile(k.file.value)
	if err != nil {
		return nil, err
	}
	more, err := sign.ReadSigners(k.name(), data, signOptions())
	return slices.Concat(out, more), err
}

// verifier trusts the keys given; without any, or with --keys-file, those of the
// file, else of the system's folders or --keys-dir.
func (k *signKeys) verifier(keys []string) (*sign.Verifier, error) {
	v, err := sign.NewVerifier(k.name(), signOptions())
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := v.Add(key); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 || k.file.set {
		err = k.load(v)
	}
	return v, err
}

func (k *signKeys) load(v *sign.Verifier) error {
	if k.file.set {
		data, err := readKeyFile(k.file.value)
		if err != nil {
			return err
		}
		return v.AddFile(data)
	}
	dirs := keyDirs
	if k.dir.set {
		dirs = []string{k.dir.value}
	}
	for _, dir := range dirs {
		if err := v.LoadDir(os.DirFS(dir)); err != nil {
			return fmt.Errorf("load keys from %s: %w", dir, err)
		}
	}
	if v.Len() == 0 {
		return failf("signature: %s: no keys loaded", k.name())
	}
	return nil
}
