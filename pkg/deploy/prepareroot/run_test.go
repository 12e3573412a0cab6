// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
)

// TestExecute runs a plan in a mount namespace of its own, on a sysroot that
// the ostree program made.
func TestExecute(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "mounting needs root")
	testutil.Tool(t, "ostree")
	dir := t.TempDir()
	root, target := makeSysroot(t, dir)
	yes := true
	err := sys.InPrivateMounts(func() error {
		// The physical root has to be a mount, as it is in an initramfs.
		if err := sys.Mount(root, root, "", sys.MountBind, ""); err != nil {
			return err
		}
		if err := sys.Mount("", root, "", sys.MountBind|sys.MountRemount|sys.MountReadOnly, ""); err != nil {
			return err
		}
		in := Inputs{
			Cmdline: "quiet ostree=" + target,
			Config:  Config{ReadOnlySysroot: &yes},
			Places:  Places{Root: root, Stage: filepath.Join(dir, "stage"), Run: filepath.Join(dir, "run")},
		}
		s, err := ReadState(in)
		if err != nil {
			return err
		}
		if !s.RootReadOnly {
			return errors.New("read-only root not noticed")
		}
		// The remount would reach the filesystem of the machine under test.
		s.RootReadOnly = false
		if err := sys.Mount("", root, "", sys.MountBind|sys.MountRemount, ""); err != nil {
			return err
		}
		ops, err := Plan(s)
		if err != nil {
			return err
		}
		if err := Execute(ops, nil); err != nil {
			return err
		}
		return checkRoot(root)
	})
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.Stat(filepath.Join(dir, "run/ostree-booted"))
	if err != nil || mark.Size() == 0 {
		t.Errorf("boot mark: %v, %v", mark, err)
	}
	// What went into the mounts has reached the real places.
	for _, name := range []string{"ostree/deploy/os/var/written", "etc/written"} {
		found, err := filepath.Glob(filepath.Join(root, "ostree/deploy/os/deploy/*", name))
		if strings.HasPrefix(name, "ostree/") {
			found, err = filepath.Glob(filepath.Join(root, name))
		}
		if err != nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}

func checkRoot(root string) error {
	var errs []error
	for _, dir := range []string{"etc", "var", "tmp"} {
		errs = append(errs, os.WriteFile(filepath.Join(root, dir, "written"), nil, 0o600))
	}
	for _, dir := range []string{"usr", ".", "sysroot", "sysroot/ostree/repo"} {
		err := os.WriteFile(filepath.Join(root, dir, "refused"), nil, 0o600)
		if !errors.Is(err, syscall.EROFS) {
			errs = append(errs, errors.New("write to "+dir+" is not refused"))
		}
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/tool")); err != nil {
		errs = append(errs, err)
	}
	_, err := os.Stat(filepath.Join(root, "sysroot/ostree/repo/config"))
	errs = append(errs, err, checkWritableTree(filepath.Join(root, "sysroot")))
	return errors.Join(errs...)
}

// checkWritableTree writes through a private copy of the read-only mount, the
// way an upgrade does.
func checkWritableTree(sysroot string) error {
	d, err := sys.WritableTree(sysroot)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := sys.Mkdirat(int(d.Fd()), "through", 0o700); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(sysroot, "through"))
	return err
}

// makeSysroot lets the real program deploy a tiny tree and returns the sysroot
// with the boot link that its boot entry names.
func makeSysroot(t *testing.T, dir string) (root, target string) {
	t.Helper()
	tree := filepath.Join(dir, "tree")
	for name, data := range map[string]string{
		"usr/bin/tool": "tool", "usr/etc/conf": "conf", "usr/lib/os-release": "PRETTY_NAME=Tiny\n",
		"usr/lib/modules/1.0/vmlinuz": "kernel", "usr/lib/modules/1.0/initramfs.img": "initramfs",
	} {
		testutil.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		testutil.Must(t, os.WriteFile(filepath.Join(tree, name), []byte(data), 0o644))
	}
	for _, name := range []string{"var", "sysroot", "boot"} {
		testutil.Must(t, os.Mkdir(filepath.Join(tree, name), 0o755))
	}
	testutil.Must(t, os.Symlink("sysroot/tmp", filepath.Join(tree, "tmp")))
	root = filepath.Join(dir, "root")
	testutil.Must(t, os.Mkdir(root, 0o755))
	t.Cleanup(func() { clearImmutable(t, root) })
	repo := filepath.Join(root, "ostree/repo")
	for _, args := range [][]string{
		{"admin", "init-fs", root},
		{"admin", "os-init", "--sysroot=" + root, "os"},
		{"--repo=" + repo, "config", "set", "sysroot.bootloader", "none"},
		{"--repo=" + repo, "commit", "-b", "tiny", "--tree=dir=" + tree},
		{"admin", "deploy", "--sysroot=" + root, "--os=os", "tiny"},
	} {
		if out, err := exec.Command("ostree", args...).CombinedOutput(); err != nil {
			t.Fatalf("ostree %q: %v: %s", args, err, out)
		}
	}
	entries, err := filepath.Glob(filepath.Join(root, "boot/loader/entries/*.conf"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("boot entries: %v, %v", entries, err)
	}
	data, err := os.ReadFile(entries[0])
	testutil.Must(t, err)
	for line := range strings.Lines(string(data)) {
		if options, ok := strings.CutPrefix(line, "options "); ok {
			target, err = TargetFromCmdline(options)
			testutil.Must(t, err)
		}
	}
	return root, target
}

// clearImmutable lets the temporary directory be deleted.
func clearImmutable(t *testing.T, root string) {
	dirs, err := filepath.Glob(filepath.Join(root, "ostree/deploy/os/deploy/*"))
	testutil.Must(t, err)
	for _, name := range dirs {
		f, err := os.Open(name)
		testutil.Must(t, err)
		if err := sys.SetImmutable(int(f.Fd()), false); err != nil && !sys.IsNotSupported(err) {
			t.Error(err)
		}
		testutil.Must(t, f.Close())
	}
}
