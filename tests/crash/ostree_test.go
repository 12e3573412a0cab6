// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// program builds hostctl and gives it under the name ostree.
func program(t testing.TB) string {
	t.Helper()
	testutil.Tool(t, "strace")
	testutil.Tool(t, "ostree")
	bin := filepath.Join(t.TempDir(), "ostree")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/hostctl")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build hostctl: %v\n%s", err, out)
	}
	return bin
}

// trees writes two versions of a tree that share some files.
func trees(t testing.TB, dir string) (v1, v2 string) {
	t.Helper()
	v1, v2 = filepath.Join(dir, "v1"), filepath.Join(dir, "v2")
	for i, root := range []string{v1, v2} {
		for name, data := range map[string]string{"usr/bin/tool": fmt.Sprint("tool ", i), "usr/lib/same": "same", "usr/share/empty": "",
			fmt.Sprintf("usr/share/only-%d", i): strings.Repeat("only ", 2000)} {
			p := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("bin/tool", filepath.Join(root, "usr/link")); err != nil {
			t.Fatal(err)
		}
	}
	return v1, v2
}

// repo makes a repository with v1, and gives the checksum that ref has.
func newRepo(t testing.TB, dir, mode, tree string) string {
	t.Helper()
	testutil.Run(t, "ostree", "init", "--repo="+dir, "--mode="+mode)
	if tree == "" {
		return ""
	}
	return testutil.Run(t, "ostree", "commit", "--repo="+dir, "--branch=main", "--tree=dir="+tree, "--no-xattrs")
}

// problem tells what is wrong with a repository after a crash: a ref that is not
// one of those allowed, or a commit or object that is not whole.
// The object called damaged may be damaged; with partial refs may lead to commits that
// are marked as such.
func problem(ctx context.Context, dir string, allowed map[string][]string, damaged string, partial bool) error {
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	r, err := ostree.Open(d, ostree.Options{DisableFsync: true})
	if err != nil {
		return err
	}
	defer r.Close()
	for ref, sums := range allowed {
		got := ""
		if c, err := r.ReadRef(ref); err == nil {
			got = c.String()
		}
		ok := false
		for _, s := range sums {
			ok = ok || got == s
		}
		if !ok {
			return fmt.Errorf("ref %s is %q, want one of %q", ref, got, sums)
		}
	}
	refs, err := r.Refs("")
	if err != nil {
		return err
	}
	for ref, c := range refs {
		if marked, err := r.CommitPartial(c); err != nil || marked && !partial {
			return fmt.Errorf("ref %s leads to a commit marked partial: %v", ref, err)
		}
	}
	found, err := r.Fsck(ctx, ostree.FsckOptions{})
	if err != nil {
		return err
	}
	for _, f := range found.Findings {
		if f.Object.Checksum.String() != damaged {
			return fmt.Errorf("fsck: %v", found.Findings)
		}
	}
	return nil
}

// scenario is one operation on a repository.
type scenario struct {
	argv    []string
	allowed map[string][]string // checksums that refs may have, "" for none
	final   map[string]string   // and those that they have in the end
	again   bool                // the operation succeeds after every crash
	damaged string              // object that is damaged until the end
	partial bool                // commits may be marked partial, until the end
	marked  bool                // they are in the end
	// onlyKilled: the operation also changes what is outside of the repository.
	onlyKilled bool
}

// check crashes the operation everywhere and fails the test if it does harm.
func (s scenario) check(t *testing.T, root string) {
	t.Helper()
	states, err := s.enumerate(t, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states", states)
	if states < 10 {
		t.Errorf("only %d states: the recording misses something", states)
	}
}

func (s scenario) enumerate(t *testing.T, root string) (states int, err error) {
	t.Helper()
	rec, err := Record(root, s.argv...)
	if err != nil {
		return 0, err
	}
	// The operation repeats with the folder at the same place.
	if err := os.Rename(root, root+".done"); err != nil {
		return 0, err
	}
	err = rec.States(func(st State) error {
		for _, u := range st.Unsynced {
			if st.After == "the end" && (strings.HasPrefix(u, "refs") || strings.HasPrefix(u, "objects")) {
				return fmt.Errorf("a power cut could undo what is done: %s", u)
			}
		}
		for _, powerCut := range []bool{true, false} {
			states++
			if err := st.Write(root, powerCut); err != nil {
				return err
			}
			if err := s.one(t, root, st); err != nil {
				return fmt.Errorf("power cut %v: %w", powerCut, err)
			}
			if err := os.RemoveAll(root); err != nil {
				return err
			}
		}
		return nil
	})
	return states, err
}

func (s scenario) one(t *testing.T, root string, st State) error {
	if err := problem(t.Context(), root, s.allowed, s.damaged, s.partial); err != nil {
		return err
	}
	if st.After == "the end" {
		return s.finished(t, root)
	}
	if !s.again || st.Index%4 != 0 {
		return nil
	}
	if out, err := exec.Command(s.argv[0], s.argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("again: %w\n%s", err, out)
	}
	if err := s.finished(t, root); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	return nil
}

// finished tells what is wrong after the operation ended.
func (s scenario) finished(t *testing.T, root string) error {
	done := map[string][]string{}
	for ref, sum := range s.final {
		done[ref] = []string{sum}
	}
	return problem(t.Context(), root, done, "", s.marked)
}

// A crash after any file operation of any work does no harm.
func TestCrashes(t *testing.T) {
	bin := program(t)
	for _, w := range works() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := w.setUp(t, bin, dir)
			if s.onlyKilled {
				t.Skip("changes what is outside of the repository")
			}
			s.check(t, filepath.Join(dir, "repo"))
		})
	}
}

// TestUnsyncedIsFound shows that the enumeration finds what it is for: with fsync
// off, a power cut leaves a ref to a commit that is not whole.
func TestUnsyncedIsFound(t *testing.T) {
	bin := program(t)
	dir := t.TempDir()
	v1, v2 := trees(t, dir)
	root := filepath.Join(dir, "repo")
	newRepo(t, root, "archive", v1)
	testutil.Run(t, "ostree", "config", "--repo="+root, "set", "core.fsync", "false")
	s := scenario{argv: []string{bin, "commit", "--repo=" + root, "--branch=main", "--tree=dir=" + v2, "--no-xattrs"}}
	if _, err := s.enumerate(t, root); err == nil || !strings.Contains(err.Error(), "power cut true") {
		t.Fatalf("without fsync: %v, want damage after a power cut", err)
	}
}
