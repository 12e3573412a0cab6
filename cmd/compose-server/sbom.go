// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/sbom"
)

func (a *app) sbomCmd() *cobra.Command {
	var repo, format, output string
	cmd := &cobra.Command{
		Use:   "sbom --repo DIR COMMIT",
		Short: "Write the bill of materials of a commit",
		Long: `Write which packages a commit holds, with versions, licences, suppliers,
checksums and dependencies, as SPDX 2.3 or CycloneDX 1.6 in JSON. The commit is
given by ref, checksum or the beginning of one.

The same commit gives the same document: times and names in it come from the
commit.`,
		Example: `  compose-server sbom --repo /srv/repo example/x86_64/server
  compose-server sbom --repo /srv/repo --format cyclonedx -o server.cdx.json 1f2e3d`,
		Args: cli.OneArg("one commit"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(sbom.Formats(), sbom.Format(format)) {
				return ui.UsageError{Err: fmt.Errorf("--format %q: want spdx or cyclonedx", format)}
			}
			r, err := a.openRepo(repo)
			if err != nil {
				return err
			}
			defer r.Close()
			return a.sbom(cmd.Context(), r, args[0], sbom.Format(format), output)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&repo, "repo", "r", "", "repository with the commit")
	fl.StringVar(&format, "format", string(sbom.SPDX), "spdx or cyclonedx")
	fl.StringVarP(&output, "output", "o", "", "file to write to (default: standard output)")
	_ = cmd.MarkFlagRequired("repo")
	return cmd
}

func (a *app) sbom(ctx context.Context, r *ostree.Repo, rev string, format sbom.Format, output string) error {
	sum, err := r.Resolve(rev)
	if err != nil {
		return err
	}
	inv, err := sbom.Read(ctx, r, sum)
	if err != nil {
		return err
	}
	doc, err := inv.Document(format)
	if err != nil {
		return err
	}
	if output != "" {
		return os.WriteFile(output, doc, 0o644)
	}
	_, err = a.Out.Write(doc)
	return err
}

// writeSBOMs writes the documents of a commit into a folder, which is made if need
// be, as COMMIT.spdx.json and COMMIT.cdx.json. It gives their paths by format; none
// where no folder is named.
func writeSBOMs(ctx context.Context, r *ostree.Repo, sum ostree.Checksum, dir string) (map[sbom.Format]string, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder for bills of materials: %w", err)
	}
	inv, err := sbom.Read(ctx, r, sum)
	if err != nil {
		return nil, err
	}
	out := map[sbom.Format]string{}
	for _, f := range sbom.Formats() {
		doc, err := inv.Document(f)
		if err != nil {
			return nil, err
		}
		out[f] = filepath.Join(dir, sum.String()+f.Suffix())
		if err := os.WriteFile(out[f], doc, 0o644); err != nil {
			return nil, err
		}
	}
	return out, nil
}
