// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/etcmerge"
)

func (a *app) configDiffCmd() *cobra.Command {
	var asJSON, text bool
	cmd := &cobra.Command{
		Use:   "config-diff [PATH]...",
		Short: "Show how /etc differs from its defaults",
		Long: `List what was modified (M), added (A) and removed (D) in /etc, compared with the
defaults of the booted deployment. These are the changes that an upgrade carries
over. With paths, or with --text, show the changed lines of each file.`,
		Example: "  hostctl config-diff\n  hostctl config-diff /etc/ssh",
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.ContainsFunc(args, func(a string) bool { return path.Clean(a) == "/etc" }) {
				args, text = nil, text || !asJSON
			}
			paths, err := etcPaths(args)
			if err != nil {
				return err
			}
			if asJSON && text {
				return ui.UsageError{Err: errors.New("--json and --text exclude each other")}
			}
			return a.withEtc(cmd.Context(), false, func(e deploy.Etc) error {
				return a.configDiff(cmd.Context(), e, paths, asJSON, text || len(paths) > 0)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	cmd.Flags().BoolVarP(&text, "text", "t", false, "show the changed lines of all files")
	return cmd
}

func (a *app) configDiff(ctx context.Context, e deploy.Etc, paths []string, asJSON, text bool) error {
	all, err := etcmerge.Local(ctx, e.Defaults, e.Live)
	if err != nil {
		return err
	}
	changes := []etcmerge.Change{}
	for _, c := range all {
		if len(paths) == 0 || below(c.Path, paths) {
			changes = append(changes, c)
		}
	}
	switch {
	case asJSON:
		return a.PrintJSON(changes)
	case !text:
		for _, line := range etcmerge.Lines(changes) {
			a.Line("%s", line)
		}
		return nil
	}
	for _, c := range changes {
		diff, err := etcmerge.Diff(e.Defaults, e.Live, c.Path, "/usr/etc", "/etc")
		if err != nil {
			return err
		}
		a.Text(diff)
	}
	return nil
}

func (a *app) configResetCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "config-reset PATH...",
		Short: "Put the default of a file in /etc in place again",
		Long: `Replace a file or directory in /etc by the default of the booted deployment. What
was there stays beside it as PATH.rpmsave. A file that has no default is moved
aside in the same way.`,
		Example: "  hostctl config-reset /etc/chrony.conf",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.UsageError{Err: errors.New("name what to reset, for example /etc/chrony.conf")}
			}
			paths, err := etcPaths(args)
			if err != nil {
				return err
			}
			return a.withEtc(cmd.Context(), true, func(e deploy.Etc) error { return a.configReset(cmd.Context(), e, paths) })
		},
	}
}

func (a *app) configReset(ctx context.Context, e deploy.Etc, paths []string) error {
	list, err := etcmerge.Reset(ctx, e.Defaults, e.Live, paths)
	for _, r := range list {
		switch {
		case r.Saved != "":
			a.Line("/etc/%s: reset, the local version is in /etc/%s", r.Path, r.Saved)
		case r.Changed:
			a.Line("/etc/%s: reset", r.Path)
		default:
			a.Line("/etc/%s: is the default already", r.Path)
		}
	}
	return err
}

// withEtc opens the /etc of the booted deployment or, in another root, that of the
// first one, under the sysroot's lock if it is going to be changed.
func (a *app) withEtc(ctx context.Context, writable bool, fn func(deploy.Etc) error) error {
	return a.withSysroot(writable, func(s *deploy.Sysroot) error {
		open := func() error {
			st, err := s.Load(ctx)
			if err != nil {
				return err
			}
			d, ok := st.Booted()
			if !ok {
				d, ok = st.Default()
			}
			if !ok {
				return deploy.ErrNoDeployment
			}
			e, err := s.OpenEtc(d)
			if err != nil {
				return err
			}
			return errors.Join(fn(e), e.Close())
		}
		if !writable {
			return open()
		}
		return s.WithLock(ctx, func(*deploy.Locked) error { return open() })
	})
}

// etcPaths makes the paths of a command line relative to /etc.
func etcPaths(args []string) ([]string, error) {
	out, err := deploy.EtcPaths(args)
	if err != nil {
		return nil, ui.UsageError{Err: err}
	}
	return out, nil
}

// below reports whether a name is one of the paths or below one.
func below(name string, paths []string) bool {
	for _, p := range paths {
		if name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}
