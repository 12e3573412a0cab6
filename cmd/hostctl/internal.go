// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/etcmerge"
)

// internalCmd holds what units and packaging call; it is hidden from help.
func (a *app) internalCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "internal", Hidden: true}
	cmd.AddCommand(
		&cobra.Command{Use: "finalize-staged", Short: "Finish the staged deployment at shutdown", Args: cli.NoArgs, RunE: a.finalizeStaged},
		&cobra.Command{Use: "boot-complete", Short: "Report how the last shutdown's finish ended", Args: cli.NoArgs, RunE: a.bootComplete},
		&cobra.Command{Use: "thaw-watchdog", Args: cli.NoArgs, Hidden: true, RunE: func(*cobra.Command, []string) error {
			acted, err := deploy.ThawWatchdog(os.Stdin, os.Stdout, os.NewFile(3, "boot"))
			if acted {
				fmt.Fprintln(os.Stderr, "fifreeze watchdog was run")
			}
			return err
		}},
		a.daemonCmd(),
		cli.ManCmd(),
	)
	cmd.AddCommand(a.bootCmds()...)
	return cmd
}

func (a *app) finalizeStaged(cmd *cobra.Command, _ []string) error {
	ctx := cmd.Context()
	return a.withSysroot(true, func(s *deploy.Sysroot) error {
		return s.WithLock(ctx, func(l *deploy.Locked) error {
			set, err := s.Settings()
			if err != nil {
				// A typing error in a setting must not cost the update that is staged.
				a.Log().Warn("the default retention counts", "error", err)
			}
			res, err := l.FinalizeStaged(ctx, set.Retention(time.Now()))
			if errors.Is(err, deploy.ErrNothingStaged) || errors.Is(err, deploy.ErrStagedLocked) {
				a.Line("Nothing to finish: %v", err)
				return nil
			}
			if err != nil {
				return err
			}
			// Without the lines: the journal needs the names only, status has the rest.
			for i := range res.Etc.Clashes {
				res.Etc.Clashes[i].Diff = ""
			}
			a.printEtc(res.Etc)
			a.Line("Default for the next boot: %s %s", res.Deployment.Version, res.Deployment.Checksum)
			return nil
		})
	})
}

// bootComplete ends a soft reboot. It fails, after reporting it once, with what went wrong at the last
// shutdown, so that the unit and monitoring see it.
func (a *app) bootComplete(cmd *cobra.Command, _ []string) error {
	ctx := cmd.Context()
	return a.withSysroot(true, func(s *deploy.Sysroot) error {
		if err := endSoftReboot(ctx, s); err != nil {
			return err
		}
		st, err := s.Load(ctx)
		if err != nil || st.FinalizeFailure == "" {
			return err
		}
		return fmt.Errorf("the staged deployment was not finished at the last shutdown: %s", strings.TrimSpace(st.FinalizeFailure))
	})
}

// printEtc prints the summary of an /etc merge.
func (a *app) printEtc(r deploy.EtcReport) {
	if !r.Merged {
		return
	}
	a.Line("Copying /etc changes: %d modified, %d removed, %d added", r.Counts.Modified, r.Counts.Removed, r.Counts.Added)
	a.printClashes(r.Clashes)
}

// printClashes lists what was changed in /etc here and in the new tree, with the lines.
func (a *app) printClashes(list []etcmerge.Clash) {
	for _, c := range list {
		a.Line("  /etc/%s: %s (%s)", c.Path, outcome(c.Change), c.Conflict)
		for line := range strings.Lines(c.Diff) {
			a.Text("    " + line)
		}
	}
}

// outcome says what becomes of a name in conflict.
func outcome(c etcmerge.Change) string {
	switch {
	case c.Replaced && c.Dest != "":
		return "the new default is taken, yours is kept as /etc/" + c.Dest
	case c.Replaced:
		return "the new default is taken"
	case c.Saved != "":
		return "your version is kept, the new default is beside it as /etc/" + c.Saved
	}
	return "your version is kept"
}
