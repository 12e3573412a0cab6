// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
)

// extensionsFlags have the names of rpm-ostree compose extensions.
type extensionsFlags struct {
	repo, baseRev, rootfs string
	output, cache         string
	arch                  string
	variables             map[string]string
	touchIfChanged        string
	json, offline         bool
}

func (a *app) extensionsCmd() *cobra.Command {
	var f extensionsFlags
	cmd := &cobra.Command{
		Use:   "extensions TREEFILE EXTENSIONS --output-dir DIR (--repo DIR | --rootfs DIR)",
		Short: "Download the packages that hosts may add to a tree",
		Long: `Read a list of extensions (YAML), solve for their packages with those of a tree in
place, and download what the tree lacks, verified, into a folder. The file
extensions.json there lists the extensions and the packages.

The tree's packages stay at their builds. Packages of extensions of the kind
"development" are downloaded as they are named, without what they need.

The repositories are those of the treefile and of the extensions, defined in *.repo
files beside the treefile. The tree is the commit on the treefile's ref, or another.`,
		Example: `  compose-server extensions treefile.yaml extensions.yaml --repo /srv/repo --output-dir /srv/extensions
  compose-server extensions treefile.yaml extensions.yaml --repo /srv/repo --base-rev 755950ec --output-dir out --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return ui.UsageError{Err: errors.New("want a treefile and a list of extensions")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.extensions(cmd.Context(), args[0], args[1], f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.repo, "repo", "r", "", "repository with the tree's commit")
	fl.StringVar(&f.baseRev, "base-rev", "", "commit of the tree (default: the treefile's ref)")
	fl.StringVar(&f.rootfs, "rootfs", "", "folder with the tree, instead of a commit")
	fl.StringVar(&f.output, "output-dir", "", "folder for the packages, made if it does not exist")
	fl.StringVar(&f.cache, "cachedir", "", "folder for packages and metadata (default: the user's cache)")
	fl.StringVar(&f.arch, "arch", "x86_64", "architecture of the tree")
	fl.StringToStringVar(&f.variables, "variable", nil, "NAME=VALUE for the treefile's ${NAME} and conditions")
	fl.StringVar(&f.touchIfChanged, "touch-if-changed", "", "file to touch when the folder was changed")
	fl.BoolVar(&f.offline, "offline", false, "use no network: metadata as the last run left it, packages from the cache")
	fl.BoolVar(&f.json, "json", false, "print extensions.json")
	_ = cmd.MarkFlagRequired("output-dir")
	cmd.MarkFlagsMutuallyExclusive("repo", "rootfs")
	cmd.MarkFlagsMutuallyExclusive("base-rev", "rootfs")
	cmd.MarkFlagsOneRequired("repo", "rootfs")
	return cmd
}

func (a *app) extensions(ctx context.Context, tree, list string, f extensionsFlags) error {
	manifest, repos, err := loadTreefile(tree, treeFlags{arch: f.arch, variables: f.variables})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("read extensions: %w", err)
	}
	x, err := rpmcompose.ParseExtensions(list, data)
	if err != nil {
		return err
	}
	base, err := a.basePackages(ctx, manifest.Ref, f)
	if err != nil {
		return err
	}
	cache, err := openCache(f.cache)
	if err != nil {
		return err
	}
	defer cache.Close()
	src := rpmcompose.Sources{Repos: repos, Cache: cache, Progress: a.Progress(), Log: a.Log(), Offline: f.offline}
	plan, err := rpmcompose.ResolveExtensions(ctx, manifest, x, base, src)
	if err != nil {
		return explainOffline(err)
	}
	if err := os.MkdirAll(f.output, 0o755); err != nil {
		return fmt.Errorf("make folder of extensions: %w", err)
	}
	dst, err := fsx.OpenDir(f.output)
	if err != nil {
		return err
	}
	defer dst.Close()
	changed, err := plan.Write(ctx, src, dst)
	if err != nil {
		return explainOffline(err)
	}
	if changed && f.touchIfChanged != "" {
		if err := os.WriteFile(f.touchIfChanged, nil, 0o644); err != nil {
			return err
		}
	}
	if f.json {
		return a.PrintJSON(plan)
	}
	a.printExtensions(plan, changed)
	return nil
}

func (a *app) printExtensions(plan *rpmcompose.ExtensionsPlan, changed bool) {
	var bytes int64
	for _, p := range plan.Packages {
		bytes += p.Size
		a.Line("%s (%s, %s)", p.NEVRA(), p.Repo, p.Kind)
	}
	word := "No change"
	if changed {
		word = "Wrote"
	}
	a.Line("%s: %d packages of %d extensions, %s", word, len(plan.Packages), len(plan.Extensions.Extensions), ui.Bytes(bytes))
}

// basePackages reads the package database of the tree.
func (a *app) basePackages(ctx context.Context, ref string, f extensionsFlags) ([]*rpm.Package, error) {
	if f.rootfs != "" {
		d, err := fsx.OpenDir(f.rootfs)
		if err != nil {
			return nil, fmt.Errorf("open tree: %w", err)
		}
		defer d.Close()
		return rpmdb.ReadTree(ctx, d)
	}
	rev := f.baseRev
	if rev == "" {
		rev = ref
	}
	if rev == "" {
		return nil, ui.UsageError{Err: errors.New("the treefile has no ref: give --base-rev")}
	}
	r, err := a.openRepo(f.repo)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	commit, err := r.Resolve(rev)
	if err != nil {
		return nil, err
	}
	return rpmdb.ReadCommit(ctx, r, commit)
}
