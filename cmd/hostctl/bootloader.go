// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) bootloaderCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootloader",
		Short: "Show and update the boot loader's own files",
		Long: `The boot loader's own files lie on the EFI system partition and are not part of
a deployment. These verbs compare them with what the running deployment
brings in /usr/lib/systemd/boot/efi, /usr/lib/bootupd/updates or /usr/lib/ostree-boot.`,
		Example: "  hostctl bootloader status\n  hostctl bootloader update",
		Args:    cli.NoArgs,
	}
	cmd.AddCommand(a.bootloaderStatusCmd(), a.bootloaderUpdateCmd())
	return cmd
}

func (a *app) bootloaderStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Compare the installed boot loader with the running deployment's",
		Example: "  hostctl bootloader status --json",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBinaries(cmd.Context(), false, func(_, _ *fsx.Dir, plan []bootloader.Binary) error {
				if asJSON {
					return a.PrintJSON(plan)
				}
				a.printBinaries(plan)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the files as JSON")
	return cmd
}

func (a *app) bootloaderUpdateCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "update",
		Short: "Replace outdated files of the boot loader",
		Long: `Replace the boot loader's outdated files by the running deployment's. Every file
is whole at every moment, the old one or the new one; what shim starts is replaced
before shim. Nothing is installed that is not there, and these stay: a file that is
newer than the deployment's, one that is signed if the deployment's is not, and
another program of the same name.`,
		Example: "  hostctl bootloader update",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withBinaries(ctx, true, func(tree, esp *fsx.Dir, plan []bootloader.Binary) error {
				if err := bootloader.UpdateBinaries(ctx, tree, esp, plan); err != nil {
					return err
				}
				n := 0
				for _, b := range plan {
					switch b.State {
					case bootloader.BinaryOutdated:
						a.Line("Updated: %s", b.Path)
						n++
					case bootloader.BinaryUnsigned:
						a.Line("Left alone: %s is signed, the deployment's is not", b.Path)
					case bootloader.BinaryOther:
						a.Line("Left alone: %s is another program than the deployment's", b.Path)
					}
				}
				if n == 0 {
					a.Line("Nothing to update.")
				}
				return nil
			})
		},
	}
}

func (a *app) printBinaries(plan []bootloader.Binary) {
	if len(plan) == 0 {
		a.Line("The running deployment brings no boot loader that is installed.")
	}
	for _, b := range plan {
		version := ""
		if b.Version != "" {
			version = fmt.Sprintf(" (%s, deployment %s)", b.Version, b.Offered)
		}
		a.Line("%-9s %s%s", b.State, b.Path, version)
	}
}

// withBinaries compares the boot loader with the running deployment's, under the
// lock if it is to be changed.
func (a *app) withBinaries(ctx context.Context, change bool, fn func(tree, esp *fsx.Dir, plan []bootloader.Binary) error) error {
	return a.withSysroot(change, func(s *deploy.Sysroot) error {
		compare := func() error {
			return a.compareBinaries(ctx, s, fn)
		}
		if !change {
			return compare()
		}
		return s.WithLock(ctx, func(*deploy.Locked) error { return compare() })
	})
}

func (a *app) compareBinaries(ctx context.Context, s *deploy.Sysroot, fn func(tree, esp *fsx.Dir, plan []bootloader.Binary) error) error {
	st, err := s.Load(ctx)
	if err != nil {
		return err
	}
	d, ok := st.Booted()
	if !ok {
		d, ok = st.Default()
	}
	if !ok {
		return fmt.Errorf("compare boot loaders: %w", deploy.ErrNoDeployment)
	}
	tree, err := s.Dir().OpenDir(d.Dir())
	if err != nil {
		return err
	}
	defer tree.Close()
	esp, err := s.OpenESP()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no EFI system partition is mounted as /boot, /efi or /boot/efi: %w", err)
	}
	if err != nil {
		return err
	}
	defer esp.Close()
	plan, err := bootloader.PlanBinaries(ctx, tree, esp)
	if err != nil {
		return err
	}
	return fn(tree, esp, plan)
}
