// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/hostctl/hostctl/pkg/ostree"
)

func catVerb() *verb {
	return &verb{
		name: "cat", args: "COMMIT PATH...", summary: "Concatenate contents of files",
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 2 {
				return c.usageError("A COMMIT and at least one PATH argument are required")
			}
			sum, err := c.commitOf(c.args[0])
			if err != nil {
				return err
			}
			for _, p := range c.args[1:] {
				if err := c.cat(sum, p); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// commitOf resolves a rev to a commit that is stored.
func (c *call) commitOf(rev string) (ostree.Checksum, error) {
	sum, err := c.repo.Resolve(rev)
	if err != nil {
		return sum, err
	}
	_, err = c.repo.LoadCommit(sum)
	return sum, err
}

func (c *call) cat(commit ostree.Checksum, p string) error {
	_, rc, err := c.repo.OpenPath(commit, p)
	if err != nil {
		return pathError(p, err)
	}
	defer rc.Close()
	if _, err := io.Copy(c.Out, rc); err != nil {
		return fmt.Errorf("read %s: %w", p, err)
	}
	return nil
}

// pathError tells why a path of a commit cannot be read, in libostree's words.
func pathError(p string, err error) error {
	switch {
	case errors.Is(err, ostree.ErrNotDir):
		return ostree.ErrNotDir
	case errors.Is(err, ostree.ErrIsDir):
		return ostree.ErrIsDir
	case errors.Is(err, ostree.ErrNotFound):
		return failf("No such file or directory: %s", path.Join("/", p))
	}
	return err
}
