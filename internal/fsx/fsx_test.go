// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
)

func tempDir(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestNamesNeverLeave(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Symlink(filepath.Dir(outside), "out"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/etc/passwd", "..", "../x", "a/../../x", "a\x00b"} {
		if _, err := d.Lstat(name); !errors.Is(err, ErrBadName) {
			t.Errorf("Lstat(%q) = %v, want ErrBadName", name, err)
		}
	}
	for op, fn := range map[string]func() error{
		"read":   func() error { _, err := d.ReadFile("out/secret", 10); return err },
		"write":  func() error { return d.WriteFileAtomic("out/secret", []byte("y"), 0o600) },
		"remove": func() error { return d.Remove("out/secret") },
		"list":   func() error { _, err := d.ReadDir("out"); return err },
		"mkdir":  func() error { return d.MkdirAll("out/a/b", 0o755) },
	} {
		if fn() == nil {
			t.Errorf("%s through a link that leaves the directory succeeded", op)
		}
	}
	if got, _ := os.ReadFile(outside); string(got) != "x" {
		t.Errorf("file outside changed to %q", got)
	}
}

func TestInRootResolvesAbsoluteLinks(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	must(t, d.MkdirAll("usr/lib", 0o755))
	must(t, d.WriteFile("usr/lib/os-release", []byte("ID=x\n"), 0o644))
	must(t, d.MkdirAll("etc", 0o755))
	must(t, d.Symlink("/usr/lib/os-release", "etc/os-release"))
	got, err := d.ReadFileInRoot("etc/os-release", 100)
	if err != nil || string(got) != "ID=x\n" {
		t.Errorf("ReadFileInRoot = %q, %v", got, err)
	}
	sub, err := d.OpenDirInRoot("/usr/lib")
	must(t, err)
	sub.Close()
}

func TestAtomicFile(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	must(t, d.WriteFileAtomic("f", []byte("old"), 0o640))
	f, err := d.CreateAtomic("f", 0o600)
	must(t, err)
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	f.Cancel()
	got, err := d.ReadFile("f", 10)
	must(t, err)
	if string(got) != "old" {
		t.Errorf("after Cancel: %q", got)
	}
	if _, err := d.ReadFile("f", 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("bounded read: %v", err)
	}
	entries, err := d.ReadDir(".")
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	st, err := d.Lstat("f")
	must(t, err)
	if st.Mode&0o7777 != 0o640 {
		t.Errorf("mode %o", st.Mode)
	}
}

func TestRemoveAllKeepsLinkTargets(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	must(t, d.MkdirAll("keep", 0o755))
	must(t, d.WriteFile("keep/file", nil, 0o644))
	must(t, d.MkdirAll("tree/sub", 0o755))
	must(t, d.Symlink("../keep", "tree/link"))
	must(t, d.WriteFile("tree/sub/f", nil, 0o400))
	must(t, d.RemoveAll("tree"))
	if ok, _ := d.Exists("tree"); ok {
		t.Error("tree is still there")
	}
	if ok, _ := d.Exists("keep/file"); !ok {
		t.Error("RemoveAll followed a link")
	}
	must(t, d.RemoveAll("never-there"))
}

// A mount below a tree that is deleted keeps what it shows, also where it shows the
// same filesystem; immutable files and directories do not stop the deletion.
func TestRemoveAllObstacles(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting and immutable flags need root")
	}
	d := tempDir(t)
	must(t, d.MkdirAll("data", 0o755))
	must(t, d.WriteFile("data/precious", nil, 0o644))
	for _, name := range []string{"tree/sub/mnt", "tree/z"} {
		must(t, d.MkdirAll(name, 0o755))
	}
	must(t, d.WriteFile("tree/sub/file", nil, 0o644))
	at := filepath.Join(d.Path(), "tree/sub/mnt")
	if err := sys.Mount(filepath.Join(d.Path(), "data"), at, "", sys.MountBind, ""); err != nil {
		t.Skipf("mounting is not possible here: %v", err)
	}
	t.Cleanup(func() { _ = sys.Unmount(at, true) })
	for _, name := range []string{"tree", "tree/sub/mnt"} {
		if err := d.RemoveAll(name); !errors.Is(err, ErrCrossesMount) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ok, _ := d.Exists("data/precious"); !ok {
		t.Error("RemoveAll deleted behind a bind mount")
	}
	must(t, sys.Unmount(at, false))
	must(t, d.WriteFile("tree/sub/file", nil, 0o644))
	must(t, d.WriteFile("tree/sub/other", nil, 0o644))
	for _, name := range []string{"tree/sub/file", "tree/sub/other", "tree/sub", "tree"} {
		f, err := d.OpenFile(name, os.O_RDONLY, 0)
		must(t, err)
		if err := sys.SetImmutable(int(f.Fd()), true); err != nil {
			t.Logf("%s: no immutable flag here: %v", name, err)
		}
		must(t, f.Close())
	}
	must(t, d.RemoveAll("tree"))
	if ok, _ := d.Exists("tree"); ok {
		t.Error("it is still there")
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	if ro, err := d.ReadOnly(); ro || err != nil {
		t.Errorf("%v %v", ro, err)
	}
	if err := sys.Mount(d.Path(), d.Path(), "", sys.MountBind, ""); err != nil {
		t.Skipf("mounting is not possible here: %v", err)
	}
	t.Cleanup(func() { _ = sys.Unmount(d.Path(), true) })
	must(t, sys.Mount("", d.Path(), "", sys.MountBind|sys.MountRemount|sys.MountReadOnly, ""))
	again, err := OpenDir(d.Path())
	must(t, err)
	defer again.Close()
	if ro, err := again.ReadOnly(); !ro || err != nil {
		t.Errorf("%v %v", ro, err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	ctx := context.Background()
	a, err := d.Lock(ctx, ".lock", true, 0)
	must(t, err)
	b, err := d.Lock(ctx, ".lock", true, 0)
	must(t, err)
	_, err = d.Lock(ctx, ".lock", false, 60*time.Millisecond)
	var held *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &held) || held.PID != os.Getpid() || !strings.Contains(err.Error(), "fsx.test") {
		t.Errorf("exclusive beside shared: %v", err)
	}
	must(t, a.Unlock())
	must(t, b.Unlock())
	c, err := d.Lock(ctx, ".lock", false, 0)
	must(t, err)
	must(t, d.Remove(".lock"))
	other, err := d.Lock(ctx, ".lock", false, 0)
	if err != nil {
		t.Errorf("lock of a new file under the name: %v", err)
	} else if other.f == c.f {
		t.Error("same file")
	}
	must(t, other.Unlock())
	must(t, c.Unlock())
	c, err = d.Lock(ctx, ".lock", false, 0)
	must(t, err)
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := d.Lock(cctx, ".lock", false, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled wait: %v", err)
	}
	must(t, c.Unlock())
}

func TestXattrsAndLinks(t *testing.T) {
	t.Parallel()
	d := tempDir(t)
	must(t, d.WriteFile("f", []byte("x"), 0o644))
	must(t, d.SetXattr("f", "user.b", []byte("2")))
	must(t, d.SetXattr("f", "user.a", nil))
	must(t, d.Link("f", d, "g"))
	got, err := d.Xattrs("g")
	must(t, err)
	if len(got) != 2 || got[0].Name != "user.a" || string(got[1].Value) != "2" {
		t.Errorf("xattrs: %v", got)
	}
	must(t, d.Symlink("f", "s"))
	if err := d.Chmod("s", 0o777); err == nil {
		t.Error("Chmod followed a link")
	}
	must(t, d.Chmod("f", 0o4755))
	must(t, d.RemoveXattr("f", "user.b"))
	must(t, d.WriteFile("h", nil, 0o644))
	if err := d.RenameNoReplace("h", d, "g"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("RenameNoReplace onto a file: %v", err)
	}
	must(t, d.SymlinkAtomic("f", "l"))
	must(t, d.SymlinkAtomic("g", "l"))
	if got, err := d.Readlink("l"); err != nil || got != "g" {
		t.Errorf("Readlink = %q, %v", got, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
