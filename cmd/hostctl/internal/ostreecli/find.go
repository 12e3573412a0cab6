// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

type findOptions struct {
	cacheDir     text
	noFsync      bool
	finders      text
	pull, mirror bool
}

func findRemotesVerb() *verb {
	o := &findOptions{}
	return &verb{
		name: "find-remotes", args: "COLLECTION-ID REF [COLLECTION-ID REF...]", summary: "Find remotes to serve the given refs",
		opts: []option{
			{long: "cache-dir", dst: &o.cacheDir, help: cacheDirHelp},
			{long: "disable-fsync", dst: &o.noFsync, help: "Do not invoke fsync()"},
			{long: "finders", arg: "FINDERS", dst: &o.finders, help: "Use the specified comma separated list of finders (e.g. config,lan,mount)"},
			{long: "pull", dst: &o.pull, help: "Pull the updates after finding them"},
			{long: "mirror", dst: &o.mirror, help: "Do a mirror pull (see ostree pull --mirror)"},
		},
		prepare: func(_ *call, r *ostree.Options) error {
			r.DisableFsync = o.noFsync
			return nil
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

// candidate is a place that may have refs. remote.Name is the remote whose keys
// it needs.
type candidate struct {
	finder   string
	priority int // lower is better
	remote   pull.Remote

	modified uint64 // of its summary, seconds since 1970; 0 for unknown
	refs     map[ostree.CollectionRef]found
}

// found is what a summary says about a ref.
type found struct {
	commit ostree.Checksum
	time   uint64
}

func (o *findOptions) run(ctx context.Context, c *call) error {
	switch {
	case len(c.args) < 2:
		return c.usageError("At least one COLLECTION-ID REF pair must be specified")
	case len(c.args)%2 == 1:
		return c.usageError("Only complete COLLECTION-ID REF pairs may be specified")
	case o.mirror && !o.pull:
		return c.usageError("When --mirror is specified, --pull must also be")
	}
	refs, err := collectionRefs(c.args)
	if err != nil {
		return err
	}
	all, err := o.candidates(c, refs)
	if err != nil {
		return err
	}
	for _, k := range all {
		if err := o.look(ctx, c, k, refs); err != nil {
			return err
		}
	}
	results := keepLatest(all, refs)
	c.printResults(results, refs)
	if len(results) == 0 || !o.pull {
		return nil
	}
	if err := o.pullAll(ctx, c, results); err != nil {
		return err
	}
	c.printf("Pulled %d/%d refs successfully.\n", len(refs), len(refs))
	return nil
}

// candidates asks the finders; without --finders all but those of the network.
func (o *findOptions) candidates(c *call, refs []pull.CollectionRef) ([]*candidate, error) {
	names := []string{"config", "mount"}
	if o.finders.set {
		names = strings.Split(o.finders.value, ",")
	}
	var all []*candidate
	for i, name := range names {
		var err error
		var some []*candidate
		switch {
		case slices.Contains(names[:i], name):
			err = c.unknownFinder(name)
		case name == "config":
			some, err = c.configured(refs)
		case name == "mount":
			some, err = c.mounted(refs)
		case name == "lan":
			err = c.usageError("LAN repo finder requested but ostree was compiled without Avahi support: use config or mount")
		default:
			err = c.unknownFinder(name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (c *call) unknownFinder(name string) error {
	if name == "" {
		return c.usageError("List of finders in --finders option must not be empty")
	}
	return c.usageError(fmt.Sprintf("Unknown or duplicate finder type given in --finders option: ‘%s’", name))
}

// configured are the remotes of the wanted collections.
func (c *call) configured(refs []pull.CollectionRef) ([]*candidate, error) {
	where, err := c.remotes(false)
	if err != nil {
		return nil, err
	}
	names, err := where.List()
	if err != nil {
		return nil, err
	}
	var out []*candidate
	for _, name := range names {
		r, err := where.Load(name)
		if err != nil {
			return nil, remoteError(name, err)
		}
		if slices.ContainsFunc(refs, func(w pull.CollectionRef) bool { return w.Collection == r.CollectionID }) {
			out = append(out, &candidate{finder: "OstreeRepoFinderConfig", priority: 100, remote: r})
		}
	}
	return out, nil
}

// look reads the summary of a candidate; one that cannot be read or verified
// offers nothing.
func (o *findOptions) look(ctx context.Context, c *call, k *candidate, refs []pull.CollectionRef) error {
	req := pull.Request{Logger: c.logger(), Network: pull.Network{UserAgent: userAgent}}
	if err := c.addTrust(&req, k.remote, pull.TrustOptions{}); err != nil {
		return err
	}
	done, err := c.addCache(&req, o.cacheDir)
	if err != nil {
		return err
	}
	s, err := pull.FetchSummary(ctx, c.repo, k.remote, req)
	if cerr := errors.Join(ctx.Err(), done()); cerr != nil {
		return cerr
	}
	if err != nil {
		c.logger().Debug("ignoring remote", "remote", k.remote.Name, "error", err)
		return nil
	}
	list := s.Summary.Collections[k.remote.CollectionID]
	if own, _ := s.Summary.Metadata.Str("ostree.summary.collection-id"); own == k.remote.CollectionID {
		list = s.Summary.Refs
	}
	k.modified, _ = s.Summary.Metadata.Uint64BE("ostree.summary.last-modified")
	k.refs = map[ostree.CollectionRef]found{}
	for _, r := range list {
		ref := ostree.CollectionRef{Collection: k.remote.CollectionID, Ref: r.Name}
		if slices.ContainsFunc(refs, func(w pull.CollectionRef) bool { return w.CollectionRef == ref }) {
			f := found{commit: r.Commit}
			f.time, _ = r.Metadata.Uint64BE("ostree.commit.timestamp")
			k.refs[ref] = f
		}
	}
	return nil
}

// keepLatest leaves of every ref the newest commit and the candidates that have
// some, the best ones first.
func keepLatest(all []*candidate, refs []pull.CollectionRef) []*candidate {
	for _, w := range refs {
		var best found
		for _, k := range all {
			if f := k.refs[w.CollectionRef]; best.commit.IsZero() || f.time > best.time {
				best = f
			}
		}
		for _, k := range all {
			if k.refs[w.CollectionRef].commit != best.commit {
				delete(k.refs, w.CollectionRef)
			}
		}
	}
	all = slices.DeleteFunc(all, func(k *candidate) bool { return len(k.refs) == 0 })
	slices.SortStableFunc(all, func(a, b *candidate) int {
		byTime := 0
		if a.modified != 0 && b.modified != 0 {
			byTime = cmp.Compare(a.modified, b.modified)
		}
		return cmp.Or(cmp.Compare(a.priority, b.priority), byTime, cmp.Compare(len(a.refs), len(b.refs)), cmp.Compare(a.remote.Name, b.remote.Name))
	})
	return all
}

func (c *call) printResults(results []*candidate, refs []pull.CollectionRef) {
	have := map[ostree.CollectionRef]bool{}
	for i, k := range results {
		modified := "unknown"
		if k.modified > 0 && k.modified <= maxTimestamp {
			modified = time.Unix(int64(k.modified), 0).UTC().Format(time.RFC3339)
		}
		c.printf("Result %d: %s\n - Finder: %s\n - Keyring: %s\n - Priority: %d\n - Summary last modified: %s\n - Refs:\n",
			i, k.remote.URL, k.finder, pull.KeyringName(k.remote.Name), k.priority, modified)
		for _, w := range refs {
			text := "(not found)"
			if f, ok := k.refs[w.CollectionRef]; ok {
				text, have[w.CollectionRef] = f.commit.String(), true
			}
			c.printf("    - %s = %s\n", w.CollectionRef, text)
		}
		c.printf("\n")
	}
	if len(results) == 0 {
		c.printf("No results.\n")
		return
	}
	c.printf("%d/%d refs were found.\n", len(have), len(refs))
	if len(have) == len(refs) {
		return
	}
	c.printf("Refs not found in any remote:\n")
	for _, w := range refs {
		if !have[w.CollectionRef] {
			c.printf(" - %s\n", w.CollectionRef)
		}
	}
}

// pullAll pulls every ref from the best place that has it; the next one is tried
// where that fails. Commits must be signed by the keys of their collection.
func (o *findOptions) pullAll(ctx context.Context, c *call, results []*candidate) error {
	state := map[ostree.CollectionRef]bool{} // whether the ref has arrived
	yes, no := true, false
	for _, k := range results {
		var want []pull.CollectionRef
		for ref, f := range k.refs {
			if !state[ref] {
				want = append(want, pull.CollectionRef{CollectionRef: ref, Commit: f.commit})
			}
		}
		if len(want) == 0 {
			continue
		}
		slices.SortFunc(want, func(a, b pull.CollectionRef) int { return a.Compare(b.CollectionRef) })
		remote := k.remote
		remote.NoGPGVerify, remote.GPGVerifySummary, remote.SignVerify, remote.SignVerifySummary = false, false, false, false
		req := pull.Request{
			CollectionRefs: want, Mirror: o.mirror, Untrusted: true, NoCache: true, Logger: c.logger(), Progress: c.progress(),
			Network: pull.Network{UserAgent: userAgent},
		}
		err := c.addTrust(&req, remote, pull.TrustOptions{GPGVerify: &yes, GPGVerifySummary: &no, NoSign: true, NoSignSummary: true})
		if err != nil {
			return err
		}
		_, err = pull.Pull(ctx, c.repo, remote, req)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			c.logger().Debug("pull failed", "remote", remote.Name, "error", err)
		}
		for _, w := range want {
			state[w.CollectionRef] = err == nil
		}
	}
	var failed []string
	for ref, ok := range state {
		if !ok {
			failed = append(failed, ref.String())
		}
	}
	if failed == nil {
		return nil
	}
	slices.Sort(failed)
	return failf("Failed to pull some refs from the remotes: %s", strings.Join(failed, ", "))
}
