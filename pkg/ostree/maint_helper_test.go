// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func loadCommit(t *testing.T, r *Repo, c Checksum) Commit {
	t.Helper()
	commit, err := r.LoadCommit(c)
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

// signNothing gives empty detached metadata and tells that it was asked.
func signNothing(called *bool) func(context.Context, []byte) (gvariant.Dict, error) {
	return func(context.Context, []byte) (d gvariant.Dict, err error) {
		*called = true
		d.Set("ostree.sign.dummy", gvariant.ByteSlices([][]byte{[]byte("x")}))
		return d, nil
	}
}

// copyRepo copies a repository's files, attributes aside, and opens the copy.
func copyRepo(t *testing.T, r *Repo) *Repo {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "-a", r.Dir().Path(), path)
	again, err := Open(testutil.OpenDir(t, path), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

// objectFile gives the path of a stored object.
func objectFile(r *Repo, n ObjectName) string {
	return filepath.Join(r.Dir().Path(), "objects", n.loosePath(r.mode))
}

// damage changes a byte near the end of an object in place; the very last ones of a
// compressed stream may be padding.
func damage(t *testing.T, r *Repo, n ObjectName) {
	t.Helper()
	data, err := os.ReadFile(objectFile(r, n))
	if err != nil {
		t.Fatal(err)
	}
	data[max(0, len(data)-3)] ^= 0x20
	if err := os.WriteFile(objectFile(r, n), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func removeObject(t *testing.T, r *Repo, n ObjectName) {
	t.Helper()
	if err := os.Remove(objectFile(r, n)); err != nil {
		t.Fatal(err)
	}
}

// runFails gives the output of a program that may fail.
func runFails(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}
