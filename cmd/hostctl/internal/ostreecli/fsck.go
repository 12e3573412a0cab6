// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree"
)

type fsckOptions struct {
	tombstones, quiet, all, remove, bindings, backRefs bool
	repair                                             bool
	sources                                            []string // of repair; none: all remotes
}

func fsckVerb() *verb {
	var o fsckOptions
	var progress *console
	return &verb{
		name: "fsck", summary: "Check the repository for consistency",
		opts: []option{
			{long: "add-tombstones", dst: &o.tombstones, help: "Add tombstones for missing commits"},
			{long: "quiet", short: 'q', dst: &o.quiet, help: "Only print error messages"},
			{long: "all", short: 'a', dst: &o.all, help: "Don't stop on first error"},
			{long: "delete", dst: &o.remove, help: "Remove corrupted objects"},
			{long: "verify-bindings", dst: &o.bindings, help: "Verify ref bindings"},
			{long: "verify-back-refs", dst: &o.backRefs, help: "Verify back-references (implies --verify-bindings)"},
			{long: "repair", arg: "SOURCE", optional: true, dst: o.addSource, help: "Restore missing and corrupt objects from SOURCE, a remote, URL or repository (may be given several times; default: all remotes)"},
		},
		prepare: func(c *call, lib *ostree.Options) error {
			progress = c.newConsole("fsck objects")
			lib.Progress = progress.event
			return nil
		},
		run: func(ctx context.Context, c *call) error {
			if o.repair {
				return c.fsckRepair(ctx, o, progress)
			}
			return c.fsck(ctx, o, progress)
		},
	}
}

func (c *call) fsck(ctx context.Context, o fsckOptions, progress *console) error {
	res, err := c.repo.Fsck(ctx, ostree.FsckOptions{
		// What is to be deleted may be needed by marked commits only: an earlier run was killed.
		Reachable: !o.remove, StopAtFirst: !o.all && !o.remove, MarkPartial: true, Delete: o.remove, AddTombstones: o.tombstones,
		VerifyBindings: o.bindings, VerifyBackRefs: o.backRefs,
		Phase: func(p ostree.FsckPhase, n int) { c.fsckPhase(o, p, n) },
	})
	progress.end()
	if err != nil {
		return err
	}
	damaged, err := c.fsckFindings(res, o)
	if err != nil {
		return err
	}
	for _, sum := range res.Tombstones {
		c.printf("Adding tombstone for commit %s\n", sum)
	}
	if res.Partial > 0 && !o.tombstones {
		c.printf("%d partial commits not verified\n", res.Partial)
	}
	switch {
	case damaged:
		return failf("Repository corruption encountered")
	case res.FsckPartial > 0:
		return failf("%d partial commits from fsck-detected corruption", res.Partial)
	}
	c.printf("object fsck of %d commits completed successfully - no errors found.\n", res.Commits-res.Partial)
	return nil
}

func (c *call) fsckPhase(o fsckOptions, p ostree.FsckPhase, n int) {
	if o.quiet {
		return
	}
	switch p {
	case ostree.FsckRefs:
		c.printf("Validating refs...\n")
	case ostree.FsckCollectionRefs:
		c.printf("Validating refs in collections...\n")
	case ostree.FsckCommits:
		c.printf("Enumerating commits...\n")
	case ostree.FsckObjects:
		c.printf("Verifying content integrity of %d commit objects...\n", n)
	}
}

// fsckFindings prints damage that does not end the check, and gives the first that
// does.
func (c *call) fsckFindings(res ostree.FsckResult, o fsckOptions) (damaged bool, err error) {
	marked := map[ostree.Checksum]bool{}
	for _, sum := range res.Marked {
		marked[sum] = true
	}
	for _, f := range res.Findings {
		switch f.Kind {
		case ostree.MissingObject:
		case ostree.DanglingRef:
			fmt.Fprintf(c.Err, "Object missing: %s\n", f.Object)
			return true, failf("%s", f.Message())
		case ostree.CorruptObject, ostree.UnreadableObject, ostree.WrongPayloadLink:
			if !o.all && !o.remove {
				return true, failf("%s", f.Message())
			}
		default:
			return true, failf("%s", f.Message())
		}
		damaged = true
		fmt.Fprintln(c.Err, f.Message())
		for _, sum := range f.Commits {
			if marked[sum] {
				delete(marked, sum)
				fmt.Fprintf(c.Err, "Marking commit as partial: %s\n", sum)
			}
		}
	}
	return damaged, nil
}
