// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"context"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

var plainDir = ostree.DirMeta{Mode: rpm.ModeDir | 0o755}

// commit stores the union in the cache. Only directories and a few links are
// new, so it costs little; and the checkout of one commit is one parallel pass.
func (u *union) commit(ctx context.Context, repo *ostree.Repo) (ostree.Checksum, error) {
	var sum ostree.Checksum
	_, err := repo.Update(ctx, func(ctx context.Context, txn *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := fill(m, u.root); err != nil {
			return err
		}
		if err := u.finish(ctx, txn, m); err != nil {
			return err
		}
		tree, meta, err := txn.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		sum, err = txn.WriteCommit(ctx, ostree.Commit{Subject: "assembled packages", RootTree: tree, RootMeta: meta})
		return err
	})
	return sum, err
}

func fill(m *ostree.MTree, n *node) error {
	if n.sum.IsZero() {
		if err := m.SetMeta(plainDir); err != nil {
			return err
		}
	} else {
		m.SetMetaChecksum(n.sum)
	}
	for _, name := range sortedNames(n) {
		c := n.children[name]
		if !c.dir {
			if err := m.SetFile(name, c.sum); err != nil {
				return err
			}
			continue
		}
		sub, err := m.Dir(name, true)
		if err != nil {
			return err
		}
		if err := fill(sub, c); err != nil {
			return err
		}
	}
	return nil
}

// finish adds what a tree has and no package shipped.
func (u *union) finish(ctx context.Context, txn *ostree.Txn, m *ostree.MTree) error {
	for _, name := range []string{"usr", "var"} {
		sub, err := m.Dir(name, true)
		if err != nil {
			return err
		}
		if sub.MetaChecksum().IsZero() && u.root.children[name] == nil {
			if err := sub.SetMeta(plainDir); err != nil {
				return err
			}
		}
	}
	usr, err := m.Dir("usr", false)
	if err != nil {
		return err
	}
	etc, err := usr.Dir("etc", true)
	if err != nil {
		return err
	}
	if n := u.root.children["usr"]; n == nil || n.children["etc"] == nil {
		if err := etc.SetMeta(plainDir); err != nil {
			return err
		}
	}
	for name, target := range u.links.targets {
		if strings.Contains(name, "/") || u.root.children[name] != nil {
			continue
		}
		sum, err := txn.WriteContent(ctx, ostree.FileHeader{Mode: rpm.ModeSymlink | 0o777, Target: target}, 0, strings.NewReader(""))
		if err != nil {
			return err
		}
		if err := m.SetFile(name, sum); err != nil {
			return err
		}
	}
	return nil
}
