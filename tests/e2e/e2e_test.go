// SPDX-License-Identifier: Apache-2.0

// Package e2e checks the whole path on the test distribution: the composed tree
// against ostree and rpm, what bad input does, a machine that upgrades, rolls
// back and is killed in the middle, and a tree with packages of every kind. It
// needs root, the built programs and HOSTCTL_E2E, which names the parts to run:
// tree, machine, crash, crash-matrix, trial, matrix, features (commas).
package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/tests/lab"
)

// need skips a test whose part was not asked for; the make targets ask.
func need(t *testing.T, part string) {
	t.Helper()
	if !slices.Contains(strings.Split(os.Getenv("HOSTCTL_E2E"), ","), part) {
		t.Skipf("part %q was not asked for: HOSTCTL_E2E=%s", part, part)
	}
	if os.Geteuid() != 0 {
		t.Fatal("composing needs root")
	}
}

// prepared is the lab, made once for all tests of a run.
var prepared = sync.OnceValues(func() (*lab.Lab, error) {
	l, err := lab.New(os.Stderr)
	if err != nil {
		return nil, err
	}
	return l, l.Prepare(context.Background())
})

func theLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tool runs a program that must succeed and returns its standard output.
func tool(t *testing.T, argv ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := lab.Command(t.Context(), argv...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, stderr.String())
	}
	return string(out)
}

// fails runs a program that must fail and returns its exit status and the last
// line of standard error.
func fails(t *testing.T, argv ...string) (status int, line string) {
	t.Helper()
	var stderr strings.Builder
	cmd := lab.Command(t.Context(), argv...)
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil {
		t.Fatalf("%s succeeded", strings.Join(argv, " "))
	}
	if _, ok := err.(*exec.ExitError); !ok {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	errors := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "error: ") {
			errors++
		}
	}
	if errors != 1 {
		t.Errorf("%s: %d error lines, want one:\n%s", strings.Join(argv, " "), errors, stderr.String())
	}
	return cmd.ProcessState.ExitCode(), lines[len(lines)-1]
}

// scratch is a folder on the lab's filesystem, so that trees can be hard-linked.
func scratch(t *testing.T, l *lab.Lab) string {
	t.Helper()
	dir, err := os.MkdirTemp(l.Dir, "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Deployments are immutable folders.
		_ = exec.Command("sh", "-c", `chattr -i "$1"/*/ostree/deploy/*/deploy/* 2>/dev/null`, "sh", dir).Run()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
