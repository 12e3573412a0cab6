// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"os"

	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func gpgSignVerb() *verb {
	var remove bool
	var homedir string
	return &verb{
		name: "gpg-sign", args: "COMMIT KEY-ID...", summary: "Sign a commit",
		opts: []option{
			{long: "delete", short: 'd', dst: &remove, help: "Delete signatures having any of the GPG KEY-IDs"},
			{long: "gpg-homedir", arg: "HOMEDIR", dst: &homedir, help: "GPG Homedir to use when looking for keyrings"},
		},
		run: func(ctx context.Context, c *call) error {
			switch len(c.args) {
			case 0:
				return c.signUsage("Need a COMMIT to sign")
			case 1:
				return c.signUsage("Need at least one GPG KEY-ID to sign with")
			}
			commit, err := c.repo.Resolve(c.args[0])
			if err != nil {
				return err
			}
			if remove {
				known, err := c.allKeys()
				if err != nil {
					return err
				}
				n, err := gpg.DeleteSignatures(ctx, c.repo, commit, known, c.args[1:])
				if err == nil {
					c.printf("Signatures deleted: %d\n", n)
				}
				return err
			}
			for _, id := range c.args[1:] {
				if err := gpg.SignCommit(ctx, c.repo, commit, gpg.Signer{KeyID: id, Homedir: homedir}); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// trustOptions are those of the environment and the place of the repository.
func (c *call) trustOptions() (pull.TrustOptions, error) {
	where, err := c.remotes(false)
	return pull.TrustOptions{Sign: signOptions(), GPGHome: os.Getenv("OSTREE_GPG_HOME"), RemotesDir: where.Dir}, err
}

// allKeys reads the OpenPGP keys that any remote trusts, and the global ones.
func (c *call) allKeys() (*sign.Keyring, error) {
	o, err := c.trustOptions()
	if err != nil {
		return nil, err
	}
	where, err := c.remotes(false)
	if err != nil {
		return nil, err
	}
	names, err := where.List()
	if err != nil {
		return nil, err
	}
	all := &sign.Keyring{}
	for _, name := range append(names, "") {
		r := pull.Remote{Name: name}
		if name != "" {
			if r, err = where.Load(name); err != nil {
				return nil, remoteError(name, err)
			}
		}
		k, err := pull.LoadKeyring(c.repo, r, o)
		if err != nil {
			return nil, err
		}
		for _, b := range k.Blocks() {
			if err := all.Add(b.Bytes()); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// printGPG tells about the OpenPGP signatures of something.
func (c *call) printGPG(result sign.GPGResult) {
	plural := "s"
	if len(result) == 1 {
		plural = ""
	}
	fmt.Fprintf(c.Out, "GPG: Verification enabled, found %d signature%s:\n", len(result), plural)
	for _, s := range result {
		fmt.Fprintf(c.Out, "\n%s", s.Describe("  "))
	}
}
