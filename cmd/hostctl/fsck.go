// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// errCorrupt reports findings of fsck.
var errCorrupt = errors.New("the repository is damaged")

func (a *app) fsckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "fsck",
		Short: "Verify every object of this host's repository against its checksum",
		Long: `Verify every object of this host's repository against its checksum, and the
composefs images of the deployments against their commits.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Writable for the repository's lock, which keeps a prune away meanwhile.
			return a.withSysroot(true, func(s *deploy.Sysroot) error {
				res, err := s.Repo().Fsck(cmd.Context(), ostree.FsckOptions{})
				if err != nil {
					return err
				}
				for _, f := range res.Findings {
					a.Line("%v", f)
				}
				if n := len(res.Findings); n > 0 {
					return fmt.Errorf("%w: %d of %d objects or refs, the first is %s", errCorrupt, n, res.Objects, res.Findings[0])
				}
				if err := a.checkImages(cmd.Context(), s); err != nil {
					return err
				}
				a.Line("%d commits, %d objects: no errors found", res.Commits, res.Objects)
				return nil
			})
		},
	}
}

func (a *app) checkImages(ctx context.Context, s *deploy.Sysroot) error {
	bad, n, err := s.CheckImages(ctx)
	if err != nil {
		return err
	}
	for _, b := range bad {
		a.Line("%v", b)
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w: %s", errCorrupt, bad[0])
	}
	if n > 0 {
		a.Line("%d composefs images: no errors found", n)
	}
	return nil
}
