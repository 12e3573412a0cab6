// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
)

func (a *app) statusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the deployments: booted, staged, rollback",
		Long: `Show the deployments in boot order. ● marks the booted one; what stands above it
comes at the next boot, what stands below it is what a rollback goes to.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the state as JSON")
	return cmd
}

func (a *app) status(ctx context.Context, asJSON bool) error {
	return a.withSysroot(false, func(s *deploy.Sysroot) error {
		st, err := s.Load(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(a.Out)
			enc.SetIndent("", "  ")
			return enc.Encode(st)
		}
		a.printStatus(st)
		return nil
	})
}

func (a *app) printStatus(st deploy.State) {
	if len(st.Deployments) == 0 {
		fmt.Fprintln(a.Out, "No deployments.")
	} else {
		fmt.Fprintln(a.Out, "Deployments:")
	}
	for _, d := range st.Deployments {
		a.printDeployment(st, d)
	}
	for _, b := range st.Broken {
		fmt.Fprintf(a.Out, "Broken boot entry %s: %s\n", b.File, b.Error)
	}
	if st.FinalizeFailure != "" {
		fmt.Fprintf(a.Out, "The last staged deployment did not take effect at shutdown: %s\n", strings.TrimSpace(st.FinalizeFailure))
	}
}

func (a *app) printDeployment(st deploy.State, d deploy.Deployment) {
	mark := " "
	if d.Booted {
		mark = "●"
	}
	fmt.Fprintf(a.Out, "%s %s\n", mark, d.Origin.Refspec())
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(a.Out, "  %18s %s\n", name+":", value)
		}
	}
	version := d.Version
	if version != "" {
		version += " "
	}
	field("Version", fmt.Sprintf("%s(%s)", version, d.Time.UTC().Format(time.RFC3339)))
	field("Commit", d.Checksum.String())
	field("Stateroot", d.Stateroot)
	field("State", strings.Join(stateWords(st, d), ", "))
}

// stateWords say what a deployment is: booted, staged, pinned, the default, the one to go back to.
func stateWords(st deploy.State, d deploy.Deployment) []string {
	var out []string
	add := func(is bool, word string) {
		if is {
			out = append(out, word)
		}
	}
	add(d.Booted, "booted")
	add(d.Staged, "staged for the next boot")
	add(d.FinalizationLocked, "locked")
	def, ok := st.Default()
	add(ok && d.Same(def) && !d.Staged && !d.Booted, "next boot")
	add(isRollback(st, d), "rollback")
	add(d.Pinned, "pinned")
	return out
}

// isRollback tells whether d is what `rollback` would make the default.
func isRollback(st deploy.State, d deploy.Deployment) bool {
	order, err := deploy.PlanRollback(st)
	return err == nil && len(order) > 0 && order[0].Same(d)
}
