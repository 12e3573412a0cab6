// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
)

type upgradeFlags struct {
	check, reboot, asJSON, allowDowngrade, unchanged77, allowBlocked bool

	etcConflicts, soft    string
	etcReplace            []string
	keep, keepDays, tries int
}

func (f *upgradeFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVarP(&f.reboot, "reboot", "r", false, "restart the machine when it is done")
	addSoft(fl, &f.soft)
	fl.BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	fl.StringVar(&f.etcConflicts, "etc-conflicts", "", "what to do where a file of /etc was changed here and in the new tree: `keep` yours and the new default beside it, or fail and change nothing")
	fl.StringArrayVar(&f.etcReplace, "etc-replace", nil, "in a conflict at `PATH` or below take the new default and keep yours beside it")
	fl.IntVar(&f.keep, "keep", 0, "keep `N` deployments, 2 or more; pinned ones come on top")
	fl.IntVar(&f.keepDays, "keep-days", 0, "of those beyond two, keep none whose commit is older than `N` days")
	fl.IntVar(&f.tries, "tries", 0, "boot the new tree at most so often (1 to 9) until it proves good, then go back; -1: no trial (default: as configured, 3)")
	fl.BoolVar(&f.unchanged77, "unchanged-exit-77", false, "exit with 77 when there is nothing to do")
}

func (a *app) upgradeCmd() *cobra.Command {
	var f upgradeFlags
	cmd := &cobra.Command{
		Use:     "upgrade",
		Aliases: []string{"update"},
		Short:   "Move to the newest tree of the branch that this host follows",
		Long: `Pull the newest commit of the branch that this host follows and prepare it for the
next boot. The running system does not change. Interrupted, it leaves the
system as it was and continues later without receiving anything twice.`,
		Example: "  hostctl upgrade --reboot\n  hostctl upgrade --etc-conflicts=fail\n  hostctl upgrade --etc-replace /etc/ssh",
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.upgrade(cmd.Context(), f) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.check, "check", false, "only tell what would be upgraded, and how much there is to download")
	cmd.Flags().BoolVar(&f.allowDowngrade, "allow-downgrade", false, "accept a commit that is older than the current one")
	cmd.Flags().BoolVar(&f.allowBlocked, "allow-blocked", false, "take a version that failed its trial or was blocked on this host, too")
	cmd.MarkFlagsMutuallyExclusive("check", "reboot")
	cmd.MarkFlagsMutuallyExclusive("check", "soft-reboot")
	return cmd
}

func (a *app) deployCmd() *cobra.Command {
	var f upgradeFlags
	cmd := &cobra.Command{
		Use:   "deploy VERSION|CHECKSUM",
		Short: "Move to a certain version or commit of the branch",
		Long: `Deploy a certain commit of the branch that this host follows, newer or older. A
version is looked for from the branch's newest commit backwards. The next
"upgrade" goes to the newest commit again.`,
		Example: "  hostctl deploy 1.1\n  hostctl deploy 8c21909be07f427f9f34407eca32e1a7f1edb68bae9687bad0bfd5dccaf5dbc1",
		Args:    cli.OneArg("a version or a checksum"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), f, func(ctx context.Context, s *deploy.Sysroot, o upgrade.Options) (upgrade.Result, error) {
				return upgrade.DeployRevision(ctx, s, args[0], o)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) upgrade(ctx context.Context, f upgradeFlags) error {
	if f.check {
		return a.check(ctx, f)
	}
	return a.change(ctx, f, upgrade.Upgrade)
}

// upgradeOptions checks the flags and makes options of them.
func (a *app) upgradeOptions(f upgradeFlags) (upgrade.Options, error) {
	o := upgrade.Options{Stage: a.onHost(), AllowDowngrade: f.allowDowngrade, Keep: f.keep, KeepDays: f.keepDays,
		Tries: f.tries, AllowBlocked: f.allowBlocked, Trust: cli.Trust(), Progress: a.Progress(), Logger: a.Log()}
	if err := checkKeep(f.keep, f.keepDays); err != nil {
		return o, err
	}
	if f.tries < -1 || f.tries > bootloader.MaxTries {
		return o, ui.UsageError{Err: fmt.Errorf("--tries %d is not within 1 and %d, nor -1", f.tries, bootloader.MaxTries)}
	}
	if err := a.checkSoft(f.soft); err != nil {
		return o, err
	}
	var err error
	if f.etcConflicts != "" {
		if o.EtcConflicts, err = deploy.ParseEtcConflicts(f.etcConflicts); err != nil {
			return o, ui.UsageError{Err: fmt.Errorf("--etc-conflicts: %w", err)}
		}
	}
	if o.EtcReplace, err = etcPaths(f.etcReplace); err != nil {
		return o, err
	}
	return o, nil
}

// check needs the sysroot writable, for it stores the new commit object.
func (a *app) check(ctx context.Context, f upgradeFlags) error {
	o, err := a.upgradeOptions(f)
	if err != nil {
		return err
	}
	return a.withSysroot(true, func(s *deploy.Sysroot) error {
		res, err := upgrade.Check(ctx, s, o)
		if err != nil {
			return err
		}
		if f.asJSON {
			return a.PrintJSON(res)
		}
		if res.Unchanged {
			return a.unchanged(f, res)
		}
		a.printWarnings(res.Warnings)
		a.Line("An update is available.")
		a.printTarget(res)
		a.printDownload(res.Download)
		a.printPackages(res.Packages)
		return nil
	})
}

type operation func(context.Context, *deploy.Sysroot, upgrade.Options) (upgrade.Result, error)

func (a *app) change(ctx context.Context, f upgradeFlags, op operation) error {
	o, err := a.upgradeOptions(f)
	if err != nil {
		return err
	}
	var res upgrade.Result
	err = a.withSysroot(true, func(s *deploy.Sysroot) (err error) {
		res, err = op(ctx, s, o)
		return err
	})
	if err != nil {
		return errors.Join(err, a.printRefusal(f, res, err))
	}
	a.printWarnings(res.Warnings)
	if f.asJSON {
		if err := a.PrintJSON(res); err != nil {
			return err
		}
	} else if !res.Unchanged {
		a.printResult(res)
	}
	if res.Unchanged {
		return a.unchanged(f, res)
	}
	if f.soft != "" {
		return a.softOrReboot(ctx, f.soft == softRequired)
	}
	return a.rebootIf(ctx, f.reboot)
}

// printRefusal shows what an upgrade that stopped had found, conflicts above all.
func (a *app) printRefusal(f upgradeFlags, res upgrade.Result, cause error) error {
	a.printWarnings(res.Warnings)
	if !errors.Is(cause, deploy.ErrEtcConflict) {
		return nil
	}
	if f.asJSON {
		return a.PrintJSON(res)
	}
	a.printClashes(res.Etc.Clashes)
	return nil
}

func (a *app) printWarnings(list []string) {
	for _, w := range list {
		a.Warn("%s", w)
	}
}

func (a *app) unchanged(f upgradeFlags, res upgrade.Result) error {
	switch {
	case f.asJSON:
	case res.Blocked != nil:
		a.printRefused(res)
	default:
		a.Line("No change: %s is at %s %s", res.Refspec, res.Current.Version, res.Current.Checksum)
	}
	if f.unchanged77 {
		return errUnchanged
	}
	return nil
}

// printRefused tells why the newest version is not taken.
func (a *app) printRefused(res upgrade.Result) {
	name := res.New.Version
	if name == "" {
		name = res.New.Checksum.String()
	}
	a.Line("No upgrade: version %s is blocked on this host: %s", name, res.Blocked.Reason)
	a.Line("Run \"hostctl unblock %s\" or \"hostctl upgrade --allow-blocked\" to try it again.", name)
}

func (a *app) printTarget(res upgrade.Result) {
	a.Line("%s: %s -> %s (%s)", res.Refspec, res.Current.Version, res.New.Version, res.New.Checksum)
	if res.New.EndOfLife != "" {
		a.Line("End of life: %s", res.New.EndOfLife)
	}
	if res.New.EndOfLifeRebase != "" {
		a.Line("The branch goes on as %s: run \"hostctl rebase %[1]s\"", res.New.EndOfLifeRebase)
	}
}

func (a *app) printDownload(d *upgrade.Download) {
	if d == nil {
		a.Line("Download size: not known in advance")
		return
	}
	a.Line("Download size: %s (%d objects)", ui.Bytes(int64(min(d.Bytes, math.MaxInt64))), d.Objects)
}

func (a *app) printResult(res upgrade.Result) {
	a.printTarget(res)
	a.printPackages(res.Packages)
	a.printEtc(res.Etc)
	if res.Cleanup != nil && res.Cleanup.FreedBytes > 0 {
		a.printFreed(*res.Cleanup)
	}
	if res.Staged {
		a.Line("Staged %s; it takes effect at the next restart.", res.New.Version)
	}
}

// printPackages lists how the packages differ, as rpm-ostree does.
func (a *app) printPackages(d *pkglist.Diff) {
	if d == nil {
		a.Line("The package difference is not known: a commit has no package list.")
		return
	}
	if d.Empty() {
		a.Line("No package differs.")
	}
	pairs := func(title string, list []pkglist.Pair) {
		for i, p := range list {
			if i == 0 {
				a.Line("%s (%d):", title, len(list))
			}
			a.Line("  %s %s -> %s", p.Old.Name, p.Old.Version(), p.New.Version())
		}
	}
	single := func(title string, list []pkglist.Package) {
		for i, p := range list {
			if i == 0 {
				a.Line("%s (%d):", title, len(list))
			}
			a.Line("  %s", p)
		}
	}
	pairs("Upgraded", d.Upgraded)
	pairs("Downgraded", d.Downgraded)
	single("Removed", d.Removed)
	single("Added", d.Added)
}
