// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

var allModes = []Mode{ModeBare, ModeBareUser, ModeBareUserOnly, ModeArchive}

func mustSum(t *testing.T, s string) Checksum {
	t.Helper()
	c, err := ParseChecksum(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func createRepo(t *testing.T, path string, mode Mode) *Repo {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := Create(testutil.OpenDir(t, path), mode, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func newTestRepo(t *testing.T, mode Mode) *Repo {
	t.Helper()
	return createRepo(t, filepath.Join(t.TempDir(), "repo"), mode)
}

func needRoot(t *testing.T) {
	t.Helper()
	testutil.Root(t, "needs root: owners and attributes of a bare repository")
}

// run executes a program and gives its trimmed standard output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func repoPath(r *Repo) string { return "--repo=" + r.Dir().Path() }

func sha(data []byte) Checksum { return sha256.Sum256(data) }
