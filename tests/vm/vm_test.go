// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/tests/vm"
)

// TestBootsDeployment boots the sysroot that HOSTCTL_VM_SYSROOT names (a folder
// with one bootable deployment; agent, fstab and GRUB's stub are added to it)
// through GRUB and hostctl-prepare-root, and checks what a running system must
// be able to rely on.
func TestBootsDeployment(t *testing.T) {
	if os.Getenv("HOSTCTL_VM") != "1" {
		t.Skip("boots a virtual machine: set HOSTCTL_VM=1")
	}
	root := os.Getenv("HOSTCTL_VM_SYSROOT")
	if root == "" {
		t.Skip("HOSTCTL_VM_SYSROOT names no sysroot to boot")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "path=%s", r.URL.Path)
	}))
	defer web.Close()
	m := newMachine(t, ctx, root, web.Listener.Addr().String())
	boot(t, ctx, m)

	for script, want := range map[string]string{
		`findmnt -no OPTIONS / | cut -d, -f1`:                              "ro",
		`findmnt -no OPTIONS /usr | cut -d, -f1`:                           "ro",
		`findmnt -no OPTIONS /sysroot | cut -d, -f1`:                       "ro",
		`findmnt -no OPTIONS /etc | cut -d, -f1`:                           "rw",
		`findmnt -no OPTIONS /var | cut -d, -f1`:                           "rw",
		`findmnt -no OPTIONS,FSTYPE /boot | cut -d, -f1`:                   "rw",
		`if touch /usr/x 2>/dev/null; then echo written; else echo no; fi`: "no",
		`if touch /sysroot/x 2>/dev/null; then echo written; fi; echo no`:  "no",
		`echo kept > /etc/vm-test; cat /etc/vm-test`:                       "kept",
		`echo kept > /var/vm-test; cat /var/vm-test`:                       "kept",
		`test -s /run/ostree-booted && echo yes`:                           "yes",
		`cat /boot/loader/entries/*.conf | grep -c ^linux`:                 "1",
		`systemctl is-active hostctl-finalize-staged.path`:                 "active",
	} {
		expect(t, ctx, m, script, want)
	}
	httpThroughForward(t, ctx, m)

	if err := m.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, ctx, m, `cat /etc/vm-test /var/vm-test`, "kept\nkept")
	m.Kill()
	boot(t, ctx, m)
	expect(t, ctx, m, `cat /etc/vm-test`, "kept")
	if err := m.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

func newMachine(t *testing.T, ctx context.Context, root, web string) *vm.VM {
	t.Helper()
	dir := t.TempDir()
	tools, err := vm.BuildTools(ctx, dir)
	check(t, err)
	sysroot, err := fsx.OpenDir(root)
	check(t, err)
	defer sysroot.Close()
	prepareSysroot(t, sysroot, tools)
	out, err := fsx.OpenDir(dir)
	check(t, err)
	defer out.Close()
	res, err := diskimage.Build(ctx, diskimage.Options{Sysroot: sysroot, Dir: out, Name: "disk.img"})
	check(t, err)
	t.Logf("image of %d MiB", res.Size>>20)
	m, err := vm.New(vm.Config{
		Image: filepath.Join(dir, "disk.img"), Tools: tools, Logf: t.Logf,
		Forwards: []vm.Forward{{Guest: "10.0.2.100:80", Host: web}},
	})
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.Console())
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func prepareSysroot(t *testing.T, sysroot *fsx.Dir, tools vm.Tools) {
	t.Helper()
	stateroots, err := sysroot.ReadDir("ostree/deploy")
	check(t, err)
	for _, s := range stateroots {
		check(t, vm.AddAgent(sysroot, s.Name, tools))
		deployments, err := sysroot.ReadDir("ostree/deploy/" + s.Name + "/deploy")
		check(t, err)
		for _, d := range deployments {
			if !d.IsDir() {
				continue
			}
			etc, err := sysroot.OpenDir("ostree/deploy/" + s.Name + "/deploy/" + d.Name + "/etc")
			check(t, err)
			check(t, diskimage.WriteFstab(etc, diskimage.BIOSGRUB, ""))
			check(t, etc.Close())
		}
	}
}

func boot(t *testing.T, ctx context.Context, m *vm.VM) {
	t.Helper()
	check(t, m.Boot(ctx))
	check(t, m.WaitReady(ctx))
}

func expect(t *testing.T, ctx context.Context, m *vm.VM, script, want string) {
	t.Helper()
	got, err := m.Sh(ctx, script)
	if err != nil {
		t.Error(err)
		return
	}
	if got = strings.TrimSpace(got); got != want {
		t.Errorf("%s: got %q, want %q", script, got, want)
	}
}

// httpThroughForward speaks HTTP from the guest with nothing but bash, which is
// all that a minimal tree is sure to have.
func httpThroughForward(t *testing.T, ctx context.Context, m *vm.VM) {
	t.Helper()
	const get = `bash -c 'exec 3<>/dev/tcp/10.0.2.100/80; printf "GET /a HTTP/1.0\r\n\r\n" >&3; tail -n 1 <&3'`
	expect(t, ctx, m, get, "path=/a")
	expect(t, ctx, m, get, "path=/a")
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
