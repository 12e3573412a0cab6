// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

type summaryOptions struct {
	update, view, raw bool
	gpgKeys           []string
	gpgHomedir        string
	keys              []string
	sign              signKeys
	metadata          []string
}

func summaryVerb() *verb {
	o := &summaryOptions{}
	return &verb{
		name: "summary", summary: "Manage summary metadata",
		opts: []option{
			{long: "update", short: 'u', dst: &o.update, help: "Update the summary"},
			{long: "view", short: 'v', dst: &o.view, help: "View the local summary file"},
			{long: "raw", dst: &o.raw, help: "View the raw bytes of the summary file"},
			{long: "gpg-sign", arg: "KEY-ID", dst: &o.gpgKeys, help: "GPG Key ID to sign the summary with"},
			{long: "gpg-homedir", arg: "HOMEDIR", dst: &o.gpgHomedir, help: "GPG Homedir to use when looking for keyrings"},
			{long: "sign", arg: "KEY-ID", dst: &o.keys, help: "Key ID to sign the summary with"},
			o.sign.typeOption(0),
			{long: "add-metadata", short: 'm', arg: "KEY=VALUE", dst: &o.metadata, help: "Additional metadata field to add to the summary"},
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case o.update:
				return o.write(ctx, c)
			case o.view || o.raw:
				data, err := c.repo.Dir().ReadFile("summary", ostree.MaxMetadataSize)
				if errors.Is(err, syscall.ENOENT) {
					return failf("openat(summary): %w", syscall.ENOENT)
				}
				if err != nil {
					return fmt.Errorf("read summary: %w", err)
				}
				return c.dumpSummary(data, o.raw)
			}
			return failf("No option specified; use -u to update summary")
		},
	}
}

func (o *summaryOptions) write(ctx context.Context, c *call) error {
	signers, err := o.signers()
	if err != nil {
		return err
	}
	extra, err := parseMetadata(o.metadata)
	if err != nil {
		return err
	}
	sign := sign.Func(signers...)
	if id := c.repo.CollectionID(); id != "" {
		if err := c.writeMetadataCommit(ctx, id, extra, sign); err != nil {
			return err
		}
	}
	return c.repo.WriteSummary(ctx, ostree.SummaryOptions{Metadata: extra, Sign: sign})
}

func (o *summaryOptions) signers() ([]sign.Signer, error) {
	var out []sign.Signer
	for _, id := range o.gpgKeys {
		out = append(out, gpg.Signer{KeyID: id, Homedir: o.gpgHomedir})
	}
	if len(o.keys) == 0 {
		return out, nil
	}
	more, err := o.sign.signers(o.keys)
	return append(out, more...), err
}

// parseMetadata reads KEY=VALUE, the value in the text form of GVariant.
func parseMetadata(args []string) (gvariant.Dict, error) {
	var d gvariant.Dict
	for _, kv := range args {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return d, failf("Missing '=' in KEY=VALUE metadata '%s'", kv)
		}
		v, err := gvariant.ParseText(value)
		if err != nil {
			return d, fmt.Errorf("Error parsing variant ‘%s’: %w", value, err) //nolint:staticcheck // ST1005: libostree's text
		}
		d.Set(key, v)
	}
	return d, nil
}

// metadataRef names the commits that describe a repository with a collection id.
const metadataRef = "ostree-metadata"

// writeMetadataCommit adds an empty commit that carries the summary's metadata to
// those who pull refs of the collection from elsewhere.
func (c *call) writeMetadataCommit(ctx context.Context, id string, extra gvariant.Dict, sign func(context.Context, []byte) (gvariant.Dict, error)) error {
	meta := extra
	meta.Set("ostree.collection-binding", gvariant.String(id))
	meta.Set("ostree.ref-binding", gvariant.Strings([]string{metadataRef}))
	parent, err := c.repo.ReadRef(metadataRef)
	if err != nil && !errors.Is(err, ostree.ErrNotFound) {
		return err
	}
	_, err = c.repo.Update(ctx, func(ctx context.Context, t *ostree.Txn) error {
		empty := ostree.NewMTree()
		dir, err := ostree.DirMeta{Mode: syscall.S_IFDIR | 0o755}.Marshal()
		if err != nil {
			return err
		}
		sum, err := t.WriteMetadata(ctx, ostree.TypeDirMeta, dir)
		if err != nil {
			return err
		}
		empty.SetMetaChecksum(sum)
		commit := ostree.Commit{Metadata: meta, Parent: parent, Timestamp: uint64(time.Now().Unix())}
		if commit.RootTree, commit.RootMeta, err = t.WriteTree(ctx, empty); err != nil {
			return err
		}
		name, err := t.WriteCommit(ctx, commit)
		if err != nil {
			return err
		}
		if err := signNewCommit(ctx, t, name, commit, sign); err != nil {
			return err
		}
		return t.SetCollectionRef(ostree.CollectionRef{Collection: id, Ref: metadataRef}, name)
	})
	return err
}

func signNewCommit(ctx context.Context, t *ostree.Txn, name ostree.Checksum, commit ostree.Commit, sign func(context.Context, []byte) (gvariant.Dict, error)) error {
	if sign == nil {
		return nil
	}
	raw, err := commit.Marshal()
	if err != nil {
		return err
	}
	d, err := sign(ctx, raw)
	if err != nil {
		return err
	}
	return t.SetCommitMeta(ctx, name, d)
}
