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
	var tree lab.HostTree
	flag.StringVar(&tree.Treefile, "treefile", "", "compose this treefile instead of the test distribution (default on Fedora and CentOS Stream: the one in dist/treefiles)")
	flag.StringVar(&tree.Repos, "repos", "/etc/yum.repos.d", "with --treefile: folder of its *.repo files")
	flag.StringVar(&tree.Add, "add", "bc", "with --treefile: package that the update adds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	start := time.Now()
	if err := run(ctx, *quick, tree); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Printf("Done in %d s.\n", int(time.Since(start).Seconds()))
}

func run(ctx context.Context, quick bool, tree lab.HostTree) error {
	l, err := lab.New(os.Stdout)
	if err != nil {
		return err
	}
	found := tree.Treefile != ""
	if !found {
		tree, found = l.DetectHost()
	}
	if found {
		l.UseHost(tree)
		say("Packages: the repositories in %s; v2 is v1 and the package %s", tree.Repos, tree.Add)
	} else {
		say("Packages: a signed yum repository in two states, v1 and v2 (v2 has updates)")
	}
	if err := l.Prepare(ctx); err != nil {
		return err
	}
	say("The repository has a commit for each state")
	if err := l.Run(ctx, "ostree", "--repo="+l.Repo, "log", l.Ref); err != nil {
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
