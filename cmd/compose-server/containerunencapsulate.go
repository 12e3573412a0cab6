// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/container"
)

type unencapsulateFlags struct {
	repo, ref string
	auth      container.CopyOptions
	json      bool
}

func (a *app) containerUnencapsulateCmd() *cobra.Command {
	var f unencapsulateFlags
	cmd := &cobra.Command{
		Use:   "container-unencapsulate --repo DIR [--write-ref REF] IMAGE",
		Short: "Take the commit out of a container image",
		Long: `Store the commit of an image that container-encapsulate, rpm-ostree or bootc made. The
repository is made (in archive mode) if it does not exist.

Every digest and checksum is verified, and the commit is the one that the image's label
names. An image with further layers on top of the commit is refused. The commit's own
signatures come with it; they are not judged here.`,
		Example: `  compose-server container-unencapsulate --repo /srv/repo --write-ref example/x86_64/server oci:image`,
		Args:    cli.OneArg("one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.containerUnencapsulate(cmd.Context(), args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.repo, "repo", "", "repository to write to")
	fl.StringVar(&f.ref, "write-ref", "", "ref to set to the commit")
	fl.StringVar(&f.auth.AuthFile, "authfile", "", "file with credentials for skopeo")
	fl.BoolVar(&f.json, "json", false, "print the result as JSON")
	_ = cmd.MarkFlagRequired("repo")
	return cmd
}

func (a *app) containerUnencapsulate(ctx context.Context, image string, f unencapsulateFlags) error {
	src, err := parseImage(image)
	if err != nil {
		return err
	}
	if f.ref != "" {
		if err := ostree.CheckRef(f.ref); err != nil {
			return err
		}
	}
	r, err := openOrCreateRepo(f.repo, a)
	if err != nil {
		return err
	}
	defer r.Close()
	var res *container.Imported
	err = withImage(ctx, src, f.auth, func(img *container.Image) error {
		res, err = container.Import(ctx, r, img, container.ImportOptions{Ref: f.ref, Log: a.Log(), Progress: a.Progress()})
		return err
	})
	if err != nil {
		return err
	}
	if f.json {
		return a.PrintJSON(res)
	}
	a.Line("%s", res.Commit)
	return nil
}
