// SPDX-License-Identifier: Apache-2.0

package hostd

import (
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/hostctl/hostctl/pkg/deploy"
)

// transaction is the type of ActiveTransaction, whose zero value says that
// nothing runs.
type transaction struct{ Method, Initiator, Path string }

func (d *daemon) sysrootProperties(st deploy.State) map[string]dbus.Variant {
	booted := dbus.ObjectPath("/")
	if b, ok := st.Booted(); ok {
		booted = OSPath(b.Stateroot)
	}
	all := []map[string]dbus.Variant{}
	for _, dep := range st.Deployments {
		all = append(all, deploymentDict(dep))
	}
	return map[string]dbus.Variant{
		"Booted":                dbus.MakeVariant(booted),
		"Path":                  dbus.MakeVariant(d.Path),
		"ActiveTransaction":     dbus.MakeVariant(transaction{}),
		"ActiveTransactionPath": dbus.MakeVariant(""),
		"Deployments":           dbus.MakeVariant(all),
	}
}

func osProperties(st deploy.State, stateroot string) map[string]dbus.Variant {
	var own []deploy.Deployment
	for _, d := range st.Deployments {
		if d.Stateroot == stateroot {
			own = append(own, d)
		}
	}
	booted, rollback := pick(own)
	var first *deploy.Deployment
	if len(own) > 0 {
		first = &own[0]
	}
	return map[string]dbus.Variant{
		"Name":               dbus.MakeVariant(stateroot),
		"BootedDeployment":   optional(booted),
		"DefaultDeployment":  optional(first),
		"RollbackDeployment": optional(rollback),
	}
}

// pick finds the booted deployment and the one after it in boot order, which is
// the rollback; where none is booted, the second one is.
func pick(list []deploy.Deployment) (booted, rollback *deploy.Deployment) {
	at := 0
	for i := range list {
		if list[i].Booted {
			booted, at = &list[i], i
		}
	}
	if at+1 < len(list) {
		rollback = &list[at+1]
	}
	return booted, rollback
}

func optional(d *deploy.Deployment) dbus.Variant {
	if d == nil {
		return dbus.MakeVariant(map[string]dbus.Variant{})
	}
	return dbus.MakeVariant(deploymentDict(*d))
}

// deploymentDict is a deployment as rpm-ostree's clients know it.
func deploymentDict(d deploy.Deployment) map[string]dbus.Variant {
	unlocked := string(d.Unlocked)
	if unlocked == "" {
		unlocked = "none"
	}
	out := map[string]dbus.Variant{
		"id":       dbus.MakeVariant(fmt.Sprintf("%s-%s.%d", d.Stateroot, d.Checksum, d.Serial)),
		"osname":   dbus.MakeVariant(d.Stateroot),
		"serial":   dbus.MakeVariant(int32(d.Serial)),
		"checksum": dbus.MakeVariant(d.Checksum.String()),
		"booted":   dbus.MakeVariant(d.Booted),
		"staged":   dbus.MakeVariant(d.Staged),
		"pinned":   dbus.MakeVariant(d.Pinned),
		"unlocked": dbus.MakeVariant(unlocked),
		"origin":   dbus.MakeVariant(d.Origin.Refspec()),
	}
	if d.Version != "" {
		out["version"] = dbus.MakeVariant(d.Version)
	}
	if !d.Time.IsZero() {
		out["timestamp"] = dbus.MakeVariant(uint64(d.Time.Unix()))
	}
	if d.Staged {
		out["finalization-locked"] = dbus.MakeVariant(d.FinalizationLocked)
	}
	return out
}
