// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// The test binary runs itself with these to have a process to kill.
const (
	crashOp     = "HOSTCTL_TEST_OP"
	crashRoot   = "HOSTCTL_TEST_ROOT"
	crashCommit = "HOSTCTL_TEST_COMMIT"
	crashBooted = "HOSTCTL_TEST_BOOTED"
)

func TestMain(m *testing.M) {
	op := os.Getenv(crashOp)
	if op == "" {
		os.Exit(testutil.InMemory(m))
	}
	if op == "watchdog" {
		if _, err := ThawWatchdog(os.Stdin, os.Stdout, os.NewFile(3, "boot")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := runOp(context.Background(), op); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runOp(ctx context.Context, op string) error {
	root := os.Getenv(crashRoot)
	dir, err := fsx.OpenDir(root + "/sysroot")
	if err != nil {
		return err
	}
	run, err := fsx.OpenDir(root + "/run")
	if err != nil {
		return err
	}
	o := Options{Run: run, DisableFsync: true}
	if name := os.Getenv(crashBooted); name != "" {
		if o.Root, err = fsx.OpenDir(name); err != nil {
			return err
		}
	}
	s, err := Open(dir, o)
	if err != nil {
		return err
	}
	commit, err := ostree.ParseChecksum(os.Getenv(crashCommit))
	if err != nil {
		return err
	}
	return s.WithLock(ctx, func(l *Locked) error {
		switch op {
		case "deploy":
			if _, err := deployAndWrite(ctx, l, commit, Retention{}); err != nil {
				return err
			}
			_, err := l.Cleanup(ctx)
			return err
		case "stage":
			if _, err := l.Stage(ctx, Request{Stateroot: "testos", Commit: commit, Origin: NewOrigin("m")}, StageOptions{}); err != nil {
				return err
			}
			if _, err := l.FinalizeStaged(ctx, Retention{}); err != nil {
				return err
			}
			_, err := l.Cleanup(ctx)
			return err
		case "rollback":
			_, err := l.Rollback(ctx)
			return err
		case "try":
			_, err := tryCommit(ctx, l, commit, 0)
			return err
		case "settle":
			_, err := l.SettleBoot(ctx)
			return err
		}
		return errors.New("unknown operation " + op)
	})
}

func (b *box) child(op string, c ostree.Checksum, failpoints string) (string, error) {
	b.t.Helper()
	exe, err := os.Executable()
	testutil.Must(b.t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashOp+"="+op, crashRoot+"="+b.root, crashCommit+"="+c.String(), "HOSTCTL_FAILPOINTS="+failpoints)
	if b.o.Root != nil {
		cmd.Env = append(cmd.Env, crashBooted+"="+b.o.Root.Path())
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func ids(list []Deployment) string {
	var out []string
	for _, d := range list {
		out = append(out, d.Name())
	}
	return strings.Join(out, " ")
}

// points lists the failpoints of this package that a run passes, each at most
// twice, as HOSTCTL_FAILPOINTS specifications that kill there.
func points(trace string) []string {
	seen := map[string]int{}
	var out []string
	for line := range strings.SplitSeq(trace, "\n") {
		name, ok := strings.CutPrefix(line, "failpoint ")
		if !ok || !strings.HasPrefix(name, "deploy.") || seen[name] == 2 {
			continue
		}
		out = append(out, fmt.Sprintf("%s=skip:%d:kill", name, seen[name]))
		seen[name]++
	}
	return out
}

// crashEverywhere runs op once for each point that it passes, each time with a
// fresh commit, and kills it there. What is on disk then must be the old or the
// new order, for us and for libostree, and the next round must work on it.
func crashEverywhere(t *testing.T, kind bootloader.Kind, op string, min int, commit func(b *box, i int) ostree.Checksum) {
	testutil.Tool(t, "ostree")
	var out string
	var err error
	b := newBox(t, InitOptions{Bootloader: kind})
	b.o.DisableFsync = true // SIGKILL loses nothing that was written
	b.deploy(commit(b, 0), Retention{})
	b.deploy(commit(b, 1), Retention{})
	// Once without looking, for a steady state; then once for the list of points.
	for i, spec := range []string{"", "*=trace"} {
		if out, err = b.child(op, commit(b, 2+i), spec); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	list := points(out)
	if len(list) < min {
		t.Fatalf("only %d failpoints:\n%s", len(list), out)
	}
	olds, news := 0, 0
	for i, point := range list {
		c := commit(b, 4+i)
		before := ids(b.load().Written())
		out, err := b.child(op, c, point)
		if !testutil.Killed(err) {
			t.Fatalf("%s: not killed: %v\n%s", point, err, out)
		}
		st := b.load()
		switch after := ids(st.Written()); {
		case after == before:
			olds++
		case op == "rollback" || st.Written()[0].Checksum == c:
			news++
		default:
			t.Fatalf("%s: neither old nor new: %s, was %s", point, after, before)
		}
		checkBootable(t, b, st)
		if len(st.Broken) > 0 {
			t.Fatalf("%s: %+v", point, st.Broken)
		}
		// A crash is a reboot: what was staged is forgotten.
		testutil.Must(t, os.RemoveAll(b.root+"/run/ostree"))
		b.expectStatus(st.Written()...)
		b.locked(func(l *Locked) {
			if _, err := l.Cleanup(t.Context()); err != nil {
				t.Fatalf("%s: %v", point, err)
			}
			if res, err := l.Cleanup(t.Context()); err != nil || !res.Plan.Empty() {
				t.Fatalf("%s: second cleanup: %v %+v", point, err, res)
			}
		})
		b.expectStatus(st.Written()...)
	}
	if olds == 0 || news == 0 {
		t.Errorf("%d old, %d new: no crash on one side of the commit point", olds, news)
	}
	c := commit(b, 4+len(list))
	if out, err := b.child(op, c, ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.mustOstree("fsck", "--repo="+b.path("ostree/repo"))
	if kind == bootloader.SystemdBoot {
		noLinks(t, b.path("boot"))
	}
	t.Logf("%d points: %d old, %d new", len(list), olds, news)
}

// checkBootable follows every menu entry to its kernel and its tree and verifies
// the kernel's bytes.
func checkBootable(t testing.TB, b *box, st State) {
	t.Helper()
	for i, d := range st.Written() {
		data := b.read("boot/loader/entries", bootloader.NameEntry(b.sysroot().sw, st.BootVersion, i, len(st.Written()), ""))
		e, err := bls.Parse([]byte(data))
		testutil.Must(t, err)
		root := testutil.OpenDir(t, b.path(d.Dir()))
		k, err := findKernel(dirTree{root})
		testutil.Must(t, err)
		if got := b.read("boot", e.Linux); got != b.read(d.Dir(), k.vmlinuz.source) {
			t.Fatalf("kernel of %s differs", d.Name())
		}
		if got := b.read("boot", e.Initrd[0]); got != b.read(d.Dir(), k.initramfs.source) {
			t.Fatalf("initramfs of %s differs", d.Name())
		}
		arg, _ := bls.ParseKargs(e.Options).Value("ostree")
		for _, f := range []string{"usr/bin/tool", "etc/fixed.conf"} {
			if _, err := os.Stat(b.path(arg, f)); err != nil {
				t.Fatal(err)
			}
		}
		for _, ref := range []string{fmt.Sprintf("ostree/%d/%d/%d", st.BootVersion, st.Subversion, i)} {
			if c, err := b.sysroot().Repo().ReadRef(ref); err != nil || c != d.Checksum {
				t.Fatalf("ref %s: %v %s", ref, err, c)
			}
		}
	}
}

func numbered(b *box, i int) ostree.Checksum {
	v := fmt.Sprint(i)
	return b.commit("testos/main", v, release(v, v))
}

func TestCrashDeploy(t *testing.T) {
	t.Parallel()
	crashEverywhere(t, bootloader.None, "deploy", 20, numbered)
}

// TestCrashFAT is TestCrashDeploy with the layout of FAT.
func TestCrashFAT(t *testing.T) {
	t.Parallel()
	crashEverywhere(t, bootloader.SystemdBoot, "deploy", 20, numbered)
}

// noLinks finds what FAT could not hold.
func noLinks(t *testing.T, dir string) {
	t.Helper()
	testutil.Must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !e.Type().IsRegular() {
			t.Errorf("%s: %v", p, e.Type())
		}
		return err
	}))
}

func TestCrashStage(t *testing.T) {
	t.Parallel()
	crashEverywhere(t, bootloader.None, "stage", 20, numbered)
}

func TestCrashRollback(t *testing.T) {
	t.Parallel()
	crashEverywhere(t, bootloader.None, "rollback", 8, func(b *box, i int) ostree.Checksum {
		return numbered(b, min(i, 1))
	})
}

// TestCrashLinks: the same kernel and version each time, so that only links swap.
func TestCrashLinks(t *testing.T) {
	t.Parallel()
	crashEverywhere(t, bootloader.None, "deploy", 10, func(b *box, i int) ostree.Checksum {
		return b.commit("testos/main", "1", release("1", "1").with("usr/bin/tool", fmt.Sprint(i)))
	})
}

func TestPoints(t *testing.T) {
	t.Parallel()
	got := points("failpoint deploy.a\nx\nfailpoint ostree.b\nfailpoint deploy.a\nfailpoint deploy.a\n")
	if !slices.Equal(got, []string{"deploy.a=skip:0:kill", "deploy.a=skip:1:kill"}) {
		t.Fatal(got)
	}
}
