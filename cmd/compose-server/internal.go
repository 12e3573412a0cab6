// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// luaCmd is what `tree` runs for each scriptlet in Lua, in a process with limits.
func (a *app) luaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "lua",
		Short: "Run one Lua scriptlet for the composer",
		Args:  cli.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return scripts.ServeLua(cmd.Context(), os.Stdin, a.Out) },
	}
}

// scriptletsCmd shows what a compose would do with the scriptlets of packages.
func (a *app) scriptletsCmd() *cobra.Command {
	var rules string
	cmd := &cobra.Command{
		Use:   "scriptlets [RPM...]",
		Short: "Show the rules for scriptlets, or how those of packages are handled",
		RunE:  func(_ *cobra.Command, args []string) error { return a.scriptlets(rules, args) },
	}
	cmd.Flags().StringVar(&rules, "script-rules", "", "TOML file with rules to put before the built-in ones")
	return cmd
}

func (a *app) scriptlets(rulesFile string, files []string) error {
	rules, err := loadRules(rulesFile)
	if err != nil {
		return err
	}
	rules = append(rules, scripts.DefaultRules()...)
	if len(files) == 0 {
		for _, r := range rules {
			a.Line("%s package %q section %q containing %q: %s", r.Action, r.Package, r.Kind, r.Body, r.Reason)
		}
		return nil
	}
	pkgs := make([]*rpm.Package, len(files))
	for i, name := range files {
		if pkgs[i], err = readPackage(name); err != nil {
			return err
		}
	}
	for _, h := range scripts.Explain(pkgs, importer.Filter{}, rules) {
		line := fmt.Sprintf("%s %%%s (%s): %s", h.NEVRA, h.Kind, h.Interp, h.Handling)
		if h.Reason != "" {
			line += ": " + h.Reason
		}
		a.Line("%s", line)
	}
	return nil
}

func readPackage(name string) (*rpm.Package, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pkg, err := rpm.ReadPackage(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return pkg, nil
}
