// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
)

type installFlags struct {
	cli.InstallFlags
	from, commit string
}

func (a *app) installCmd() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install --sysroot DIR --url URL --ref REF",
		Short: "Make the first deployment in an empty folder or a mounted disk",
		Long: `Initialise a sysroot in an empty folder, pull a ref and deploy it. --boot decides
the form of the boot menu and the lines of /etc/fstab that mount /boot and the EFI
system partition by their labels. The boot loader itself is not installed;
"compose-server image" does that and makes a disk. The machine will follow REF at
URL.`,
		Example: `  hostctl install --sysroot /mnt --url http://server:8080 --ref example/x86_64/server --gpg-import key.asc --karg root=LABEL=root
  hostctl install --sysroot root --boot uefi-grub --url http://server:8080 --ref example/x86_64/server --gpg-import key.asc`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.install(cmd, f) },
	}
	fl := cmd.Flags()
	f.Add(fl, nil)
	fl.StringVar(&f.from, "from", "", "pull from this repository now, such as a local folder (default: --url)")
	fl.StringVar(&f.commit, "commit", "", "checksum of the commit to deploy (default: the branch's newest)")
	for _, name := range []string{"url", "ref"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func (a *app) install(cmd *cobra.Command, f installFlags) error {
	if a.onHost() {
		return ui.UsageError{Err: fmt.Errorf("name the folder to install into with --sysroot")}
	}
	var commit ostree.Checksum
	if f.commit != "" {
		var err error
		if commit, err = ostree.ParseChecksum(f.commit); err != nil {
			return ui.UsageError{Err: fmt.Errorf("--commit: %w", err)}
		}
	}
	if err := os.MkdirAll(a.sysroot, 0o755); err != nil {
		return fmt.Errorf("make sysroot: %w", err)
	}
	d, err := fsx.OpenDir(a.sysroot)
	if err != nil {
		return fmt.Errorf("open sysroot: %w", err)
	}
	defer d.Close()
	return a.Install(cmd.Context(), d, f.InstallFlags, f.from, commit)
}
