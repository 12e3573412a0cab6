// SPDX-License-Identifier: Apache-2.0

// Command fuzz runs the fuzz targets of packages, one after the other, and prints how
// much each did. It ends with the first that finds something.
//
//	go run ./tests/fuzz [-time 10m] [PACKAGES]
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"text/tabwriter"
)

func main() {
	each := flag.String("time", "10m", "how long, or with a suffix x how often, each target runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./pkg/ostree/..."}
	}
	if err := run(ctx, *each, packages); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// target is a fuzz function and what it did.
type target struct {
	pkg, name string
	stats     stats
	done      bool
}

func run(ctx context.Context, each string, packages []string) error {
	targets, err := list(ctx, packages)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("no targets in " + strings.Join(packages, " "))
	}
	for i := range targets {
		if err = targets[i].fuzz(ctx, each); err != nil {
			break
		}
	}
	return errors.Join(err, table(os.Stdout, targets))
}

// list finds the targets: go test names those of a package, then the package.
func list(ctx context.Context, packages []string) ([]target, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run=^$", "-list=^Fuzz"}, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list targets: %w", err)
	}
	return parseList(string(out)), nil
}

func parseList(out string) []target {
	var all []target
	var names []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) == 1 && strings.HasPrefix(f[0], "Fuzz"):
			names = append(names, f[0])
		case len(f) >= 2 && f[0] == "ok":
			for _, n := range names {
				all = append(all, target{pkg: f[1], name: n})
			}
			names = nil
		}
	}
	return all
}

func (t *target) fuzz(ctx context.Context, each string) error {
	fmt.Fprintln(os.Stderr, t.pkg, t.name)
	// Minimizing a single input may take a minute otherwise.
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+each, "-fuzzminimizetime=10x", t.pkg)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(os.Stderr, lines.Text())
		t.stats.read(lines.Text())
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return fmt.Errorf("%s %s: %w", t.pkg, t.name, err)
	}
	t.done = true
	return nil
}

// stats are the counts of a progress line:
//
//	fuzz: elapsed: 3s, execs: 325017 (108336/sec), new interesting: 11 (total: 202)
type stats struct{ execs, fresh, total int }

func (s *stats) read(line string) {
	_, rest, ok := strings.Cut(line, ", execs: ")
	if !ok {
		return
	}
	var rate, execs int
	if n, _ := fmt.Sscanf(rest, "%d (%d/sec), new interesting: %d (total: %d)", &execs, &rate, &s.fresh, &s.total); n > 0 {
		s.execs = execs
	}
}

func table(out io.Writer, targets []target) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "package\ttarget\texecutions\tnew inputs\tall inputs")
	for _, t := range targets {
		if !t.done {
			fmt.Fprintf(w, "%s\t%s\tnot finished\n", t.pkg, t.name)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", t.pkg, t.name, t.stats.execs, t.stats.fresh, t.stats.total)
	}
	return w.Flush()
}
