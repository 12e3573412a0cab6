// SPDX-License-Identifier: Apache-2.0

// Command demo runs the project's main path once and shows every command and
// its answer: packages are composed, a machine is installed, booted, upgraded
// over HTTP and rolled back. With --quick a folder stands in for the machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/hostctl/hostctl/tests/lab"
)

func main() {
	quick := flag.Bool("quick", false, "use a folder instead of a virtual machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	start := time.Now()
	if err := run(ctx, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Printf("Done in %d s.\n", int(time.Since(start).Seconds()))
}

func run(ctx context.Context, quick bool) error {
	l, err := lab.New(os.Stdout)
	if err != nil {
		return err
	}
	say("Packages: a signed yum repository in two states, v1 and v2 (v2 has updates)")
	if err := l.Prepare(ctx); err != nil {
		return err
	}
	say("The repository has a commit for each state")
	if err := l.Run(ctx, "ostree", "--repo="+l.Repo, "log", lab.Ref); err != nil {
		return err
	}
	if quick {
		return runFolder(ctx, l)
	}
	return runMachine(ctx, l)
}

// say prints a heading of the tutorial.
func say(format string, args ...any) {
	fmt.Printf("\n### "+format+"\n\n", args...)
}
