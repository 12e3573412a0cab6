// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

type signVerbOptions struct {
	keys           signKeys
	remove, verify bool
}

func signVerb() *verb {
	o := &signVerbOptions{}
	return &verb{
		name: "sign", args: "COMMIT KEY-ID...", summary: "Sign a commit",
		opts: []option{
			{long: "delete", short: 'd', dst: &o.remove, help: "Delete signatures having any of the KEY-IDs"},
			{long: "verify", dst: &o.verify, help: "Verify signatures"},
			o.keys.typeOption('s'), o.keys.fileOption(), o.keys.dirOption(),
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *signVerbOptions) run(ctx context.Context, c *call) error {
	switch {
	case len(c.args) < 1:
		return c.signUsage("Need a COMMIT to sign or verify")
	case !o.verify && !o.keys.file.set && len(c.args) < 2:
		return c.signUsage("Need at least one KEY-ID to sign with")
	}
	commit, err := c.repo.Resolve(c.args[0])
	if err != nil {
		return err
	}
	if err := sign.CheckType(o.keys.name()); err != nil {
		return err
	}
	keys := c.args[1:]
	switch {
	case o.verify:
		return o.verifyCommit(c, commit, keys)
	case o.remove:
		return o.removeSignatures(ctx, c, commit, keys)
	}
	signers, err := o.keys.signers(keys)
	if err != nil {
		return err
	}
	return c.repo.SignCommit(ctx, commit, signers...)
}

// signUsage prints the help without the empty line that other verbs leave.
func (c *call) signUsage(msg string) error {
	fmt.Fprint(c.Err, c.helpPage())
	return errors.New(msg)
}

// verifyCommit tries each key alone, then those of files; the first success counts.
func (o *signVerbOptions) verifyCommit(c *call, commit ostree.Checksum, keys []string) error {
	raw, err := c.repo.LoadRaw(ostree.ObjectName{Checksum: commit, Type: ostree.TypeCommit})
	if err != nil {
		return err
	}
	meta, err := c.repo.CommitMeta(commit)
	if err != nil {
		return err
	}
	try := func(v *sign.Verifier, err error) error {
		if err != nil {
			return err
		}
		m, err := v.VerifyDict(raw, meta)
		if err == nil {
			c.printf("%s\n", m.Message)
		}
		return err
	}
	for i := range keys {
		alone := signKeys{typ: o.keys.typ}
		if try(alone.verifier(keys[i:i+1])) == nil {
			return nil
		}
	}
	if len(keys) == 0 || o.keys.file.set {
		return try(o.keys.verifier(nil))
	}
	return failf("No valid signatures found")
}

// removeSignatures drops what any of the public keys made. libostree takes the
// option and adds signatures all the same.
func (o *signVerbOptions) removeSignatures(ctx context.Context, c *call, commit ostree.Checksum, keys []string) error {
	raw, err := c.repo.LoadRaw(ostree.ObjectName{Checksum: commit, Type: ostree.TypeCommit})
	if err != nil {
		return err
	}
	v, err := o.keys.verifier(keys)
	if err != nil {
		return err
	}
	n, err := c.repo.DeleteSignatures(ctx, commit, sign.MetadataKey(o.keys.name()), func(sig []byte) bool {
		_, err := v.Verify(raw, [][]byte{sig})
		return err == nil
	})
	if err == nil {
		c.printf("Signatures deleted: %d\n", n)
	}
	return err
}
