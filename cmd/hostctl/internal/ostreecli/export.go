// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"os"

	"github.com/hostctl/hostctl/pkg/ostree"
)

func exportVerb() *verb {
	var o ostree.ExportOptions
	var output text
	return &verb{
		name: "export", args: "COMMIT", summary: "Stream COMMIT to stdout in tar format",
		opts: []option{
			{long: "no-xattrs", dst: &o.SkipXattrs, help: "Skip output of extended attributes"},
			{long: "subpath", arg: "PATH", dst: &o.Subpath, help: "Checkout sub-directory PATH"},
			{long: "prefix", arg: "PATH", dst: &o.Prefix, help: "Add PATH as prefix to archive pathnames"},
			{long: "output", short: 'o', arg: "PATH", dst: &output, help: "Output to PATH "},
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 {
				return c.usageError("A COMMIT argument is required")
			}
			sum, err := c.commitOf(c.args[0])
			if err != nil {
				return err
			}
			if !output.set {
				return exportError(c.repo.ExportTar(ctx, sum, c.Out, o), o.Subpath)
			}
			f, err := os.Create(output.value)
			if err != nil {
				return err
			}
			err = c.repo.ExportTar(ctx, sum, f, o)
			return errors.Join(exportError(err, o.Subpath), f.Close())
		},
	}
}

func exportError(err error, subpath string) error {
	if errors.Is(err, ostree.ErrNotFound) && subpath != "" {
		return pathError(subpath, err)
	}
	return err
}
