// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

type upgradeOptions struct {
	os, override         text
	reboot, downgrade    bool
	pullOnly, deployOnly bool
	stage                bool
}

func adminUpgrade() *verb {
	o := &upgradeOptions{}
	return adminSub(verb{
		name: "upgrade", summary: "Construct new tree from current origin and deploy it, if it changed",
		opts: []option{
			{long: "os", arg: "OSNAME", dst: &o.os, help: osHelp},
			{long: "reboot", short: 'r', dst: &o.reboot, help: "Reboot after a successful upgrade"},
			{long: "allow-downgrade", dst: &o.downgrade, help: "Permit deployment of chronologically older trees"},
			{long: "override-commit", arg: "CHECKSUM", dst: &o.override, help: "Deploy CHECKSUM instead of the latest tree"},
			{long: "pull-only", dst: &o.pullOnly, help: "Do not create a deployment, just download"},
			{long: "deploy-only", dst: &o.deployOnly, help: "Do not pull, only deploy"},
			{long: "stage", dst: &o.stage, help: "Enable staging (finalization at reboot time)"},
		},
	}, adminLocked, o.run)
}

func (o *upgradeOptions) run(ctx context.Context, a *admin) error {
	switch {
	case o.pullOnly && o.deployOnly:
		return failf("Cannot simultaneously specify --pull-only and --deploy-only")
	case o.pullOnly && o.reboot:
		return failf("Cannot simultaneously specify --pull-only and --reboot")
	}
	u, err := a.newUpgrader(o.os, false)
	if err != nil {
		return err
	}
	u.origin = u.origin.Successor().WithOverrideCommit(ostree.Checksum{})
	if o.override.set {
		if u.override, err = ostree.ParseChecksum(o.override.value); err != nil {
			return err
		}
		u.origin = u.origin.WithOverrideCommit(u.override)
	}
	u.synthetic, u.allowOlder = o.deployOnly, o.downgrade
	changed, err := u.pull(ctx)
	if err != nil {
		if o.pullOnly {
			// So that what several runs got does not pile up.
			err = errors.Join(err, a.cleanup(ctx))
		}
		return err
	}
	if !changed {
		a.printf("No update available.\n")
		return nil
	}
	if !o.pullOnly {
		if err := u.deploy(ctx, o.stage || os.Getenv("OSTREE_EX_STAGE_DEPLOYMENTS") != ""); err != nil {
			return err
		}
	}
	if o.reboot {
		return a.reboot(ctx)
	}
	return nil
}

func adminSwitch() *verb {
	var osname text
	var reboot bool
	return adminSub(verb{
		name: "switch", args: "REFSPEC", summary: "Construct new tree from REFSPEC and deploy it",
		opts: []option{
			{long: "reboot", short: 'r', dst: &reboot, help: "Reboot after switching trees"},
			{long: "os", arg: "OSNAME", dst: &osname, help: osHelp},
		},
	}, adminLocked, func(ctx context.Context, a *admin) error {
		if len(a.args) < 1 {
			return a.usageError("REFSPEC must be specified")
		}
		u, err := a.newUpgrader(osname, true)
		if err != nil {
			return err
		}
		if err := u.switchTo(ctx, a.args[0]); err != nil {
			return err
		}
		if reboot {
			return a.reboot(ctx)
		}
		return nil
	})
}

// switchTo follows another ref, whose history need not be the old one's, and
// deletes the old ref.
func (u *upgrader) switchTo(ctx context.Context, refspec string) error {
	old := u.refspec()
	remote, ref, err := parseTarget(refspec, u.ref)
	if err != nil {
		return err
	}
	if remote != "" {
		u.remote = remote
	}
	u.ref = ref
	if u.refspec() == old {
		return failf("Old and new refs are equal: %s", old)
	}
	u.origin, u.override, u.allowOlder = deploy.NewOrigin(u.refspec()), ostree.Checksum{}, true
	if _, err := u.pull(ctx); err != nil {
		return err
	}
	if err := u.deploy(ctx, false); err != nil {
		return err
	}
	u.a.printf("Deleting ref '%s'\n", old)
	return u.update(ctx, func(t *ostree.Txn) error {
		if err := t.DeleteRef(old); !errors.Is(err, ostree.ErrNotFound) {
			return err
		}
		return nil
	})
}

// parseTarget reads [REMOTE:]REF, or REMOTE: for the same ref of another remote.
func parseTarget(spec, sameRef string) (remote, ref string, err error) {
	if name, ok := strings.CutSuffix(spec, ":"); ok {
		return name, sameRef, nil
	}
	return ostree.SplitRefspec(spec)
}

// upgrader moves a stateroot to another commit, the way libostree does it.
type upgrader struct {
	a           *admin
	stateroot   string
	from        deploy.Deployment
	origin      deploy.Origin
	remote, ref string
	override    ostree.Checksum // zero: the ref's commit
	synthetic   bool            // what was pulled before is enough
	allowOlder  bool
	commit      ostree.Checksum
}

func (a *admin) newUpgrader(osname text, ignoreUnconfigured bool) (*upgrader, error) {
	u := &upgrader{a: a, stateroot: osname.value}
	if !osname.set {
		d, ok := a.st.Booted()
		if !ok {
			return nil, failf("Not currently booted into an OSTree system and no OS specified")
		}
		u.stateroot = d.Stateroot
	} else if osname.value == "" {
		return nil, failf("Invalid empty osname")
	}
	var ok bool
	if u.from, ok = a.st.Merge(u.stateroot); !ok {
		return nil, failf("No previous deployment for OS '%s'", u.stateroot)
	}
	u.origin = u.from.Origin
	if why := u.origin.UnconfiguredState(); why != "" && !ignoreUnconfigured {
		return nil, failf("origin unconfigured-state: %s", why)
	}
	refspec := u.origin.Refspec()
	if refspec == "" {
		return nil, failf("No origin/refspec in current deployment origin; cannot upgrade via ostree")
	}
	var err error
	u.remote, u.ref, err = ostree.SplitRefspec(refspec)
	return u, err
}

func (u *upgrader) refspec() string {
	if u.remote == "" {
		return u.ref
	}
	return u.remote + ":" + u.ref
}

// pull gets the commit and tells whether it is another one than that of the
// deployment in use.
func (u *upgrader) pull(ctx context.Context) (changed bool, err error) {
	want := u.ref
	if !u.override.IsZero() {
		want = u.override.String()
	}
	if err := u.fetch(ctx, want, !u.allowOlder); err != nil {
		return false, err
	}
	if err := u.followRebase(ctx); err != nil {
		return false, err
	}
	if u.override.IsZero() {
		u.commit, err = u.a.repo.Resolve(u.refspec())
	} else {
		u.commit = u.override
		err = u.update(ctx, func(t *ostree.Txn) error { return t.SetRef(u.refspec(), u.override) })
	}
	if err != nil || u.commit == u.from.Checksum {
		return false, err
	}
	if u.allowOlder {
		return true, nil
	}
	return true, pull.CheckTimestamps(u.a.repo, u.commit, u.from.Checksum)
}

func (u *upgrader) fetch(ctx context.Context, ref string, checkTime bool) error {
	if u.remote == "" || u.synthetic {
		return nil
	}
	remote, err := u.a.loadRemote(u.remote)
	if err != nil {
		return err
	}
	req := pull.Request{Refs: []string{ref}, Logger: u.a.logger(), Progress: u.a.progress()}
	if checkTime {
		req.TimestampFrom = u.from.Checksum
	}
	if err := u.a.addTrust(&req, remote, pull.TrustOptions{}); err != nil {
		return err
	}
	_, err = pull.Pull(ctx, u.a.repo, remote, req)
	return pullError(err)
}

// followRebase goes to the branch that an ended one names as its successor.
func (u *upgrader) followRebase(ctx context.Context) error {
	sum, err := u.a.repo.Resolve(u.refspec())
	if err != nil {
		return err
	}
	commit, err := u.a.repo.LoadCommit(sum)
	if err != nil {
		return err
	}
	ref, ok := commit.Metadata.Str("ostree.endoflife-rebase")
	if !ok {
		return nil
	}
	if _, _, err := ostree.SplitRefspec(ref); err != nil {
		return fmt.Errorf("successor of %s: %w", u.refspec(), err)
	}
	if err := u.fetch(ctx, ref, false); err != nil {
		return err
	}
	u.ref = ref
	u.origin = u.origin.WithRefspec(u.refspec())
	return nil
}

func (u *upgrader) update(ctx context.Context, fn func(*ostree.Txn) error) error {
	_, err := u.a.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error { return fn(t) })
	return err
}

func (u *upgrader) deploy(ctx context.Context, stage bool) error {
	req := deploy.Request{Stateroot: u.stateroot, Commit: u.commit, Origin: u.origin, Merge: &u.from, NoImageKargs: true}
	if stage {
		return u.a.stage(ctx, req, false)
	}
	if err := u.a.deploy(ctx, req, deploy.Retention{}); err != nil {
		return err
	}
	return u.a.cleanup(ctx)
}
