// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// addSource is --repair[=SOURCE].
func (o *fsckOptions) addSource(source string) error {
	o.repair = true
	if source != "" {
		o.sources = append(o.sources, source)
	}
	return nil
}

// fsckRepair finds damage and restores it from other repositories. It has no
// counterpart in libostree.
func (c *call) fsckRepair(ctx context.Context, o fsckOptions, progress *console) error {
	if o.remove || o.tombstones || o.bindings || o.backRefs {
		return errors.New("--repair goes with --quiet and --all only")
	}
	lib, err := c.repairSources(ctx, o.sources)
	if err != nil {
		return err
	}
	if !o.quiet {
		c.printf("Looking for damage...\n")
	}
	res, err := c.repo.Repair(ctx, lib)
	progress.end()
	if err != nil && !errors.Is(err, ostree.ErrUnrepaired) {
		return err
	}
	c.reportRepair(res, o.quiet)
	if err != nil {
		return fmt.Errorf("%d of %d damages could not be repaired", len(res.Remaining), len(res.Findings))
	}
	c.printf("object repair completed successfully - no errors remain.\n")
	return nil
}

func (c *call) reportRepair(res ostree.RepairResult, quiet bool) {
	for _, f := range res.Remaining {
		fmt.Fprintln(c.Err, f.Message())
	}
	for _, s := range res.Shared {
		fmt.Fprintf(c.Err, "warning: %d other names of %s keep the damaged content, such as files of checkouts\n", s.Links, s.Object)
	}
	if quiet {
		return
	}
	for _, n := range res.Restored {
		c.printf("Restored %s\n", n)
	}
	for _, n := range res.Replaced {
		c.printf("Replaced %s\n", n)
	}
	for _, sum := range res.Cleared {
		c.printf("Commit is complete again: %s\n", sum)
	}
}

// repairSources opens what --repair names; nothing means all remotes.
func (c *call) repairSources(ctx context.Context, names []string) (lib ostree.RepairOptions, err error) {
	if len(names) > 0 {
		for _, name := range names {
			if err := c.repairSource(ctx, &lib, name); err != nil {
				return lib, err
			}
		}
		return lib, nil
	}
	where, err := c.remotes(false)
	if err == nil {
		names, err = where.List()
	}
	if err != nil {
		return lib, err
	}
	if len(names) == 0 {
		return lib, errors.New("there is no remote to repair from: name a repository with --repair=SOURCE")
	}
	for _, name := range names {
		// One remote that is gone must not keep the others from helping.
		if err := c.repairSource(ctx, &lib, name); err != nil {
			fmt.Fprintf(c.Err, "warning: %s\n", message(err))
		}
	}
	return lib, nil
}

// repairSource adds a directory, a URL or a remote.
func (c *call) repairSource(ctx context.Context, lib *ostree.RepairOptions, name string) error {
	remote := pull.Remote{URL: name, NoGPGVerify: true}
	if !strings.Contains(name, "://") {
		known, err := c.loadRemote(name)
		switch {
		case err == nil:
			remote = known
		case !isRepo(name):
			return err
		}
	}
	path, isFile := strings.CutPrefix(remote.URL, "file://")
	if isFile || !strings.Contains(remote.URL, "://") {
		r, err := c.openRepoAt(path, c.repoOptions())
		if err == nil {
			lib.Repos = append(lib.Repos, r)
		}
		return err
	}
	src, err := pull.OpenObjects(ctx, c.repo, remote, pull.Network{}, c.logger())
	if err != nil {
		return err
	}
	c.close = append(c.close, src.Close)
	lib.Sources = append(lib.Sources, src)
	return nil
}

func isRepo(path string) bool {
	st, err := os.Stat(filepath.Join(path, "objects"))
	return err == nil && st.IsDir()
}
