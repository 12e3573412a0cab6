// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// InstallRequest describes the first deployment of a new sysroot.
type InstallRequest struct {
	Stateroot string
	// Remote is what the machine will pull from; it is written to the sysroot's
	// repository. Name and URL are required.
	Remote pull.Remote
	// From is where this installation pulls from instead of Remote.URL, such as
	// the path of a repository on this machine; "" means Remote.URL.
	From string
	Ref  string
	// Commit pins another commit than the ref's current one; zero: the newest.
	Commit     ostree.Checksum
	Kargs      bls.Kargs
	Bootloader bootloader.Kind // "" means auto
	// Prepare, if not nil, is called with the new deployment's directory before
	// it becomes bootable.
	Prepare func(dir *fsx.Dir) error

	// GPGKeys are key files, armored or binary, whose keys the machine trusts for
	// commits of Remote.
	GPGKeys [][]byte
	// SignKeys are public keys in base64 by signature type (see package sign); if
	// there are any, commits of Remote must be signed by one of them.
	SignKeys map[string]string
	Trust    pull.TrustOptions // where keys are looked for beside these
	Progress progress.Func
	Logger   *slog.Logger
}

// Install initialises the sysroot in d, pulls the ref and makes it the only
// deployment. It may run again on a sysroot that an interrupted run left; one
// that has deployments is refused.
func Install(ctx context.Context, d *fsx.Dir, req InstallRequest) (deploy.Deployment, error) {
	if err := deploy.InitSysroot(ctx, d, deploy.InitOptions{Bootloader: req.Bootloader, ReadOnly: true}); err != nil {
		return deploy.Deployment{}, err
	}
	s, err := deploy.Open(d, deploy.Options{Logger: req.Logger, Progress: req.Progress})
	if err != nil {
		return deploy.Deployment{}, err
	}
	defer s.Close()
	var done deploy.Deployment
	err = s.WithLock(ctx, func(l *deploy.Locked) error {
		st, err := s.Load(ctx)
		if err != nil {
			return err
		}
		if len(st.Deployments) > 0 {
			return fmt.Errorf("install into %s: it has %d deployments already; use upgrade", d.Path(), len(st.Deployments))
		}
		done, err = install(ctx, l, req)
		return err
	})
	return done, err
}

func install(ctx context.Context, l *deploy.Locked, req InstallRequest) (deploy.Deployment, error) {
	repo := l.Sysroot().Repo()
	if err := l.InitStateroot(ctx, req.Stateroot); err != nil {
		return deploy.Deployment{}, err
	}
	if err := addRemote(ctx, repo, req); err != nil {
		return deploy.Deployment{}, err
	}
	commit, err := pullFirst(ctx, repo, req)
	if err != nil {
		return deploy.Deployment{}, err
	}
	dep, _, err := l.Deploy(ctx, deploy.Request{Stateroot: req.Stateroot, Commit: commit, NoMerge: true, Kargs: req.Kargs,
		Origin: deploy.NewOrigin(req.Remote.Name + ":" + req.Ref)})
	if err == nil {
		err = prepare(l, dep, req.Prepare)
	}
	if err == nil {
		_, err = l.Write(ctx, []deploy.Deployment{dep})
	}
	if err != nil {
		return dep, discard(ctx, l, err)
	}
	return dep, nil
}

// addRemote writes the remote and the keys that it trusts.
func addRemote(ctx context.Context, repo *ostree.Repo, req InstallRequest) error {
	var set [][2]string
	types := slices.Sorted(maps.Keys(req.SignKeys))
	if len(types) > 0 {
		set = append(set, [2]string{"sign-verify", strings.Join(types, ";") + ";"})
	}
	for _, typ := range types {
		set = append(set, [2]string{"verification-" + typ + "-key", req.SignKeys[typ]})
	}
	if err := pull.AddRemote(repo, req.Remote, pull.AddOptions{Force: true, Set: set}); err != nil {
		return err
	}
	for _, keys := range req.GPGKeys {
		if _, err := gpg.Import(ctx, repo, req.Remote.Name, keys, nil); err != nil {
			return err
		}
	}
	return nil
}

func pullFirst(ctx context.Context, repo *ostree.Repo, req InstallRequest) (ostree.Checksum, error) {
	source, err := pull.LoadRemote(repo, req.Remote.Name)
	if err != nil {
		return ostree.Checksum{}, err
	}
	if req.From != "" {
		source.URL = req.From
	}
	want := req.Ref
	if !req.Commit.IsZero() {
		want += "@" + req.Commit.String()
	}
	trust, err := pull.LoadTrust(repo, source, req.Trust)
	if err != nil {
		return ostree.Checksum{}, err
	}
	p := pull.Request{Refs: []string{want}, Progress: req.Progress, Logger: req.Logger}
	trust.Apply(&source, &p)
	res, err := pull.Pull(ctx, repo, source, p)
	if err != nil {
		return ostree.Checksum{}, oneLine(err)
	}
	return res.Refs[req.Remote.Name+":"+req.Ref], nil
}

func prepare(l *deploy.Locked, dep deploy.Deployment, fn func(*fsx.Dir) error) error {
	if fn == nil {
		return nil
	}
	dir, err := l.Sysroot().Dir().OpenDir(dep.Dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := fn(dir); err != nil {
		return fmt.Errorf("prepare deployment %s: %w", dep.Name(), err)
	}
	return nil
}
