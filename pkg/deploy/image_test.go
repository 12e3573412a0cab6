// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

const confName = "usr/lib/ostree/prepare-root.conf"

func TestDeployWritesImage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, conf, override string
		image                bool
	}{
		{"nothing", "", "", false},
		{"no", "[composefs]\nenabled=no\n", "", false},
		{"yes", "[composefs]\nenabled=yes\n", "", true},
		{"maybe", "[composefs]\nenabled=maybe\n", "", true},
		{"taken back", "[composefs]\nenabled=yes\n", "[composefs]\nenabled=no\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, InitOptions{})
			tree := release("1", "k1").with(confName, tt.conf).with("usr/etc/ostree/prepare-root.conf", tt.override)
			d := b.deploy(b.commit("b", "1", tree), Retention{})
			name := b.path(d.Dir(), ".ostree.cfs")
			data, err := os.ReadFile(name)
			if (err == nil) != tt.image {
				t.Fatalf("image: %v", err)
			}
			bad, n, err := b.sysroot().CheckImages(t.Context())
			if err != nil || len(bad) > 0 || (n == 1) != tt.image {
				t.Errorf("check: %v of %d, %v", bad, n, err)
			}
			if !tt.image {
				return
			}
			var want bytes.Buffer
			if _, err := b.sysroot().Repo().WriteComposefs(t.Context(), d.Checksum, &want, ostree.ComposefsOptions{NoVerity: true}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want.Bytes(), data) {
				t.Error("the image is not that of the commit")
			}
		})
	}
}

func TestCheckImages(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d := b.deploy(b.commit("b", "1", release("1", "k1").with(confName, "[composefs]\nenabled=yes\n")), Retention{})
	name := b.path(d.Dir(), ".ostree.cfs")
	good, err := os.ReadFile(name)
	testutil.Must(t, err)
	for what, data := range map[string][]byte{
		"cut": good[:len(good)-4096], "longer": append(bytes.Clone(good), 0), "empty": {},
		"changed": bytes.Replace(good, []byte("tool"), []byte("fool"), 1), "missing": nil,
	} {
		if data == nil {
			dir := testutil.OpenDir(t, b.path(d.Dir()))
			testutil.Must(t, sys.SetImmutable(dir.Fd(), false))
			testutil.Must(t, os.Remove(name))
		} else {
			testutil.Must(t, os.WriteFile(name, data, 0o644))
		}
		bad, _, err := b.sysroot().CheckImages(t.Context())
		if err != nil || len(bad) != 1 || !strings.Contains(bad[0].String(), "deploy") {
			t.Errorf("%s: %v, %v", what, bad, err)
		}
		if data == nil {
			testutil.Must(t, os.WriteFile(name, good, 0o644))
		}
	}
}

// The image goes with its deployment.
func TestCleanupDropsImage(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	conf := "[composefs]\nenabled=yes\n"
	first := b.deploy(b.commit("b", "1", release("1", "k1").with(confName, conf)), Retention{})
	b.deploy(b.commit("b", "2", release("2", "k1").with(confName, conf)), Retention{})
	last := b.deploy(b.commit("b", "3", release("3", "k1").with(confName, conf)), Retention{})
	b.locked(func(l *Locked) {
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if _, err := os.Lstat(b.path(first.Dir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first deployment: %v", err)
	}
	if _, err := os.Lstat(b.path(last.Dir(), ".ostree.cfs")); err != nil {
		t.Error(err)
	}
	if bad, n, err := b.sysroot().CheckImages(t.Context()); err != nil || len(bad) > 0 || n != 2 {
		t.Errorf("check: %v of %d, %v", bad, n, err)
	}
}

// What can't be booted is not deployed: the filesystem of a test may have fs-verity,
// then the commit has no digest.
func TestDeploySignedImage(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	c := b.commit("b", "1", release("1", "k1").with(confName, "[composefs]\nenabled=signed\n"))
	b.locked(func(l *Locked) {
		testutil.Must(t, l.InitStateroot(t.Context(), "os"))
		_, _, err := l.Deploy(t.Context(), Request{Stateroot: "os", Commit: c})
		if !errors.Is(err, ErrNoVerity) && !errors.Is(err, ErrImageDigest) {
			t.Errorf("deployed: %v", err)
		}
	})
}
