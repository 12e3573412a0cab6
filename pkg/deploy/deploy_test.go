// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	c1 := b.commit("testos/main", "1", release("1", "5.10"))
	c2 := b.commit("testos/main", "2", release("2", "5.11"))
	c3 := b.commit("testos/main", "3", release("3", "5.11"))

	d1 := b.deploy(c1, Retention{})
	if got := names(b.load().Deployments); got != "1.0" {
		t.Fatal(got)
	}
	if got := b.read("ostree/deploy/testos/var/lib/app/state"); got != "initial" {
		t.Fatal(got)
	}
	b.boot(d1)
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/app.conf"), []byte("mine"), 0o644))
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/new"), []byte("new"), 0o600))
	testutil.Must(t, os.WriteFile(b.path("ostree/deploy/testos/var/lib/app/state"), []byte("used"), 0o644))

	d2 := b.deploy(c2, Retention{})
	if got := names(b.load().Deployments); got != "2.0 1.0*" {
		t.Fatal(got)
	}
	if got := b.read(d2.Dir(), "etc/app.conf") + b.read(d2.Dir(), "etc/new") + b.read(d2.Dir(), "etc/d/x.conf"); got != "minenewx 2" {
		t.Fatal(got)
	}
	if got := b.read("ostree/deploy/testos/var/lib/app/state"); got != "used" {
		t.Fatal(got)
	}
	st := b.load()
	if got := st.Deployments[0].Kargs.String(); got != "root=LABEL=x rw" {
		t.Fatal(got)
	}
	if got := st.Deployments[0].Title; got != "TestOS 2 (ostree:0)" {
		t.Fatal(got)
	}

	// The pending one goes, the booted one stays.
	b.deploy(c3, Retention{})
	if got := names(b.load().Deployments); got != "3.0 1.0*" {
		t.Fatal(got)
	}
	b.locked(func(l *Locked) {
		res, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
		if res.Plan.Empty() || res.FreedBytes <= 0 {
			t.Fatalf("%+v", res)
		}
		if res, err = l.Cleanup(t.Context()); err != nil || !res.Plan.Empty() || res.FreedBytes != 0 {
			t.Fatalf("second cleanup: %v %+v", err, res)
		}
	})
	if _, err := os.Lstat(b.path(d2.Dir())); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	kernels, _ := filepath.Glob(b.path("boot/ostree/testos-*"))
	if len(kernels) != 2 {
		t.Fatal(kernels)
	}

	// Rollback: first undoes what is pending, then alternates.
	for _, want := range []string{"1.0* 3.0", "3.0 1.0*", "1.0* 3.0"} {
		b.locked(func(l *Locked) {
			_, err := l.Rollback(t.Context())
			testutil.Must(t, err)
		})
		if got := names(b.load().Deployments); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.boot(d1)
	d2 := b.deploy(b.commit("m", "2", release("2", "2")), Retention{})
	before := b.load()
	b.locked(func(l *Locked) {
		ghost := d2
		ghost.Serial = 7
		evil := d2
		evil.Kargs = bls.Kargs{"a b"}
		for name, c := range map[string]struct {
			order []Deployment
			want  error
		}{
			"drops booted": {[]Deployment{d2}, ErrBooted},
			"missing":      {[]Deployment{ghost, d1}, ErrNoDeployment},
			"bad karg":     {[]Deployment{evil, d1}, ErrInvalidKargs},
		} {
			if _, err := l.Write(t.Context(), c.order); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := l.Write(t.Context(), []Deployment{d1, d2, d2}); err == nil {
			t.Error("a deployment twice was accepted")
		}
	})
	if got, want := names(b.load().Deployments), names(before.Deployments); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
}

// TestLinksOnly: a new deployment with the same kernel, version and arguments
// changes the links behind the menu and not the menu.
func TestLinksOnly(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	c := b.commit("m", "1", release("1", "1").with("usr/bin/other", "x"))
	b.locked(func(l *Locked) {
		d2, _, err := l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: c})
		testutil.Must(t, err)
		res, err := l.Write(t.Context(), []Deployment{d2})
		testutil.Must(t, err)
		if res.BootConfigSwap || res.BootVersion != 1 || res.Subversion != 0 {
			t.Fatalf("%+v", res)
		}
	})
	st := b.load()
	if len(st.Deployments) != 1 || st.Deployments[0].Checksum != c {
		t.Fatalf("%+v", st.Deployments)
	}
	b.locked(func(l *Locked) {
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if _, err := os.Lstat(b.path(d1.Dir())); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestPinAndUndeploy(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.boot(d1)
	b.deploy(b.commit("m", "2", release("2", "1")), Retention{})
	b.locked(func(l *Locked) { testutil.Must(t, l.SetPinned(t.Context(), 0, true)) })
	b.deploy(b.commit("m", "3", release("3", "1")), Retention{})
	st := b.load()
	if got := names(st.Deployments); got != "3.0 2.0! 1.0*" {
		t.Fatal(got)
	}
	if _, err := PlanUndeploy(st, 1); !errors.Is(err, ErrPinned) {
		t.Fatal(err)
	}
	if _, err := PlanUndeploy(st, 2); !errors.Is(err, ErrBooted) {
		t.Fatal(err)
	}
	if _, err := PlanUndeploy(st, 3); !errors.Is(err, ErrNoDeployment) {
		t.Fatal(err)
	}
	b.locked(func(l *Locked) {
		testutil.Must(t, l.SetPinned(t.Context(), 1, false))
		st := b.load()
		order, err := PlanUndeploy(st, 1)
		testutil.Must(t, err)
		_, err = l.Write(t.Context(), order)
		testutil.Must(t, err)
	})
	if got := names(b.load().Deployments); got != "3.0 1.0*" {
		t.Fatal(got)
	}
}

func TestBadCommits(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	for name, c := range map[string]struct {
		tree osTree
		want error
	}{
		"no kernel":   {osTree{"usr/etc/x": "y", "usr/lib/modules/1/other": "z"}, ErrNoKernel},
		"no modules":  {osTree{"usr/etc/x": "y"}, ErrNoKernel},
		"two kernels": {release("1", "1").with("usr/lib/modules/2/vmlinuz", "x"), ErrInvalidCommit},
		"two etc":     {release("1", "1").with("etc/x", "y"), ErrInvalidCommit},
	} {
		sum := b.commit("bad", "1", c.tree)
		b.locked(func(l *Locked) {
			if _, _, err := l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: sum}); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := l.Sysroot().Preview(t.Context(), Request{Stateroot: "testos", Commit: sum}); !errors.Is(err, c.want) {
				t.Errorf("%s: preview: %v", name, err)
			}
		})
	}
	b.locked(func(l *Locked) {
		if _, _, err := l.Deploy(t.Context(), Request{Stateroot: "other"}); !errors.Is(err, ErrNoStateroot) {
			t.Error(err)
		}
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	left, _ := filepath.Glob(b.path("ostree/deploy/testos/deploy/*"))
	if len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestPlainEtc: a tree committed with /etc instead of /usr/etc works.
func TestPlainEtc(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	tree := osTree{}
	for k, v := range release("1", "1") {
		tree[strings.Replace(k, "usr/etc/", "etc/", 1)] = v
	}
	delete(tree, "var/lib/app/state")
	d := b.deploy(b.commit("m", "1", tree), Retention{})
	st, err := os.Stat(b.path("ostree/deploy/testos/var/tmp"))
	if err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("empty var: %v %v", err, st)
	}
	if got := b.read(d.Dir(), "etc/app.conf") + b.read(d.Dir(), "usr/etc/app.conf"); got != "app 1app 1" {
		t.Fatal(got)
	}
}

func TestBrokenMenu(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	testutil.Must(t, os.WriteFile(b.path("boot/loader/entries/ostree-9.conf"), []byte("title x\noptions ostree=/ostree/boot.1/gone/"+d1.BootChecksum+"/0\nversion 9\n"), 0o644))
	testutil.Must(t, os.WriteFile(b.path("boot/loader/entries/memtest.conf"), []byte("title memtest\nlinux /memtest\n"), 0o644))
	st := b.load()
	if names(st.Deployments) != "1.0" || len(st.Broken) != 1 || st.Broken[0].File != "ostree-9.conf" {
		t.Fatalf("%s %+v", names(st.Deployments), st.Broken)
	}
	// The next write heals the menu and keeps the foreign entry.
	b.deploy(b.commit("m", "2", release("2", "2")), Retention{})
	st = b.load()
	if names(st.Deployments) != "2.0 1.0" || len(st.Broken) != 0 || len(st.foreign) != 1 {
		t.Fatalf("%s %+v %+v", names(st.Deployments), st.Broken, st.foreign)
	}
}
