// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// TestCheckKernels: a file in /boot of the right size and other content, as a filesystem
// without a journal may leave it, is found and repaired; so is one that is missing.
func TestCheckKernels(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("testos/main", "1", release("1", "6.1")), Retention{})
	b.boot(d1)
	d2 := b.deploy(b.commit("testos/main", "2", release("2", "6.2").with("usr/lib/modules/6.2/dtb/a/b.dtb", "dtb")), Retention{})
	check := func() (out []string) {
		t.Helper()
		b.locked(func(l *Locked) {
			bad, n, err := l.Sysroot().CheckKernels(t.Context())
			testutil.Must(t, err)
			if n != 5 {
				t.Errorf("%d files", n)
			}
			for _, p := range bad {
				out = append(out, p.String())
			}
		})
		return out
	}
	if got := check(); got != nil {
		t.Error(got)
	}
	boot := filepath.Join(b.root, "sysroot/boot")
	kernel := filepath.Join(boot, d2.bootDir(), "vmlinuz-6.2")
	data := []byte(b.read("boot", d2.bootDir(), "vmlinuz-6.2"))
	copy(data[1000:], make([]byte, 512))
	testutil.Must(t, os.WriteFile(kernel, data, 0o644))
	testutil.Must(t, os.RemoveAll(filepath.Join(boot, d2.bootDir(), "dtb")))
	testutil.Must(t, os.Truncate(filepath.Join(boot, d1.bootDir(), "initramfs-6.1.img"), 100))
	want := []string{
		"deployment " + d2.Name() + ": /boot/" + d2.bootDir() + "/vmlinuz-6.2 is damaged",
		"deployment " + d2.Name() + ": /boot/" + d2.bootDir() + "/dtb/a/b.dtb is missing",
		"deployment " + d1.Name() + ": /boot/" + d1.bootDir() + "/initramfs-6.1.img is damaged",
	}
	if d := cmp.Diff(want, check()); d != "" {
		t.Error(d)
	}
	b.locked(func(l *Locked) {
		bad, _, err := l.Sysroot().CheckKernels(t.Context())
		testutil.Must(t, err)
		testutil.Must(t, l.RepairKernels(t.Context(), bad))
	})
	if got := check(); got != nil {
		t.Error(got)
	}
}

// TestCheckOverlays: an overlay is what its name says; there is nothing to repair it from.
func TestCheckOverlays(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d := b.deploy(b.commit("testos/main", "1", release("1", "6.1")), Retention{})
	b.locked(func(l *Locked) {
		sum, err := l.s.addOverlay(t.Context(), strings.NewReader("overlay"))
		testutil.Must(t, err)
		st := b.load()
		order := st.Deployments
		order[0].overlays = []string{sum}
		_, err = l.Write(t.Context(), order)
		testutil.Must(t, err)
		testutil.Must(t, os.WriteFile(filepath.Join(b.root, "sysroot/boot", overlayPath(sum)), []byte("OVERLAY"), 0o644))
		bad, n, err := l.s.CheckKernels(t.Context())
		testutil.Must(t, err)
		if n != 3 || len(bad) != 1 || bad[0].Deployment.Name() != d.Name() || bad[0].File != overlayPath(sum) || bad[0].Missing {
			t.Fatal(n, bad)
		}
		if err := l.RepairKernels(t.Context(), bad); !errors.Is(err, errNoCopy) {
			t.Error(err)
		}
	})
}
