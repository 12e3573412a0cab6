// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/hostctl/internal/ostreecli"
	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// errUnchanged reports that there was nothing to do.
var errUnchanged = errors.New("nothing changed")

// lockWait is how long a verb waits for another hostctl or ostree.
const lockWait = 10 * time.Second

// app is what every verb shares.
type app struct {
	cli.App
	sysroot  string
	lockWait time.Duration // instead of the constant; 0: the constant
}

// codes is the table from errors to exit statuses; help prints the same rows.
func codes() []ui.Code {
	return append(ui.Codes(ostree.ErrNoSpace, deploy.ErrBootSpace, deploy.ErrDiskSpace),
		ui.Code{Status: 5, Meaning: "the machine has no such deployment, or none to roll back to", Is: []error{deploy.ErrNoDeployment, deploy.ErrNoRollback, deploy.ErrNotSysroot, deploy.ErrNotBlocked}},
		ui.Code{Status: 6, Meaning: "files of /etc were changed here and in the new tree, and --etc-conflicts=fail; nothing was changed", Is: []error{deploy.ErrEtcConflict}},
		ui.Code{Status: 7, Meaning: "the deployment cannot be reached by a soft reboot", Is: []error{deploy.ErrNoSoftReboot}},
		ui.Code{Status: 77, Meaning: "nothing changed (with --unchanged-exit-77)", Is: []error{errUnchanged}})
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	a := &app{App: cli.App{Out: out, Err: errw}}
	return a.Run(ctx, a.root(), codes(), args)
}

func (a *app) root() *cobra.Command {
	cmd := a.Root(&cobra.Command{
		Use:   "hostctl",
		Short: "Update this host as one image",
		Long: `hostctl pulls the newest tree of the branch that this host follows, prepares it
beside the running one and boots into it at the next restart. /etc keeps your
changes, /var is never touched, and the tree before stays for a rollback.`,
	}, codes())
	cmd.PersistentFlags().StringVar(&a.sysroot, "sysroot", "/", "root of the system to work on; a folder other than / is changed at once, not staged")
	cmd.AddCommand(a.statusCmd(), a.upgradeCmd(), a.rollbackCmd(), a.softRebootCmd(), a.deployCmd(), a.rebaseCmd(),
		a.kargsCmd(), a.pinCmd(), a.undeployCmd(), a.setDefaultCmd(), a.unlockCmd(), a.markGoodCmd(), a.unblockCmd(),
		a.cleanupCmd(), a.bootloaderCmd(), a.configDiffCmd(), a.configResetCmd(), a.fsckCmd(), a.installCmd(), ostreecli.Command(), a.internalCmd())
	return cmd
}

// onHost tells whether the verb works on the running system.
func (a *app) onHost() bool { return filepath.Clean(a.sysroot) == "/" }

func (a *app) options() deploy.Options {
	o := deploy.Options{Logger: a.Log(), Progress: a.Progress(), LockTimeout: cmp.Or(a.lockWait, lockWait)}
	if self, err := os.Executable(); err == nil && a.onHost() {
		o.FreezeWatchdog = []string{self, "internal", "thaw-watchdog"}
	}
	return o
}

// withSysroot opens the sysroot, writable if asked, and closes it after fn.
func (a *app) withSysroot(writable bool, fn func(*deploy.Sysroot) error) (err error) {
	if writable && os.Geteuid() != 0 {
		return fmt.Errorf("this needs root: run it with sudo")
	}
	if a.onHost() {
		if _, err := os.Stat("/run/ostree-booted"); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("this system was not booted from a deployment (no /run/ostree-booted); name another root with --sysroot: %w", deploy.ErrNotSysroot)
		}
		return a.withHost(writable, fn)
	}
	d, err := fsx.OpenDir(a.sysroot)
	if err != nil {
		return fmt.Errorf("open sysroot: %w", err)
	}
	defer d.Close()
	s, err := deploy.Open(d, a.options())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return fn(s)
}

func (a *app) withHost(writable bool, fn func(*deploy.Sysroot) error) (err error) {
	h, err := deploy.OpenHost(deploy.Paths{}, writable, a.options())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return fn(h.Sysroot)
}
