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
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needTool skips without a program, or fails where CI promises it.
func needTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a bare repository needs root")
	}
}

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
	needRoot(t)
	root := t.TempDir()
	for _, d := range []string{"sysroot", "run"} {
		must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	b := &box{t: t, root: root, dir: openDirT(t, root+"/sysroot"), run: openDirT(t, root+"/run")}
	b.o.Run = b.run
	b.o.LockTimeout = 10 * time.Second // a child of another test may hold the descriptor until its exec
	if init.Bootloader == "" {
		init.Bootloader = bootloader.None
	}
	must(t, InitSysroot(t.Context(), b.dir, init))
	t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-i", root).Run() })
	b.locked(func(l *Locked) { must(t, l.InitStateroot(t.Context(), "testos")) })
	return b
}

func openDirT(t testing.TB, p string) *fsx.Dir {
	t.Helper()
	d, err := fsx.OpenDir(p)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func (b *box) sysroot() *Sysroot {
	b.t.Helper()
	s, err := Open(b.dir, b.o)
	must(b.t, err)
	b.t.Cleanup(func() { s.Close() })
	return s
}

func (b *box) locked(fn func(*Locked)) {
	b.t.Helper()
	s := b.sysroot()
	must(b.t, s.WithLock(b.t.Context(), func(l *Locked) error { fn(l); return nil }))
}

func (b *box) load() State {
	b.t.Helper()
	st, err := b.sysroot().Load(b.t.Context())
	must(b.t, err)
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
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(content), 0o644))
	}
	for _, d := range []string{"sysroot/ostree", "proc", "run", "boot", "dev", "var", "usr"} {
		must(t, os.MkdirAll(filepath.Join(src, d), 0o755))
	}
	must(t, os.Symlink("sysroot/ostree", filepath.Join(src, "ostree")))
	dir := openDirT(t, src)
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
	must(t, err)
	return sum
}

// deploy deploys a commit and writes the boot order.
func (b *box) deploy(c ostree.Checksum, r Retention) Deployment {
	b.t.Helper()
	var d Deployment
	b.locked(func(l *Locked) {
		var err error
		d, err = deployAndWrite(b.t.Context(), l, c, r)
		must(b.t, err)
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
	_, err = l.Write(ctx, r.Order(st, d, mp))
	return d, err
}

// boot makes the sysroot believe that it runs from d.
func (b *box) boot(d Deployment) { b.o.Root = openDirT(b.t, filepath.Join(b.root, "sysroot", d.Dir())) }

func (b *box) path(parts ...string) string {
	return filepath.Join(append([]string{b.root, "sysroot"}, parts...)...)
}

func (b *box) read(parts ...string) string {
	b.t.Helper()
	data, err := os.ReadFile(b.path(parts...))
	must(b.t, err)
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
