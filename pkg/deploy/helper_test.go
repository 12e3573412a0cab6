// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// osTree describes the files of a test system: path -> content.
type osTree map[string]string

// release gives version v of the test system with kernel k.
func release(v, k string) osTree {
	return osTree{
		"usr/lib/modules/" + k + "/vmlinuz":       "kernel " + k + strings.Repeat("k", 4000),
		"usr/lib/modules/" + k + "/initramfs.img": "initramfs " + k + strings.Repeat("i", 9000),
		"usr/lib/os-release":                      fmt.Sprintf("NAME=TestOS\nPRETTY_NAME=\"TestOS %s\"\n", v),
		"usr/bin/tool":                            "tool " + v,
		"usr/etc/app.conf":                        "app " + v,
		"usr/etc/fixed.conf":                      "fixed",
		"usr/etc/d/x.conf":                        "x " + v,
		"var/lib/app/state":                       "initial",
	}
}

func (o osTree) with(path, content string) osTree {
	out := osTree{}
	for k, v := range o {
		out[k] = v
	}
	if out[path] = content; content == "" {
		delete(out, path)
	}
	return out
}

// box is a scratch sysroot.
type box struct {
	t    testing.TB
	root string
	dir  *fsx.Dir
	run  *fsx.Dir
	o    Options
}

func newBox(t testing.TB, init InitOptions) *box {
	t.Helper()
	return newBoxIn(t, init, t.TempDir())
}

// newSmallBox is a scratch sysroot on a filesystem of its own.
func newSmallBox(t *testing.T, init InitOptions, size string) *box {
	t.Helper()
	testutil.Root(t, "a bare repository needs root")
	root := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", root).CombinedOutput(); err != nil {
		t.Skipf("mounting is not possible here: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", root).Run() })
	return newBoxIn(t, init, root)
}

func newBoxIn(t testing.TB, init InitOptions, root string) *box {
	t.Helper()
	testutil.Root(t, "a bare repository needs root")
	for _, d := range []string{"sysroot", "run"} {
		testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	b := &box{t: t, root: root, dir: testutil.OpenDir(t, root+"/sysroot"), run: testutil.OpenDir(t, root+"/run")}
	b.o.Run = b.run
	b.o.LockTimeout = 10 * time.Second // a child of another test may hold the descriptor until its exec
	if init.Bootloader == "" {
		init.Bootloader = bootloader.None
	}
	testutil.Must(t, InitSysroot(t.Context(), b.dir, init))
	t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-i", root).Run() })
	b.locked(func(l *Locked) { testutil.Must(t, l.InitStateroot(t.Context(), "testos")) })
	return b
}

func (b *box) sysroot() *Sysroot {
	b.t.Helper()
	s, err := Open(b.dir, b.o)
	testutil.Must(b.t, err)
	b.t.Cleanup(func() { s.Close() })
	return s
}

func (b *box) locked(fn func(*Locked)) {
	b.t.Helper()
	s := b.sysroot()
	testutil.Must(b.t, s.WithLock(b.t.Context(), func(l *Locked) error { fn(l); return nil }))
}

func (b *box) load() State {
	b.t.Helper()
	st, err := b.sysroot().Load(b.t.Context())
	testutil.Must(b.t, err)
	return st
}

// commit stores a tree as a new commit of branch.
func (b *box) commit(branch, version string, tree osTree) ostree.Checksum {
	b.t.Helper()
	return commitTree(b.t, b.sysroot().Repo(), branch, version, tree)
}

func commitTree(t testing.TB, repo *ostree.Repo, branch, version string, tree osTree) ostree.Checksum {
	t.Helper()
	src := t.TempDir()
	for name, content := range tree {
		p := filepath.Join(src, name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		mode := os.FileMode(0o644)
		if filepath.Base(p) == "systemd" {
			mode = 0o755
		}
		testutil.Must(t, os.WriteFile(p, []byte(content), mode))
	}
	for _, d := range []string{"sysroot/ostree", "proc", "run", "boot", "dev", "var", "usr"} {
		testutil.Must(t, os.MkdirAll(filepath.Join(src, d), 0o755))
	}
	testutil.Must(t, os.Symlink("sysroot/ostree", filepath.Join(src, "ostree")))
	dir := testutil.OpenDir(t, src)
	var sum ostree.Checksum
	_, err := repo.Update(t.Context(), func(ctx context.Context, x *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := x.WriteDir(ctx, dir, m, ostree.CommitOptions{SkipXattrs: true}); err != nil {
			return err
		}
		root, meta, err := x.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		c := ostree.Commit{Timestamp: 1700000000, RootTree: root, RootMeta: meta}
		c.Metadata.Set("version", gvariant.String(version))
		if parent, err := repo.ReadRef(branch); err == nil {
			c.Parent = parent
		}
		if sum, err = x.WriteCommit(ctx, c); err != nil {
			return err
		}
		return x.SetRef(branch, sum)
	})
	testutil.Must(t, err)
	return sum
}

// deploy deploys a commit and writes the boot order.
func (b *box) deploy(c ostree.Checksum, r Retention) Deployment {
	b.t.Helper()
	var d Deployment
	b.locked(func(l *Locked) {
		var err error
		d, err = deployAndWrite(b.t.Context(), l, c, r)
		testutil.Must(b.t, err)
	})
	return d
}

func deployAndWrite(ctx context.Context, l *Locked, c ostree.Checksum, r Retention) (Deployment, error) {
	st, err := l.Sysroot().Load(ctx)
	if err != nil {
		return Deployment{}, err
	}
	req := Request{Stateroot: "testos", Commit: c, Origin: NewOrigin("testos/main")}
	merge, ok := st.Merge("testos")
	var mp *Deployment
	if ok {
		mp = &merge
	} else {
		req.Kargs = bls.Kargs{"root=LABEL=x", "rw"}
	}
	d, _, err := l.Deploy(ctx, req)
	if err != nil {
		return d, err
	}
	order, err := l.Sysroot().OrderFor(st, d, mp, r)
	if err != nil {
		return d, err
	}
	_, err = l.Write(ctx, order)
	return d, err
}

// boot makes the sysroot believe that it runs from d.
func (b *box) boot(d Deployment) {
	b.o.Root = testutil.OpenDir(b.t, filepath.Join(b.root, "sysroot", d.Dir()))
}

func (b *box) path(parts ...string) string {
	return filepath.Join(append([]string{b.root, "sysroot"}, parts...)...)
}

func (b *box) read(parts ...string) string {
	b.t.Helper()
	data, err := os.ReadFile(b.path(parts...))
	testutil.Must(b.t, err)
	return string(data)
}

// ostreeCLI runs libostree's tool on the sysroot.
func (b *box) ostreeCLI(args ...string) (string, error) {
	b.t.Helper()
	out, err := exec.Command("ostree", args...).CombinedOutput()
	return string(out), err
}

func (b *box) mustOstree(args ...string) string {
	b.t.Helper()
	out, err := b.ostreeCLI(args...)
	if err != nil {
		b.t.Fatalf("ostree %q: %v\n%s", args, err, out)
	}
	return out
}

// names lists deployments as "VERSION.SERIAL" with marks.
func names(list []Deployment) string {
	var out []string
	for _, d := range list {
		s := fmt.Sprintf("%s.%d", d.Version, d.Serial)
		if d.Booted {
			s += "*"
		}
		if d.Staged {
			s += "+"
		}
		if d.Pinned {
			s += "!"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
