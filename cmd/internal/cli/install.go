// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// InstallFlags say what a new machine follows.
type InstallFlags struct {
	URL, Ref, Stateroot, Remote string
	Boot                        string // a diskimage.Boot
	Kargs                       []string
	NoGPG                       bool
	GPGKeys, SignVerify         []string
}

// Add defines the flags; kargs are the default kernel arguments.
func (f *InstallFlags) Add(fl *pflag.FlagSet, kargs []string) {
	fl.StringVar(&f.URL, "url", "", "address of the repository that the machine pulls from")
	fl.StringVar(&f.Ref, "ref", "", "branch that the machine follows")
	fl.StringVar(&f.Stateroot, "stateroot", "default", "name of the operating system; its deployments share /var")
	fl.StringVar(&f.Remote, "remote", "origin", "name of the remote on the machine")
	fl.StringArrayVar(&f.Kargs, "karg", kargs, "kernel argument (repeatable; replaces the defaults)")
	fl.StringVar(&f.Boot, "boot", string(diskimage.BIOSGRUB), "how the machine starts: "+bootNames())
	fl.BoolVar(&f.NoGPG, "no-gpg-verify", false, "the machine accepts commits without a GPG signature")
	fl.StringArrayVar(&f.GPGKeys, "gpg-import", nil, "file of GPG keys that may sign what the machine takes (repeatable)")
	fl.StringArrayVar(&f.SignVerify, "sign-verify", nil, "TYPE=inline:KEY or TYPE=file:FILE, a public key (ed25519, spki) that must have signed it")
}

func bootNames() string {
	var names []string
	for _, b := range diskimage.Boots() {
		names = append(names, string(b))
	}
	return strings.Join(names, ", ")
}

// Install makes the first deployment in root: commit, or the branch's newest if
// that is zero, pulled from the repository at from, or from the URL if that is
// empty.
func (a *App) Install(ctx context.Context, root *fsx.Dir, f InstallFlags, from string, commit ostree.Checksum) error {
	boot, err := diskimage.ParseBoot(f.Boot)
	if err != nil {
		return ui.UsageError{Err: fmt.Errorf("--boot: %w", err)}
	}
	req := upgrade.InstallRequest{
		Stateroot: f.Stateroot, Remote: pull.Remote{Name: f.Remote, URL: f.URL}, From: from, Ref: f.Ref,
		Commit: commit, Kargs: bls.Kargs(f.Kargs), Trust: Trust(), Progress: a.Progress(), Logger: a.Log(),
	}
	if err := f.readKeys(&req); err != nil {
		return err
	}
	dep, err := diskimage.Install(ctx, root, boot, req)
	if err == nil {
		a.Line("Installed %s %s (%s) in %s", f.Ref, dep.Version, dep.Checksum, root.Path())
	}
	return err
}

// readKeys fills in whom the machine trusts. Keys of another type than GPG's
// stand for themselves: without any GPG key none is asked for then.
func (f InstallFlags) readKeys(req *upgrade.InstallRequest) error {
	if f.NoGPG && len(f.GPGKeys) > 0 {
		return ui.UsageError{Err: errors.New("--no-gpg-verify and --gpg-import exclude each other")}
	}
	req.Remote.NoGPGVerify = f.NoGPG || len(f.SignVerify) > 0 && len(f.GPGKeys) == 0
	for _, name := range f.GPGKeys {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		req.GPGKeys = append(req.GPGKeys, data)
	}
	for _, s := range f.SignVerify {
		typ, key, err := parseSignVerify(s)
		if err != nil {
			return err
		}
		if req.SignKeys == nil {
			req.SignKeys = map[string]string{}
		}
		if _, ok := req.SignKeys[typ]; ok {
			return ui.UsageError{Err: fmt.Errorf("--sign-verify: one key of type %s is enough", typ)}
		}
		req.SignKeys[typ] = key
	}
	return nil
}

// parseSignVerify reads TYPE=inline:KEY or TYPE=file:FILE and gives the key in
// base64. The file is read here: the machine need not have it.
func parseSignVerify(s string) (typ, key string, err error) {
	bad := func(err error) error { return ui.UsageError{Err: fmt.Errorf("--sign-verify %s: %w", s, err)} }
	typ, where, ok := strings.Cut(s, "=")
	kind, value, ok2 := strings.Cut(where, ":")
	if !ok || !ok2 || kind != "inline" && kind != "file" {
		return "", "", bad(errors.New("want TYPE=inline:KEY or TYPE=file:FILE"))
	}
	v, err := sign.NewVerifier(typ, sign.Options{})
	if err != nil || typ == sign.TypeDummy {
		return "", "", bad(errors.New("the type is ed25519 or spki"))
	}
	if kind == "inline" {
		if err := v.Add(value); err != nil {
			return "", "", bad(err)
		}
		return typ, value, nil
	}
	data, err := os.ReadFile(value)
	if err != nil {
		return "", "", fmt.Errorf("read key: %w", err)
	}
	keys, err := sign.ReadKeys(typ, data, false)
	if err != nil {
		return "", "", fmt.Errorf("read key %s: %w", value, err)
	}
	if len(keys) != 1 {
		return "", "", fmt.Errorf("read key %s: it holds %d keys, the machine can be given one", value, len(keys))
	}
	if err := v.AddRaw(keys[0]); err != nil {
		return "", "", fmt.Errorf("read key %s: %w", value, err)
	}
	return typ, base64.StdEncoding.EncodeToString(keys[0]), nil
}

// Trust says where keys are looked for beside those of a remote.
func Trust() pull.TrustOptions {
	return pull.TrustOptions{GPGHome: os.Getenv("OSTREE_GPG_HOME"), Sign: sign.Options{Dummy: os.Getenv("OSTREE_DUMMY_SIGN_ENABLED") == "1"}}
}
