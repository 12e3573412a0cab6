// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// remotesDir holds remotes of the system's repository, a file for each.
const remotesDir = "/etc/ostree/remotes.d"

// remotes finds the configured remotes. The folder is used for the system's
// repository only, or in the tree that --sysroot names; create makes it where it is absent.
func (c *call) remotes(create bool) (pull.Remotes, error) {
	r := pull.Remotes{Repo: c.repo}
	if p := filepath.Clean(c.path); c.tree == "" && p != defaultRepo && p != "/sysroot"+defaultRepo {
		return r, nil
	}
	if create {
		if err := os.MkdirAll(c.tree+remotesDir, 0o755); err != nil {
			return r, err
		}
	}
	dir, err := fsx.OpenDir(c.tree + remotesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		c.close = append(c.close, dir.Close)
		r.Dir = dir
	}
	return r, err
}

func (c *call) loadRemote(name string) (pull.Remote, error) {
	where, err := c.remotes(false)
	if err != nil {
		return pull.Remote{}, err
	}
	r, err := where.Load(name)
	return r, remoteError(name, err)
}

// trust answers for the signatures of a pull. With tty it tells about good ones.
type trust struct {
	*pull.Trust
	c *call
}

func (t trust) VerifyCommit(commit []byte, meta gvariant.Dict) error {
	v, err := t.Trust.VerifyCommit(commit, meta)
	if text := v.Describe(); err == nil && text != "" && t.c.Interactive {
		t.c.printf("\n%s\n", text)
	}
	return err
}

func (t trust) VerifySummary(summary, sig []byte) error {
	_, err := t.Trust.VerifySummary(summary, sig)
	return err
}

// addTrust loads the keys of a remote and adds the checks to the request.
func (c *call) addTrust(req *pull.Request, remote pull.Remote, o pull.TrustOptions) error {
	t, err := c.loadTrust(remote, o)
	if err != nil {
		return err
	}
	req.GPG, req.Sign, req.GPGSummary, req.SignSummary, req.SignDelta = t, t, t, t, t
	return nil
}

func (c *call) loadTrust(remote pull.Remote, o pull.TrustOptions) (trust, error) {
	o.Sign, o.GPGHome = signOptions(), os.Getenv("OSTREE_GPG_HOME")
	where, err := c.remotes(false)
	if err != nil {
		return trust{}, err
	}
	o.RemotesDir = where.Dir
	t, err := pull.LoadTrust(c.repo, remote, o)
	return trust{t, c}, err
}

// progress draws on a terminal only: output to files is the same every time.
func (c *call) progress() progress.Func {
	if !c.Interactive {
		return nil
	}
	return ui.New(c.Err, ui.StyleTTY, true).Func()
}

// pruneCache drops what was cached of remotes that are gone.
func (c *call) pruneCache(dryRun bool) error {
	if dryRun {
		return nil
	}
	where, err := c.remotes(false)
	if err != nil {
		return err
	}
	return where.PruneCache()
}
