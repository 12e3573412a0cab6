// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// userAgent is that of the program whose place this one takes; servers know it.
const userAgent = "libostree/" + level

type pullOptions struct {
	metadataOnly                 bool
	cacheDir                     text
	noFsync, objectFsync         bool
	noDeltas, requireDeltas      bool
	mirror                       bool
	subpaths                     []string
	untrusted, trusted, userOnly bool
	dryRun                       bool
	depth                        int
	url                          text
	headers                      []string
	frequency, retries           int
	caches                       []string
	checkTime                    bool
	checkFrom                    text
	noBindings                   bool
	userAgent                    string
	noRetryNetwork               bool
	lowSpeed, lowTime, requests  int
}

// unsetPull has every number as not given.
func unsetPull() pullOptions {
	return pullOptions{retries: -1, lowSpeed: -1, lowTime: -1, requests: -1}
}

func pullVerb() *verb {
	options := unsetPull()
	o := &options
	return &verb{
		name: "pull", args: "REMOTE [BRANCH...]", summary: "Download data from remote repository",
		opts: []option{
			{long: "commit-metadata-only", dst: &o.metadataOnly, help: "Fetch only the commit metadata"},
			{long: "cache-dir", dst: &o.cacheDir, help: "Use custom cache dir"},
			{long: "disable-fsync", dst: &o.noFsync, help: "Do not invoke fsync()"},
			{long: "per-object-fsync", dst: &o.objectFsync, help: "Perform writes in such a way that avoids stalling concurrent processes"},
			{long: "disable-static-deltas", dst: &o.noDeltas, help: "Do not use static deltas"},
			{long: "require-static-deltas", dst: &o.requireDeltas, help: "Require static deltas"},
			{long: "disable-retry-on-network-errors", dst: &o.noRetryNetwork, help: "Do not retry when a connection fails, only when the server answers that it cannot serve now"},
			{long: "mirror", dst: &o.mirror, help: "Write refs suitable for a mirror and fetches all refs if none provided"},
			{long: "subpath", dst: &o.subpaths, help: "Only pull the provided subpath(s)"},
			{long: "untrusted", dst: &o.untrusted, help: "Verify checksums of local sources (always enabled for HTTP pulls)"},
			{long: "http-trusted", dst: &o.trusted, help: "Do not verify checksums of HTTP sources (mostly useful when mirroring)"},
			{long: "bareuseronly-files", dst: &o.userOnly, help: "Reject regular files with mode outside of 0775 (world writable, suid, etc.)"},
			{long: "dry-run", dst: &o.dryRun, help: "Only print information on what will be downloaded (requires static deltas)"},
			{long: "depth", arg: "DEPTH", dst: &o.depth, help: "Traverse DEPTH parents (-1=infinite) (default: 0)"},
			{long: "url", arg: "URL", dst: &o.url, help: "Pull objects from this URL instead of the one from the remote config"},
			{long: "http-header", arg: "NAME=VALUE", dst: &o.headers, help: "Add NAME=VALUE as HTTP header to all requests"},
			{long: "update-frequency", arg: "FREQUENCY", dst: &o.frequency, help: "Sets the update frequency, in milliseconds (0=1000ms) (default: 0)"},
			{long: "network-retries", arg: "N", dst: &o.retries, help: "Specifies how many times each download should be retried upon error (default: 5)"},
			{long: "low-speed-limit-bytes", arg: "N", dst: &o.lowSpeed, help: "Give a transfer up that is slower than N bytes per second, 0 for none (default: 1000)"},
			{long: "low-speed-time-seconds", arg: "N", dst: &o.lowTime, help: "... for N seconds, 0 for ever (default: 30)"},
			{long: "max-outstanding-fetcher-requests", arg: "N", dst: &o.requests, help: "Have at most N requests under way (default: 8)"},
			{long: "localcache-repo", short: 'L', arg: "REPO", dst: &o.caches, help: "Add REPO as local cache source for objects during this pull"},
			{long: "timestamp-check", short: 'T', dst: &o.checkTime, help: "Require fetched commits to have newer timestamps"},
			{long: "timestamp-check-from-rev", dst: &o.checkFrom, help: "Require fetched commits to have newer timestamps than given rev"},
			{long: "disable-verify-bindings", dst: &o.noBindings, help: "Do not verify commit bindings"},
			{long: "append-user-agent", dst: &o.userAgent, hidden: true},
		},
		prepare: func(_ *call, r *ostree.Options) error {
			r.DisableFsync, r.PerObjectFsync = o.noFsync, o.objectFsync
			return nil
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *pullOptions) run(ctx context.Context, c *call) error {
	if len(c.args) < 1 {
		return c.usageError("REMOTE must be specified")
	}
	if o.dryRun && !o.requireDeltas {
		return failf("--dry-run requires --require-static-deltas")
	}
	name, refs, err := pullTarget(c.args)
	if err != nil {
		return err
	}
	req, err := o.request(c, refs)
	if err != nil {
		return err
	}
	remote, err := c.loadRemote(name)
	if err != nil {
		return err
	}
	if o.url.set {
		remote.URL, remote.ContentURL, remote.Metalink = o.url.value, "", ""
	}
	if err := c.addTrust(&req, remote, pull.TrustOptions{}); err != nil {
		return err
	}
	done, err := c.addCache(&req, o.cacheDir)
	if err != nil {
		return err
	}
	res, err := pull.Pull(ctx, c.repo, remote, req)
	if err := errors.Join(pullError(err), done()); err != nil {
		return err
	}
	if o.dryRun {
		c.printf("%s\n", deltaStatus(res.Delta))
		return nil
	}
	c.printf("%s\n", pullStatus(res))
	return nil
}

// pullTarget reads REMOTE [BRANCH…] or REMOTE:BRANCH; a branch may end in @COMMIT.
func pullTarget(args []string) (remote string, refs []string, err error) {
	if strings.Contains(args[0], ":") {
		remote, ref, err := ostree.SplitRefspec(args[0])
		return remote, []string{ref}, err
	}
	for _, ref := range args[1:] {
		if i := strings.LastIndexByte(ref, '@'); i >= 0 {
			if _, err := parseSum(ref[i+1:]); err != nil {
				return "", nil, err
			}
		}
	}
	return args[0], args[1:], nil
}

// request makes the part of a request that the options say. Repositories that it
// opens are closed with the call.
func (o *pullOptions) request(c *call, refs []string) (pull.Request, error) {
	req := pull.Request{
		Refs: refs, Mirror: o.mirror, Depth: o.depth, CommitMetadataOnly: o.metadataOnly, Subpaths: o.subpaths,
		TimestampCheck: o.checkTime, DisableVerifyBindings: o.noBindings,
		Untrusted: o.untrusted, Trusted: o.trusted && !o.untrusted, BareUserOnlyFiles: o.userOnly,
		NoDeltas: o.noDeltas, RequireDeltas: o.requireDeltas, DryRun: o.dryRun,
		UpdateFrequency: time.Duration(o.frequency) * time.Millisecond,
		Logger:          c.logger(), Progress: c.progress(),
	}
	var err error
	if req.Network, err = o.network(); err != nil {
		return req, err
	}
	for _, kv := range o.headers {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			return req, failf("Missing '=' in --http-header")
		}
		if req.Network.Header == nil {
			req.Network.Header = map[string]string{}
		}
		req.Network.Header[name] = value
	}
	if o.checkFrom.set {
		from, err := c.repo.Resolve(o.checkFrom.value)
		if err != nil {
			return req, err
		}
		req.TimestampFrom = from
	}
	for _, path := range o.caches {
		r, err := c.openRepoAt(path, c.repoOptions())
		if err != nil {
			return req, err
		}
		req.LocalCaches = append(req.LocalCaches, r)
	}
	return req, nil
}

// network gives the options that tune transfers. A negative number counts as not
// given: the remote's configuration decides, or else the library.
func (o *pullOptions) network() (pull.Network, error) {
	n := pull.Network{UserAgent: userAgent, AppendUserAgent: o.userAgent, FailOnNetworkErrors: o.noRetryNetwork,
		Retries: orOff(o.retries), LowSpeedBytes: int64(orOff(o.lowSpeed)), LowSpeedTime: time.Duration(orOff(o.lowTime)) * time.Second,
		Outstanding: max(o.requests, 0)}
	if o.requests == 0 || o.requests > pull.MaxOutstanding {
		return n, failf("--max-outstanding-fetcher-requests=%d is not within 1 and %d", o.requests, pull.MaxOutstanding)
	}
	return n, nil
}

// orOff writes a number of the command line as pull.Network has it, where 0 is the
// default and a negative number means none.
func orOff(given int) int {
	switch {
	case given < 0:
		return 0
	case given == 0:
		return -1
	}
	return given
}

// addCache sets where verified summaries are kept; done closes it.
func (c *call) addCache(req *pull.Request, dir text) (done func() error, err error) {
	req.FailInvalidCache = os.Getenv("OSTREE_REPO_TEST_ERROR") == "invalid-cache"
	if !dir.set {
		_, req.NoCache = os.LookupEnv("OSTREE_SKIP_CACHE")
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(dir.value, 0o755); err != nil {
		return nil, fmt.Errorf("cache dir: %w", err)
	}
	if req.Cache, err = fsx.OpenDir(dir.value); err != nil {
		return nil, fmt.Errorf("cache dir: %w", err)
	}
	return req.Cache.Close, nil
}

// pullError leaves out the remote's name, which libostree's texts do not have.
func pullError(err error) error {
	var e *pull.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// pullStatus is the line at the end of a pull.
func pullStatus(r pull.Result) string {
	var b strings.Builder
	switch {
	case r.Local:
		fmt.Fprintf(&b, "%d metadata, %d content objects imported", r.ImportedMetadata, r.ImportedContent)
	case r.DeltaParts > 0:
		fmt.Fprintf(&b, "%d delta parts, %d loose fetched", r.DeltaParts, r.Metadata+r.Content)
	default:
		fmt.Fprintf(&b, "%d metadata, %d content objects fetched", r.Metadata, r.Content)
	}
	if !r.Local && r.ImportedMetadata+r.ImportedContent > 0 {
		fmt.Fprintf(&b, " (%d meta, %d content local)", r.ImportedMetadata, r.ImportedContent)
	}
	switch {
	case r.Local:
	case r.Bytes >= 1024:
		fmt.Fprintf(&b, "; %d KiB transferred in %d seconds", r.Bytes/1024, int(r.Duration.Seconds()))
	case r.Bytes > 0:
		fmt.Fprintf(&b, "; %d B transferred in %d seconds", r.Bytes, int(r.Duration.Seconds()))
	}
	return fmt.Sprintf("%s; %s content written", b.String(), formatSize(uint64(r.Stats.ContentBytes)))
}

// deltaStatus is what a dry run prints.
func deltaStatus(p pull.DeltaPlan) string {
	return fmt.Sprintf("Delta update: %d/%d parts, %s/%s, %s total uncompressed",
		p.HaveParts+p.HaveFallbacks, p.Parts+p.Fallbacks, formatSize(p.HaveSize), formatSize(p.Size), formatSize(p.UncompressedSize))
}
