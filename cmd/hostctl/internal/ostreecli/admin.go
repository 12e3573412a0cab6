// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// adminVerb has libostree's deployment commands.
func adminVerb() *verb {
	a := &admin{}
	return &verb{
		name: "admin", args: "--print-current-dir|COMMAND", summary: "Commands for managing a host system booted with ostree",
		use: repoUnused, width: 19, opts: a.options(), run: a.printCurrentDir,
		subs: []*verb{
			adminCleanup(), adminConfigDiff(), adminDeploy(), adminFinalizeStaged(), adminBootComplete(), adminInitFS(),
			adminInstutil(), adminOSInit("os-init", false), adminOSInit("stateroot-init", true), adminPin(), adminSetDefault(), adminSetOrigin(),
			adminStatus(), adminSwitch(), adminUndeploy(), adminUnlock(), adminUpgrade(), adminKargs(),
		},
	}
}

// adminUse says what a verb needs of the sysroot.
type adminUse uint8

const (
	adminLocked adminUse = iota // exclusive, and root on a running system
	adminRead                   // no lock
	adminNone                   // it is not opened
)

// admin is one run of a verb below admin.
type admin struct {
	*call
	path       string // of the sysroot, absolute
	currentDir bool
	s          *deploy.Sysroot
	l          *deploy.Locked // nil with adminRead
	st         deploy.State
}

func (a *admin) options() []option {
	return []option{
		{long: "sysroot", arg: "PATH", dst: &a.path, help: "Create a new OSTree sysroot at PATH"},
		{long: "print-current-dir", dst: &a.currentDir, hidden: true},
	}
}

// adminSub completes the description of a verb; run gets the sysroot as use says.
func adminSub(v verb, use adminUse, run func(context.Context, *admin) error) *verb {
	a := &admin{}
	v.use = repoUnused
	v.opts = append(a.options(), v.opts...)
	v.run = func(ctx context.Context, c *call) error {
		a.call = c
		if a.currentDir {
			return a.printCurrentDir(ctx, c)
		}
		return a.with(ctx, use, run)
	}
	return &v
}

// defaultSysroot is that of the environment or the running system's.
func defaultSysroot() string { return cmp.Or(os.Getenv("OSTREE_SYSROOT"), "/") }

// with opens the sysroot, locks it and reads its state for fn.
func (a *admin) with(ctx context.Context, use adminUse, fn func(context.Context, *admin) error) (err error) {
	if use == adminNone {
		return fn(ctx, a)
	}
	closeAll, err := a.open(use)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	a.call.repo, a.call.path = a.s.Repo(), filepath.Join(a.path, defaultRepo)
	if use == adminRead {
		return a.load(ctx, fn)
	}
	return a.s.WithLock(ctx, func(l *deploy.Locked) error {
		a.l = l
		return a.load(ctx, fn)
	})
}

func (a *admin) load(ctx context.Context, fn func(context.Context, *admin) error) (err error) {
	if a.st, err = a.s.Load(ctx); err != nil {
		return err
	}
	if _, booted := a.st.Booted(); booted && a.l != nil && os.Getuid() != 0 {
		return failf("You must be root to perform this command")
	}
	return fn(ctx, a)
}

func (a *admin) open(use adminUse) (closeAll func() error, err error) {
	a.path, err = filepath.Abs(cmp.Or(a.path, defaultSysroot()))
	if err != nil {
		return nil, err
	}
	o := a.deployOptions()
	if a.path == "/" {
		if _, err := os.Stat("/run/ostree-booted"); err == nil {
			h, err := deploy.OpenHost(deploy.Paths{}, use == adminLocked, o)
			if err != nil {
				return nil, err
			}
			a.s = h.Sysroot
			return h.Close, nil
		}
	}
	d, err := fsx.OpenDir(a.path)
	if err != nil {
		return nil, err
	}
	if a.s, err = deploy.Open(d, o); err != nil {
		err = errors.Join(err, d.Close())
		if errors.Is(err, deploy.ErrNotSysroot) {
			return nil, failf("loading sysroot: opendir(ostree/repo): No such file or directory")
		}
		return nil, err
	}
	return func() error { return errors.Join(a.s.Close(), d.Close()) }, nil
}

// deployOptions are those that the environment sets, with the names of libostree's
// variables for its tests.
func (a *admin) deployOptions() deploy.Options {
	debug, opts := words(os.Getenv("OSTREE_SYSROOT_DEBUG")), words(os.Getenv("OSTREE_SYSROOT_OPTS"))
	o := deploy.Options{
		Logger: a.logger(), LockTimeout: -1, BootID: os.Getenv("OSTREE_BOOTID"),
		LockWaiting: func() {
			a.printf("Waiting for sysroot lock...\n")
			a.flush()
		},
		Grub2Generator: os.Getenv("OSTREE_GRUB2_EXEC"),
		// As the version of libostree does that this program has the verbs of, so that both
		// can change each other's entries in place.
		StaterootInNames: true, StrictEtc: true,
		Mutable:       slices.Contains(debug, "mutable-deployments"),
		NoDeviceTrees: slices.Contains(debug, "no-dtb"),
		TestFreeze:    slices.Contains(debug, "test-fifreeze"),
		FailCommit:    os.Getenv("OSTREE_REPO_TEST_ERROR") == "pre-commit",
		DisableFsync:  slices.Contains(opts, "skip-sync"),
	}
	if self, err := os.Executable(); err == nil {
		o.FreezeWatchdog = []string{self, "internal", "thaw-watchdog"}
	}
	return o
}

// words splits the way GLib does it for its variables.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(":;, \t", r) })
}

// printCurrentDir is --print-current-dir, which any verb answers to.
func (a *admin) printCurrentDir(ctx context.Context, c *call) error {
	if !a.currentDir {
		return errNoVerb
	}
	a.call = c
	return a.with(ctx, adminRead, func(_ context.Context, a *admin) error {
		d, err := a.first()
		if err != nil {
			return err
		}
		a.printf("%s\n", a.dirOf(d))
		return nil
	})
}

// dirOf gives the path of a deployment's directory.
func (a *admin) dirOf(d deploy.Deployment) string { return filepath.Join(a.path, d.Dir()) }

// first gives the deployment that boots next.
func (a *admin) first() (deploy.Deployment, error) {
	if len(a.st.Deployments) == 0 {
		return deploy.Deployment{}, failf("Unable to find a deployment in sysroot")
	}
	return a.st.Deployments[0], nil
}

// indexed gives a deployment by its place in the boot order.
func (a *admin) indexed(i int) (deploy.Deployment, error) {
	switch {
	case i < 0:
		return deploy.Deployment{}, failf("Invalid index %d", i)
	case i >= len(a.st.Deployments):
		return deploy.Deployment{}, failf("Out of range deployment index %d, expected < %d", i, len(a.st.Deployments))
	}
	return a.st.Deployments[i], nil
}

// requireOS gives the stateroot that is meant: the option's or the booted one's.
func (a *admin) requireOS(name text) (string, error) {
	d, booted := a.st.Booted()
	switch {
	case name.set:
		return name.value, nil
	case booted:
		return d.Stateroot, nil
	}
	return "", failf("Not currently booted into an OSTree system and no --os= argument given")
}

// write makes order the boot order and reports it.
func (a *admin) write(ctx context.Context, order []deploy.Deployment) error {
	before := len(a.st.Written())
	res, err := a.l.Write(ctx, order)
	if err != nil {
		return err
	}
	what, swap := "Transaction complete", "no"
	if res.BootConfigSwap {
		swap = "yes"
		if res.Bootloader == "none" {
			what = "Bootloader updated"
		}
	}
	if len(order) > 0 && order[0].Staged {
		order = order[1:]
	}
	a.printf("%s; bootconfig swap: %s; bootversion: boot.%d.%d, deployment count change: %d\n",
		what, swap, res.BootVersion, res.Subversion, len(order)-before)
	return nil
}

// cleanup removes what no deployment needs any more.
func (a *admin) cleanup(ctx context.Context) error {
	res, err := a.l.Cleanup(ctx)
	if err == nil && res.Prune.DeletedBytes > 0 {
		a.printf("Freed objects: %s\n", formatSize(uint64(res.Prune.DeletedBytes)))
	}
	return err
}

func (a *admin) printEtc(r deploy.EtcReport) {
	if r.Merged {
		a.printf("Copying /etc changes: %d modified, %d removed, %d added\n", r.Counts.Modified, r.Counts.Removed, r.Counts.Added)
	}
}

// reboot restarts a running system.
func (a *admin) reboot(ctx context.Context) error {
	if _, booted := a.st.Booted(); !booted {
		return nil
	}
	a.flush()
	return runProgram(ctx, "systemctl", "reboot")
}

// verifies tells whether commits of a refspec's remote have to be signed.
func (a *admin) verifies(refspec string) (pull.Remote, bool) {
	name, _, ok := strings.Cut(refspec, ":")
	if !ok {
		return pull.Remote{}, false
	}
	r, err := a.loadRemote(name)
	if err != nil {
		return pull.Remote{}, false
	}
	t, err := a.loadTrust(r, pull.TrustOptions{})
	return r, err == nil && t.CommitsVerified()
}

func adminCleanup() *verb {
	return adminSub(verb{name: "cleanup", summary: "Delete untagged deployments and repository objects"}, adminLocked,
		func(ctx context.Context, a *admin) error { return a.cleanup(ctx) })
}

func adminConfigDiff() *verb {
	var osname text
	return adminSub(verb{
		name: "config-diff", summary: "Diff current /etc configuration versus default",
		opts: []option{{long: "os", arg: "OSNAME", dst: &osname, help: osHelp}},
	}, adminRead, func(ctx context.Context, a *admin) error {
		name, err := a.requireOS(osname)
		if err != nil {
			return err
		}
		d, ok := a.st.Merge(name)
		if !ok {
			return failf("No deployment for OS '%s'", name)
		}
		return a.diffDirs(ctx, a.dirOf(d)+"/usr/etc", a.dirOf(d)+"/etc")
	})
}

const osHelp = "Use a different operating system root than the current one"

func adminInitFS() *verb {
	var modern bool
	return adminSub(verb{
		name: "init-fs", args: "PATH", summary: "Initialize a root filesystem",
		opts: []option{{long: "modern", dst: &modern, help: "Only create /boot and /ostree"}},
	}, adminNone, func(ctx context.Context, a *admin) error {
		if len(a.args) < 1 {
			return a.usageError("PATH must be specified")
		}
		d, err := fsx.OpenDir(a.args[0])
		if err != nil {
			return err
		}
		defer d.Close()
		if !modern {
			for _, name := range []string{"boot", "dev", "home", "proc", "run", "sys"} {
				if err := d.MkdirAll(name, 0o755); err != nil {
					return err
				}
			}
			if err := d.MkdirAll("root", 0o700); err != nil {
				return err
			}
		}
		return deploy.InitSysroot(ctx, d, deploy.InitOptions{NoTmp: modern})
	})
}

func adminOSInit(name string, hidden bool) *verb {
	return adminSub(verb{name: name, args: "OSNAME", summary: "Initialize empty state for given operating system", hidden: hidden}, adminLocked,
		func(ctx context.Context, a *admin) error {
			if len(a.args) < 1 {
				return a.usageError("OSNAME must be specified")
			}
			if err := a.l.CreateStateroot(ctx, a.args[0]); errors.Is(err, os.ErrExist) {
				return failf("Creating ostree/deploy/%s: File exists", a.args[0])
			} else if err != nil {
				return err
			}
			a.printf("ostree/deploy/%s initialized as OSTree root\n", a.args[0])
			return nil
		})
}

// booted tells whether the system runs from a deployment at all: two verbs that
// units run do nothing otherwise.
func booted() bool {
	_, err := os.Stat("/run/ostree-booted")
	return err == nil
}

func adminFinalizeStaged() *verb {
	return adminSub(verb{name: "finalize-staged", hidden: true, summary: "Internal command to run at shutdown time"}, adminNone,
		func(ctx context.Context, a *admin) error {
			if !booted() {
				return nil
			}
			return a.with(ctx, adminLocked, func(ctx context.Context, a *admin) error {
				res, err := a.l.FinalizeStaged(ctx, deploy.Retention{})
				if errors.Is(err, deploy.ErrNothingStaged) || errors.Is(err, deploy.ErrStagedLocked) {
					return nil
				}
				a.printEtc(res.Etc)
				return err
			})
		})
}

func adminBootComplete() *verb {
	return adminSub(verb{name: "boot-complete", hidden: true, summary: "Internal command to run at boot after an update was applied"}, adminNone,
		func(ctx context.Context, a *admin) error {
			if !booted() {
				return nil
			}
			return a.with(ctx, adminLocked, func(ctx context.Context, a *admin) error {
				if a.st.FinalizeFailure == "" {
					return nil
				}
				err := a.l.ClearFinalizeFailure(ctx)
				return errors.Join(fmt.Errorf("ostree-finalize-staged.service failed on previous boot: %s", a.st.FinalizeFailure), err)
			})
		})
}
