// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// makeTree lays out what a tree can hold: setuid, sticky, foreign owners, links,
// empty and big files, attributes and names outside ASCII.
func makeTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	for _, dir := range []string{"usr/bin", "usr/share/empty", "usr/lib/Ünïcode ☃", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	big := strings.Repeat("0123456789abcdef", 1<<17) + "tail" // beyond smallContent
	for name, content := range map[string]string{
		"usr/bin/tool": "#!/bin/sh\n", "usr/bin/setuid": "root\n", "usr/bin/caps": "ping\n", "usr/empty": "", "usr/big": big,
		"usr/lib/Ünïcode ☃/日本 語.txt": "text\n", "usr/lib/\nnewline": "x", "usr/lib/-dash": "y", "usr/lib/.hidden": "z", "usr/edge": big[:1<<20],
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := testutil.OpenDir(t, root)
	steps := []error{
		d.Symlink("../bin/tool", "usr/lib/link"), d.Symlink("/nowhere/ünï", "usr/dangling"),
		d.Chmod("usr/bin/tool", 0o755), d.Chmod("var/tmp", 0o1777), d.Chmod("usr/lib/.hidden", 0o600),
		d.SetXattr("usr/bin/tool", "user.b", []byte("22")), d.SetXattr("usr/bin/tool", "user.a", nil),
		d.SetXattr("usr/share", "user.dir", []byte("\x00\xff")),
	}
	if os.Geteuid() == 0 {
		steps = append(steps,
			d.Lchown("usr/bin/setuid", 12, 34), d.Chmod("usr/bin/setuid", 0o6755), d.Lchown("usr/lib/link", 5, 6), d.Lchown("usr/share", 7, 8),
			d.SetXattr("usr/bin/caps", "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")),
			d.SetXattr("usr/lib/link", "security.selinux", []byte("system_u:object_r:lib_t:s0\x00")))
	}
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func commitDir(t *testing.T, r *Repo, src, ref string, o CommitOptions) Checksum {
	t.Helper()
	c, _ := commitDirStats(t, r, src, ref, o)
	return c
}

func commitDirStats(t *testing.T, r *Repo, src, ref string, o CommitOptions) (c Checksum, s Stats) {
	t.Helper()
	s, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) (err error) {
		m := NewMTree()
		if err := tx.WriteDir(ctx, testutil.OpenDir(t, src), m, o); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		var md gvariant.Dict
		md.Set("version", gvariant.String("1"))
		if c, err = tx.WriteCommit(ctx, Commit{Metadata: md, Subject: "test", Timestamp: 1700000000, RootTree: tree, RootMeta: meta}); err != nil {
			return err
		}
		return tx.SetRef(ref, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// Commits of one directory made here and by ostree have the same trees, in every
// mode; ostree accepts ours and we read its.
func TestInteropCommit(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := makeTree(t)
	for _, mode := range allModes {
		for _, o := range []CommitOptions{{}, {CanonicalPermissions: true}, {SkipXattrs: true}} {
			t.Run(fmt.Sprintf("%s-%t-%t", mode, o.CanonicalPermissions, o.SkipXattrs), func(t *testing.T) {
				t.Parallel()
				interopCommit(t, mode, src, o)
			})
		}
	}
}

func interopCommit(t *testing.T, mode Mode, src string, o CommitOptions) {
	ours := newTestRepo(t, mode)
	c := commitDir(t, ours, src, "our/ref", o)

	run(t, "ostree", repoPath(ours), "fsck")
	run(t, "ostree", repoPath(ours), "show", "our/ref")
	theirs := filepath.Join(t.TempDir(), "theirs")
	run(t, "ostree", "--repo="+theirs, "init", "--mode="+mode.String())
	args := []string{"--repo=" + theirs, "commit", "--branch=b", "--no-bindings", "--add-metadata-string=version=1", "--subject=test",
		"--timestamp=@1700000000", "--tree=dir=" + src}
	if o.CanonicalPermissions {
		args = append(args, "--canonical-permissions")
	}
	if o.SkipXattrs {
		args = append(args, "--no-xattrs")
	}
	if want := run(t, "ostree", args...); c.String() != want {
		t.Errorf("commit = %s, ostree makes %s", c, want)
		t.Log(cmp.Diff(run(t, "ostree", "--repo="+theirs, "ls", "-RCX", "b"), run(t, "ostree", repoPath(ours), "ls", "-RCX", "our/ref")))
	}

	r, err := Open(testutil.OpenDir(t, theirs), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	sum, err := r.Resolve("b")
	if err != nil {
		t.Fatal(err)
	}
	set, err := r.Reachable(t.Context(), sum)
	if err != nil {
		t.Fatal(err)
	}
	for n := range set {
		if err := r.verifyObject(r.objects, n.loosePath(mode), n); err != nil {
			t.Error(err)
		}
	}
}

// describe lists a laid out tree with everything that a checkout sets.
func describe(t *testing.T, root string, times bool) string {
	t.Helper()
	var sb strings.Builder
	var walk func(d *fsx.Dir, p string)
	one := func(d *fsx.Dir, name, p string) fsx.Stat {
		st, err := d.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&sb, "%q %o %d:%d", p, st.Mode, st.UID, st.GID)
		if times && st.IsDir() {
			fmt.Fprintf(&sb, " %d", st.Mtime.Unix())
		}
		xs, err := d.Xattrs(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range xs {
			fmt.Fprintf(&sb, " %s=%q", x.Name, x.Value)
		}
		if st.IsSymlink() {
			target, _ := d.Readlink(name)
			fmt.Fprintf(&sb, " -> %q", target)
		}
		if st.IsRegular() {
			f, err := d.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			h := mustHash(t, f)
			fmt.Fprintf(&sb, " %d %x", st.Size, h[:8])
			_ = f.Close()
		}
		sb.WriteByte('\n')
		return st
	}
	walk = func(d *fsx.Dir, p string) {
		entries, err := d.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if st := one(d, e.Name, filepath.Join(p, e.Name)); st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
				sub, err := d.OpenDir(e.Name)
				if err != nil {
					t.Fatal(err)
				}
				walk(sub, filepath.Join(p, e.Name))
				_ = sub.Close()
			}
		}
	}
	d := testutil.OpenDir(t, root)
	one(d, ".", ".")
	walk(d, "")
	return sb.String()
}

func mustHash(t *testing.T, r io.Reader) Checksum {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return sha(data)
}

func TestInteropCheckout(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	src := makeTree(t)
	for _, mode := range allModes {
		r := newTestRepo(t, mode)
		c := commitDir(t, r, src, "b", CommitOptions{})
		for _, v := range []struct {
			flags []string
			o     CheckoutOptions
		}{
			{nil, CheckoutOptions{}},
			{[]string{"-U"}, CheckoutOptions{UserMode: true}},
			{[]string{"-C"}, CheckoutOptions{ForceCopy: true}},
			{[]string{"--subpath=/usr/lib"}, CheckoutOptions{Subpath: "usr/lib"}},
		} {
			t.Run(fmt.Sprint(mode, v.flags), func(t *testing.T) {
				t.Parallel()
				tmp := t.TempDir()
				theirs := filepath.Join(tmp, "theirs")
				run(t, "ostree", append(append([]string{repoPath(r), "checkout"}, v.flags...), "b", theirs)...)
				if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, tmp), "ours", v.o); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(describe(t, theirs, !v.o.ForceCopy), describe(t, filepath.Join(tmp, "ours"), !v.o.ForceCopy)); diff != "" {
					t.Errorf("checkout differs from ostree's (-ostree +ours):\n%s", diff)
				}
			})
		}
	}
}
