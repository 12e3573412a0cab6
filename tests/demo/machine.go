// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/vm"
)

// bootLimit bounds one boot under software emulation.
const bootLimit = 8 * time.Minute

func runMachine(ctx context.Context, l *lab.Lab) error {
	say("Serve the repository")
	srv, err := l.Serve(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	say("Install v1 into a disk image")
	image, tools, err := l.Image(ctx)
	if err != nil {
		return err
	}
	defer os.Remove(image)
	m, err := vm.New(vm.Config{Image: image, Tools: tools, Forwards: []vm.Forward{{Guest: "10.0.2.100:80", Host: srv.Addr}}})
	if err != nil {
		return err
	}
	defer m.Close()
	g := guest{m, l}
	say("Boot it (software emulation: a minute or two)")
	if err := g.boot(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{g.look, g.edit, g.upgrade, g.afterUpgrade, g.rollback} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("%w\n--- console of the machine:\n%s", err, tail(m.Console(), 60))
		}
	}
	return m.Shutdown(ctx)
}

// guest shows what is done inside the machine.
type guest struct {
	m *vm.VM
	l *lab.Lab
}

func (g guest) boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	start := time.Now()
	if err := g.m.Boot(ctx); err != nil {
		return err
	}
	if err := g.m.WaitReady(ctx); err != nil {
		return fmt.Errorf("%w\n--- console of the machine:\n%s", err, tail(g.m.Console(), 60))
	}
	fmt.Printf("# up after %.0f s\n", time.Since(start).Seconds())
	return nil
}

// sh runs one command in the machine and shows it with its answer.
func (g guest) sh(ctx context.Context, script string) error {
	fmt.Printf("machine# %s\n", script)
	out, err := g.m.Sh(ctx, script)
	fmt.Println(strings.TrimRight(out, "\n"))
	fmt.Println()
	return err
}

func (g guest) all(ctx context.Context, scripts ...string) error {
	for _, s := range scripts {
		if err := g.sh(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (g guest) reboot(ctx context.Context) error {
	fmt.Println("machine# systemctl reboot")
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	start := time.Now()
	if err := g.m.Reboot(ctx); err != nil {
		return err
	}
	fmt.Printf("# up again after %.0f s\n\n", time.Since(start).Seconds())
	return nil
}

func (g guest) look(ctx context.Context) error {
	say("The machine runs v1; /usr is read-only")
	return g.all(ctx, "hostctl status", "grep -E 'NAME|VERSION' /etc/os-release; uname -r",
		"touch /usr/bin/x 2>&1 || true", "findmnt --list -t ext4 -o TARGET,OPTIONS")
}

func (g guest) edit(ctx context.Context) error {
	say("Local state: edit, add and remove files in /etc, and write to /var")
	return g.all(ctx, "echo '# my own line' >> /etc/"+g.l.EditFile, "echo hello > /etc/added-by-me", "rm /etc/"+g.l.RemoveFile,
		"echo precious > /var/lib/precious")
}

func (g guest) upgrade(ctx context.Context) error {
	say("Upgrade to v2 over HTTP")
	if err := g.all(ctx, "hostctl upgrade --check", "hostctl upgrade 2>&1", "hostctl status"); err != nil {
		return err
	}
	return g.reboot(ctx)
}

func (g guest) afterUpgrade(ctx context.Context) error {
	say("v2 runs; the edits are there, unedited defaults are new, /var is as it was")
	return g.all(ctx, "hostctl status", "grep -E 'NAME|VERSION' /etc/os-release; uname -r", "tail -1 /etc/"+g.l.EditFile+"; cat /etc/added-by-me; ls /etc/"+g.l.RemoveFile+" 2>&1 || true",
		"cat /var/lib/precious")
}

func (g guest) rollback(ctx context.Context) error {
	say("Roll back to v1")
	if err := g.all(ctx, "hostctl rollback"); err != nil {
		return err
	}
	if err := g.reboot(ctx); err != nil {
		return err
	}
	return g.all(ctx, "hostctl status", "uname -r", "cat /var/lib/precious")
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
