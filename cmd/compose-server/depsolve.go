// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

type depsolveFlags struct {
	repos, repoFiles, exclude []string
	modules, noModules        []string
	arch, releasever, cache   string
	platform                  string
	noWeak, json, offline     bool
}

func (a *app) depsolveCmd() *cobra.Command {
	var f depsolveFlags
	cmd := &cobra.Command{
		Use:   "depsolve --repo ID=URL-OR-PATH … SPEC…",
		Short: "Say which packages a request needs, or why it cannot be met",
		Long: `Solve a request against yum repositories and print the packages, sorted, one
NAME-[EPOCH:]VERSION-RELEASE.ARCH a line. Nothing but metadata is downloaded.

A SPEC is a name, NAME.ARCH, NAME-VERSION[-RELEASE][.ARCH], "NAME >= VERSION", a
shell pattern, a path, anything a package provides, a rich dependency in
parentheses, @GROUP, @^ENVIRONMENT or @MODULE:STREAM[/PROFILE].

When there is no answer the reasons are printed, from the request down to what
stands in its way, and the exit status is 1.`,
		Example: `  compose-server depsolve --repo base=/srv/mirror/BaseOS bash @core
  compose-server depsolve --repo-file fedora.repo --releasever 42 --json 'glibc >= 2.40'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.UsageError{Err: errors.New("name at least one package")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.depsolve(cmd.Context(), args, f) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.repos, "repo", nil, "ID=URL-OR-PATH of a repository (repeatable)")
	fl.StringArrayVar(&f.repoFiles, "repo-file", nil, ".repo file whose enabled repositories are used (repeatable)")
	fl.StringVar(&f.arch, "arch", "x86_64", "architecture to solve for")
	fl.StringVar(&f.releasever, "releasever", "", "value of $releasever in .repo files and addresses")
	fl.StringVar(&f.cache, "cachedir", "", "folder for metadata (default: the user's cache)")
	fl.StringArrayVar(&f.exclude, "exclude", nil, "package to leave out (repeatable, patterns allowed)")
	fl.StringArrayVar(&f.modules, "enable-module", nil, "NAME[:STREAM] to enable (repeatable)")
	fl.StringArrayVar(&f.noModules, "disable-module", nil, "module whose default stream is not used (repeatable)")
	fl.StringVar(&f.platform, "platform", "", "stream of the platform module, such as el9 (default: any)")
	fl.BoolVar(&f.noWeak, "no-weak-deps", false, "leave out what is only recommended")
	fl.BoolVar(&f.json, "json", false, "print the answer, or the reasons, as JSON")
	fl.BoolVar(&f.offline, "offline", false, "use the metadata of the last run")
	return cmd
}

func (a *app) depsolve(ctx context.Context, specs []string, f depsolveFlags) error {
	repos, err := f.definitions()
	if err != nil {
		return err
	}
	cache, err := openCache(f.cache)
	if err != nil {
		return err
	}
	defer cache.Close()
	src := rpmcompose.Sources{Cache: cache, Progress: a.Progress(), Log: a.Log(), Offline: f.offline}
	res, err := rpmcompose.Depsolve(ctx, rpmcompose.DepsolveRequest{
		Repos: repos, Specs: specs, Exclude: f.exclude, Arch: f.arch, NoWeak: f.noWeak,
		Modules: rpmmd.ModuleChoice{Enable: f.modules, Disable: f.noModules, Platform: f.platform},
	}, src)
	if err != nil {
		return a.depsolveFailed(explainOffline(err), f.json)
	}
	if f.json {
		return a.PrintJSON(res)
	}
	var lines []string
	for _, p := range res.Packages {
		lines = append(lines, p.NEVRA())
	}
	slices.Sort(lines)
	for _, line := range lines {
		a.Line("%s", line)
	}
	return nil
}

// depsolveFailed prints the reasons where there is no answer; the error that is
// returned then only gives the exit status.
func (a *app) depsolveFailed(err error, asJSON bool) error {
	var u *solve.Unsolvable
	if !errors.As(err, &u) {
		return err
	}
	if asJSON {
		if err := a.PrintJSON(map[string]any{"problems": u.Reasons}); err != nil {
			return err
		}
	} else {
		for _, r := range u.Reasons {
			a.Line("%s", r)
		}
	}
	return errors.New("no set of packages meets the request")
}

// definitions gives the repositories of the command line and of .repo files.
func (f depsolveFlags) definitions() ([]rpmmd.Repo, error) {
	vars := map[string]string{"arch": f.arch, "basearch": f.arch, "releasever": f.releasever}
	vars["releasever_major"], vars["releasever_minor"], _ = strings.Cut(f.releasever, ".")
	var out []rpmmd.Repo
	for _, def := range f.repos {
		id, where, ok := strings.Cut(def, "=")
		if !ok || id == "" || where == "" {
			return nil, ui.UsageError{Err: fmt.Errorf("--repo %q: want ID=URL-OR-PATH", def)}
		}
		where = rpmmd.Expand(where, vars)
		if !strings.Contains(where, "://") {
			abs, err := filepath.Abs(where)
			if err != nil {
				return nil, err
			}
			where = abs
		}
		out = append(out, rpmmd.Repo{ID: id, BaseURLs: []string{where}, Enabled: true, Priority: rpmmd.DefaultPriority, Cost: rpmmd.DefaultCost})
	}
	for _, name := range f.repoFiles {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read repository definition: %w", err)
		}
		list, err := rpmmd.ParseRepos(name, data, vars)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if r.Enabled {
				out = append(out, r)
			}
		}
	}
	seen := map[string]bool{}
	for _, r := range out {
		if seen[r.ID] {
			return nil, ui.UsageError{Err: fmt.Errorf("repository %q is defined twice", r.ID)}
		}
		seen[r.ID] = true
	}
	if len(out) == 0 {
		return nil, ui.UsageError{Err: errors.New("no repository: give --repo ID=URL-OR-PATH or --repo-file FILE")}
	}
	return out, nil
}
