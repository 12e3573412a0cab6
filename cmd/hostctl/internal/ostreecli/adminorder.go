// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

func adminUndeploy() *verb {
	return adminSub(verb{name: "undeploy", args: "INDEX", summary: "Delete deployment INDEX"}, adminLocked,
		func(ctx context.Context, a *admin) error {
			if len(a.args) < 1 {
				return a.usageError("INDEX must be specified")
			}
			i := atoi(a.args[0])
			d, err := a.indexed(i)
			if err != nil {
				return err
			}
			if d.Booted {
				return failf("Cannot undeploy currently booted deployment %d", i)
			}
			if err := a.write(ctx, slices.DeleteFunc(slices.Clone(a.st.Deployments), d.Same)); err != nil {
				return err
			}
			err = a.cleanup(ctx)
			a.printf("Deleted deployment %s\n", d.Name())
			return err
		})
}

// atoi is C's: digits at the beginning count, anything else is 0.
func atoi(s string) int {
	s = strings.TrimLeft(s, " \t")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[0] == '-' || s[0] == '+')) {
		end++
	}
	n, _ := strconv.ParseInt(s[:end], 10, 32)
	return int(n)
}

func adminPin() *verb {
	var unpin bool
	return adminSub(verb{
		name: "pin", args: "INDEX", summary: "Change the \"pinning\" state of a deployment",
		opts: []option{{long: "unpin", short: 'u', dst: &unpin, help: "Unset pin"}},
	}, adminLocked, func(ctx context.Context, a *admin) error {
		if len(a.args) < 1 {
			return a.usageError("INDEX must be specified")
		}
		for _, arg := range a.args {
			if err := a.pin(ctx, arg, !unpin); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *admin) pin(ctx context.Context, arg string, want bool) error {
	n, err := strconv.ParseUint(arg, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return failf("Index too large: %s", arg)
	}
	if err != nil {
		return failf("Invalid index: %s", arg)
	}
	d, err := a.indexed(int(min(n, 1<<31-1)))
	if err != nil {
		return err
	}
	state := map[bool]string{true: "pinned", false: "unpinned"}[want]
	if d.Pinned == want {
		a.printf("Deployment %s is already %s\n", arg, state)
		return nil
	}
	if d.Staged {
		return failf("Cannot pin staged deployment")
	}
	if err := a.l.SetPinned(ctx, d.Index, want); err != nil {
		return err
	}
	// The index may be named twice.
	a.st.Deployments[d.Index].Pinned = want
	a.printf("Deployment %s is now %s\n", arg, state)
	return nil
}

// adminSetDefault is a verb of later versions of libostree.
func adminSetDefault() *verb {
	return adminSub(verb{name: "set-default", args: "INDEX", summary: "Make deployment INDEX the default for the next boot", hidden: true}, adminLocked,
		func(ctx context.Context, a *admin) error {
			if len(a.args) < 1 {
				return a.usageError("INDEX must be specified")
			}
			d, err := a.indexed(atoi(a.args[0]))
			if err != nil {
				return err
			}
			order, err := deploy.PlanDefault(a.st, d.Index)
			if err != nil {
				return err
			}
			return a.write(ctx, order)
		})
}

type setOrigin struct {
	set   []string
	index int
}

func adminSetOrigin() *verb {
	o := &setOrigin{index: -1}
	return adminSub(verb{
		name: "set-origin", args: "REMOTENAME URL [BRANCH]", summary: "Set Origin and create a new origin file",
		opts: []option{
			{long: "set", short: 's', arg: "KEY=VALUE", dst: &o.set, help: "Set config option KEY=VALUE for remote"},
			{long: "index", arg: "INDEX", dst: &o.index, help: "Operate on the deployment INDEX, starting from zero"},
		},
	}, adminLocked, o.run)
}

func (o *setOrigin) run(ctx context.Context, a *admin) error {
	if len(a.args) < 2 {
		return a.usageError("REMOTENAME and URL must be specified")
	}
	d, err := o.target(a)
	if err != nil {
		return err
	}
	_, ref, err := ostree.SplitRefspec(d.Origin.Refspec())
	if err != nil {
		return err
	}
	if len(a.args) > 2 {
		ref = a.args[2]
	}
	add := remoteAddOptions{set: o.set}
	set, err := add.settings()
	if err != nil {
		return err
	}
	where, err := a.remotes(true)
	if err != nil {
		return err
	}
	r := add.remote(a.args[:2])
	if err := where.Add(r, pull.AddOptions{IfNotExists: true, Set: set}); err != nil {
		return remoteError(r.Name, err)
	}
	return a.l.SetOrigin(ctx, d.Index, deploy.NewOrigin(r.Name+":"+ref))
}

func (o *setOrigin) target(a *admin) (deploy.Deployment, error) {
	if o.index != -1 {
		return a.indexed(o.index)
	}
	d, ok := a.st.Booted()
	if !ok {
		return d, failf("Not currently booted into an OSTree system")
	}
	return d, nil
}

func adminUnlock() *verb {
	var hotfix, transient bool
	return adminSub(verb{
		name: "unlock", summary: "Make the current deployment mutable (as a hotfix or development)",
		opts: []option{
			{long: "hotfix", dst: &hotfix, help: "Retain changes across reboots"},
			{long: "transient", dst: &transient, help: "Mount overlayfs read-only by default"},
		},
	}, adminLocked, func(ctx context.Context, a *admin) error {
		if len(a.args) > 0 {
			return a.usageError("This command takes no extra arguments")
		}
		d, ok := a.st.Booted()
		if !ok {
			return failf("Not currently booted into an OSTree system")
		}
		mode := deploy.UnlockDevelopment
		switch {
		case hotfix && transient:
			return failf("Cannot specify both --hotfix and --transient")
		case hotfix:
			mode = deploy.UnlockHotfix
		case transient:
			mode = deploy.UnlockTransient
		}
		if d.Unlocked != "" {
			return failf("Deployment is already in unlocked state: %s", d.Unlocked)
		}
		if err := a.l.Unlock(ctx, mode); err != nil {
			return err
		}
		a.printf("%s", unlockText(mode))
		return nil
	})
}

func unlockText(mode deploy.UnlockMode) string {
	switch mode {
	case deploy.UnlockHotfix:
		return "Hotfix mode enabled.  A writable overlayfs is now mounted on /usr\n" +
			"for this booted deployment.  A non-hotfixed clone has been created\n" +
			"as the non-default rollback target.\n"
	case deploy.UnlockTransient:
		return "A writable overlayfs is prepared for /usr, but is mounted read-only by default.\n" +
			"All changes there will be discarded on reboot.\n"
	}
	return "Development mode enabled.  A writable overlayfs is now mounted on /usr.\n" +
		"All changes there will be discarded on reboot.\n"
}
