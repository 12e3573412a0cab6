// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treediff"
)

type diffFlags struct {
	repo, toRepo             string
	json, markdown           bool
	full, allFiles, exitCode bool
	updateinfo               []string
}

func (a *app) diffCmd() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff --repo DIR [A] B",
		Short: "Say how two commits differ: packages, changelogs, advisories, files, sizes",
		Long: `Compare two commits, given by ref, checksum or the beginning of one; with one
argument, a commit with its parent.

Packages come from the package databases in the trees. Changelogs are what the
newer package has and the older has not. Advisories are the security advisories
that the new commit lists and the old does not, or with --updateinfo whatever
lies between the versions. The text shows the first changelog entries and those
files that belong to no changed package; --full shows everything, and so does
--json. The files of the package database are left out unless --all-files asks
for them.`,
		Example: `  compose-server diff --repo /srv/repo example/x86_64/server
  compose-server diff --repo /srv/repo --markdown --full 1f2e3d example/x86_64/server`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return ui.UsageError{Err: errors.New("name one or two commits")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.diff(cmd.Context(), args, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.repo, "repo", "r", "", "repository with the commits")
	fl.StringVar(&f.toRepo, "to-repo", "", "repository with the second commit (default: that of --repo)")
	fl.BoolVar(&f.json, "json", false, "print everything as JSON (docs/diff.md)")
	fl.BoolVar(&f.markdown, "markdown", false, "print Markdown, for release notes")
	fl.BoolVar(&f.full, "full", false, "show all changelog entries and all files")
	fl.BoolVar(&f.allFiles, "all-files", false, "compare the files of the package database, too")
	fl.BoolVar(&f.exitCode, "exit-code", false, "exit with 1 when the trees differ")
	fl.StringArrayVar(&f.updateinfo, "updateinfo", nil, "updateinfo.xml with the advisories, plain or compressed (repeatable)")
	_ = cmd.MarkFlagRequired("repo")
	cmd.MarkFlagsMutuallyExclusive("json", "markdown")
	return cmd
}

// errTreesDiffer gives --exit-code its status.
var errTreesDiffer = errors.New("the trees differ")

func (a *app) diff(ctx context.Context, revs []string, f diffFlags) error {
	from, err := a.openRepo(f.repo)
	if err != nil {
		return err
	}
	defer from.Close()
	to := from
	if f.toRepo != "" {
		if to, err = a.openRepo(f.toRepo); err != nil {
			return err
		}
		defer to.Close()
	}
	if len(revs) == 1 {
		revs = []string{revs[0] + "^", revs[0]}
	}
	o := treediff.Options{AllFiles: f.allFiles}
	if o.Advisories, err = readUpdateinfo(f.updateinfo); err != nil {
		return err
	}
	d, err := treediff.Compare(ctx, treediff.Side{Repo: from, Rev: revs[0]}, treediff.Side{Repo: to, Rev: revs[1]}, o)
	if err != nil {
		return err
	}
	switch {
	case f.json:
		err = a.PrintJSON(d)
	case f.markdown:
		err = printAll(a.Out, diffMarkdown(newReport(d, f.full)))
	default:
		err = printAll(a.Out, diffText(newReport(d, f.full)))
	}
	if err == nil && f.exitCode && !d.Same {
		return ui.AnswerError{Err: errTreesDiffer}
	}
	return err
}

func printAll(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// maxUpdateinfo bounds an updateinfo.xml, unpacked, in bytes: ten times what a
// distribution has after years.
const maxUpdateinfo = 512 << 20

// readUpdateinfo reads files of advisories; nil where none is named.
func readUpdateinfo(names []string) ([]rpmmd.Advisory, error) {
	var out []rpmmd.Advisory
	for _, name := range names {
		list, err := readUpdateinfoFile(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		// Not nil where a file has none.
		out = append(append([]rpmmd.Advisory{}, out...), list...)
	}
	return out, nil
}

func readUpdateinfoFile(name string) ([]rpmmd.Advisory, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := rpm.Decompress(f, "")
	if err != nil {
		return nil, err
	}
	defer z.Close()
	text, err := io.ReadAll(io.LimitReader(z, maxUpdateinfo+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxUpdateinfo {
		return nil, fmt.Errorf("more than %d bytes", maxUpdateinfo)
	}
	return rpmmd.ParseUpdateinfo(text)
}
