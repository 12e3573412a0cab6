// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

type pullLocalOptions struct {
	pull                  pullOptions
	remote                string
	gpgVerify, gpgSummary bool
}

func pullLocalVerb() *verb {
	o := &pullLocalOptions{pull: unsetPull()}
	p := &o.pull
	return &verb{
		name: "pull-local", args: "SRC_REPO [REFS...]", summary: "Copy data from SRC_REPO",
		opts: []option{
			{long: "commit-metadata-only", dst: &p.metadataOnly, help: "Fetch only the commit metadata"},
			{long: "remote", arg: "REMOTE", dst: &o.remote, help: "Add REMOTE to refspec"},
			{long: "disable-fsync", dst: &p.noFsync, help: "Do not invoke fsync()"},
			{long: "per-object-fsync", dst: &p.objectFsync, help: "Perform writes in such a way that avoids stalling concurrent processes"},
			{long: "untrusted", dst: &p.untrusted, help: "Verify checksums of local sources (always enabled for HTTP pulls)"},
			{long: "bareuseronly-files", dst: &p.userOnly, help: "Reject regular files with mode outside of 0775 (world writable, suid, etc.)"},
			{long: "require-static-deltas", dst: &p.requireDeltas, help: "Require static deltas"},
			{long: "gpg-verify", dst: &o.gpgVerify, help: "GPG verify commits (must specify --remote)"},
			{long: "gpg-verify-summary", dst: &o.gpgSummary, help: "GPG verify summary (must specify --remote)"},
			{long: "disable-verify-bindings", dst: &p.noBindings, help: "Do not verify commit bindings"},
			{long: "depth", arg: "DEPTH", dst: &p.depth, help: "Traverse DEPTH parents (-1=infinite) (default: 0)"},
		},
		prepare: func(_ *call, r *ostree.Options) error {
			r.DisableFsync, r.PerObjectFsync = p.noFsync, p.objectFsync
			return nil
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *pullLocalOptions) run(ctx context.Context, c *call) error {
	if len(c.args) < 1 {
		return c.usageError("DESTINATION must be specified")
	}
	path, err := filepath.Abs(c.args[0])
	if err != nil {
		return err
	}
	refs := c.args[1:]
	if len(refs) == 0 {
		if refs, err = c.allRefs(path); err != nil {
			return err
		}
	}
	req, err := o.pull.request(c, refs)
	if err != nil {
		return err
	}
	req.NoCache = true
	// Signatures other than OpenPGP are not looked at: for that there are remotes
	// with a file URL.
	remote := pull.Remote{Name: o.remote, URL: path, NoGPGVerify: !o.gpgVerify, GPGVerifySummary: o.gpgSummary}
	err = c.addTrust(&req, remote, pull.TrustOptions{GPGVerify: &o.gpgVerify, GPGVerifySummary: &o.gpgSummary, NoSign: true, NoSignSummary: true})
	if err != nil {
		return err
	}
	res, err := pull.Pull(ctx, c.repo, remote, req)
	if err != nil {
		return pullError(err)
	}
	c.printf("%s\n", pullStatus(res))
	return nil
}

// allRefs lists the refs of the repository to copy from.
func (c *call) allRefs(path string) ([]string, error) {
	src, err := c.openRepoAt(path, c.repoOptions())
	if err != nil {
		return nil, err
	}
	refs, err := src.Refs("")
	if err != nil {
		return nil, fmt.Errorf("list refs of %s: %w", path, err)
	}
	return slices.Sorted(maps.Keys(refs)), nil
}
