// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// verityDir is a directory where files can have fs-verity: on ext4 with the feature
// "verity", or btrfs, of a kernel that has it.
func verityDir(t *testing.T) string {
	t.Helper()
	testutil.Root(t, "fs-verity and mounting need root")
	dir := t.TempDir()
	name := filepath.Join(dir, "probe")
	testutil.Must(t, os.WriteFile(name, []byte("x"), 0o644))
	f, err := os.Open(name)
	testutil.Must(t, err)
	defer f.Close()
	if err := sys.EnableVerity(int(f.Fd())); sys.IsNotSupported(err) {
		t.Skipf("%s is on a filesystem without fs-verity, or the kernel has none: %v", dir, err)
	} else if err != nil {
		t.Fatal(err)
	}
	if _, on, err := sys.VerityDigest(int(f.Fd())); err != nil || !on {
		t.Fatalf("fs-verity of the probe: %v, %v", on, err)
	}
	return dir
}

// withDigest gives a commit's tree a commit that says what its image is.
func withDigest(t *testing.T, r *ostree.Repo, c ostree.Checksum, key ed25519.PrivateKey) ostree.Checksum {
	t.Helper()
	var img bytes.Buffer
	digest, err := r.WriteComposefs(t.Context(), c, &img, ostree.ComposefsOptions{})
	testutil.Must(t, err)
	old, err := r.LoadCommit(c)
	testutil.Must(t, err)
	old.Metadata.Set(prepareroot.DigestKey, gvariant.ByteSlice(digest[:]))
	_, err = r.Update(t.Context(), func(ctx context.Context, x *ostree.Txn) error {
		if c, err = x.WriteCommit(ctx, old); err != nil {
			return err
		}
		return x.SetRef("signed", c)
	})
	testutil.Must(t, err)
	raw, err := r.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	testutil.Must(t, err)
	testutil.Must(t, r.EditCommitMeta(t.Context(), c, func(d *gvariant.Dict) error {
		d.Set(sign.MetadataKey(sign.TypeEd25519), gvariant.ByteSlices([][]byte{ed25519.Sign(key, raw)}))
		return nil
	}))
	return c
}

// A signed deployment boots, and nothing that was changed behind the kernel's back is
// read.
func TestSignedRoot(t *testing.T) {
	t.Parallel()
	dir := verityDir(t)
	public, key, err := ed25519.GenerateKey(nil)
	testutil.Must(t, err)
	keys := filepath.Join(dir, "keys")
	trust := func(k ed25519.PublicKey) {
		testutil.Must(t, os.WriteFile(keys, []byte(base64.StdEncoding.EncodeToString(k)+"\n"), 0o644))
	}
	trust(public)
	b := newBoxIn(t, InitOptions{}, dir)
	conf := "[composefs]\nenabled=signed\nkeypath=" + keys + "\n"
	plain := b.commit("testos/main", "1", release("1", "1").with(confName, conf).with("usr/lib/secret", "genuine"))
	c := withDigest(t, b.sysroot().Repo(), plain, key)
	d := b.deploy(c, Retention{})
	if bad, n, err := b.sysroot().CheckImages(t.Context()); err != nil || n != 1 || len(bad) > 0 {
		t.Errorf("check: %v of %d, %v", bad, n, err)
	}
	// boot makes the root and looks into it.
	boot := func(look func(root string) error) error {
		return sys.InPrivateMounts(func() error {
			root := b.path()
			if err := sys.Mount(root, root, "", sys.MountBind, ""); err != nil {
				return err
			}
			config, err := prepareroot.ParseConfig([]byte(conf), nil)
			if err != nil {
				return err
			}
			s, err := prepareroot.ReadState(prepareroot.Inputs{Cmdline: "ostree=" + d.bootLink(b.load().BootVersion), Config: config,
				Places: prepareroot.Places{Root: root, Stage: filepath.Join(dir, "stage"), Run: filepath.Join(dir, "run")}})
			if err != nil {
				return err
			}
			ops, err := prepareroot.Plan(s)
			if err != nil {
				return err
			}
			if err := prepareroot.Execute(ops, nil); err != nil {
				return err
			}
			return look(root)
		})
	}
	read := func(want string, wantErr error) func(string) error {
		return func(root string) error {
			got, err := os.ReadFile(filepath.Join(root, "usr/lib/secret"))
			if string(got) != want || !errors.Is(err, wantErr) {
				return fmt.Errorf("read %q, %w", got, err)
			}
			return nil
		}
	}
	testutil.Must(t, boot(read("genuine", nil)))

	other, _, err := ed25519.GenerateKey(nil)
	testutil.Must(t, err)
	trust(other)
	if err := boot(read("genuine", nil)); !errors.Is(err, prepareroot.ErrNotSigned) {
		t.Errorf("a key that did not sign: %v", err)
	}
	trust(public)

	// An object that was replaced.
	n, err := b.sysroot().Repo().Lookup(c, "usr/lib/secret")
	testutil.Must(t, err)
	object := b.path("ostree/repo/objects", n.File.String()[:2], n.File.String()[2:]+".file")
	if err := os.WriteFile(object, []byte("changed"), 0o644); !errors.Is(err, os.ErrPermission) {
		t.Errorf("write to an object: %v", err)
	}
	testutil.Must(t, os.Rename(object, object+".good"))
	testutil.Must(t, os.WriteFile(object, []byte("forgery"), 0o644))
	testutil.Must(t, boot(read("", syscall.EIO)))
	testutil.Must(t, os.Rename(object+".good", object))

	// An image that was replaced, by one of the same tree.
	image := b.path(d.Dir(), prepareroot.ImageName)
	data, err := os.ReadFile(image)
	testutil.Must(t, err)
	top := testutil.OpenDir(t, b.path(d.Dir()))
	if err := sys.SetImmutable(top.Fd(), false); err != nil && !sys.IsNotSupported(err) {
		t.Fatal(err)
	}
	testutil.Must(t, os.Remove(image))
	testutil.Must(t, os.WriteFile(image, data, 0o644))
	if err := boot(read("genuine", nil)); !errors.Is(err, prepareroot.ErrBadImage) {
		t.Errorf("an image without fs-verity: %v", err)
	}
	testutil.Must(t, os.WriteFile(image, bytes.Replace(data, []byte("secret"), []byte("public"), 1), 0o644))
	testutil.Must(t, enableVerity(top, prepareroot.ImageName))
	if err := boot(read("genuine", nil)); !errors.Is(err, prepareroot.ErrBadImage) {
		t.Errorf("another image: %v", err)
	}
	testutil.Must(t, os.Remove(image))
	if err := boot(read("genuine", nil)); !errors.Is(err, prepareroot.ErrNoImage) {
		t.Errorf("no image: %v", err)
	}

	// What was signed has another digest than the tree: not deployed.
	lied := withDigest(t, b.sysroot().Repo(), b.commit("other", "2", release("2", "1")), key)
	old, err := b.sysroot().Repo().LoadCommit(lied)
	testutil.Must(t, err)
	genuine, err := b.sysroot().Repo().LoadCommit(c)
	testutil.Must(t, err)
	old.RootTree, old.RootMeta = genuine.RootTree, genuine.RootMeta
	b.locked(func(l *Locked) {
		_, err := l.Sysroot().Repo().Update(t.Context(), func(ctx context.Context, x *ostree.Txn) error {
			lied, err = x.WriteCommit(ctx, old)
			return err
		})
		testutil.Must(t, err)
		if _, _, err := l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: lied, NoMerge: true}); !errors.Is(err, ErrImageDigest) {
			t.Errorf("deployed with a wrong digest: %v", err)
		}
	})
}
