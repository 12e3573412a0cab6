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
		Long: `Build a raw disk image for BIOS machines: a GUID partition table, GRUB, /boot and
/ on ext4. Nothing is mounted. The tree comes from a commit of a repository, or
from a sysroot that "hostctl install" filled. The machine will pull updates of REF
from URL.`,
		Example: `  compose-server image --repo repo --ref example/x86_64/server --url http://server:8080 --gpg-import key.asc --output disk.img`,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.image(cmd.Context(), f) },
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
	const gib = 1 << 30
	_, err = diskimage.Build(ctx, diskimage.Options{Sysroot: root, Dir: dir, Name: filepath.Base(f.output),
		Size: int64(f.sizeGB * gib), Slack: int64(f.slackGB * gib)})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "Wrote %s\n", f.output)
	return nil
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
