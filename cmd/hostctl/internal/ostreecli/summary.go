// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

type summaryOptions struct {
	update, view, raw bool
	listKeys          bool
	printKey          text
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
			{long: "list-metadata-keys", dst: &o.listKeys, help: "List the keys of the summary's metadata"},
			{long: "print-metadata-key", arg: "KEY", dst: &o.printKey, help: "Print the value of a key of the summary's metadata"},
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
				data, err := c.readSummary()
				if err != nil {
					return err
				}
				return c.dumpSummary(data, o.raw)
			case o.listKeys || o.printKey.set:
				return o.metadataKeys(c)
			}
			return failf("No option specified; use -u to update summary")
		},
	}
}

func (c *call) readSummary() ([]byte, error) {
	data, err := c.repo.Dir().ReadFile("summary", ostree.MaxMetadataSize)
	if errors.Is(err, syscall.ENOENT) {
		return nil, failf("openat(summary): %w", syscall.ENOENT)
	}
	if err != nil {
		return nil, fmt.Errorf("read summary: %w", err)
	}
	return data, nil
}

// metadataKeys lists the keys of the summary's metadata, or prints a value.
func (o *summaryOptions) metadataKeys(c *call) error {
	data, err := c.readSummary()
	if err != nil {
		return err
	}
	s, err := ostree.ParseSummary(data)
	if err != nil {
		return err
	}
	if o.listKeys {
		c.printKeys(s.Metadata)
		return nil
	}
	v, ok := s.Metadata.Get(o.printKey.value)
	if !ok {
		return failf("No such metadata key '%s'", o.printKey.value)
	}
	c.dumpVariant(v)
	return nil
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
	if _, err := c.repo.WriteMetadataCommit(ctx, ostree.MetadataCommitOptions{Metadata: extra, Sign: sign}); err != nil {
		return err
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
