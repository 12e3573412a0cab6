// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// signFlags say with which keys commits and summaries are signed.
type signFlags struct {
	gpgKeys  []string
	homedir  string
	keyFiles []string
}

func (f *signFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.gpgKeys, "gpg-sign", nil, "sign commit and summary with this GPG key (repeatable; default: the treefile's gpg-key)")
	fl.StringVar(&f.homedir, "gpg-homedir", "", "folder of the GPG keys (default: GPG's own)")
	fl.StringArrayVar(&f.keyFiles, "sign-key", nil, "sign commit and summary with the ed25519 secret keys in this file (repeatable)")
}

// signers reads the keys before any work is done; a GPG key is looked up.
func (f *signFlags) signers(ctx context.Context, treefileKey string) ([]sign.Signer, error) {
	keys := f.gpgKeys
	if len(keys) == 0 && treefileKey != "" {
		keys = []string{treefileKey}
	}
	var out []sign.Signer
	for _, id := range keys {
		s := gpg.Signer{KeyID: id, Homedir: f.homedir}
		if _, err := s.Fingerprints(ctx); err != nil {
			return nil, fmt.Errorf("find signing key: %w", err)
		}
		out = append(out, s)
	}
	for _, name := range f.keyFiles {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read signing key: %w", err)
		}
		list, err := sign.ReadSigners(sign.TypeEd25519, data, sign.Options{})
		if err != nil {
			return nil, fmt.Errorf("read signing key %s: %w", name, err)
		}
		out = append(out, list...)
	}
	return out, nil
}
