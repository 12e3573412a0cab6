// SPDX-License-Identifier: Apache-2.0

// Command testdistro builds the distribution that the tests compose, install
// and upgrade: real RPM repositories out of Debian packages.
//
//	go run ./tests/testdistro build --out DIR [--cache DIR] [--hostctl-rpm-root DIR --hostctl-version V] [--backports SOURCE,...] [--packages NAME,...]
//	go run ./tests/testdistro list
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/distro"
)

//go:embed treefile.toml
var treefileText string

//go:embed testdistro.repo.tmpl
var repoTemplate string

// Exit codes: 2 for wrong usage, 3 when the machine lacks something that the
// user has to install or configure.
const (
	exitFailure = 1
	exitUsage   = 2
	exitMachine = 3
)

var errUsage = errors.New("usage: testdistro build --out DIR [--cache DIR] [--jobs N] [--hostctl-rpm-root DIR] [--hostctl-version V] [--backports SOURCE,...] [--packages NAME,...] | testdistro list")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	switch {
	case errors.Is(err, errUsage):
		os.Exit(exitUsage)
	case errors.Is(err, distro.ErrMissingTool), errors.Is(err, debian.ErrNoIndex):
		os.Exit(exitMachine)
	}
	os.Exit(exitFailure)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] {
	case "build":
		return build(ctx, args[1:], stderr)
	case "list":
		return list(ctx, stdout)
	}
	return errUsage
}

func build(ctx context.Context, args []string, stderr io.Writer) error {
	var o distro.Options
	fs := flag.NewFlagSet("build", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.Out, "out", "", "folder for the repositories v1 and v2")
	fs.StringVar(&o.Cache, "cache", "", "folder for downloads and built packages")
	fs.StringVar(&o.HostctlRoot, "hostctl-rpm-root", "", "install root to ship as package hostctl")
	fs.StringVar(&o.HostctlVersion, "hostctl-version", "", "version of package hostctl")
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = strings.Split(s, ","); return nil }
	}
	fs.Func("backports", "source packages (commas) to take from the archive's backports", list(&o.Backports))
	fs.Func("packages", "packages (commas) to have beside those of every build", list(&o.Packages))
	fs.IntVar(&o.Jobs, "jobs", 2, "builds at the same time")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("%w (%w)", errUsage, err)
	}
	if o.Out == "" || fs.NArg() > 0 {
		return errUsage
	}
	var err error
	if o.Cache == "" {
		o.Cache, err = defaultCache()
	}
	if err == nil {
		o.Cache, err = filepath.Abs(o.Cache)
	}
	if err == nil {
		o.Out, err = filepath.Abs(o.Out)
	}
	if err != nil {
		return err
	}
	o.Treefile, o.RepoTemplate = treefileText, repoTemplate
	start := time.Now()
	o.Log = func(format string, args ...any) {
		fmt.Fprintf(stderr, "[%5.1f s] %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	return distro.Build(ctx, o)
}

// defaultCache follows the project's variable, then the XDG one.
func defaultCache() (string, error) {
	if dir := os.Getenv("HOSTCTL_CACHE"); dir != "" {
		return filepath.Join(dir, "testdistro"), nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w", err)
	}
	return filepath.Join(base, "hostctl", "testdistro"), nil
}

// list prints the archive packages of both states: name, v1, v2.
func list(ctx context.Context, stdout io.Writer) error {
	plan, err := distro.MakePlan(ctx, distro.Options{})
	if err != nil {
		return err
	}
	for _, st := range plan.States {
		for _, p := range st.Packages {
			fmt.Fprintf(stdout, "%s\t%s\t%s\t%s\n", st.Name(), p.Name, p.Version, p.Arch)
		}
	}
	return nil
}
