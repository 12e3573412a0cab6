// SPDX-License-Identifier: Apache-2.0

// Package vm boots disk images in QEMU for tests and runs commands in them.
//
//	tools, err := vm.BuildTools(ctx, dir)            // the agent, once
//	err = vm.AddAgent(sysroot, "os", tools)          // before diskimage.Build
//	m, err := vm.New(vm.Config{Image: img, Tools: tools, Forwards: …})
//	defer m.Close()
//	err = m.Boot(ctx); err = m.WaitReady(ctx)
//	out, err := m.Sh(ctx, "hostctl status")
//
// The machine has one disk, an overlay over Image that stays until Close, so
// several machines can start from one image. Its only network is the list of
// forwards. Commands travel over a serial port of their own; the console goes
// to a log that Console returns. The machine ends with Close, with the test
// process, or after Config.MaxLife, whichever comes first.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/tests/vm/proto"
)

// ErrStopped reports that QEMU is not, or no longer, running.
var ErrStopped = errors.New("virtual machine is not running")

// Forward makes a TCP address of the guest's network reach one of the host.
type Forward struct {
	Guest string // inside 10.0.2.0/24, such as "10.0.2.100:80"
	Host  string // such as "127.0.0.1:8080"
}

// Config describes a machine. Image and Tools are required.
type Config struct {
	Image    string // raw image; never written
	Tools    Tools
	MemoryMB int // 2048 if 0
	CPUs     int // 2 if 0
	// CPU is QEMU's processor model; "qemu64" if empty, the one whose
	// instructions cost least to emulate (a boot takes a third less time than
	// with "max").
	CPU      string
	Forwards []Forward
	// UEFI starts the machine with OVMF instead of the BIOS. Its variables are the
	// machine's own and stay until Close.
	UEFI bool
	// DiskGB grows the guest's disk beyond the image; 0 leaves it.
	DiskGB int
	// MaxLife bounds the machine's whole life; 30 minutes if 0.
	MaxLife time.Duration
	// Args are further arguments of QEMU.
	Args []string
	// Logf, if not nil, is told what happens, with times.
	Logf func(format string, args ...any)
}

// VM is one machine. Its methods are not for several goroutines at once, but
// for Run, Stream and what is built on them.
type VM struct {
	cfg      Config
	dir      string // overlay, sockets, logs
	firmware string // OVMF's code; empty: BIOS
	timer    *time.Timer

	mu     sync.Mutex
	proc   *process
	line   *line
	bootID string // the last one seen
	agent  int    // the same
}

// process is one run of QEMU.
type process struct {
	pid   int
	ended chan struct{} // closed at the end
	err   error         // valid after ended
}

// New makes the disk of a machine; Boot starts it.
func New(cfg Config) (*VM, error) {
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 2048
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 2
	}
	if cfg.CPU == "" {
		cfg.CPU = "qemu64"
	}
	if cfg.MaxLife == 0 {
		cfg.MaxLife = 30 * time.Minute
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	image, err := filepath.Abs(cfg.Image)
	if err != nil {
		return nil, err
	}
	// A short path: socket addresses have 107 characters.
	dir, err := os.MkdirTemp("", "hvm-")
	if err != nil {
		return nil, err
	}
	v := &VM{cfg: cfg, dir: dir}
	args := []string{"create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, v.path("disk.qcow2")}
	if cfg.DiskGB > 0 {
		args = append(args, strconv.Itoa(cfg.DiskGB)+"G")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("create overlay of %s: %w: %s", image, err, out)
	}
	if err := v.addFirmware(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	v.timer = time.AfterFunc(cfg.MaxLife, func() {
		cfg.Logf("machine is %v old: killing it", cfg.MaxLife)
		v.Kill()
	})
	return v, nil
}

func (v *VM) path(name string) string { return filepath.Join(v.dir, name) }

// Boot starts QEMU. WaitReady tells when the guest answers.
func (v *VM) Boot(ctx context.Context) error {
	if v.running() != nil {
		return errors.New("boot: virtual machine is running")
	}
	for _, s := range []string{"agent.sock", "qmp.sock"} {
		if err := os.Remove(v.path(s)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	p, err := startProcess(v.command(), v.path("qemu.log"))
	if err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	v.cfg.Logf("QEMU started, process %d, files in %s", p.pid, v.dir)
	v.mu.Lock()
	v.proc = p
	v.mu.Unlock()
	l, err := dialLine(ctx, v.path("agent.sock"), p.ended)
	if err != nil {
		v.Kill()
		return fmt.Errorf("connect to agent line: %w; QEMU says: %s", err, v.qemuLog())
	}
	v.mu.Lock()
	v.line = l
	v.mu.Unlock()
	return nil
}

func (v *VM) command() *exec.Cmd {
	c := v.cfg
	net := "user,id=n0,restrict=on"
	for _, f := range c.Forwards {
		net += fmt.Sprintf(",guestfwd=tcp:%s-cmd:%s forward %s", f.Guest, c.Tools.Agent, f.Host)
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", c.CPU,
		"-m", strconv.Itoa(c.MemoryMB), "-smp", strconv.Itoa(c.CPUs), "-display", "none",
		"-drive", "if=virtio,format=qcow2,discard=unmap,file=" + v.path("disk.qcow2"),
		"-chardev", "file,id=console,append=on,path=" + v.path("console.log"), "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,server=on,wait=off,path=" + v.path("agent.sock"),
		"-device", "virtserialport,chardev=agent,name=" + portName,
		"-netdev", net, "-device", "virtio-net-pci,netdev=n0,romfile=",
		"-device", "virtio-rng-pci",
		"-qmp", "unix:" + v.path("qmp.sock") + ",server=on,wait=off",
	}
	return exec.Command("qemu-system-x86_64", slices.Concat(args, v.firmwareArgs(), c.Args)...)
}

// startProcess ties QEMU's life to a thread that lives as long as this process,
// since the kernel sends the parent-death signal when the starting thread ends.
func startProcess(cmd *exec.Cmd, logName string) (*process, error) {
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	return p, <-started
}

// running returns the current process, nil if there is none.
func (v *VM) running() *process {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.proc == nil {
		return nil
	}
	select {
	case <-v.proc.ended:
		return nil
	default:
		return v.proc
	}
}

func (v *VM) current() (*line, error) {
	if v.running() == nil {
		return nil, fmt.Errorf("%w; QEMU says: %s", ErrStopped, v.qemuLog())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.line == nil {
		return nil, ErrStopped
	}
	return v.line, nil
}

// WaitReady waits until the agent of a boot other than the ones seen so far
// answers.
func (v *VM) WaitReady(ctx context.Context) error {
	old := v.BootID()
	_, err := v.waitFor(ctx, func(st proto.Status) bool { return st.BootID != old })
	return err
}

func (v *VM) waitFor(ctx context.Context, accept func(proto.Status) bool) (proto.Status, error) {
	start := time.Now()
	l, err := v.current()
	if err != nil {
		return proto.Status{}, err
	}
	st, err := l.waitHello(ctx, accept)
	if err != nil {
		return st, fmt.Errorf("wait for the guest: %w; console ends with:\n%s", err, lastLines(v.Console(), 40))
	}
	v.mu.Lock()
	v.bootID, v.agent = st.BootID, st.Agent
	v.mu.Unlock()
	v.cfg.Logf("guest answers after %.1f s (up %.1f s, %.1f s of processor time since QEMU's start, network %s)",
		time.Since(start).Seconds(), st.Uptime, v.cpuSeconds(), st.Network)
	return st, nil
}

// BootID returns the guest's boot id as of the last WaitReady.
func (v *VM) BootID() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.bootID
}

// Reboot asks the guest to restart and waits until it answers again. It fails
// when the guest is still shutting down at ctx's end.
func (v *VM) Reboot(ctx context.Context) error {
	res, err := v.Run(ctx, proto.Command{Argv: []string{"systemctl", "--no-block", "reboot"}, Seconds: 60})
	// The agent may be gone before its answer.
	if err != nil && !errors.Is(err, ErrLineLost) {
		return fmt.Errorf("reboot: %w", err)
	}
	if res.Code != 0 {
		return fmt.Errorf("reboot: exit code %d: %s", res.Code, res.Stderr)
	}
	return v.WaitReady(ctx)
}

// SoftReboot runs a command that restarts the guest without its kernel, and waits for the
// agent of the system that follows. A command that fails is an error with what it said.
func (v *VM) SoftReboot(ctx context.Context, argv ...string) error {
	v.mu.Lock()
	boot, old := v.bootID, v.agent
	v.mu.Unlock()
	res, err := v.Run(ctx, proto.Command{Argv: argv, Seconds: 600})
	// The agent may be gone before its answer.
	if err != nil && !errors.Is(err, ErrLineLost) {
		return fmt.Errorf("soft reboot: %w", err)
	}
	if res.Code != 0 {
		return fmt.Errorf("soft reboot: exit code %d: %s", res.Code, res.Stderr)
	}
	st, err := v.waitFor(ctx, func(st proto.Status) bool { return st.BootID != boot || st.Agent != old })
	if err == nil && st.BootID != boot {
		err = errors.New("soft reboot: the kernel was started again")
	}
	return err
}

// Shutdown turns the guest off in order and waits for QEMU's end.
func (v *VM) Shutdown(ctx context.Context) error {
	p := v.running()
	if p == nil {
		return ErrStopped
	}
	if _, err := v.Run(ctx, proto.Command{Argv: []string{"systemctl", "--no-block", "poweroff"}, Seconds: 60}); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("shut down: %w; console ends with:\n%s", ctx.Err(), lastLines(v.Console(), 40))
	}
}

// Kill stops QEMU at once, like a power cut that spares what the disk's cache
// holds. Boot may follow.
func (v *VM) Kill() {
	p := v.running()
	if p == nil {
		return
	}
	// The whole group: forwards are children of QEMU.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.ended
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.line != nil {
		v.line.close()
		v.line = nil
	}
}

// Close kills the machine and deletes its disk and logs.
func (v *VM) Close() error {
	v.timer.Stop()
	v.Kill()
	return os.RemoveAll(v.dir)
}

// Disk returns the path of the overlay (qcow2), to look into after Kill.
func (v *VM) Disk() string { return v.path("disk.qcow2") }

// clockTicks is the unit of times in /proc, fixed at 1/100 s for user space.
const clockTicks = 100

// cpuSeconds returns the processor time that QEMU has used, the measure of a
// boot that does not depend on what else the machine does.
func (v *VM) cpuSeconds() float64 {
	p := v.running()
	if p == nil {
		return 0
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0
	}
	// After the name in parentheses: state is field 3, utime 14, stime 15.
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return (user + system) / clockTicks
}

var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>78cM])|\r`)

// Console returns what the guest wrote to its console in all boots, without
// terminal escapes.
func (v *VM) Console() string {
	data, err := os.ReadFile(v.path("console.log"))
	if err != nil {
		return err.Error()
	}
	return escapes.ReplaceAllString(string(data), "")
}

// KeepLogs copies what the guest wrote to its serial console in all boots
// (console.log) and QEMU's own messages (qemu.log) into the folder dir.
func (v *VM) KeepLogs(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"console.log", "qemu.log"} {
		data, err := os.ReadFile(v.path(name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep logs: %w", err)
		}
	}
	return nil
}

func (v *VM) qemuLog() string {
	data, err := os.ReadFile(v.path("qemu.log"))
	if err != nil {
		return err.Error()
	}
	return lastLines(string(data), 10)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
