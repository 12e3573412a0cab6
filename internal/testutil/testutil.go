// SPDX-License-Identifier: Apache-2.0

// Package testutil holds what the tests of many packages begin with: the
// programs, the rights and the inputs that a machine may not have, and the few
// steps that end a test on an error. Only tests may import it; tests/arch_test.go
// sees to that.
package testutil

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Tool gives the path of a program that nobody here wrote. Without it the test
// is skipped, but fails where CI=true promises that every peer is there.
func Tool(t testing.TB, name string) string {
	t.Helper()
	// Users other than root often have no sbin in their PATH.
	for _, file := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if path, err := exec.LookPath(file); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: run dist/setup.sh test", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// Root skips a test that needs the rights of root; why is the reason given.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(why)
	}
}

// Corpus gives the path of a real input below the folder HOSTCTL_CORPUS. Without
// the variable the test is skipped; an input that is missing there is an error.
func Corpus(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("HOSTCTL_CORPUS")
	if root == "" {
		t.Skip("HOSTCTL_CORPUS is not set")
	}
	path := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Run runs a program, which must succeed, and gives what it wrote to both
// outputs without the space around it.
func Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Killed tells whether the error of a program says that SIGKILL ended it.
func Killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// OpenDir opens a directory until the end of the test.
func OpenDir(t testing.TB, path string) *fsx.Dir {
	t.Helper()
	d, err := fsx.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// InMemory runs the tests of a package, for its TestMain, with scratch folders in
// memory where that is possible and TMPDIR does not say otherwise: they make
// thousands of files, and libostree's tool syncs and freezes the filesystem it
// writes to. It gives the status to exit with.
func InMemory(m *testing.M) int {
	if os.Getenv("TMPDIR") != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("/dev/shm", "hostctl-test-")
	if err != nil {
		return m.Run()
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Setenv("TMPDIR", dir)
	return m.Run()
}
