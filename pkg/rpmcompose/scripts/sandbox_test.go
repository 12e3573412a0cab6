// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

// hostPrograms are copied from the host into a test tree, with their libraries.
var hostPrograms = []string{"sh", "rm", "mkdir", "touch", "cat", "chown", "chmod", "id", "sleep", "mknod", "mv", "ln", "ls", "env", "readlink", "stat"}

// testTree gives a small tree that can run a shell, every file of it hard-linked
// from a "cache" beside it, and a work directory on the same filesystem.
func testTree(t *testing.T) (root, work, cache *fsx.Dir) {
	t.Helper()
	rpmtest.Needs(t, "bwrap", "ldd", "cp")
	base := t.TempDir()
	cachePath, rootPath := filepath.Join(base, "cache"), filepath.Join(base, "root")
	for _, d := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/etc", "usr/share/data", "var"} {
		testutil.Must(t, os.MkdirAll(filepath.Join(cachePath, d), 0o755))
	}
	libs := map[string]bool{}
	for _, prog := range hostPrograms {
		p, err := exec.LookPath(prog)
		testutil.Must(t, err)
		testutil.Must(t, exec.Command("cp", "-L", p, filepath.Join(cachePath, "usr/bin", prog)).Run())
		out, err := exec.Command("ldd", p).Output()
		testutil.Must(t, err)
		for field := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(field, "/") {
				libs[field] = true
			}
		}
	}
	for lib := range libs {
		testutil.Must(t, exec.Command("cp", "-L", lib, filepath.Join(cachePath, "usr/lib", filepath.Base(lib))).Run())
		if strings.HasPrefix(lib, "/lib64/") {
			testutil.Must(t, exec.Command("cp", "-L", lib, filepath.Join(cachePath, "usr/lib64", filepath.Base(lib))).Run())
		}
	}
	testutil.Must(t, os.WriteFile(filepath.Join(cachePath, "usr/share/data/a"), []byte("cached\n"), 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(cachePath, "usr/share/data/b"), []byte("cached\n"), 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(cachePath, "usr/etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(cachePath, "usr/etc/group"), []byte("root:x:0:\n"), 0o644))
	testutil.Must(t, exec.Command("cp", "-al", cachePath, rootPath).Run())
	for _, name := range []string{"bin", "lib", "lib64"} {
		testutil.Must(t, os.Symlink("usr/"+name, filepath.Join(rootPath, name)))
	}
	testutil.Must(t, os.Mkdir(filepath.Join(base, "work"), 0o755))
	return testutil.OpenDir(t, rootPath), testutil.OpenDir(t, filepath.Join(base, "work")), testutil.OpenDir(t, cachePath)
}

func sh(script string) Command {
	return Command{Name: "test.post", Args: []string{"/bin/sh"}, Script: []byte(script)}
}

func read(t *testing.T, d *fsx.Dir, name string) string {
	t.Helper()
	b, err := d.ReadFile(name, 1<<20)
	testutil.Must(t, err)
	return string(b)
}

// snapshot lists a tree with everything but times.
func snapshot(t *testing.T, d *fsx.Dir) string {
	t.Helper()
	out, err := exec.Command("find", d.Path(), "-printf", "%P %M %U %G %s %l\n").Output()
	testutil.Must(t, err)
	lines := strings.Split(string(out), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestChangesAreMergedAndCacheIsNot(t *testing.T) {
	t.Parallel()
	root, work, cache := testTree(t)
	before := snapshot(t, cache)
	err := With(t.Context(), root, work, Options{}, func(ctx context.Context, s *Sandbox) error {
		_, err := s.Run(ctx, sh(`set -e
echo new >> /usr/share/data/a
rm /usr/share/data/b
mkdir -p /usr/share/fresh/deep
echo x > /usr/share/fresh/deep/file
ln -s ../data /usr/share/link
rm -r /usr/share/fresh; mkdir /usr/share/fresh; echo y > /usr/share/fresh/only
chown 12:34 /bin/cat
echo hello > /etc/conf
echo state > /var/lib/rpm-state/x
echo gone > /run/x; echo gone > /tmp/x`))
		return err
	})
	testutil.Must(t, err)
	if got := read(t, root, "usr/share/data/a"); got != "cached\nnew\n" {
		t.Errorf("changed file holds %q", got)
	}
	if ok, _ := root.Exists("usr/share/data/b"); ok {
		t.Error("deleted file is still there")
	}
	if got := read(t, root, "usr/share/fresh/only"); got != "y\n" {
		t.Errorf("new file holds %q", got)
	}
	if got := read(t, root, "usr/etc/conf"); got != "hello\n" {
		t.Errorf("file written to /etc holds %q", got)
	}
	st, err := root.Lstat("usr/bin/cat")
	testutil.Must(t, err)
	if st.UID != 12 || st.GID != 34 {
		t.Errorf("owner %d:%d", st.UID, st.GID)
	}
	if after := snapshot(t, cache); after != before {
		t.Errorf("the cache changed:\n%s\nwas\n%s", after, before)
	}
	out, err := exec.Command("getfattr", "-R", "-d", "-m", "trusted.overlay", root.Path()).CombinedOutput()
	if err == nil && len(out) > 0 {
		t.Errorf("overlay marks remain:\n%s", out)
	}
	entries, err := work.ReadDir(".")
	testutil.Must(t, err)
	if len(entries) != 0 {
		t.Errorf("work directory keeps %v", entries)
	}
}

func TestHostileScriptsAreSurvived(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script string
		want         error
		code         int
	}{
		{"delete everything", `rm -rf --no-preserve-root / 2>/dev/null; exit 0`, ErrTreeDamaged, -1},
		{"endless loop", `while :; do :; done`, ErrTimeout, -1},
		{"ignores polite signals", `trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & sleep 1000`, ErrTimeout, -1},
		{"fails", `echo why; exit 7`, nil, 7},
		{"device node", `mknod /usr/bin/node b 8 0`, nil, 1},
		{"kernel setting", `: >> /proc/sys/kernel/core_pattern`, nil, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root, work, cache := testTree(t)
			beforeRoot, beforeCache := snapshot(t, root), snapshot(t, cache)
			err := With(t.Context(), root, work, Options{Timeout: 2 * time.Second}, func(ctx context.Context, s *Sandbox) error {
				_, err := s.Run(ctx, sh(tc.script))
				return err
			})
			var failed *Error
			if !errors.As(err, &failed) {
				t.Fatalf("got %v, want *Error", err)
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if failed.Code != tc.code {
				t.Errorf("code %d, want %d (%v)", failed.Code, tc.code, err)
			}
			if !strings.Contains(err.Error(), "test.post") {
				t.Errorf("error does not name the script: %v", err)
			}
			if snapshot(t, root) != beforeRoot {
				t.Error("tree changed")
			}
			if snapshot(t, cache) != beforeCache {
				t.Error("cache changed")
			}
		})
	}
}

func TestSandboxSurroundings(t *testing.T) {
	t.Parallel()
	root, work, _ := testTree(t)
	err := With(t.Context(), root, work, Options{SourceDateEpoch: 86400}, func(ctx context.Context, s *Sandbox) error {
		out, err := s.Run(ctx, Command{Args: []string{"/bin/sh"}, Script: []byte(`echo "arg $1"; echo "$SYSTEMD_OFFLINE $SOURCE_DATE_EPOCH"
ls /sys; ls /run; ls /sys/class/net 2>/dev/null; cat /proc/sys/kernel/hostname; while read l; do echo "in $l"; done; ls /dev/sda /dev/vda 2>/dev/null; readlink /bin`),
			ScriptIndex: 1, Stdin: strings.NewReader("one\ntwo\n")})
		if err != nil {
			return err
		}
		for _, line := range []string{"1 86400", "ostree-booted", "localhost", "in one", "in two", "usr/bin"} {
			if !strings.Contains(out.Text, line+"\n") {
				t.Errorf("output lacks %q:\n%s", line, out.Text)
			}
		}
		return nil
	})
	testutil.Must(t, err)
}

func TestCancelEndsCommand(t *testing.T) {
	t.Parallel()
	root, work, _ := testTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	err := With(ctx, root, work, Options{}, func(ctx context.Context, s *Sandbox) error {
		_, err := s.Run(ctx, sh("sleep 100000"))
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNoMountsRemain(t *testing.T) {
	t.Parallel()
	root, work, _ := testTree(t)
	testutil.Must(t, With(t.Context(), root, work, Options{}, func(ctx context.Context, s *Sandbox) error { return nil }))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	testutil.Must(t, err)
	if strings.Contains(string(mounts), work.Path()) {
		t.Error("a mount is visible outside")
	}
}
