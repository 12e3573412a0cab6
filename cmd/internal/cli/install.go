// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// InstallFlags say what a new machine follows.
type InstallFlags struct {
	URL, Ref, Stateroot, Remote string
	Kargs                       []string
	NoGPG                       bool
}

// Add defines the flags; kargs are the default kernel arguments.
func (f *InstallFlags) Add(fl *pflag.FlagSet, kargs []string) {
	fl.StringVar(&f.URL, "url", "", "address of the repository that the machine pulls from")
	fl.StringVar(&f.Ref, "ref", "", "branch that the machine follows")
	fl.StringVar(&f.Stateroot, "stateroot", "default", "name of the operating system; its deployments share /var")
	fl.StringVar(&f.Remote, "remote", "origin", "name of the remote on the machine")
	fl.StringArrayVar(&f.Kargs, "karg", kargs, "kernel argument (repeatable; replaces the defaults)")
	fl.BoolVar(&f.NoGPG, "no-gpg-verify", false, "the machine accepts commits without a signature")
}

// Install makes the first deployment in root: commit, or the branch's newest if
// that is zero, pulled from the repository at from, or from the URL if that is
// empty.
func (a *App) Install(ctx context.Context, root *fsx.Dir, f InstallFlags, from string, commit ostree.Checksum) error {
	dep, err := diskimage.Install(ctx, root, upgrade.InstallRequest{
		Stateroot: f.Stateroot, Remote: pull.Remote{Name: f.Remote, URL: f.URL, NoGPGVerify: f.NoGPG}, From: from, Ref: f.Ref,
		Commit: commit, Kargs: bls.Kargs(f.Kargs), Progress: a.Progress(), Logger: a.Log(),
	})
	if err == nil {
		fmt.Fprintf(a.Out, "Installed %s %s (%s) in %s\n", f.Ref, dep.Version, dep.Checksum, root.Path())
	}
	return err
}
