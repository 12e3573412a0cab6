// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

type commitOptions struct {
	parent, bodyFile, branch, base, statOverride, skipList          text
	subject, body                                                   string
	editor, orphan, noBindings, bootable, skipUnchanged, consume    bool
	canonical, roExecutables, noXattrs, policyFromBase, linkSpeedup bool
	devinoCanonical, autocreate, table, sizes, noFsync, composefs   bool
	bindRefs, trees                                                 []string
	metaStrings, metaVariants, metaKeep, detached                   []string
	uid, gid, labelEpoch                                            int
	policy, pathFilter, timestamp                                   text
	gpgKeys, signKeys, signFiles                                    []string
	gpgHomedir, signType                                            string
}

func commitVerb() *verb {
	o := &commitOptions{uid: -1, gid: -1}
	return &verb{
		name: "commit", args: "[PATH]", summary: "Commit a new revision",
		opts: o.options(),
		prepare: func(_ *call, lib *ostree.Options) error {
			lib.DisableFsync = o.noFsync
			return nil
		},
		run: func(ctx context.Context, c *call) error { return (&committer{call: c, o: o}).run(ctx) },
	}
}

// committer is one run of the verb.
type committer struct {
	*call
	o         *commitOptions
	parent    ostree.Checksum
	metadata  gvariant.Dict
	detached  *gvariant.Dict
	overrides ostree.Overrides
	sum       ostree.Checksum
	label     labeler  // nil: no labels but those that are there
	consumed  []string // directories to remove when all is done
}

// errUnchanged ends a transaction that has nothing to commit.
var errUnchanged = errors.New("unchanged")

func (m *committer) run(ctx context.Context) error {
	if err := m.prepare(); err != nil {
		return err
	}
	if m.o.editor {
		if err := m.edit(ctx); err != nil {
			return err
		}
	} else if err := m.readBody(); err != nil {
		return err
	}
	stats, err := m.repo.Update(ctx, m.write)
	if errors.Is(err, errUnchanged) {
		m.sum, err = m.parent, nil
	}
	if err != nil {
		return err
	}
	for _, dir := range m.consumed {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	m.report(stats)
	return nil
}

func (m *committer) report(s ostree.Stats) {
	if !m.o.table {
		m.printf("%s\n", m.sum)
		return
	}
	m.printf("Commit: %s\nMetadata Total: %d\nMetadata Written: %d\n", m.sum, s.MetadataTotal, s.MetadataWritten)
	m.printf("Content Total: %d\nContent Written: %d\nContent Cache Hits: %d\n", s.ContentTotal, s.ContentWritten, s.CacheHits)
	m.printf("Content Bytes Written: %d\n", s.ContentBytes)
}

// prepare checks the options in the order in which libostree does.
func (m *committer) prepare() error {
	if err := m.readLists(); err != nil {
		return err
	}
	if !m.o.branch.set && !m.o.orphan {
		return failf("A branch must be specified with --branch, or use --orphan")
	}
	if err := m.findParent(); err != nil {
		return err
	}
	if m.parent.IsZero() && len(m.o.metaKeep) > 0 {
		return failf("Either --branch or --parent must be specified when using --keep-metadata")
	}
	if err := m.readMetadata(); err != nil {
		return err
	}
	switch {
	case m.o.canonical && m.o.uid > 0:
		return failf("Cannot specify both --canonical-permissions and non-zero --owner-uid")
	case m.o.canonical && m.o.gid > 0:
		return failf("Cannot specify both --canonical-permissions and non-zero --owner-gid")
	case m.o.policy.set && m.o.policyFromBase:
		return failf("Cannot specify both --selinux-policy and --selinux-policy-from-base")
	case m.o.labelEpoch != 0 && m.o.labelEpoch != 1:
		return failf("Unknown SELinux labeling epoch: %d", m.o.labelEpoch)
	}
	var err error
	if m.o.policy.set {
		m.label, err = labelsOfDir(m.o.policy.value)
	}
	return err
}

func (m *committer) findParent() error {
	var err error
	switch {
	case m.o.parent.value == "none":
	case m.o.parent.set:
		if m.parent, err = ostree.ParseChecksum(m.o.parent.value); err != nil {
			return failf("Invalid rev %s", m.o.parent.value)
		}
	case !m.o.orphan:
		m.parent, err = m.repo.Resolve(m.o.branch.value)
		if errors.Is(err, ostree.ErrNotFound) {
			return nil
		}
	}
	return err
}

// write is the transaction.
func (m *committer) write(ctx context.Context, t *ostree.Txn) error {
	tree := ostree.NewMTree()
	lib, err := m.library(ctx)
	if err != nil {
		return err
	}
	if m.o.base.set {
		if err := m.startFrom(ctx, t, tree); err != nil {
			return err
		}
		if m.o.policyFromBase {
			if m.label, err = m.labelsOfBase("ref", m.o.base.value); err != nil {
				return err
			}
		}
	}
	if err := m.writeTrees(ctx, t, tree, lib); err != nil {
		return err
	}
	if err := m.unmatched(); err != nil {
		return err
	}
	commit := ostree.Commit{Parent: m.parent, Subject: m.o.subject, Body: m.o.body}
	if commit.RootTree, commit.RootMeta, err = t.WriteTree(ctx, tree); err != nil {
		return err
	}
	if m.o.skipUnchanged && !m.parent.IsZero() {
		same, err := t.SameTree(m.parent, commit.RootTree, commit.RootMeta)
		if err != nil {
			return err
		}
		if same {
			return errUnchanged
		}
	}
	return m.writeCommit(ctx, t, commit)
}

func (m *committer) writeCommit(ctx context.Context, t *ostree.Txn, commit ostree.Commit) error {
	m.bind()
	if m.o.bootable {
		if err := t.AddBootable(ctx, &m.metadata, commit.RootTree); err != nil {
			return err
		}
	}
	if m.o.composefs {
		if err := t.AddComposefs(ctx, &m.metadata, commit.RootTree, commit.RootMeta); err != nil {
			return err
		}
	}
	commit.Metadata = m.metadata
	var err error
	if commit.Timestamp, err = m.timestamp(); err != nil {
		return err
	}
	if m.sum, err = t.WriteCommit(ctx, commit); err != nil {
		return err
	}
	if err := m.sign(ctx, t); err != nil {
		return err
	}
	if m.o.branch.set {
		if err := t.SetRef(m.o.branch.value, m.sum); err != nil {
			return err
		}
	}
	if os.Getenv("OSTREE_REPO_TEST_ERROR") == "pre-commit" {
		return failf("OSTREE_REPO_TEST_ERROR_PRE_COMMIT specified")
	}
	return nil
}

// timestamp is that of --timestamp, of reproducible builds, or now.
func (m *committer) timestamp() (uint64, error) {
	now := time.Now()
	if m.o.timestamp.set {
		t, err := parseDate(m.o.timestamp.value, now)
		if err != nil {
			return 0, failf("Could not parse '%s'", m.o.timestamp.value)
		}
		return uint64(t.Unix()), nil
	}
	if env, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok {
		n, err := strconv.ParseInt(env, 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			return 0, failf("Parsing SOURCE_DATE_EPOCH: %w", syscall.ERANGE)
		}
		if err != nil {
			return 0, failf("Failed to convert SOURCE_DATE_EPOCH")
		}
		return uint64(n), nil
	}
	return uint64(now.Unix()), nil
}
