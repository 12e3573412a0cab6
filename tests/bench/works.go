// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"
)

// repo names the repository of a run.
func repo(dir string) string { return filepath.Join(dir, "repo") }

func (b *bench) initRepo(mode string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		return b.peerRun(ctx, "init", "--repo="+repo(dir), "--mode="+mode)
	}
}

func fresh(from string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error { return copyRepo(ctx, from, repo(dir)) }
}

// localWorks need no network.
func (b *bench) localWorks(in inputs) []work {
	commit := func(dir string) []string {
		return []string{"commit", "--repo=" + repo(dir), "--branch=x", "--subject=x", "--timestamp=2024-01-01T00:00:00Z", "--tree=dir=" + in.tree}
	}
	return []work{
		{name: "commit to archive", prepare: b.initRepo("archive"), reads: []string{in.tree}, argv: commit,
			size: func(dir string) (int64, error) { return dirSize(filepath.Join(repo(dir), "objects")) }},
		{name: "commit to bare", prepare: b.initRepo("bare"), reads: []string{in.tree}, argv: commit},
		{name: "fsck of two commits", reads: []string{in.bare}, argv: func(string) []string { return []string{"fsck", "--quiet", "--repo=" + in.bare} }},
		{name: "fsck of two commits, archive", reads: []string{in.archive}, argv: func(string) []string { return []string{"fsck", "--quiet", "--repo=" + in.archive} }},
		{name: "hard-link checkout", prepare: fresh(in.bare), reads: []string{in.bare},
			argv: func(dir string) []string {
				return []string{"checkout", "--repo=" + repo(dir), "--require-hardlinks", "v1", filepath.Join(dir, "out")}
			}},
		{name: "diff", reads: []string{in.bare}, argv: func(string) []string { return []string{"diff", "--repo=" + in.bare, "v1", "v2"} }},
		{name: "prune", reads: []string{in.bare}, prepare: func(ctx context.Context, dir string) error {
			if err := copyRepo(ctx, in.bare, repo(dir)); err != nil {
				return err
			}
			return b.peerRun(ctx, "refs", "--repo="+repo(dir), "--delete", "v1")
		}, argv: func(dir string) []string { return []string{"prune", "--repo=" + repo(dir), "--refs-only", "--depth=0"} }},
		{name: "static delta", rounds: 1, prepare: fresh(in.archive), reads: []string{in.archive},
			argv: func(dir string) []string {
				return []string{"static-delta", "generate", "--repo=" + repo(dir), "--from=" + in.from, "--to=" + in.to}
			},
			size: func(dir string) (int64, error) { return b.deltaSize(dir) }},
	}
}

// networkWorks pull from a file server on the loopback.
func (b *bench) networkWorks(in inputs, url string) []work {
	remote := func(name string) func(context.Context, string) error {
		return func(ctx context.Context, dir string) error {
			return b.peerRun(ctx, "remote", "add", "--repo="+repo(dir), "--no-gpg-verify", "origin", url+"/"+name)
		}
	}
	both := func(steps ...func(context.Context, string) error) func(context.Context, string) error {
		return func(ctx context.Context, dir string) error {
			for _, s := range steps {
				if err := s(ctx, dir); err != nil {
					return err
				}
			}
			return nil
		}
	}
	pull := func(ref string, options ...string) func(string) []string {
		return func(dir string) []string {
			return append([]string{"pull", "--repo=" + repo(dir), "origin", ref}, options...)
		}
	}
	// The refs here are not those that the commits were made for.
	const unbound = "--disable-verify-bindings"
	return []work{
		{name: "pull over HTTP, archive to bare", prepare: both(b.initRepo("bare"), remote("archive")), reads: []string{in.archive}, argv: pull("v1", "--disable-static-deltas", unbound)},
		{name: "pull of an update", prepare: both(fresh(in.bareV1), remote("archive")), reads: []string{in.archive, in.bareV1}, argv: pull("v2", "--disable-static-deltas", unbound)},
		{name: "pull by delta", prepare: both(fresh(in.bareV1), remote("deltas")), reads: []string{in.deltas, in.bareV1}, argv: pull("v2", "--require-static-deltas", unbound)},
	}
}
