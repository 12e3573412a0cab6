// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func TestSigners(t *testing.T) {
	t.Parallel()
	secret, public, err := sign.GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := file("good", secret+"\n"+secret+"\n")
	for name, c := range map[string]struct {
		f       signFlags
		tree    string
		signers int
		err     error
	}{
		"none":       {signFlags{}, "", 0, nil},
		"file":       {signFlags{keyFiles: []string{good}}, "", 2, nil},
		"public key": {signFlags{keyFiles: []string{file("public", public)}}, "", 0, sign.ErrKeyData},
		"no file":    {signFlags{keyFiles: []string{dir + "/none"}}, "", 0, os.ErrNotExist},
		"no GPG key": {signFlags{gpgKeys: []string{"0123456789ABCDEF"}, homedir: dir}, "", 0, gpg.ErrNoSecretKey},
		"treefile's": {signFlags{homedir: dir}, "0123456789ABCDEF", 0, gpg.ErrNoSecretKey},
	} {
		list, err := c.f.signers(t.Context(), c.tree)
		if errors.Is(err, gpg.ErrNoProgram) && os.Getenv("CI") != "true" {
			t.Logf("%s: %v", name, err)
			continue
		}
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || len(list) != c.signers {
			t.Errorf("%s: %d signers, %v", name, len(list), err)
		}
	}
}
