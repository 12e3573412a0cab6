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

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// mountsBelow lists the mounts below dir in this thread's namespace.
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	var out []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			out = append(out, strings.TrimPrefix(f[4], dir))
		}
	}
	return out, err
}

// shareMounts makes a running system of dir: root read-only, run in memory, both with
// propagation, as systemd has its mounts.
func shareMounts(root, run string) error {
	for _, args := range [][]string{
		{"--bind", root, root}, {"-o", "remount,bind,ro", root}, {"--make-shared", root},
		{"-t", "tmpfs", "tmpfs", run}, {"--make-shared", run},
	} {
		// It runs where this thread does.
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
	}
	return nil
}

// The next root is what the initramfs would make, and the running system does not
// notice.
func TestNextRoot(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "mounting needs root")
	testutil.Tool(t, "ostree")
	for name, config := range map[string]string{
		"plain": "[sysroot]\nreadonly=true\n", "composefs": "[composefs]\nenabled=yes\n", "transient": "[composefs]\nenabled=yes\n[etc]\ntransient=true\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			root, target := makeSysroot(t, dir)
			run := filepath.Join(dir, "run")
			testutil.Must(t, os.Mkdir(run, 0o755))
			if name != "plain" {
				writeImage(t, root, ostree.ComposefsOptions{NoVerity: true})
			}
			d, err := ResolveTarget(target, func(l string) (string, error) { return os.Readlink(filepath.Join(root, l)) })
			testutil.Must(t, err)
			clearImmutable(t, root)
			conf := filepath.Join(root, d.Path(), "etc/ostree/prepare-root.conf")
			testutil.Must(t, os.MkdirAll(filepath.Dir(conf), 0o755))
			testutil.Must(t, os.WriteFile(conf, []byte(config), 0o644))
			var before, during, inside, after []string
			err = sys.InPrivateMounts(func() error {
				if err := shareMounts(root, run); err != nil {
					return err
				}
				in := Inputs{Places: Places{Root: root, Run: run}}
				s, err := ReadNext(in, d, ".tag")
				if err != nil {
					return err
				}
				ops, err := PlanNext(s)
				if err != nil {
					return err
				}
				before, _ = mountsBelow(root)
				if err := Execute(ops, nil); err != nil {
					return err
				}
				during, _ = mountsBelow(root)
				inside, _ = mountsBelow(run)
				if err := checkRootAt(filepath.Join(run, NextRoot)); err != nil {
					return err
				}
				if _, err := os.Stat(filepath.Join(run, NextMark)); err != nil {
					return err
				}
				if err := ResetNext(in.Places); err != nil {
					return err
				}
				after, err = mountsBelow(run)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, during); diff != "" {
				t.Errorf("mounts of the running system (-before +after):\n%s", diff)
			}
			want := "/nextroot /nextroot/etc /nextroot/var /nextroot/sysroot /nextroot/sysroot/tmp /nextroot/boot"
			if name == "plain" {
				want = strings.Replace(want, "/nextroot /nextroot/etc", "/nextroot /nextroot/usr /nextroot/etc", 1)
			}
			if got := strings.Join(inside, " "); got != want {
				t.Errorf("mounts: %s", got)
			}
			if len(after) > 0 {
				t.Errorf("left: %q", after)
			}
			_, err = os.Stat(filepath.Join(root, d.Path(), "etc/written"))
			if (err == nil) == (name == "transient") {
				t.Errorf("what was written to /etc: %v", err)
			}
		})
	}
}

func checkRootAt(root string) error {
	var errs []error
	for _, dir := range []string{"etc", "var", "sysroot/tmp", "boot"} {
		errs = append(errs, os.WriteFile(filepath.Join(root, dir, "written"), nil, 0o600))
	}
	for _, dir := range []string{"usr", ".", "sysroot", "sysroot/ostree/repo"} {
		err := os.WriteFile(filepath.Join(root, dir, "refused"), nil, 0o600)
		if !errors.Is(err, syscall.EROFS) {
			errs = append(errs, errors.New("write to "+dir+" is not refused"))
		}
	}
	_, err := os.ReadFile(filepath.Join(root, "usr/bin/tool"))
	return errors.Join(append(errs, err)...)
}
