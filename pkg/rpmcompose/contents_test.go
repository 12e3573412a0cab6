// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/container"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
)

func testContainerImage(t *testing.T, b *bench) {
	res := b.mustCompose("image", "", nil)
	pkgs, err := rpmdb.ReadCommit(t.Context(), b.repo, res.Commit)
	testutil.Must(t, err)
	c, err := ImageContents(t.Context(), b.repo, res.Commit, pkgs)
	testutil.Must(t, err)
	for name, want := range map[string]string{"/usr/bin/demo-tool": "demo", "/usr/etc/demo.conf": "demo", "/usr/share/extra": "extra"} {
		if at, ok := c.Owner[name]; !ok || c.Components[at].Name != want || !b.has(res.Commit, name) {
			t.Errorf("%s belongs to %v of %v", name, at, c.Components)
		}
	}
	layout := testutil.OpenDir(t, t.TempDir())
	_, err = container.Encapsulate(t.Context(), b.repo, res.Commit, layout, container.EncapsulateOptions{Contents: c})
	testutil.Must(t, err)
	img, err := container.Open(layout, "")
	testutil.Must(t, err)
	var all []string
	for _, l := range img.Manifest.Layers {
		all = append(all, l.Annotations["ostree.components"])
	}
	if got := "," + strings.Join(all, ",") + ","; !strings.Contains(got, ",demo,") || !strings.Contains(got, ",extra,") {
		t.Errorf("layers hold %s", got)
	}
	other, err := ostree.Create(rpmtest.Dir(t, t.TempDir(), "repo"), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	defer other.Close()
	if back, err := container.Import(t.Context(), other, img, container.ImportOptions{}); err != nil || back.Commit != res.Commit {
		t.Errorf("import: %+v, %v", back, err)
	}
}

// TestPlaces: packages name files as they were before the compose moved them.
func TestPlaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"usr/bin", "usr/lib/opt/app", "usr/etc/conf.d", "usr/lib/modules/6.1", "usr/lib/ostree-boot/efi"} {
		testutil.Run(t, "mkdir", "-p", filepath.Join(dir, name))
	}
	for name, target := range map[string]string{"bin": "usr/bin", "usr/sbin": "bin", "usr/lib/loop": "loop", "opt": "var/opt", "usr/lib/nowhere": "../../none"} {
		testutil.Run(t, "ln", "-s", target, filepath.Join(dir, name))
	}
	r, err := ostree.Create(rpmtest.Dir(t, t.TempDir(), "repo"), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	defer r.Close()
	commit := commitFolder(t, r, dir, "x")
	p, err := newPlaces(t.Context(), r, commit)
	testutil.Must(t, err)
	for name, want := range map[string]string{
		"/bin/sh": "/usr/bin/sh", "/usr/sbin/x": "/usr/bin/x", "/etc/conf.d/a": "/usr/etc/conf.d/a", "/opt/app/run": "/usr/lib/opt/app/run",
		"/boot/vmlinuz-6.1": "/usr/lib/modules/6.1/vmlinuz", "/boot/efi/x": "/usr/lib/ostree-boot/efi/x", "/usr/lib/loop/x": "/usr/lib/loop/x",
		"/usr/lib/nowhere/x": "/usr/lib/nowhere/x", "/gone/deep/x": "/gone/deep/x", "/x": "/x", "/etcetera/x": "/etcetera/x",
	} {
		if got, err := p.find(name); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := rpmdb.ReadCommit(t.Context(), r, commit); !errors.Is(err, rpmdb.ErrNoDatabase) {
		t.Errorf("a tree without a database: %v", err)
	}
}
