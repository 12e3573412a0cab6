// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// statusOf gives what `ostree admin status` says: one "STATEROOT CHECKSUM.SERIAL"
// for each deployment in boot order.
func (b *box) statusOf() []string {
	b.t.Helper()
	var out []string
	for line := range strings.SplitSeq(b.mustOstree("admin", "status", "--sysroot="+b.path()), "\n") {
		f := strings.Fields(strings.TrimLeft(line, " *"))
		if len(f) >= 2 && len(strings.Split(f[1], ".")[0]) == 64 {
			out = append(out, f[0]+" "+f[1])
		}
	}
	return out
}

func (b *box) expectStatus(list ...Deployment) {
	b.t.Helper()
	var want []string
	for _, d := range list {
		want = append(want, d.Stateroot+" "+d.Name())
	}
	if !b.sysroot().bootIsFAT() { // libostree opens no sysroot without the link
		if got := b.statusOf(); strings.Join(got, ",") != strings.Join(want, ",") {
			b.t.Fatalf("ostree admin status: %q, want %q", got, want)
		}
	}
	if st := b.load(); len(st.Deployments) != len(list) {
		b.t.Fatalf("Load: %s", names(st.Deployments))
	} else {
		for i, d := range list {
			if !st.Deployments[i].Same(d) {
				b.t.Fatalf("Load: %d is %s, want %s", i, st.Deployments[i].Name(), d.Name())
			}
		}
	}
}

// TestTakeTurns: libostree and we deploy on top of each other, clean up after
// each other, and agree about what is there.
func TestTakeTurns(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	b := newBox(t, InitOptions{})
	repo := "--repo=" + b.path("ostree/repo")
	sysroot := "--sysroot=" + b.path()

	d1 := b.deploy(b.commit("testos/main", "1", release("1", "1")), Retention{})
	b.expectStatus(d1)
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/app.conf"), []byte("mine"), 0o644))

	c2 := b.commit("testos/main", "2", release("2", "2"))
	out := b.mustOstree("admin", "deploy", sysroot, "--os=testos", "--karg-append=quiet", c2.String())
	if !strings.Contains(out, "Copying /etc changes: 1 modified, 0 removed, 0 added") {
		t.Error(out)
	}
	st := b.load()
	if names(st.Deployments) != "2.0 1.0" || st.Deployments[0].Kargs.String() != "root=LABEL=x rw quiet" {
		t.Fatalf("%s %s", names(st.Deployments), st.Deployments[0].Kargs)
	}
	d2 := st.Deployments[0]
	if st.Deployments[1].BootChecksum != d1.BootChecksum {
		t.Errorf("boot checksum %s, ours was %s", st.Deployments[1].BootChecksum, d1.BootChecksum)
	}
	k, err := findKernel(dirTree{testutil.OpenDir(t, b.path(d2.Dir()))})
	testutil.Must(t, err)
	if sum, err := k.checksum(dirTree{testutil.OpenDir(t, b.path(d2.Dir()))}); err != nil || sum != d2.BootChecksum {
		t.Errorf("%v: boot checksum %s, libostree says %s", err, sum, d2.BootChecksum)
	}

	d3 := b.deploy(b.commit("testos/main", "3", release("3", "2")), Retention{})
	b.expectStatus(d3, d2)
	if got := b.read(d3.Dir(), "etc/app.conf"); got != "mine" {
		t.Error(got)
	}
	b.locked(func(l *Locked) {
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	b.expectStatus(d3, d2)
	b.mustOstree("fsck", repo)
	b.mustOstree("admin", "cleanup", sysroot)
	b.expectStatus(d3, d2)

	b.mustOstree("admin", "undeploy", sysroot, "1")
	b.expectStatus(d3)
	c4 := b.commit("testos/main", "3", release("3", "2").with("usr/bin/extra", "x"))
	b.mustOstree("admin", "deploy", sysroot, "--os=testos", c4.String())
	b.locked(func(l *Locked) {
		_, err := l.Rollback(t.Context())
		testutil.Must(t, err)
	})
	st = b.load()
	b.expectStatus(st.Deployments...)
	if !st.Deployments[0].Same(d3) {
		t.Errorf("rolled back to %s", st.Deployments[0].Name())
	}
	b.mustOstree("admin", "cleanup", sysroot)
	b.locked(func(l *Locked) {
		res, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
		if res.Prune.Deleted != 0 {
			t.Errorf("libostree left %+v", res)
		}
	})
	b.mustOstree("fsck", repo)
}

// TestSameLayout deploys one commit with libostree and with us and compares
// everything that is not a time or a random name.
func TestSameLayout(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	ours, theirs := newBox(t, InitOptions{}), newBox(t, InitOptions{})
	for _, tree := range []osTree{release("1", "1"), release("2", "2")} {
		v := tree["usr/bin/tool"][5:]
		ours.deploy(ours.commit("testos/main", v, tree), Retention{})
		c := theirs.commit("testos/main", v, tree)
		args := []string{"admin", "deploy", "--sysroot=" + theirs.path(), "--os=testos"}
		if v == "1" {
			args = append(args, "--karg=root=LABEL=x", "--karg=rw")
		}
		theirs.mustOstree(append(args, c.String())...)
	}
	ours.locked(func(l *Locked) {
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	a, b := ours.layout(), theirs.layout()
	for k, v := range a {
		if b[k] != v {
			t.Errorf("%s: %q, libostree %q", k, v, b[k])
		}
	}
	for k, v := range b {
		if _, ok := a[k]; !ok {
			t.Errorf("%s: missing, libostree %q", k, v)
		}
	}
}

func (b *box) layout() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	testutil.Must(b.t, filepath.WalkDir(b.path(), func(p string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(b.path(), p)
		switch {
		case rel == "ostree/repo/objects", rel == "ostree/repo/tmp", rel == "ostree/repo/extensions":
			return filepath.SkipDir
		case rel == "ostree/lock", rel == "ostree/repo/.lock", strings.HasSuffix(rel, ".ostree-selabeled"),
			strings.HasPrefix(rel, "ostree/deploy/testos/var/"), rel == "ostree/repo/config",
			strings.HasPrefix(rel, "ostree/repo/refs/heads/testos"):
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		desc := st.Mode().String()
		switch {
		case st.IsDir() && strings.HasPrefix(rel, "ostree/repo/refs/"):
			return nil
		case strings.HasSuffix(rel, ".origin"): // we deploy a ref, libostree was given a checksum

		case st.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			desc = "-> " + target
		case st.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			desc += " " + string(data)
		}
		// libostree of this version adds the stateroot to the file name, later ones do not.
		rel = strings.Replace(rel, "-testos.conf", ".conf", 1)
		out[rel] = desc
		return nil
	}))
	return out
}

func TestGrubSwitch(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{Bootloader: bootloader.GRUB2, BootPrefix: true})
	testutil.Must(t, os.Mkdir(b.path("boot/grub"), 0o755))
	testutil.Must(t, os.WriteFile(b.path("boot/grub/grub.cfg"), []byte("configfile /loader/grub.cfg\n"), 0o644))
	b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.deploy(b.commit("m", "2", release("2", "2")), Retention{})
	cfg := b.read("boot/loader/grub.cfg")
	if i, j := strings.Index(cfg, "TestOS 2 (ostree:0)"), strings.Index(cfg, "TestOS 1 (ostree:1)"); i < 0 || j < i {
		t.Fatal(cfg)
	}
	if !strings.Contains(b.read("boot/loader/entries/ostree-2.conf"), "\nlinux /boot/ostree/testos-") {
		t.Fatal("no prefix")
	}
}
