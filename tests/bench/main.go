// SPDX-License-Identifier: Apache-2.0

// Command bench runs the same repository work with libostree's `ostree` and with
// this project's program, in turn, on the same trees and the same disk, and
// prints the ratio of the medians. The programs are called with the same
// arguments. See docs/bench.md for how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/tests/lab"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "runs of each program per work")
	flag.StringVar(&o.only, "only", "", "regular expression: works to do")
	flag.StringVar(&o.peer, "peer", "ostree", "the program to compare with")
	flag.StringVar(&o.dir, "dir", "", "folder to work in, on the disk to measure (default: build/lab/bench)")
	flag.StringVar(&o.growth, "growth", "", "comma-separated numbers of files: measure made-up trees of these sizes instead, such as 10000,50000,200000")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder")
	flag.StringVar(&o.serve, "serve", "", "only serve this folder over HTTP until standard input ends: what the pulls use")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	do := run
	if o.serve != "" {
		do = func(context.Context, options) error { return serve(o.serve) }
	}
	if err := do(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds                  int
	only, peer, dir, growth string
	serve                   string
	keep                    bool
}

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("bare repositories and checkouts with owners need root")
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	l, err := lab.New(os.Stderr)
	if err != nil {
		return err
	}
	if o.dir == "" {
		o.dir = filepath.Join(l.Dir, "bench")
	}
	b, err := newBench(ctx, l, o, only)
	if err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, removeAll(o.dir)) }()
	}
	if o.growth != "" {
		return b.growth(ctx, o.growth)
	}
	return b.trees(ctx)
}

// removeAll removes what an earlier run left, which may hold immutable files.
func removeAll(name string) error {
	parent, err := fsx.OpenDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.RemoveAll(filepath.Base(name))
}

// newBench finds both programs and prepares the folder.
func newBench(ctx context.Context, l *lab.Lab, o options, only *regexp.Regexp) (*bench, error) {
	peer, err := exec.LookPath(o.peer)
	if err != nil {
		return nil, fmt.Errorf("find the peer: %w", err)
	}
	if err := removeAll(o.dir); err != nil {
		return nil, err
	}
	bin := filepath.Join(o.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	ours := filepath.Join(bin, "ostree")
	if err := os.Symlink(l.Hostctl(), ours); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, peer, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", peer, err)
	}
	version := regexp.MustCompile(`Version: '?([^'\n]+)`).FindStringSubmatch(string(out))
	if version == nil {
		return nil, fmt.Errorf("%s --version says no version", peer)
	}
	return &bench{lab: l, dir: o.dir, rounds: o.rounds, only: only, programs: [2]string{ours, peer}, peer: "libostree " + version[1]}, nil
}
