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

// errBootDamaged reports that /boot has not what the boot menu loads.
var errBootDamaged = errors.New("files in /boot are damaged")

func (a *app) fsckCmd() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Verify every object of this host's repository against its checksum",
		Long: `Verify every object of this host's repository against its checksum, the
composefs images of the deployments against their commits, and what the boot menu
loads from /boot against the deployments. With --repair damaged files in /boot are
copied from the deployments again; "hostctl ostree fsck --repair" repairs objects.`,
		Example: "  hostctl fsck\n  hostctl fsck --repair",
		Args:    cli.NoArgs,
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
				if err := a.checkKernels(cmd.Context(), s, repair); err != nil {
					return err
				}
				a.Line("%d commits, %d objects: no errors found", res.Commits, res.Objects)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "copy damaged or missing files in /boot from the deployments again")
	return cmd
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

// checkKernels checks /boot, under the lock: an upgrade would change it meanwhile.
func (a *app) checkKernels(ctx context.Context, s *deploy.Sysroot, repair bool) error {
	return s.WithLock(ctx, func(l *deploy.Locked) error {
		bad, n, err := s.CheckKernels(ctx)
		if err != nil {
			return err
		}
		for _, b := range bad {
			a.Line("%s", b)
		}
		if len(bad) == 0 {
			a.Line("%d files in /boot: no errors found", n)
			return nil
		}
		if !repair {
			return fmt.Errorf("%w: run \"hostctl fsck --repair\"", errBootDamaged)
		}
		if err := l.RepairKernels(ctx, bad); err != nil {
			return err
		}
		a.Line("%d of %d files in /boot repaired", len(bad), n)
		return nil
	})
}
