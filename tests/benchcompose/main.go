// SPDX-License-Identifier: Apache-2.0

// Command benchcompose composes the test distribution with this project's
// program and with `dnf --installroot` and `ostree commit`, in turn, from the
// same local repository into an archive repository, and prints times, memory and
// ratios. Scriptlets and the initramfs are left out on both sides; a last run
// with both says where the time of a real compose goes. See docs/bench.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/measure"
)

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "folder to work in, on the disk to measure (default: build/lab/benchcompose)")
	flag.StringVar(&o.distro, "distro", "", "the built test distribution to use as it is (default: build/lab/distro, brought up to date)")
	flag.StringVar(&o.program, "program", "", "the composer (default: build/compose-server)")
	flag.IntVar(&o.rounds, "rounds", 1, "runs of each work; the fastest of each program counts")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder")
	flag.BoolVar(&o.profile, "profile", true, "end with a compose with scriptlets and initramfs")
	flag.BoolVar(&o.check, "check", false, "fail where a limit is not met")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "benchcompose:", err)
		os.Exit(1)
	}
}

type options struct {
	dir, distro, program string
	rounds               int
	keep, profile, check bool
}

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("composing needs root")
	}
	l, err := lab.New(os.Stderr)
	if err != nil {
		return err
	}
	if o.distro == "" {
		if err := l.BuildDistro(ctx); err != nil {
			return err
		}
		o.distro = l.Distro
	}
	if o.dir == "" {
		o.dir = filepath.Join(l.Dir, "benchcompose")
	}
	if o.program == "" {
		o.program = l.ComposeServer()
	}
	b := &bench{options: o, treefile: filepath.Join(l.Root, "tests", "testdistro", "treefile.toml")}
	for _, p := range []struct {
		path *string
		name string
	}{{&b.dnf, "dnf"}, {&b.ostree, "ostree"}, {&b.createrepo, "createrepo_c"}} {
		if *p.path, err = measure.Need(p.name); err != nil {
			return err
		}
	}
	if err := removeAll(o.dir); err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, removeAll(o.dir)) }()
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	fmt.Printf("%d processors; %d packages in the repository.\n\n", runtime.NumCPU(), b.count)
	return b.all(ctx)
}

// removeAll removes a folder of an earlier run; a tree may hold anything.
func removeAll(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	parent, err := fsx.OpenDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.RemoveAll(filepath.Base(name))
}
