// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func openRepo(t *testing.T, path string) *ostree.Repo {
	t.Helper()
	r, err := ostree.Open(testutil.OpenDir(t, path), ostree.Options{DisableFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func newRepo(t *testing.T, mode ostree.Mode) (*ostree.Repo, string) {
	t.Helper()
	path := t.TempDir()
	r, err := ostree.Create(testutil.OpenDir(t, path), mode, ostree.Options{DisableFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, path
}

// tree is files by path: contents, or with a leading "->" the target of a link.
type tree map[string]string

func commitTree(t *testing.T, r *ostree.Repo, parent ostree.Checksum, files tree) ostree.Checksum {
	t.Helper()
	var sum ostree.Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		dir := t.TempDir()
		for name, content := range files {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				return err
			}
			if target, ok := strings.CutPrefix(content, "->"); ok {
				if err := os.Symlink(target, p); err != nil {
					return err
				}
			} else if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
				return err
			}
		}
		root, err := writeTree(ctx, txn, dir)
		if err != nil {
			return err
		}
		c := ostree.Commit{Parent: parent, Subject: "test", Timestamp: 1, RootTree: root.Tree, RootMeta: root.Meta}
		sum, err = txn.WriteCommit(ctx, c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// writeTree stores a directory with owner root and plain modes, which every
// repository mode can hold.
func writeTree(ctx context.Context, txn *ostree.Txn, dir string) (out ostree.TreeDir, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return out, err
	}
	var dt ostree.DirTree
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		if e.IsDir() {
			sub, err := writeTree(ctx, txn, p)
			if err != nil {
				return out, err
			}
			sub.Name = e.Name()
			dt.Dirs = append(dt.Dirs, sub)
			continue
		}
		var c ostree.Checksum
		if e.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			if err != nil {
				return out, err
			}
			c, err = txn.WriteContent(ctx, ostree.FileHeader{Mode: 0o120777, Target: target}, 0, strings.NewReader(""))
			if err != nil {
				return out, err
			}
		} else {
			data, err := os.ReadFile(p)
			if err != nil {
				return out, err
			}
			c, err = txn.WriteContent(ctx, ostree.FileHeader{Mode: 0o100644}, int64(len(data)), bytes.NewReader(data))
			if err != nil {
				return out, err
			}
		}
		dt.Files = append(dt.Files, ostree.TreeFile{Name: e.Name(), Checksum: c})
	}
	raw, err := dt.Marshal()
	if err != nil {
		return out, err
	}
	if out.Tree, err = txn.WriteMetadata(ctx, ostree.TypeDirTree, raw); err != nil {
		return out, err
	}
	if raw, err = (ostree.DirMeta{Mode: 0o40755}).Marshal(); err != nil {
		return out, err
	}
	out.Meta, err = txn.WriteMetadata(ctx, ostree.TypeDirMeta, raw)
	return out, err
}

// noise gives bytes that do not compress.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return string(b)
}

// versions gives two trees between which files are edited, shifted, moved, added,
// removed and left alone.
func versions() (v1, v2 tree) {
	big := noise(1, 1200<<10)
	code := noise(2, 200_000)
	edited := []byte(code)
	for i := 100; i < len(edited); i += 997 {
		edited[i]++
	}
	v1 = tree{
		"usr/bin/code": code, "usr/bin/big": big, "usr/lib/libx.so.1.2": noise(3, 50_000), "usr/lib/gone": "gone",
		"usr/share/same": noise(4, 1000), "usr/share/text": strings.Repeat("line of text\n", 500), "usr/share/old.link": "->same",
		"usr/share/empty": "",
	}
	v2 = tree{
		"usr/bin/code": "head" + string(edited[:120_000]) + "middle" + string(edited[120_000:]),
		"usr/bin/big":  big[:500<<10] + "a change" + big[500<<10:], "usr/lib/libx.so.1.3": v1["usr/lib/libx.so.1.2"] + "more",
		"usr/share/same": v1["usr/share/same"], "usr/share/text": strings.Repeat("line of text\n", 300) + strings.Repeat("other text\n", 300),
		"usr/share/new.link": "->text", "usr/share/new": noise(5, 3000), "usr/share/empty2": "", "usr/share/was-empty": "x",
	}
	return v1, v2
}

// pair makes a repository with two commits.
func pair(t *testing.T, mode ostree.Mode) (r *ostree.Repo, path string, from, to ostree.Checksum) {
	t.Helper()
	r, path = newRepo(t, mode)
	v1, v2 := versions()
	from = commitTree(t, r, ostree.Checksum{}, v1)
	to = commitTree(t, r, from, v2)
	return r, path, from, to
}

// copyCommit makes a repository that has one commit of another.
func copyCommit(t *testing.T, from *ostree.Repo, c ostree.Checksum, mode ostree.Mode) (*ostree.Repo, string) {
	t.Helper()
	r, path := newRepo(t, mode)
	if c.IsZero() {
		return r, path
	}
	set, err := from.Reachable(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		for n := range set {
			if err := copyObject(ctx, from, txn, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, path
}

func copyObject(ctx context.Context, from *ostree.Repo, txn *ostree.Txn, n ostree.ObjectName) error {
	if n.Type.IsMeta() {
		raw, err := from.LoadRaw(n)
		if err != nil {
			return err
		}
		return txn.WriteMetadataExpected(ctx, n, raw)
	}
	h, size, rc, err := from.OpenFile(n.Checksum)
	if err != nil {
		return err
	}
	defer rc.Close()
	return txn.WriteContentExpected(ctx, n.Checksum, h, size, rc)
}

// same fails unless both repositories give the same objects for a commit, each
// read and compared in full.
func same(t *testing.T, want, got *ostree.Repo, c ostree.Checksum) {
	t.Helper()
	set, err := want.Reachable(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	scratch, _ := newRepo(t, ostree.ModeArchive)
	_, err = scratch.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		for n := range set {
			// Writing under the expected name verifies the checksum.
			if err := copyObject(ctx, got, txn, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("target is not what it should be: %v", err)
	}
}

func size(n int64) *int64 { return &n }
