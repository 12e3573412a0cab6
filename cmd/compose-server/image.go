// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
)

type imageFlags struct {
	cli.InstallFlags
	sysroot, repo, rev, output string
	sizeGB, slackGB            float64
}

func (a *app) imageCmd() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "image --output FILE (--repo DIR --ref REF --url URL | --sysroot DIR)",
		Short: "Build a bootable raw disk image",
		Long: `Build a raw disk image: a GUID partition table, a boot loader, /boot, and / on
ext4. Nothing is mounted. The tree comes from a commit of a repository, or from a
sysroot that "hostctl install" filled with the same --boot. The machine will pull
updates of REF from URL.

--boot says how the machine starts. The boot loader comes from the tree:
  bios-grub          GRUB in a BIOS boot partition, /boot on ext4
                     (usr/lib/grub/i386-pc; this machine's where the tree has none)
  uefi-grub          GRUB on an EFI system partition, mounted at /boot/efi; /boot on
                     ext4 (usr/lib/ostree-boot/efi as it is, with shim; else
                     usr/lib/grub/x86_64-efi-signed or .../x86_64-efi/monolithic)
  uefi-systemd-boot  systemd-boot, kernels and entries on an EFI system partition
                     that is /boot (usr/lib/systemd/boot/efi)`,
		Example: `  compose-server image --repo repo --ref example/x86_64/server --url http://server:8080 --gpg-import key.asc --output disk.img
  compose-server image --boot uefi-systemd-boot --sysroot sysroot --output disk.img`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.image(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "", "file to write; replaced when the new image is complete")
	fl.StringVar(&f.sysroot, "sysroot", "", "sysroot to build from")
	fl.StringVar(&f.repo, "repo", "", "repository to install from")
	fl.StringVar(&f.rev, "rev", "", "commit to install: a checksum or REF^ (default: the branch's newest)")
	fl.Float64Var(&f.sizeGB, "size", 0, "size of the disk in GiB (default: what it holds and --slack)")
	fl.Float64Var(&f.slackGB, "slack", 2, "free space of the root filesystem in GiB")
	f.Add(fl, defaultKargs())
	_ = cmd.MarkFlagRequired("output")
	cmd.MarkFlagsMutuallyExclusive("sysroot", "repo")
	cmd.MarkFlagsOneRequired("sysroot", "repo")
	return cmd
}

func defaultKargs() []string {
	return []string{"root=LABEL=root", "rw", "console=tty0", "console=ttyS0"}
}

func (a *app) image(ctx context.Context, f imageFlags) (err error) {
	dir, err := fsx.OpenDir(filepath.Dir(f.output))
	if err != nil {
		return fmt.Errorf("open folder of the image: %w", err)
	}
	defer dir.Close()
	sysroot := f.sysroot
	if f.repo != "" {
		if f.Ref == "" || f.URL == "" {
			return ui.UsageError{Err: errors.New("--repo needs --ref and --url")}
		}
		if sysroot, err = os.MkdirTemp(filepath.Dir(f.output), ".sysroot-"); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, dir.RemoveAll(filepath.Base(sysroot)))
		}()
	}
	root, err := fsx.OpenDir(sysroot)
	if err != nil {
		return fmt.Errorf("open sysroot: %w", err)
	}
	defer root.Close()
	if f.repo != "" {
		if err := a.installInto(ctx, root, f); err != nil {
			return err
		}
	}
	if err := buildImage(ctx, root, dir, f); err != nil {
		return err
	}
	a.Line("Wrote %s", f.output)
	return nil
}

func buildImage(ctx context.Context, root, dir *fsx.Dir, f imageFlags) error {
	boot, err := diskimage.ParseBoot(f.Boot)
	if err != nil {
		return ui.UsageError{Err: fmt.Errorf("--boot: %w", err)}
	}
	tree, err := diskimage.BootTree(ctx, root)
	if err != nil {
		return err
	}
	defer tree.Close()
	const gib = 1 << 30
	_, err = diskimage.Build(ctx, diskimage.Options{Sysroot: root, Dir: dir, Name: filepath.Base(f.output), Boot: boot, Tree: tree,
		Size: int64(f.sizeGB * gib), Slack: int64(f.slackGB * gib)})
	return err
}

func (a *app) installInto(ctx context.Context, root *fsx.Dir, f imageFlags) error {
	commit, err := resolve(f.repo, f.Ref, f.rev)
	if err != nil {
		return err
	}
	from, err := filepath.Abs(f.repo)
	if err != nil {
		return err
	}
	return a.Install(ctx, root, f.InstallFlags, from, commit)
}

func resolve(dir, ref, rev string) (ostree.Checksum, error) {
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return ostree.Checksum{}, fmt.Errorf("open repository: %w", err)
	}
	defer d.Close()
	r, err := ostree.Open(d, ostree.Options{})
	if err != nil {
		return ostree.Checksum{}, err
	}
	defer r.Close()
	if rev == "" {
		rev = ref
	}
	return r.Resolve(rev)
}
