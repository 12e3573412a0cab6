// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/container"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
)

// encapsulateFlags have the names of rpm-ostree compose container-encapsulate, where it
// has them.
type encapsulateFlags struct {
	repo, arch, config     string
	labels, cmd            []string
	copyMeta, copyMetaOpt  []string
	maxLayers              int
	compression            string
	previous, previousFile string
	auth                   container.CopyOptions
	json                   bool
}

func (a *app) containerEncapsulateCmd() *cobra.Command {
	var f encapsulateFlags
	cmd := &cobra.Command{
		Use:   "container-encapsulate --repo DIR REF IMAGE",
		Short: "Make a container image of a commit",
		Long: `Make an OCI image of a commit, in the form that bootc and rpm-ostree boot from. The
image also runs as an ordinary container.

IMAGE is oci:FOLDER[:TAG], oci-archive:FILE[:TAG], or what skopeo writes to, such as
docker://registry/name:tag. The same commit and options give the same image.

The first layer has the commit and all directories. The files are spread over further
layers by package, so that an update brings few new layers; --previous keeps the split
of an earlier image. Without a package database all files are in one layer.`,
		Example: `  compose-server container-encapsulate --repo /srv/repo example/x86_64/server oci:image
  compose-server container-encapsulate --repo /srv/repo --previous oci:old example/x86_64/server docker://registry.example.com/os:latest`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return ui.UsageError{Err: errors.New("want a ref and an image")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.containerEncapsulate(cmd.Context(), args[0], args[1], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.repo, "repo", "", "repository with the commit")
	fl.StringVar(&f.arch, "arch", "", "architecture of the image, such as x86_64 or amd64 (default: that of the packages)")
	fl.StringVar(&f.config, "image-config", "", "JSON file with the part \"config\" of the image's configuration to begin with")
	fl.StringArrayVarP(&f.labels, "label", "l", nil, "KEY=VALUE of a label (repeatable)")
	fl.StringArrayVar(&f.cmd, "cmd", nil, "word of the command that a container runs (repeatable; default: the treefile's container-cmd)")
	fl.StringArrayVar(&f.copyMeta, "copymeta", nil, "key of the commit's metadata to copy to a label (repeatable)")
	fl.StringArrayVar(&f.copyMetaOpt, "copymeta-opt", nil, "the same, if the commit has it (repeatable)")
	fl.IntVar(&f.maxLayers, "max-layers", container.DefaultLayers, "most layers of the image")
	fl.StringVar(&f.compression, "compression", "gzip", "compression of the layers: gzip or zstd")
	fl.StringVar(&f.previous, "previous", "", "earlier image, oci: or oci-archive:, whose split into layers is kept")
	fl.StringVar(&f.previousFile, "previous-build-manifest", "", "file with the manifest of an earlier image, for the same")
	fl.StringVar(&f.auth.AuthFile, "authfile", "", "file with credentials for skopeo")
	fl.BoolVar(&f.json, "json", false, "print the result as JSON")
	_ = cmd.MarkFlagRequired("repo")
	cmd.MarkFlagsMutuallyExclusive("previous", "previous-build-manifest")
	return cmd
}

func (a *app) containerEncapsulate(ctx context.Context, rev, image string, f encapsulateFlags) error {
	dst, err := parseImage(image)
	if err != nil {
		return err
	}
	o, err := f.options(ctx)
	if err != nil {
		return err
	}
	o.Log, o.Progress, o.Tag = a.Log(), a.Progress(), dst.Tag
	r, err := a.openRepo(f.repo)
	if err != nil {
		return err
	}
	defer r.Close()
	commit, err := r.Resolve(rev)
	if err != nil {
		return err
	}
	if err := a.imageContents(ctx, r, commit, &o); err != nil {
		return err
	}
	res, err := writeImage(ctx, r, commit, dst, o, f.auth)
	if err != nil {
		return err
	}
	if f.json {
		return a.PrintJSON(res)
	}
	a.printImage(dst, res)
	return nil
}

// imageContents reads which files belong to which packages, and for which machine
// these are.
func (a *app) imageContents(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, o *container.EncapsulateOptions) error {
	pkgs, err := rpmdb.ReadCommit(ctx, r, commit)
	if errors.Is(err, rpmdb.ErrNoDatabase) {
		a.Log().Warn("the commit has no package database: all files are in one layer")
		return nil
	}
	if err != nil {
		return err
	}
	if o.Architecture == "" {
		o.Architecture = imageArch(mainArch(pkgs))
	}
	o.Contents, err = rpmcompose.ImageContents(ctx, r, commit, pkgs)
	return err
}

// mainArch is the architecture of most packages.
func mainArch(pkgs []*rpm.Package) (arch string) {
	count := map[string]int{}
	for _, p := range pkgs {
		if n := p.Arch(); n != "noarch" && n != "" {
			count[n]++
			if count[n] > count[arch] {
				arch = n
			}
		}
	}
	return arch
}

// imageArch translates a package's architecture into that of images; others have the
// same name in both.
func imageArch(arch string) string {
	names := map[string]string{"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i386": "386", "armv7hl": "arm", "loongarch64": "loong64"}
	if n, ok := names[arch]; ok {
		return n
	}
	return arch
}

func (f encapsulateFlags) options(ctx context.Context) (o container.EncapsulateOptions, err error) {
	o = container.EncapsulateOptions{Architecture: imageArch(f.arch), MaxLayers: f.maxLayers, Cmd: f.cmd, Labels: map[string]string{},
		CopyMeta: f.copyMeta, CopyMetaOptional: append([]string{"rpmostree.inputhash"}, f.copyMetaOpt...)}
	if f.maxLayers < 1 {
		return o, ui.UsageError{Err: fmt.Errorf("--max-layers %d: an image has at least one", f.maxLayers)}
	}
	switch f.compression {
	case "gzip":
	case "zstd":
		o.Compression = container.Zstd
	default:
		return o, ui.UsageError{Err: fmt.Errorf("--compression %q: want gzip or zstd", f.compression)}
	}
	for _, kv := range f.labels {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return o, ui.UsageError{Err: fmt.Errorf("--label %q: want KEY=VALUE", kv)}
		}
		o.Labels[k] = v
	}
	if f.config != "" {
		data, err := os.ReadFile(f.config)
		if err == nil {
			o.Base, err = container.ParseRunConfig(data)
		}
		if err != nil {
			return o, fmt.Errorf("read %s: %w", f.config, err)
		}
	}
	o.Previous, err = f.previousManifest(ctx)
	return o, err
}

func (f encapsulateFlags) previousManifest(ctx context.Context) (m *container.Manifest, err error) {
	switch {
	case f.previousFile != "":
		data, err := os.ReadFile(f.previousFile)
		if err == nil {
			m, err = container.ParseManifest(data)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.previousFile, err)
		}
		return m, nil
	case f.previous != "":
		ref, err := parseImage(f.previous)
		if err != nil {
			return nil, err
		}
		if !ref.Native() {
			return nil, ui.UsageError{Err: fmt.Errorf("--previous %s: want oci: or oci-archive:; for others write the manifest to a file (skopeo inspect --raw) and give it with --previous-build-manifest", ref)}
		}
		err = withImage(ctx, ref, f.auth, func(img *container.Image) error {
			m = img.Manifest
			return nil
		})
		return m, err
	}
	return nil, nil
}

// writeImage writes a layout, and takes it to where the image is wanted.
func writeImage(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, dst container.Reference, o container.EncapsulateOptions, auth container.CopyOptions) (res *container.Encapsulated, err error) {
	if dst.Transport == container.TransportLayout {
		if err := os.MkdirAll(dst.Path, 0o755); err != nil {
			return nil, fmt.Errorf("make folder of the image: %w", err)
		}
		d, err := fsx.OpenDir(dst.Path)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return container.Encapsulate(ctx, r, commit, d, o)
	}
	place := ""
	if dst.Native() {
		place = filepath.Dir(dst.Path)
	}
	d, done, err := scratch(place)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if res, err = container.Encapsulate(ctx, r, commit, d, o); err != nil {
		return nil, err
	}
	if !dst.Native() {
		return res, container.Copy(ctx, container.Reference{Transport: container.TransportLayout, Path: d.Path()}, dst, auth)
	}
	return res, writeArchive(ctx, d, dst.Path)
}

func writeArchive(ctx context.Context, layout *fsx.Dir, file string) error {
	d, err := fsx.OpenDir(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := d.CreateAtomic(filepath.Base(file), 0o644)
	if err != nil {
		return err
	}
	defer f.Cancel()
	if err := container.WriteArchive(ctx, layout, f); err != nil {
		return err
	}
	return f.Commit()
}

func (a *app) printImage(dst container.Reference, res *container.Encapsulated) {
	all, fresh := res.Size()
	kept := 0
	for _, l := range res.Layers {
		if l.Kept {
			kept++
		}
	}
	more := ""
	if kept > 0 {
		more = fmt.Sprintf("; %d as in the previous image, %s to download", kept, ui.Bytes(fresh))
	}
	a.Line("%s => %s", res.Commit, dst)
	a.Line("%d layers, %s%s", len(res.Layers), ui.Bytes(all), more)
	a.Line("Digest: %s", res.Manifest.Digest)
}
