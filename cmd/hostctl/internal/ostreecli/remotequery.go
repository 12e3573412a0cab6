// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

const cacheDirHelp = "Use custom cache dir"

// fetchSummary gets and verifies the summary of the remote that the command line
// names; missing is the error where there is none.
func (c *call) fetchSummary(ctx context.Context, cache text, missing string) (pull.RemoteSummary, pull.Remote, error) {
	none := pull.RemoteSummary{}
	if len(c.args) < 1 {
		return none, pull.Remote{}, c.usageError("NAME must be specified")
	}
	remote, err := c.loadRemote(c.args[0])
	if err != nil {
		return none, remote, err
	}
	req := pull.Request{Logger: c.logger(), Network: pull.Network{UserAgent: userAgent}}
	if err := c.addTrust(&req, remote, pull.TrustOptions{}); err != nil {
		return none, remote, err
	}
	done, err := c.addCache(&req, cache)
	if err != nil {
		return none, remote, err
	}
	s, err := pull.FetchSummary(ctx, c.repo, remote, req)
	if errors.Is(err, pull.ErrNotFound) {
		err = failf("%s", missing)
	}
	return s, remote, errors.Join(pullError(err), done())
}

func remoteRefs() *verb {
	var cache text
	return &verb{
		name: "refs", args: "NAME", summary: "List remote refs",
		opts: []option{{long: "cache-dir", dst: &cache, help: cacheDirHelp}},
		run: func(ctx context.Context, c *call) error {
			s, _, err := c.fetchSummary(ctx, cache, "Remote refs not available; server has no summary file")
			if err != nil {
				return err
			}
			for _, r := range s.Summary.Refs {
				c.printf("%s:%s\n", c.args[0], r.Name)
			}
			return nil
		},
	}
}

func remoteSummary() *verb {
	var cache text
	var raw bool
	return &verb{
		name: "summary", args: "NAME", summary: "Show remote summary",
		opts: []option{
			{long: "cache-dir", dst: &cache, help: cacheDirHelp},
			{long: "raw", dst: &raw, help: "Show raw variant data"},
		},
		run: func(ctx context.Context, c *call) error {
			s, remote, err := c.fetchSummary(ctx, cache, "Remote server has no summary file")
			if err != nil {
				return err
			}
			if err := c.dumpSummary(s.Data, raw); err != nil || raw || s.Sig == nil {
				return err
			}
			t, err := c.loadTrust(remote, pull.TrustOptions{})
			if err != nil {
				return err
			}
			v, err := t.Trust.VerifySummary(s.Data, s.Sig)
			if err != nil || v.GPG == nil {
				return err
			}
			c.printf("\n")
			c.printGPG(v.GPG)
			return nil
		},
	}
}
