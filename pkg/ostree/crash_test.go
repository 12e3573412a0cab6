// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

const crashRepoEnv = "OSTREE_TEST_CRASH_REPO"

// The points of a transaction, in the order in which it meets them.
var txnPoints = []string{
	"ostree.txn.begin", "ostree.txn.write", "ostree.txn.staged", "ostree.txn.synced", "ostree.txn.marked", "ostree.txn.object",
	"ostree.txn.published", "ostree.txn.durable", "ostree.txn.commits-published", "ostree.txn.commits-durable", "ostree.txn.cleared",
	"ostree.txn.ref", "ostree.txn.done",
}

// crashTxn writes a commit with several objects, a mark and two refs.
func crashTxn(ctx context.Context, r *Repo, content string) error {
	_, err := r.Update(ctx, func(ctx context.Context, tx *Txn) error {
		c, err := writeFlatTree(ctx, tx, content, 8)
		if err != nil {
			return err
		}
		return errors.Join(tx.MarkPartial(sha([]byte("another"))), tx.SetRef("main", c), tx.SetRef("deep/er/ref", c))
	})
	return err
}

// writeFlatTree stores a commit of a directory with so many files.
func writeFlatTree(ctx context.Context, tx *Txn, text string, files int) (sum Checksum, err error) {
	m := NewMTree()
	if err := m.SetMeta(DirMeta{Mode: 0o40755}); err != nil {
		return sum, err
	}
	for i := range files {
		body := fmt.Sprintf("%s %d", text, i)
		c, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, int64(len(body)), strings.NewReader(body))
		if err != nil {
			return sum, err
		}
		if err := m.SetFile(fmt.Sprintf("f%d", i), c); err != nil {
			return sum, err
		}
	}
	tree, meta, err := tx.WriteTree(ctx, m)
	if err != nil {
		return sum, err
	}
	return tx.WriteCommit(ctx, Commit{Subject: text, Timestamp: 1, RootTree: tree, RootMeta: meta})
}

// TestCrashChild is not a test: it runs a transaction in the process that the
// failpoints kill.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashRepoEnv)
	if path == "" {
		t.Skip("runs only as a child of TestCrash")
	}
	d, err := fsx.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := crashTxn(t.Context(), r, "new"); err != nil {
		t.Fatal(err)
	}
}

// A process killed at any point leaves refs with complete closures, and the next
// transaction and prune work.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, point := range txnPoints {
		for _, skip := range []int{0, 1, 6} {
			t.Run(fmt.Sprintf("%s+%d", point, skip), func(t *testing.T) {
				t.Parallel()
				crashAt(t, point, skip)
			})
		}
	}
}

func crashAt(t *testing.T, point string, skip int) {
	r := newTestRepo(t, ModeArchive)
	if err := crashTxn(t.Context(), r, "old"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), crashRepoEnv+"="+r.Dir().Path(), fmt.Sprintf("HOSTCTL_FAILPOINTS=%s=skip:%d:kill", point, skip))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil && skip == 0:
		t.Fatalf("the point was not met\n%s", out)
	case err != nil && !testutil.Killed(err):
		t.Fatalf("child: %v\n%s", err, out)
	}
	checkWhole(t, r, "old", "new")

	again, err := Open(r.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := crashTxn(t.Context(), again, "new"); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, again, "new")
	entries, err := fs.Glob(os.DirFS(r.Dir().Path()), "tmp/staging-*")
	if err != nil || len(entries) > 0 {
		t.Errorf("staging directories are left: %v, %v", entries, err)
	}
	if _, err := again.Prune(t.Context(), PruneOptions{RefsOnly: true}); err != nil {
		t.Error(err)
	}
	checkWhole(t, again, "new")
}

// checkWhole verifies that all refs name commits with one of the subjects, and
// that nothing stored is damaged or lacks its closure.
func checkWhole(t *testing.T, r *Repo, subjects ...string) {
	t.Helper()
	refs, err := r.Refs("")
	if err != nil || len(refs) != 2 {
		t.Fatalf("refs = %v, %v", refs, err)
	}
	for name, sum := range refs {
		c, err := r.LoadCommit(sum)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(subjects, " "), c.Subject) {
			t.Errorf("ref %s names commit %q", name, c.Subject)
		}
	}
	res, err := r.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(res.Findings) > 0 {
		t.Errorf("fsck: %+v, %v", res, err)
	}
}

// Staging directories of another boot go when a repository is opened; of this
// boot, only what is verified is taken over.
func TestStaleStaging(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeBareUser)
	stale := filepath.Join(r.Dir().Path(), "tmp", "staging-00000000-0000-0000-0000-000000000000-abcdef")
	if err := os.MkdirAll(filepath.Join(stale, "44"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale+"-lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Open(r.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if list, _ := filepath.Glob(stale + "*"); len(list) > 0 {
		t.Errorf("stale staging is left: %v", list)
	}
}

func TestTakeOver(t *testing.T) {
	t.Parallel()
	for _, flat := range []bool{true, false} {
		t.Run(fmt.Sprintf("flat=%t", flat), func(t *testing.T) {
			t.Parallel()
			r := newTestRepo(t, ModeArchive)
			if flat {
				makeObjectDirs(t, r)
			}
			testTakeOver(t, r)
		})
	}
}

// makeObjectDirs makes a transaction use flat names in its staging directory.
func makeObjectDirs(t *testing.T, r *Repo) {
	t.Helper()
	for i := range 256 {
		testutil.Must(t, r.objects.Mkdir(fmt.Sprintf("%02x", i), objectDirMode))
	}
}

func testTakeOver(t *testing.T, r *Repo) {
	ctx := t.Context()
	stop := errors.New("stop")
	var good, bad Checksum
	write := func(ctx context.Context, tx *Txn, s string) Checksum {
		c, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, int64(len(s)), strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	_, err := r.Update(ctx, func(ctx context.Context, tx *Txn) error {
		good, bad = write(ctx, tx, "good"), write(ctx, tx, "bad")
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	for _, c := range []Checksum{good, bad} {
		if ok, err := r.Has(ObjectName{c, TypeFile}); ok || err != nil {
			t.Errorf("an object of a failed transaction is visible (%v)", err)
		}
	}
	if err := os.WriteFile(stagedFile(t, r, ObjectName{bad, TypeFile}), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := r.Update(ctx, func(ctx context.Context, tx *Txn) error {
		if ok, err := tx.Has(ObjectName{good, TypeFile}); !ok || err != nil {
			t.Errorf("the good object is not taken over (%v)", err)
		}
		if ok, err := tx.Has(ObjectName{bad, TypeFile}); ok || err != nil {
			t.Errorf("the damaged object is taken over (%v)", err)
		}
		write(ctx, tx, "bad")
		return nil
	})
	if err != nil || s.ContentWritten != 1 {
		t.Errorf("stats = %+v, %v", s, err)
	}
	for _, c := range []Checksum{good, bad} {
		n := ObjectName{c, TypeFile}
		if err := r.verifyObject(r.objects, n.loosePath(r.mode), n); err != nil {
			t.Error(err)
		}
	}
}

// stagedFile finds an object in what a transaction left.
func stagedFile(t *testing.T, r *Repo, n ObjectName) string {
	t.Helper()
	xx, name, _ := strings.Cut(n.loosePath(r.mode), "/")
	top := filepath.Join(r.Dir().Path(), "tmp/staging-*")
	flat, err := filepath.Glob(filepath.Join(top, n.String()))
	testutil.Must(t, err)
	files, err := filepath.Glob(filepath.Join(top, xx+".new", name))
	files = append(files, flat...)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return files[0]
}

// A file gets its time last, which its checksum does not tell.
func TestTakeOverUnfinished(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeBareUser)
	stop := errors.New("stop")
	var names [2]ObjectName
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		for i, s := range []string{"whole", "unfinished"} {
			c, err := tx.WriteContent(ctx, FileHeader{Mode: 0o100644}, int64(len(s)), strings.NewReader(s))
			if err != nil {
				return err
			}
			names[i] = ObjectName{c, TypeFile}
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := os.Chtimes(stagedFile(t, r, names[1]), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	_, err = r.Update(t.Context(), func(_ context.Context, tx *Txn) error {
		for i, want := range []bool{true, false} {
			if ok, err := tx.Has(names[i]); ok != want || err != nil {
				t.Errorf("object %d is taken over: %v, %v", i, ok, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
