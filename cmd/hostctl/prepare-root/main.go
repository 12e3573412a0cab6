// SPDX-License-Identifier: Apache-2.0

// Hostctl-prepare-root makes the booted deployment the root to switch to. It
// runs in the initramfs:
//
//	hostctl-prepare-root [-n] [MOUNTPOINT [ARGUMENTS]]
//
// MOUNTPOINT is where the physical root is mounted, /sysroot by default; ARGUMENTS
// is a text in place of that of /proc/cmdline. -n prints the plan instead of
// carrying it out.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
)

// Where the initramfs keeps the vendor's configuration and the override.
const (
	vendorConfig   = "/usr/lib/ostree/prepare-root.conf"
	overrideConfig = "/etc/ostree/prepare-root.conf"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hostctl-prepare-root: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var places prepareroot.Places
	var cmdline *string
	dryRun := false
	for _, arg := range args {
		switch {
		case arg == "-n":
			dryRun = true
		case len(arg) > 0 && arg[0] == '/' && places.Root == "":
			places.Root = arg
		case places.Root != "" && cmdline == nil:
			cmdline = &arg
		default:
			return fmt.Errorf("unexpected argument %q; usage: hostctl-prepare-root [-n] [MOUNTPOINT [ARGUMENTS]]", arg)
		}
	}
	ops, err := plan(places, cmdline)
	if err != nil {
		return err
	}
	show := func(op prepareroot.Op) { fmt.Println(op) }
	if !dryRun {
		return prepareroot.Execute(ops, show)
	}
	for _, op := range ops {
		show(op)
	}
	return nil
}

func plan(places prepareroot.Places, cmdline *string) ([]prepareroot.Op, error) {
	if cmdline == nil {
		text, err := os.ReadFile("/proc/cmdline")
		if err != nil {
			return nil, fmt.Errorf("read kernel arguments: %w", err)
		}
		s := string(text)
		cmdline = &s
	}
	vendor, err := readOptional(vendorConfig)
	if err != nil {
		return nil, err
	}
	override, err := readOptional(overrideConfig)
	if err != nil {
		return nil, err
	}
	config, err := prepareroot.ParseConfig(vendor, override)
	if err != nil {
		return nil, err
	}
	state, err := prepareroot.ReadState(prepareroot.Inputs{Cmdline: *cmdline, Config: config, Places: places})
	if err != nil {
		return nil, err
	}
	return prepareroot.Plan(state)
}

func readOptional(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}
