// SPDX-License-Identifier: Apache-2.0

package hostd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// bus starts a message bus of its own and gives its address.
func bus(t testing.TB) string {
	t.Helper()
	cmd := exec.Command(testutil.Tool(t, "dbus-daemon"), "--session", "--nofork", "--nopidfile", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon gives no address: %v", err)
	}
	return strings.TrimSpace(line)
}

// host is a state that a test changes.
type host struct {
	mu sync.Mutex
	st deploy.State
}

func (h *host) load(context.Context) (deploy.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.st.Stateroots) == 0 {
		return h.st, errors.New("boot entries are unreadable")
	}
	st := h.st
	st.Deployments = slices.Clone(h.st.Deployments)
	return st, nil
}

func (h *host) change(fn func(*deploy.State)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn(&h.st)
}

func newHost() *host {
	dep := func(c byte, version string) deploy.Deployment {
		return deploy.Deployment{Stateroot: "my-os", Checksum: ostree.Checksum{c}, Version: version, Time: time.Unix(1700000000, 0),
			Origin: deploy.Origin{}.WithRefspec("r:os/main")}
	}
	staged, booted, old := dep(1, "3"), dep(2, "2"), dep(3, "1")
	staged.Staged, booted.Booted = true, true
	return &host{st: deploy.State{Stateroots: []string{"my-os", "other"}, Deployments: []deploy.Deployment{staged, booted, old}}}
}

// start serves h on a bus of its own and returns the bus's address and what Serve returns.
func start(t testing.TB, h *host, idle time.Duration) (string, <-chan error) {
	t.Helper()
	address := bus(t)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, Options{Conn: conn, Load: h.load, Path: "/", IdleExit: idle, Poll: 20 * time.Millisecond})
	}()
	t.Cleanup(func() { cancel(); conn.Close() })
	for range 200 {
		var owned bool
		if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, BusName).Store(&owned); err == nil && owned {
			return address, done
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the name is not taken")
	return "", nil
}

func gdbus(t testing.TB, address string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(testutil.Tool(t, "gdbus"), append([]string{"call", "--address", address, "--dest", BusName}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestPropertiesThroughGDBus(t *testing.T) {
	t.Parallel()
	address, _ := start(t, newHost(), 0)
	get := func(path dbus.ObjectPath, iface, name string) string {
		t.Helper()
		out, err := gdbus(t, address, "--object-path", string(path), "--method", propertiesInterface+".Get", iface, name)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return out
	}
	if got, want := get(SysrootPath, SysrootInterface, "Booted"), "(<objectpath '/org/projectatomic/rpmostree1/my_2dos'>,)"; got != want {
		t.Errorf("Booted = %s, want %s", got, want)
	}
	if got, want := get(SysrootPath, SysrootInterface, "ActiveTransaction"), "(<('', '', '')>,)"; got != want {
		t.Errorf("ActiveTransaction = %s, want %s", got, want)
	}
	osPath := OSPath("my-os")
	for name, version := range map[string]string{"DefaultDeployment": "3", "BootedDeployment": "2", "RollbackDeployment": "1"} {
		if got := get(osPath, OSInterface, name); !strings.Contains(got, "'version': <'"+version+"'>") {
			t.Errorf("%s = %s, want version %s", name, got, version)
		}
	}
	booted := get(osPath, OSInterface, "BootedDeployment")
	for _, want := range []string{"'booted': <true>", "'staged': <false>", "'serial': <0>", "'origin': <'r:os/main'>", "'unlocked': <'none'>",
		"'timestamp': <uint64 1700000000>", "'id': <'my-os-02" + strings.Repeat("0", 62) + ".0'>"} {
		if !strings.Contains(booted, want) {
			t.Errorf("BootedDeployment lacks %s: %s", want, booted)
		}
	}
	if got := get(OSPath("other"), OSInterface, "BootedDeployment"); got != "(<@a{sv} {}>,)" {
		t.Errorf("a stateroot without deployments: %s", got)
	}
	out, err := gdbus(t, address, "--object-path", string(RootPath), "--method", managerInterface+".GetManagedObjects")
	if err != nil || strings.Count(out, OSInterface) != 2 || strings.Count(out, SysrootInterface) != 1 {
		t.Errorf("GetManagedObjects: %v %s", err, out)
	}
	out, err = gdbus(t, address, "--object-path", string(SysrootPath), "--method", SysrootInterface+".GetOS", "")
	if err != nil || !strings.Contains(out, string(osPath)) {
		t.Errorf("GetOS: %v %s", err, out)
	}
	xml, err := exec.Command(testutil.Tool(t, "gdbus"), "introspect", "--address", address, "--dest", BusName, "--object-path", string(SysrootPath), "--xml").CombinedOutput()
	if err != nil || !strings.Contains(string(xml), `name="Deployments"`) {
		t.Errorf("introspect: %v %s", err, xml)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	h := newHost()
	address, _ := start(t, h, 0)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{SysrootInterface + ".GetOS", "nothing"}, errorPrefix + `Failed: no stateroot is called "nothing"`},
		{[]string{propertiesInterface + ".Get", SysrootInterface, "Nothing"}, "UnknownProperty"},
		{[]string{propertiesInterface + ".Set", SysrootInterface, "Path", "<'/x'>"}, "PropertyReadOnly"},
		{[]string{SysrootInterface + ".Upgrade"}, "UnknownMethod"},
	} {
		out, err := gdbus(t, address, append([]string{"--object-path", string(SysrootPath), "--method"}, c.args...)...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v %s, want %s", c.args, err, out, c.want)
		}
	}
	h.change(func(st *deploy.State) { st.Stateroots = nil })
	out, err := gdbus(t, address, "--object-path", string(SysrootPath), "--method", propertiesInterface+".GetAll", SysrootInterface)
	if err == nil || !strings.Contains(out, "boot entries are unreadable") {
		t.Errorf("an unreadable host: %v %s", err, out)
	}
}

// TestChangesAreSignalled reads the signals of a change and of a new stateroot.
func TestChangesAreSignalled(t *testing.T) {
	t.Parallel()
	h := newHost()
	address, _ := start(t, h, 0)
	client, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.AddMatchSignal(dbus.WithMatchInterface(propertiesInterface)); err != nil {
		t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 16)
	client.Signal(signals)
	h.change(func(st *deploy.State) {
		st.Deployments = st.Deployments[1:]
		st.Stateroots = append(st.Stateroots, "third")
	})
	seen := map[dbus.ObjectPath]bool{}
	for len(seen) < 4 {
		select {
		case s := <-signals:
			seen[s.Path] = true
			if s.Path == SysrootPath {
				var list []map[string]dbus.Variant
				if err := s.Body[1].(map[string]dbus.Variant)["Deployments"].Store(&list); err != nil || len(list) != 2 {
					t.Fatalf("%v %v", err, s.Body)
				}
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("signals from %v only", seen)
		}
	}
	if !seen[OSPath("third")] {
		t.Errorf("%v", seen)
	}
}

// TestIdleExit ends a daemon that nobody uses, and not one with a client.
func TestIdleExit(t *testing.T) {
	t.Parallel()
	address, done := start(t, newHost(), 300*time.Millisecond)
	client, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]dbus.Variant{"id": dbus.MakeVariant("test")}
	if err := client.Object(BusName, SysrootPath).Call(SysrootInterface+".RegisterClient", 0, options).Err; err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("ended with a client: %v", err)
	case <-time.After(time.Second):
	}
	client.Close() // without saying goodbye
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("did not end")
	}
}

func TestNameTaken(t *testing.T) {
	t.Parallel()
	h := newHost()
	address, _ := start(t, h, 0)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := Serve(t.Context(), Options{Conn: conn, Load: h.load}); !errors.Is(err, ErrNameTaken) {
		t.Fatal(err)
	}
}

func TestOSPath(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]dbus.ObjectPath{"fedora": RootPath + "/fedora", "a.b_c-d": RootPath + "/a_2eb_5fc_2dd", "é": RootPath + "/_c3_a9"} {
		got := OSPath(name)
		if got != want || !got.IsValid() {
			text, _ := json.Marshal(got)
			t.Errorf("%s: %s, want %s", name, text, want)
		}
	}
}
