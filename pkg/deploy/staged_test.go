// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func (b *box) stage(c ostree.Checksum, o StageOptions) StageResult {
	b.t.Helper()
	var res StageResult
	b.locked(func(l *Locked) {
		var err error
		res, err = l.Stage(b.t.Context(), Request{Stateroot: "testos", Commit: c, Origin: NewOrigin("testos/main")}, o)
		testutil.Must(b.t, err)
	})
	return res
}

func (b *box) finalize() (res FinalizeResult, err error) {
	b.t.Helper()
	b.locked(func(l *Locked) { res, err = l.FinalizeStaged(b.t.Context(), Retention{}) })
	return res, err
}

func TestStage(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("testos/main", "1", release("1", "1")), Retention{})
	b.boot(d1)
	if _, err := b.finalize(); !errors.Is(err, ErrNothingStaged) {
		t.Fatal(err)
	}
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/app.conf"), []byte("early"), 0o644))
	res := b.stage(b.commit("testos/main", "2", release("2", "2")), StageOptions{})
	if got := res.Preview.Etc; got.Counts.Modified != 1 || len(got.Conflicts()) != 1 || got.Conflicts()[0].Path != "app.conf" {
		t.Fatalf("%+v", got)
	}
	if got := res.Preview.Boot; got.Need < 13000 || !got.Fits() {
		t.Fatalf("%+v", got)
	}
	st := b.load()
	if names(st.Deployments) != "2.0+ 1.0*" || names(st.Written()) != "1.0*" {
		t.Fatal(names(st.Deployments))
	}
	// Nothing of the boot menu has changed, and what was staged survives cleanup.
	b.locked(func(l *Locked) {
		_, err := l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if d, ok := b.load().Default(); !ok || !d.Same(d1) {
		t.Fatalf("%+v", d)
	}
	// A second one replaces the first; changes of /etc after staging count.
	res = b.stage(b.commit("testos/main", "3", release("3", "2")), StageOptions{})
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/app.conf"), []byte("late"), 0o644))
	fin, err := b.finalize()
	testutil.Must(t, err)
	if !fin.Deployment.Same(res.Deployment) || fin.Etc.Counts.Modified != 1 {
		t.Fatalf("%+v", fin)
	}
	st = b.load()
	if names(st.Deployments) != "3.0 1.0*" || st.Deployments[0].Title != "TestOS 3 (ostree:0)" || st.FinalizeFailure != "" {
		t.Fatalf("%s %+v", names(st.Deployments), st)
	}
	if got := b.read(st.Deployments[0].Dir(), "etc/app.conf"); got != "late" {
		t.Fatal(got)
	}
	if got := st.Deployments[0].Kargs.String(); got != "root=LABEL=x rw" {
		t.Fatal(got)
	}
}

func TestStageLocked(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.stage(b.commit("m", "2", release("2", "2")), StageOptions{Locked: true})
	if !b.load().Deployments[0].FinalizationLocked {
		t.Fatal("not locked")
	}
	if _, err := b.finalize(); !errors.Is(err, ErrStagedLocked) {
		t.Fatal(err)
	}
	b.locked(func(l *Locked) { testutil.Must(t, l.SetStagedLocked(t.Context(), false)) })
	_, err := b.finalize()
	testutil.Must(t, err)
	if got := names(b.load().Deployments); got != "2.0 1.0" {
		t.Fatal(got)
	}
}

func TestStageRefuses(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/app.conf"), []byte("mine"), 0o644))
	c := b.commit("m", "2", release("2", "2"))
	b.locked(func(l *Locked) {
		_, err := l.Stage(t.Context(), Request{Stateroot: "testos", Commit: c, FailOnConflict: true}, StageOptions{})
		if !errors.Is(err, ErrEtcConflict) || !strings.Contains(err.Error(), "app.conf") {
			t.Error(err)
		}
	})
	if got := names(b.load().Deployments); got != "1.0" {
		t.Fatal(got)
	}
	if left, _ := filepath.Glob(b.path("ostree/deploy/testos/deploy/" + c.String() + "*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestFinalizeFailure(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	res := b.stage(b.commit("m", "2", release("2", "2")), StageOptions{})
	testutil.Must(t, os.RemoveAll(b.path(res.Deployment.Dir(), "usr/lib/modules")))
	if _, err := b.finalize(); !errors.Is(err, ErrNoKernel) {
		t.Fatal(err)
	}
	st := b.load()
	if names(st.Deployments) != "1.0" || !strings.Contains(st.FinalizeFailure, "no kernel") {
		t.Fatalf("%s %q", names(st.Deployments), st.FinalizeFailure)
	}
	if d, _ := st.Default(); !d.Same(d1) {
		t.Fatal(d.Name())
	}
	b.stage(b.commit("m", "3", release("3", "3")), StageOptions{})
	_, err := b.finalize()
	testutil.Must(t, err)
	if st := b.load(); st.FinalizeFailure != "" || names(st.Deployments) != "3.0 1.0" {
		t.Fatalf("%q %s", st.FinalizeFailure, names(st.Deployments))
	}
}

func TestRollbackDropsStaged(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	b.boot(b.deploy(b.commit("m", "1", release("1", "1")), Retention{}))
	b.stage(b.commit("m", "2", release("2", "2")), StageOptions{})
	b.locked(func(l *Locked) {
		_, err := l.Rollback(t.Context())
		testutil.Must(t, err)
	})
	if got := names(b.load().Deployments); got != "1.0*" {
		t.Fatal(got)
	}
}

// bootedScript runs a program of the host inside a mount namespace that looks
// like a system booted from a deployment: its tree is /, the sysroot is
// /sysroot, /boot and /run are in place. Arguments: SYSROOT DEPLOYMENT RUN CMD….
const bootedScript = `set -e
S=$1; D=$2; R=$3; shift 3
X=$(mktemp -d)
mount --bind "$D" "$X"
mount --bind "$S" "$X/sysroot"
mount --bind "$S/boot" "$X/boot"
mount --bind "$R" "$X/run"
mount -t proc proc "$X/proc"
mount --bind /dev "$X/dev"
mkdir -p "$X/run/host-usr"
mount --bind /usr "$X/run/host-usr"
touch "$R/ostree-booted"
L=$(dirname "$(readlink -f /lib64/ld-linux-x86-64.so.2)")
L=/run/host-usr/${L#/usr/}
exec chroot "$X" "$L/ld-linux-x86-64.so.2" --library-path "$L:$L/systemd" "$@"
`

func (b *box) inBooted(d Deployment, args ...string) (string, error) {
	b.t.Helper()
	if _, err := os.Stat("/lib64/ld-linux-x86-64.so.2"); err != nil {
		b.t.Skip("the booted system is only imitated on x86-64")
	}
	if out, err := exec.Command("unshare", "-m", "-p", "-f", "true").CombinedOutput(); err != nil {
		b.t.Skipf("namespaces are not allowed: %s", out)
	}
	argv := append([]string{"-m", "-p", "-f", "sh", "-c", bootedScript, "sh", b.path(), b.path(d.Dir()),
		filepath.Join(b.root, "run"), "/run/host-usr/bin/ostree"}, args...)
	out, err := exec.Command("unshare", argv...).CombinedOutput()
	return string(out), err
}

// TestStagedByLibostree: libostree stages in an imitated booted system, we read
// and finalise it.
func TestStagedByLibostree(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	c2 := b.commit("m", "2", release("2", "2"))
	out, err := b.inBooted(d1, "admin", "deploy", "--stage", "--karg-append=staged=1", c2.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.boot(d1)
	st := b.load()
	if names(st.Deployments) != "2.0+ 1.0*" || st.Deployments[0].Kargs.String() != "root=LABEL=x rw staged=1" {
		t.Fatalf("%s %q", names(st.Deployments), st.Deployments[0].Kargs)
	}
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/new"), []byte("late"), 0o644))
	_, err = b.finalize()
	testutil.Must(t, err)
	b.boot(d1)
	st = b.load()
	if names(st.Deployments) != "2.0 1.0*" || b.read(st.Deployments[0].Dir(), "etc/new") != "late" {
		t.Fatal(names(st.Deployments))
	}
	b.expectStatus(st.Deployments...)
}

// TestFinalizedByLibostree: the reverse.
func TestFinalizedByLibostree(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	b.boot(d1)
	c2 := b.commit("m", "2", release("2", "2"))
	b.locked(func(l *Locked) {
		_, err := l.Stage(t.Context(), Request{Stateroot: "testos", Commit: c2, Origin: NewOrigin("m"), Kargs: bls.Kargs{"root=LABEL=y", "z"},
			Etc: etcmerge.Policy{SaveNew: true, Replace: []string{"app.conf"}}, Retention: Retention{Older: 1}}, StageOptions{})
		testutil.Must(t, err)
	})
	out, err := b.inBooted(d1, "admin", "status")
	if err != nil || !strings.Contains(out, c2.String()+".0 (staged)") {
		t.Fatalf("%v\n%s", err, out)
	}
	testutil.Must(t, os.WriteFile(b.path(d1.Dir(), "etc/new"), []byte("late"), 0o644))
	if out, err := b.inBooted(d1, "admin", "finalize-staged"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	st := b.load()
	if names(st.Deployments) != "2.0 1.0*" || st.Deployments[0].Kargs.String() != "root=LABEL=y z" ||
		b.read(st.Deployments[0].Dir(), "etc/new") != "late" {
		t.Fatalf("%s %q", names(st.Deployments), st.Deployments[0].Kargs)
	}
}

// A Stage that ended between its ref and its record must not cost the commit of
// the deployment that is staged still.
func TestCleanupKeepsStagedCommit(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	d1 := b.deploy(b.commit("testos/main", "1", release("1", "1")), Retention{})
	b.boot(d1)
	staged := b.commit("testos/main", "2", release("2", "2"))
	b.stage(staged, StageOptions{})
	b.locked(func(l *Locked) {
		testutil.Must(t, l.s.setStagedRef(t.Context(), d1.Checksum))
		_, err := l.s.repo.Update(t.Context(), func(_ context.Context, txn *ostree.Txn) error {
			return txn.DeleteRef("testos/main")
		})
		testutil.Must(t, err)
		_, err = l.Cleanup(t.Context())
		testutil.Must(t, err)
		_, err = l.s.repo.LoadCommit(staged)
		testutil.Must(t, err)
	})
	fin, err := b.finalize()
	testutil.Must(t, err)
	if fin.Deployment.Checksum != staged {
		t.Fatalf("%+v", fin.Deployment)
	}
}
