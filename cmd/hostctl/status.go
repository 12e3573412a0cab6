// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
)

func (a *app) statusCmd() *cobra.Command {
	var asJSON, diff bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the deployments: booted, staged, rollback",
		Long: `Show the deployments in boot order. ● marks the booted one; what stands above it
comes at the next boot, what stands below it is what a rollback goes to. Files of /etc
that were changed here and in a new tree are listed with the deployment that they
concern; with --diff, the lines, too. The lines of files that not everybody may read
are never shown.`,
		Example: "  hostctl status --diff\n  hostctl status --json",
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), asJSON, diff) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the state as JSON")
	cmd.Flags().BoolVar(&diff, "diff", false, "show the lines of conflicts in /etc")
	return cmd
}

func (a *app) status(ctx context.Context, asJSON, diff bool) error {
	return a.withSysroot(false, func(s *deploy.Sysroot) error {
		st, err := s.Load(ctx)
		if err != nil {
			return err
		}
		report := describeState(ctx, s, st)
		if asJSON {
			return a.PrintJSON(report)
		}
		a.printStatus(report, diff)
		return nil
	})
}

// stateReport is the state and what is known about the signatures of commits.
type stateReport struct {
	deploy.State
	Deployments []deploymentReport `json:"deployments"`
	// Settings are the defaults of the sysroot; nil if they cannot be read.
	Settings *deploy.Settings `json:"settings,omitempty"`
}

type deploymentReport struct {
	deploy.Deployment
	// SignatureRequired tells whether the remote wants commits signed.
	SignatureRequired bool                `json:"signatureRequired"`
	Signatures        []upgrade.Signature `json:"signatures,omitempty"`
	Etc               etcReport           `json:"etc"`
	// SoftReboot tells whether the running system can go there without its kernel.
	SoftReboot softReport `json:"softReboot"`
}

// describeState verifies the commits again. What keeps it from doing so is part of
// the report: status must work on a broken system.
func describeState(ctx context.Context, s *deploy.Sysroot, st deploy.State) stateReport {
	out := stateReport{State: st, Deployments: []deploymentReport{}}
	prepared, isPrepared := s.SoftRebootTarget(st)
	for _, d := range st.Deployments {
		sigs, err := upgrade.Signatures(s.Repo(), d, cli.Trust())
		if err != nil {
			sigs.List = append(sigs.List, upgrade.Signature{Problem: err.Error()})
		}
		out.Deployments = append(out.Deployments, deploymentReport{d, sigs.Verified, sigs.List, describeEtc(ctx, s, d),
			describeSoft(s, st, d, isPrepared && d.Same(prepared))})
	}
	if set, err := s.Settings(); err == nil {
		out.Settings = &set
	}
	return out
}

func (a *app) printStatus(report stateReport, diff bool) {
	st := report.State
	if len(st.Deployments) == 0 {
		a.Line("No deployments.")
	} else {
		a.Line("Deployments:")
	}
	for _, d := range report.Deployments {
		a.printDeployment(st, d)
		a.printConflicts(d.Etc, diff)
	}
	if report.Settings != nil && len(st.Deployments) > 0 {
		a.Line("Kept: %s", settingsWords(*report.Settings))
	}
	if st.BootProblem != "" {
		a.Line("Nothing can be deployed: %s", st.BootProblem)
	}
	for _, b := range st.Broken {
		a.Line("Broken boot entry %s: %s", b.File, b.Error)
	}
	a.printBlocked(st)
	if st.FinalizeFailure != "" {
		a.Text("The last staged deployment did not take effect at shutdown: " + strings.TrimSpace(st.FinalizeFailure))
	}
}

func (a *app) printDeployment(st deploy.State, r deploymentReport) {
	d := r.Deployment
	mark := " "
	if d.Booted {
		mark = "●"
	}
	a.Line("%s %s", mark, d.Origin.Refspec())
	field := func(name, value string) {
		if value != "" {
			a.Line("  %18s %s", name+":", value)
		}
	}
	version := d.Version
	if version != "" {
		version += " "
	}
	field("Version", fmt.Sprintf("%s(%s)", version, d.Time.UTC().Format(time.RFC3339)))
	field("Commit", d.Checksum.String())
	for _, sig := range r.Signatures {
		name := "Signature"
		if sig.Type == "gpg" {
			name = "GPG signature"
		}
		field(name, sig.String())
	}
	field("Stateroot", d.Stateroot)
	if d.UKI {
		field("Kernel", "unified kernel image")
	}
	field("State", strings.Join(stateWords(st, d), ", "))
	if def, trial := st.OnTrial(); trial && def.Same(d) {
		field("Trial", trialText(*st.Trial))
	}
	if b, blocked := st.BlockOf(d.Checksum); blocked {
		field("Failed", b.Reason)
	}
	field("Soft reboot", r.SoftReboot.words())
	field("Unlocked", unlockedWords(d.Unlocked))
	name := "Conflicts"
	if d.Staged {
		name = "Changes of /etc"
	}
	field(name, r.Etc.etcWords())
}

func (a *app) printConflicts(r etcReport, diff bool) {
	list := slices.Clone(r.Conflicts)
	for i := range list {
		if !diff {
			list[i].Diff = ""
		}
	}
	a.printClashes(list)
}

// trialText says how a trial stands.
func trialText(t deploy.Trial) string {
	s := fmt.Sprintf("booted %d of %d times", t.Done, t.Tries)
	if !t.Counting {
		s = "the boot loader does not count; only a failed health check leads back"
	}
	for _, more := range []string{t.Problem, t.Failure} {
		if more != "" {
			s += "; " + more
		}
	}
	return s
}

func (a *app) printBlocked(st deploy.State) {
	for _, b := range st.Blocked {
		name := b.Version
		if name == "" {
			name = b.Checksum.String()
		}
		a.Line("Version %s (%s) is blocked since %s: %s", name, b.Checksum, b.Time.UTC().Format(time.RFC3339), b.Reason)
	}
	if len(st.Blocked) > 0 {
		a.Line(`"hostctl unblock VERSION" lets upgrades take it again.`)
	}
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
