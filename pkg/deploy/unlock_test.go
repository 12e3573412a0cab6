// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// overlayWorks skips where overlays cannot be mounted at all.
func overlayWorks(t *testing.T) {
	t.Helper()
	testutil.Root(t, "mounting needs root")
	dir := t.TempDir()
	for _, d := range []string{"l", "u", "w", "m"} {
		testutil.Must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	err := sys.InPrivateMounts(func() error {
		return sys.Mount("overlay", dir+"/m", "overlay", 0, "lowerdir="+dir+"/l,upperdir="+dir+"/u,workdir="+dir+"/w")
	})
	if err != nil {
		t.Skipf("overlays cannot be mounted here: %v", err)
	}
}

// TestUnlock: /usr becomes writable for as long as the mode says, and the tree of
// the deployment does not change.
func TestUnlock(t *testing.T) {
	t.Parallel()
	overlayWorks(t)
	for _, mode := range []UnlockMode{UnlockDevelopment, UnlockTransient, UnlockHotfix} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := newBox(t, InitOptions{})
			b.locked(func(l *Locked) {
				if err := l.Unlock(t.Context(), mode); !errors.Is(err, ErrNotBooted) {
					t.Error(err)
				}
			})
			d := b.deploy(b.commit("testos/main", "1", release("1", "1")), Retention{})
			b.boot(d)
			testutil.Must(t, os.MkdirAll(b.path("ostree/deploy/testos/var/tmp"), 0o755))
			usr := b.path(d.Dir(), "usr")
			testutil.Must(t, sys.InPrivateMounts(func() error {
				var err error
				b.locked(func(l *Locked) { err = l.Unlock(t.Context(), mode) })
				if err != nil {
					return err
				}
				werr := os.WriteFile(filepath.Join(usr, "bin/new"), []byte("x"), 0o755)
				if (werr == nil) != (mode != UnlockTransient) {
					t.Errorf("write below /usr: %v", werr)
				}
				b.locked(func(l *Locked) {
					if err := l.Unlock(t.Context(), mode); !errors.Is(err, ErrUnlocked) {
						t.Error(err)
					}
				})
				return nil
			}))
			if _, err := os.Stat(filepath.Join(usr, "bin/new")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the tree itself changed: %v", err)
			}
			b.checkUnlocked(d, mode)
		})
	}
}

func (b *box) checkUnlocked(d Deployment, mode UnlockMode) {
	t := b.t
	st := b.load()
	own := st.Deployments[0]
	if !own.Same(d) || own.Unlocked != mode {
		t.Fatalf("%s is %q", own.Name(), own.Unlocked)
	}
	if out := b.mustOstree("admin", "status", "--sysroot="+b.path()); mode == UnlockHotfix && !strings.Contains(out, "Unlocked: hotfix") {
		t.Errorf("libostree says\n%s", out)
	}
	if mode != UnlockHotfix {
		if len(st.Deployments) != 1 {
			t.Error(names(st.Deployments))
		}
		testutil.Must(t, os.RemoveAll(filepath.Join(b.root, "run/ostree"))) // a boot
		if again := b.load().Deployments[0]; again.Unlocked != "" {
			t.Errorf("still %q after a boot", again.Unlocked)
		}
		return
	}
	if got := b.read(d.Dir(), hotfixUpper, "bin/new"); got != "x" {
		t.Errorf("the change is lost: %q", got)
	}
	if len(st.Deployments) != 2 || st.Deployments[1].Checksum != d.Checksum || st.Deployments[1].Unlocked != "" {
		t.Fatalf("no clean clone: %s", names(st.Deployments))
	}
	next := b.deploy(b.commit("testos/main", "2", release("2", "1")), Retention{})
	if got := b.load().Deployments[0]; !got.Same(next) || got.Origin.Unlocked() != "" {
		t.Errorf("the next deployment is unlocked: %q", got.Origin.Unlocked())
	}
}

// TestFreezeWatchdogRuns covers the way that libostree's tests go.
func TestFreezeWatchdogRuns(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d := b.deploy(b.commit("testos/main", "1", release("1", "1")), Retention{})
	b.o.TestFreeze = true
	b.o.FreezeWatchdog = []string{"/bin/sh", "-c", "printf .; cat >" + filepath.Join(b.root, "watched")}
	b.locked(func(l *Locked) {
		d.Kargs = bls.Kargs{"changed"}
		_, err := l.Write(t.Context(), []Deployment{d})
		if err == nil || !strings.Contains(err.Error(), "During fsfreeze-thaw: aborting due to test-fifreeze") {
			t.Error(err)
		}
	})
	if data, err := os.ReadFile(filepath.Join(b.root, "watched")); err != nil || len(data) != 0 {
		t.Errorf("the watchdog got %q, %v", data, err)
	}
	if got := b.load().Deployments[0].Kargs.String(); got != "root=LABEL=x rw" {
		t.Error(got)
	}
}
