// SPDX-License-Identifier: Apache-2.0

// Command interop runs the installed test suite of libostree (Debian's package
// ostree-tests) twice, with the ostree program of the system and with hostctl in
// its place, and prints a table. It fails if a script does worse with hostctl.
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
	"runtime"
	"strings"
	"syscall"
	"time"
)

type options struct {
	suite   string
	program string
	only    string
	logs    string
	jobs    int
	timeout time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.suite, "suite", "/usr/libexec/installed-tests/libostree", "folder of the test scripts")
	flag.StringVar(&o.program, "program", "", "hostctl program to test; default: built from ./cmd/hostctl")
	flag.StringVar(&o.only, "only", "", "run only scripts whose name matches `PATTERN` (test-pull-*.sh) or contains it")
	flag.StringVar(&o.logs, "logs", "", "keep the output of every run in this `FOLDER`")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "scripts to run at a time")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "time limit for one run of a script")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

// required are the programs that the scripts use; without one of them they
// skip what they should check, or fail for no fault of the program under test.
var required = []string{"bash", "ostree", "gjs", "gpg", "openssl", "python3", "getfattr", "setfattr", "tar", "xz"}

func run(ctx context.Context, o options) error {
	for _, name := range required {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("the scripts need %s: %w", name, err)
		}
	}
	work, err := os.MkdirTemp(scratch(), "interop")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	bin, err := ourBin(ctx, work, o.program)
	if err != nil {
		return err
	}
	scripts, left, err := findScripts(o.suite, o.only)
	if err != nil {
		return err
	}
	start := time.Now()
	worse := runAll(ctx, o, work, bin, scripts)
	printLeftOut(left)
	fmt.Printf("\n%d scripts, %s.\n", len(scripts), time.Since(start).Round(time.Second))
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(worse) > 0 {
		return fmt.Errorf("%d scripts do worse with hostctl: %s", len(worse), strings.Join(worse, " "))
	}
	return nil
}

// scratch is a folder in memory if there is a fitting one: the scripts sync and
// delete a lot. "" stands for the usual place.
func scratch() string {
	const dir, room = "/dev/shm", 2 << 30
	if os.Getenv("TMPDIR") != "" {
		return ""
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil || st.Bavail*uint64(st.Bsize) < room {
		return ""
	}
	f, err := os.CreateTemp(dir, "interop")
	if err != nil {
		return ""
	}
	defer os.Remove(f.Name())
	defer f.Close()
	// Older kernels have no such attributes in memory; bare-user repositories need them.
	if syscall.Setxattr(f.Name(), "user.interop", []byte("x"), 0) != nil {
		return ""
	}
	return dir
}

// ourBin makes a folder in which hostctl is called ostree.
func ourBin(ctx context.Context, work, program string) (string, error) {
	if program == "" {
		program = filepath.Join(work, "hostctl")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/hostctl")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("build hostctl: %w", err)
		}
	}
	program, err := filepath.Abs(program)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err != nil {
		return "", err
	}
	bin := filepath.Join(work, "bin")
	return bin, errors.Join(os.Mkdir(bin, 0o755), os.Symlink(program, filepath.Join(bin, "ostree")))
}

func runAll(ctx context.Context, o options, work, bin string, scripts []string) (worse []string) {
	path := os.Getenv("PATH")
	type pair struct{ real, ours result }
	results := make([]chan pair, len(scripts))
	slots := make(chan struct{}, max(o.jobs, 1))
	for i, name := range scripts {
		results[i] = make(chan pair, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := runScript(ctx, o, filepath.Join(work, fmt.Sprintf("%dr", i)), name, "real", path)
			u := runScript(ctx, o, filepath.Join(work, fmt.Sprintf("%du", i)), name, "ours", bin+":"+path)
			results[i] <- pair{r, u}
		}()
	}
	fmt.Printf("%-44s %-37s %s\n", "script", "real", "ours")
	for i, name := range scripts {
		p := <-results[i]
		mark := ""
		if p.ours.worseThan(p.real) {
			worse = append(worse, name)
			mark = " <-- WORSE\n" + p.ours.tail()
		}
		fmt.Printf("%-44s %-37s %s%s\n", name, p.real, p.ours, mark)
	}
	return worse
}
