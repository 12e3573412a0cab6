// SPDX-License-Identifier: Apache-2.0

package libostree

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// mode is one repository mode and what of a tree it can give back.
type mode struct {
	name  string
	plain bool // trees without owners, attributes and odd permissions
	user  bool // checkouts are in user mode
}

var modes = []mode{{name: "archive"}, {name: "bare"}, {name: "bare-user", user: true}, {name: "bare-user-only", plain: true, user: true}}

type pair struct {
	*rapid.T
	dir string
}

func (p pair) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p pair) path(name string) string { return filepath.Join(p.dir, name) }

func (p pair) open(path string, create ostree.Mode) *ostree.Repo {
	p.Helper()
	d, err := fsx.OpenDir(path)
	p.must(err)
	p.Cleanup(func() { d.Close() })
	var r *ostree.Repo
	if create != 0 {
		r, err = ostree.Create(d, create, ostree.Options{DisableFsync: true})
	} else {
		r, err = ostree.Open(d, ostree.Options{DisableFsync: true})
	}
	p.must(err)
	p.Cleanup(func() { r.Close() })
	return r
}

// commit commits a folder with our code.
func (p pair) commit(r *ostree.Repo, dir string) (sum ostree.Checksum, content string) {
	p.Helper()
	src, err := fsx.OpenDir(dir)
	p.must(err)
	defer src.Close()
	_, err = r.Update(context.Background(), func(ctx context.Context, t *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := t.WriteDir(ctx, src, m, ostree.CommitOptions{}); err != nil {
			return err
		}
		c := ostree.Commit{Subject: "from us", Timestamp: 1700000000}
		if c.RootTree, c.RootMeta, err = t.WriteTree(ctx, m); err != nil {
			return err
		}
		sumContent := c.ContentChecksum()
		content = hex.EncodeToString(sumContent[:])
		if sum, err = t.WriteCommit(ctx, c); err != nil {
			return err
		}
		return t.SetRef("ours", sum)
	})
	p.must(err)
	return sum, content
}

func (p pair) checkout(r *ostree.Repo, c ostree.Checksum, name string, user bool) {
	p.Helper()
	d, err := fsx.OpenDir(p.dir)
	p.must(err)
	defer d.Close()
	p.must(r.Checkout(context.Background(), c, d, name, ostree.CheckoutOptions{UserMode: user}))
}

func (p pair) same(what, a, b string, user bool) {
	p.Helper()
	x, err := describe(p.path(a), user)
	p.must(err)
	y, err := describe(p.path(b), user)
	p.must(err)
	if d := cmp.Diff(x, y); d != "" {
		p.Fatalf("%s: %s and %s differ:\n%s", what, a, b, d)
	}
}

// TestBothWays writes random trees with one side and reads them with the other.
func TestBothWays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners and bare repositories need root")
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			ours, err := ostree.ParseMode(m.name)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(rt *rapid.T) {
				dir, err := os.MkdirTemp("", "both-")
				if err != nil {
					rt.Fatal(err)
				}
				rt.Cleanup(func() { os.RemoveAll(dir) })
				p := pair{rt, dir}
				for _, sub := range []string{"tree", "a", "b"} {
					p.must(os.Mkdir(p.path(sub), 0o755))
				}
				tree := genTree(m.plain).Draw(rt, "tree")
				p.must(write(p.path("tree"), tree))
				bothWays(p, m, ours)
				if !m.user && comesBack(tree) {
					p.same("the tree", "tree", "b-ours", false)
				}
			})
		})
	}
}

func bothWays(p pair, m mode, create ostree.Mode) {
	p.Helper()
	// libostree writes, we read.
	p.must(Init(p.path("a"), m.name))
	text, err := Commit(p.path("a"), p.path("tree"), "theirs")
	p.must(err)
	theirs, err := ostree.ParseChecksum(text)
	p.must(err)
	a := p.open(p.path("a"), 0)
	found, err := a.Fsck(context.Background(), ostree.FsckOptions{})
	p.must(err)
	if len(found.Findings) > 0 || found.Commits != 1 {
		p.Fatalf("our fsck of their repository: %+v", found)
	}
	p.checkout(a, theirs, "a-ours", m.user)
	p.must(Checkout(p.path("a"), text, p.path("a-theirs"), m.user))
	p.same("their repository", "a-ours", "a-theirs", m.user)

	// We write, libostree reads.
	b := p.open(p.path("b"), create)
	sum, content := p.commit(b, p.path("tree"))
	if _, err := Fsck(p.path("b")); err != nil {
		p.Fatalf("libostree's fsck of our repository: %v", err)
	}
	p.must(Checkout(p.path("b"), sum.String(), p.path("b-theirs"), m.user))
	p.checkout(b, sum, "b-ours", m.user)
	p.same("our repository", "b-ours", "b-theirs", m.user)
	p.same("both repositories", "a-theirs", "b-ours", m.user)
	want, err := ContentChecksum(p.path("a"), text)
	p.must(err)
	if content != want {
		p.Fatalf("checksum of the tree: ours %s, libostree's %s", content, want)
	}
}
