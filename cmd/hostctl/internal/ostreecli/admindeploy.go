// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

type deployOptions struct {
	os, originFile, kargDelete       text
	noPrune, noMerge, stage, locked  bool
	retain, retainPending            bool
	retainRollback, notAsDefault     bool
	kargProc, kargNone               bool
	kargs, kargsAppend, overlayFiles []string
}

func adminDeploy() *verb {
	o := &deployOptions{}
	return adminSub(verb{
		name: "deploy", args: "REFSPEC", summary: "Checkout revision REFSPEC as the new default deployment",
		opts: []option{
			{long: "os", arg: "OSNAME", dst: &o.os, help: osHelp},
			{long: "origin-file", arg: "FILENAME", dst: &o.originFile, help: "Specify origin file"},
			{long: "no-prune", dst: &o.noPrune, help: "Don't prune the repo when done"},
			{long: "no-merge", dst: &o.noMerge, help: "Do not apply configuration (/etc and kernel arguments) from booted deployment"},
			{long: "retain", dst: &o.retain, help: "Do not delete previous deployments"},
			{long: "stage", dst: &o.stage, help: "Complete deployment at OS shutdown"},
			{long: "lock-finalization", dst: &o.locked, hidden: true, help: "Prevent automatic deployment finalization on shutdown"},
			{long: "retain-pending", dst: &o.retainPending, help: "Do not delete pending deployments"},
			{long: "retain-rollback", dst: &o.retainRollback, help: "Do not delete rollback deployments"},
			{long: "not-as-default", dst: &o.notAsDefault, help: "Append rather than prepend new deployment"},
			{long: "karg-proc-cmdline", dst: &o.kargProc, help: "Import current /proc/cmdline"},
			{long: "karg", arg: "NAME=VALUE", dst: &o.kargs, help: "Set kernel argument, like root=/dev/sda1; this overrides any earlier argument with the same name"},
			{long: "karg-append", arg: "NAME=VALUE", dst: &o.kargsAppend, help: "Append kernel argument; useful with e.g. console= that can be used multiple times"},
			{long: "karg-none", dst: &o.kargNone, help: "Do not import kernel arguments"},
			{long: "karg-delete", arg: "NAME=VALUE", dst: &o.kargDelete, help: "Delete kernel argument if exists"},
			{long: "overlay-initrd", arg: "FILE", dst: &o.overlayFiles, help: "Overlay iniramfs file"},
		},
	}, adminLocked, o.run)
}

func (o *deployOptions) check(a *admin) error {
	switch {
	case len(a.args) < 1:
		return a.usageError("REF/REV must be specified")
	case o.kargProc && o.kargNone:
		return a.usageError("Can't specify both --karg-proc-cmdline and --karg-none")
	case o.kargNone && o.kargDelete.set:
		return a.usageError("Can't specify both --karg-none and --karg-delete")
	case o.noMerge && o.kargDelete.set:
		return a.usageError("Can't specify both --no-merge and --karg-delete")
	}
	return nil
}

func (o *deployOptions) run(ctx context.Context, a *admin) error {
	if err := o.check(a); err != nil {
		return err
	}
	refspec := a.args[0]
	osname, err := a.requireOS(o.os)
	if err != nil {
		return failf("Looking for booted deployment: %w", err)
	}
	req := deploy.Request{Stateroot: osname, NoMerge: o.noMerge, NoImageKargs: true}
	if req.Origin, err = o.origin(refspec); err != nil {
		return err
	}
	if req.Commit, err = a.repo.Resolve(refspec); err != nil {
		return err
	}
	if m, ok := a.st.Merge(osname); ok && !o.noMerge {
		req.Merge = &m
	}
	// What an earlier failure left takes space, and names.
	if err := a.l.Discard(ctx); err != nil {
		return failf("Performing initial cleanup: %w", err)
	}
	if req.Kargs, err = o.kernelArgs(req.Merge); err != nil {
		return err
	}
	if o.stage {
		return o.runStage(ctx, a, req)
	}
	if req.Overlays, err = a.addOverlays(ctx, o.overlayFiles); err != nil {
		return err
	}
	if err := a.deploy(ctx, req, o.retention(a, req.Merge)); err != nil {
		return err
	}
	if o.noPrune {
		return a.l.Discard(ctx)
	}
	return a.cleanup(ctx)
}

// deploy makes a deployment and puts it into the boot order.
func (a *admin) deploy(ctx context.Context, req deploy.Request, r deploy.Retention) error {
	d, etc, err := a.l.Deploy(ctx, req)
	if err != nil {
		return innermost(err)
	}
	a.printEtc(etc)
	return a.write(ctx, r.Order(a.st, d, req.Merge))
}

// innermost leaves out what was being done where the reason is worded for scripts.
func innermost(err error) error {
	if errors.Is(err, deploy.ErrEtcConflict) {
		return failf("During /etc merge: %w", err)
	}
	return err
}

func (o *deployOptions) runStage(ctx context.Context, a *admin, req deploy.Request) error {
	if o.retainPending || o.retainRollback {
		return failf("--stage cannot currently be combined with --retain arguments")
	}
	if o.notAsDefault {
		return failf("--stage cannot currently be combined with --not-as-default")
	}
	var err error
	if req.Overlays, err = a.addOverlays(ctx, o.overlayFiles); err != nil {
		return err
	}
	return a.stage(ctx, req, o.locked)
}

// stage leaves the rest of a deployment to the next shutdown.
func (a *admin) stage(ctx context.Context, req deploy.Request, locked bool) error {
	if _, booted := a.st.Booted(); !booted {
		return failf("Cannot stage deployment: Not currently booted into an OSTree system")
	}
	if _, err := a.l.Stage(ctx, req, deploy.StageOptions{Locked: locked}); err != nil {
		return err
	}
	return a.l.Discard(ctx)
}

func (o *deployOptions) retention(a *admin, merge *deploy.Deployment) deploy.Retention {
	r := deploy.Retention{NotAsDefault: o.notAsDefault, Pending: o.retain || o.retainPending, Rollback: o.retain || o.retainRollback}
	if _, booted := a.st.Booted(); !booted && merge == nil && (r.Pending || r.Rollback) {
		// Nothing tells one from the other: keep them all.
		r.Pending, r.Rollback = true, true
	}
	return r
}

func (o *deployOptions) origin(refspec string) (deploy.Origin, error) {
	if !o.originFile.set {
		return deploy.NewOrigin(refspec), nil
	}
	d, err := fsx.OpenDir(filepath.Dir(o.originFile.value))
	if err != nil {
		return deploy.Origin{}, err
	}
	defer d.Close()
	data, err := d.ReadFile(filepath.Base(o.originFile.value), keyfile.MaxSize)
	if err != nil {
		return deploy.Origin{}, err
	}
	return deploy.ParseOrigin(data)
}

// kernelArgs gives the arguments of the new deployment; nil stands for those of
// the one that is merged from.
func (o *deployOptions) kernelArgs(merge *deploy.Deployment) (bls.Kargs, error) {
	var k bls.Kargs
	switch {
	case o.kargNone:
		k = bls.Kargs{}
	case o.kargProc:
		var err error
		if k, err = procCmdline(); err != nil {
			return nil, err
		}
	case o.kargs == nil && o.kargsAppend == nil && !o.kargDelete.set:
		return nil, nil
	case merge != nil:
		k = merge.Kargs
	}
	for _, arg := range o.kargs {
		k = k.Replace(arg)
	}
	k = k.Append(o.kargsAppend...)
	if o.kargDelete.set {
		var err error
		if k, err = deleteKarg(k, o.kargDelete.value); err != nil {
			return nil, err
		}
	}
	return ownArgs(k), nil
}

// addOverlays stores initrd files and gives their names.
func (a *admin) addOverlays(ctx context.Context, files []string) ([]string, error) {
	var out []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		sum, err := a.l.AddOverlayInitrd(ctx, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		out = append(out, sum)
	}
	return out, nil
}

// deleteKarg removes one argument, NAME or NAME=VALUE. Without a value the name has
// to be there only once, or once without a value.
func deleteKarg(k bls.Kargs, arg string) (bls.Kargs, error) {
	name, _, hasValue := strings.Cut(arg, "=")
	n := 0
	for _, a := range k {
		if own, _, _ := strings.Cut(a, "="); own == name {
			n++
		}
	}
	if n == 0 {
		return nil, failf("No key '%s' found", name)
	}
	out, ok := k.Delete(arg)
	switch {
	case ok:
		return out, nil
	case hasValue:
		return nil, failf("No karg '%s' found", arg)
	}
	return nil, failf("Multiple values for key '%s' found", name)
}

const cmdlinePath = "/proc/cmdline"

// procCmdline gives what the running kernel was started with, without what boot
// loaders add.
func procCmdline() (bls.Kargs, error) {
	data, err := os.ReadFile(cmdlinePath)
	if err != nil {
		return nil, err
	}
	return bls.RunningKargs(string(data)), nil
}

// ownArgs drops what every write of the boot menu adds.
func ownArgs(k bls.Kargs) bls.Kargs { return append(bls.Kargs{}, k.Without("ostree")...) }
