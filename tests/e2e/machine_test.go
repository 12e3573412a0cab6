// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/composed"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/vm"
	"github.com/hostctl/hostctl/tests/vm/proto"
)

// bootLimit bounds one boot under software emulation on a busy machine.
const bootLimit = 10 * time.Minute

// parallelRequests is the default of pull.Network.Outstanding.
const parallelRequests = 8

// counter is the composer's HTTP handler with a count of full answers per path.
type counter struct {
	next http.Handler
	mu   sync.Mutex
	full map[string]int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	c.next.ServeHTTP(rec, r)
	if r.Method == http.MethodGet && rec.failed == nil && rec.status == http.StatusOK {
		c.mu.Lock()
		c.full[r.URL.Path]++
		c.mu.Unlock()
	}
}

// recorder notes whether the whole body went out.
type recorder struct {
	http.ResponseWriter
	status int
	failed error
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	if err != nil {
		r.failed = err
	}
	return n, err
}

func (c *counter) contentObjects() (received int, twice []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, n := range c.full {
		if !strings.HasSuffix(path, ".filez") {
			continue
		}
		received += n
		if n > 1 {
			twice = append(twice, path)
		}
	}
	return received, twice
}

// machine is a booted machine with the first commit, and its repository server.
type machine struct {
	*vm.VM
	t     *testing.T
	count *counter
}

// imaging lets one machine be installed at a time: all use the same names in the
// lab's folder.
var imaging sync.Mutex

// ownImage makes a disk for one test, beside those of others that run.
func ownImage(t *testing.T, l *lab.Lab) (string, vm.Tools) {
	t.Helper()
	imaging.Lock()
	defer imaging.Unlock()
	image, tools, err := l.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(filepath.Dir(image), "disk-of-"+strings.ReplaceAll(t.Name(), "/", "-")+".img")
	if err := os.Rename(image, own); err != nil {
		t.Fatal(err)
	}
	return own, tools
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return newMachineOf(t, theLab(t))
}

// newMachineOf is newMachine with another tree or another kind of machine.
func newMachineOf(t *testing.T, l *lab.Lab) *machine {
	t.Helper()
	dir, err := fsx.OpenDir(l.Repo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	count := &counter{next: composed.Handler(dir, nil), full: map[string]int{}}
	web := httptest.NewServer(count)
	t.Cleanup(web.Close)
	image, tools := ownImage(t, l)
	t.Cleanup(func() { os.Remove(image) })
	v, err := vm.New(vm.Config{Image: image, Tools: tools, UEFI: strings.HasPrefix(l.Boot, "uefi-"), MaxLife: 3 * time.Hour, Logf: t.Logf,
		Forwards: []vm.Forward{{Guest: "10.0.2.100:80", Host: web.Listener.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		logs := filepath.Join(l.Dir, "logs", filepath.FromSlash(t.Name()))
		if err := v.KeepLogs(logs); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", v.Console())
		}
		keptConsole(filepath.Join(logs, "console.log"))
		v.Close()
	})
	m := &machine{VM: v, t: t, count: count}
	m.boot()
	return m
}

func (m *machine) boot() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), bootLimit)
	defer cancel()
	if err := m.Boot(ctx); err != nil {
		m.t.Fatal(err)
	}
	if err := m.WaitReady(ctx); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) reboot() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), bootLimit)
	defer cancel()
	if err := m.Reboot(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// sh runs a script that must succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	out, err := m.Sh(m.t.Context(), script)
	if err != nil {
		m.t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(out)
}

// expect checks what a script prints.
func (m *machine) expect(script, want string) {
	m.t.Helper()
	if got := m.sh(script); got != want {
		m.t.Errorf("%s\n got %q\nwant %q", script, got, want)
	}
}

const bootedVersion = `hostctl status --json | jq -r '.deployments[] | select(.booted) | .version'`

// busctl reads a property of the daemon, which the bus starts for it.
func busctl(object, iface, property string) string {
	const name = "org.projectatomic.rpmostree1"
	return strings.Join([]string{"busctl get-property", name, "/org/projectatomic/rpmostree1/" + object, name + "." + iface, property}, " ")
}

// interruptUpgrade sends SIGINT to an upgrade that has received some objects.
func (m *machine) interruptUpgrade() vm.Result {
	m.t.Helper()
	type answer struct {
		res vm.Result
		err error
	}
	done := make(chan answer, 1)
	go func() {
		res, err := m.Run(m.t.Context(), proto.Command{Argv: []string{"hostctl", "upgrade"}, Seconds: 600})
		done <- answer{res, err}
	}()
	for n := 0; n < 500; n, _ = m.count.contentObjects() {
		select {
		case a := <-done:
			m.t.Fatalf("the upgrade ended before it could be interrupted: %v\n%s%s", a.err, a.res.Stdout, a.res.Stderr)
		case <-time.After(100 * time.Millisecond):
		}
	}
	m.sh("kill -INT $(pgrep -f '^hostctl upgrade')")
	a := <-done
	if a.err != nil {
		m.t.Fatal(a.err)
	}
	return a.res
}

// TestMachine is the life of one machine: boot, local edits, an interrupted and
// a full upgrade, the new tree, rollback.
func TestMachine(t *testing.T) {
	need(t, "machine")
	m := newMachine(t)

	m.expect(bootedVersion, "1")
	m.expect("grep OSTREE_VERSION /usr/lib/os-release", "OSTREE_VERSION='1'")
	m.expect("findmnt -no OPTIONS /usr | cut -d, -f1", "ro")
	m.expect("if touch /usr/bin/x 2>/dev/null; then echo written; else echo refused; fi", "refused")
	m.expect("systemctl is-active hostctl-finalize-staged.path", "active")
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	m.expect(busctl("Sysroot", "Sysroot", "Booted"), `o "/org/projectatomic/rpmostree1/testdistro"`)
	kernel := m.sh("uname -r")
	unedited := m.sh("cat /etc/testdistro.d/network.conf")

	m.sh("echo '# my line' >> /etc/testdistro.conf; echo hello > /etc/added; rm /etc/issue.net; echo precious > /var/lib/precious")

	// Ctrl-C in the middle of receiving objects.
	before := m.sh("hostctl status; cat /proc/cmdline; ls /boot/loader/entries; ls /run/ostree")
	res := m.interruptUpgrade()
	if res.Code != 130 || !strings.Contains(string(res.Stderr), "error: ") {
		t.Fatalf("interrupted upgrade: exit %d, want 130\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	if after := m.sh("hostctl status; cat /proc/cmdline; ls /boot/loader/entries; ls /run/ostree"); after != before {
		t.Errorf("an interrupted upgrade changed the system:\n%s\n---\n%s", before, after)
	}
	partial, _ := m.count.contentObjects()
	t.Logf("interrupted after %d objects", partial)
	if partial == 0 {
		t.Error("the upgrade was interrupted before it received anything: this shows nothing")
	}

	out := m.sh("hostctl upgrade 2>&1")
	for _, want := range []string{"Upgraded (", "linux-image-amd64 ", "Removed (1):", "Added (1):", "testdistro-release 1-1 -> 2-1"} {
		if !strings.Contains(out, want) {
			t.Errorf("upgrade does not print %q:\n%s", want, out)
		}
	}
	total, twice := m.count.contentObjects()
	// Answers that were on their way when the signal came count as sent here,
	// though the client never took them: at most one per parallel request.
	if len(twice) > parallelRequests {
		t.Errorf("%d of %d objects were fetched twice, e.g. %s", len(twice), total, twice[0])
	}
	if !regexp.MustCompile(`Copying /etc changes: \d+ modified, 1 removed, \d+ added`).MatchString(out) {
		t.Errorf("upgrade prints no /etc summary:\n%s", out)
	}
	m.expect("uname -r", kernel)
	if got := m.sh(busctl("testdistro", "OS", "DefaultDeployment")); !strings.Contains(got, `"staged" b true`) || !strings.Contains(got, `"version" s "1.1"`) {
		t.Errorf("the bus knows nothing of the staged deployment: %s", got)
	}

	m.reboot()
	m.expect(bootedVersion, "1.1")
	if now := m.sh("uname -r"); now == kernel {
		t.Errorf("still kernel %s", kernel)
	}
	m.expect("tail -n1 /etc/testdistro.conf; cat /etc/added; test -e /etc/issue.net || echo gone; cat /var/lib/precious", "# my line\nhello\ngone\nprecious")
	if now := m.sh("cat /etc/testdistro.d/network.conf"); now == unedited {
		t.Error("an unedited default did not change with the tree")
	}
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	m.expect("hostctl upgrade --unchanged-exit-77 >/dev/null 2>&1 || echo $?", "77")

	m.sh("hostctl rollback")
	m.reboot()
	m.expect(bootedVersion, "1")
	m.expect("uname -r; cat /var/lib/precious", kernel+"\nprecious")
	m.sh("hostctl fsck")
	m.sh("hostctl cleanup")

	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
